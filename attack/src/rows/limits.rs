//! The limits of docs/protocol.md: each refusal is of kind 5 (exhausted), and another user's clients are not touched.

use super::Play;
use crate::client::{Client, is_refused};
use crate::protocol::{Heard, Kind, Refusal, Request};
use crate::round::{End, PLAY_LIMIT, Round};
use crate::stage::Stage;
use crate::villain::Role;
use crate::xdma::{Channel, Direction};

pub(super) const PLAYS: &[(&str, Play)] = &[
    ("too-many-connections", play_connections),
    ("too-many-under-way", play_under_way),
    ("too-many-leases", play_leases),
    ("too-many-buffers", play_buffers),
    ("too-much", play_too_much),
    ("another-user", play_another_user),
];

const CONNECTIONS: usize = 256;
const UNDER_WAY: usize = 64;
const LEASES: usize = 256;
const LEASES_OF_A_USER: usize = 4096;
const BUFFERS: usize = 4096;
const NAME: usize = 120;
const ANOTHER: u32 = 61_236;

pub(super) fn row(round: &Round<'_>) -> anyhow::Result<()> {
    if !rustix::process::getuid().is_root() {
        round.skip("it takes root to be several users, and one user's limits are the good client's");
        return Ok(());
    }
    let mut plays = vec!["too-much", "too-many-under-way", "too-many-connections", "too-many-leases"];
    plays.extend(round.long.then_some("too-many-buffers"));
    for play in plays {
        let mut villain = round.start(&round.role(play, 1))?;
        villain.wait_until_ready(PLAY_LIMIT)?;
        round.play(&Role { user: Some(ANOTHER), ..round.role("another-user", 1) }, End::Itself)?;
        round.end(villain, End::Killed)?;
        round.did(1);
    }
    Ok(())
}

fn play_another_user(stage: &Stage) -> anyhow::Result<()> {
    let (mut client, _grant) = stage.with_card()?;
    client.lease(stage.card, "another", &[])?;
    client.allocate(stage.card, 64 << 10)?;
    client.done(&Request::Goodbye)
}

fn play_connections(stage: &Stage) -> anyhow::Result<()> {
    let mut kept = Vec::new();
    loop {
        // The first to be refused hears why, and the end.
        let mut client = stage.stranger()?;
        // Who was hung up on already cannot be told anything.
        drop(client.say(&Request::hello("one of many").encode(1), &[]));
        match client.hear()? {
            Some((Heard::Reply { .. }, _)) => kept.push(client),
            Some((Heard::Refused { number: 0, refusal: Refusal { kind: Kind::Exhausted, .. } }, _)) => break,
            other => {
                stage.broken(format!("connection {} was answered with {other:?}", kept.len() + 1));
                break;
            }
        }
        if kept.len() > CONNECTIONS {
            stage.broken(format!("{} connections of a user", kept.len()));
            break;
        }
    }
    if kept.len() < CONNECTIONS {
        stage.broken(format!("only {} connections of a user", kept.len()));
    }
    stage.stay()
}

/// Leases that wait for a client that is gone, whose will takes its time.
fn play_under_way(stage: &Stage) -> anyhow::Result<()> {
    let channel = Channel { direction: Direction::HostToCard, number: 1 };
    let (mut client, _grant) = stage.with_card()?;
    let (mut gone, _its_grant) = stage.with_card()?;
    gone.lease(stage.card, "wanted", &[channel.never(3000)])?;
    drop(gone);
    for _ in 0..UNDER_WAY + 20 {
        client.post(&Request::lease(stage.card, "wanted", &[]), &[])?;
    }
    let mut refused = 0;
    for _ in 0..UNDER_WAY + 20 {
        match client.hear()? {
            // The part is free again, for one of them.
            Some((Heard::Reply { .. }, _)) => {}
            Some((Heard::Refused { number, refusal }, _)) if number != 0 => match refusal.kind {
                Kind::Exhausted => refused += 1,
                Kind::Held | Kind::Invalid => {}
                _ => stage.broken(format!("a lease that had to wait was refused: {refusal}")),
            },
            other => {
                stage.broken(format!("a request too many was answered with {other:?}"));
                break;
            }
        }
    }
    if refused != 20 {
        stage.broken(format!("of {} requests under way {refused} were refused", UNDER_WAY + 20));
    }
    stage.stay()
}

fn play_leases(stage: &Stage) -> anyhow::Result<()> {
    let mut kept: Vec<(Client, _)> = Vec::new();
    let mut count = 0;
    'all: loop {
        let (mut client, grant) = stage.with_card()?;
        for number in 0..=LEASES {
            match client.lease(stage.card, &format!("l{}-{number}", kept.len()), &[]) {
                Ok(_) => count += 1,
                Err(error) if is_refused(&error, Kind::Exhausted) && number > 0 => break,
                Err(error) if is_refused(&error, Kind::Exhausted) => break 'all,
                Err(error) => return Err(error),
            }
        }
        kept.push((client, grant));
        if count > LEASES_OF_A_USER {
            break;
        }
    }
    if count != LEASES_OF_A_USER {
        stage.broken(format!("{count} leases of a user"));
    }
    stage.stay()
}

fn play_buffers(stage: &Stage) -> anyhow::Result<()> {
    let (mut client, _grant) = stage.with_card()?;
    let mut count = 0;
    loop {
        match client.allocate(stage.card, 4096) {
            Ok(_) => count += 1,
            Err(error) if is_refused(&error, Kind::Exhausted) => break,
            Err(error) => return Err(error),
        }
    }
    if count != BUFFERS {
        stage.broken(format!("{count} buffers of a client"));
    }
    stage.stay()
}

/// More than the machine has, and a name that is longer than anybody wants to read.
fn play_too_much(stage: &Stage) -> anyhow::Result<()> {
    let mut client = Client::welcome(&stage.socket, &"n".repeat(60_000))?;
    let longest = client.users()?.iter().map(|user| user.program.chars().count()).max().unwrap_or(0);
    if longest > NAME {
        stage.broken(format!("a name of {longest} characters was kept"));
    }
    let _grant = client.open(stage.card)?;
    for shift in [40, 45, 50] {
        match client.allocate(stage.card, 1 << shift) {
            Err(error) if is_refused(&error, Kind::Exhausted) => {}
            other => stage.broken(format!("2^{shift} bytes: {:?}", other.map(|buffer| buffer.size))),
        }
    }
    stage.stay()
}
