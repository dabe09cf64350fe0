//! Too much of what is allowed.

use super::Play;
use crate::client::{Client, is_refused};
use crate::figures::{Act, Place};
use crate::protocol::{Heard, Kind, Request};
use crate::round::{End, PLAY_LIMIT, Round};
use crate::stage::Stage;
use crate::villain::Role;
use anyhow::bail;
use jitney_memory::EventFd;
use std::os::fd::AsFd;
use std::time::Duration;

pub(super) const PLAYS: &[(&str, Play)] = &[
    ("connections", play_connections),
    ("opens", play_opens),
    ("behind-a-reset", play_behind_a_reset),
    ("leases", play_leases),
    ("lines", play_lines),
    ("crowd", play_crowd),
    ("buffers", play_buffers),
    ("questions", play_questions),
];

pub(super) fn connections(round: &Round<'_>) -> anyhow::Result<()> {
    round.play(&round.role("connections", round.figure(4000, 20_000)), End::Killed)
}

/// Connections that are kept: with Hello, without, and with half of one. The broker turns away who is too many.
fn play_connections(stage: &Stage) -> anyhow::Result<()> {
    let mut kept: Vec<Client> = Vec::new();
    let hello = Request::hello("one of many").encode(1);
    for number in 0..stage.count {
        let Ok(client) = stage.stranger() else { continue };
        // Who was turned away cannot say it.
        match number % 3 {
            0 => drop(client.say(&hello, &[])),
            1 => {}
            _ => drop(client.say(&hello[..9], &[])),
        }
        stage.did(1);
        kept.push(client);
        if kept.len() > 800 {
            kept.drain(..400);
        }
    }
    stage.stay()
}

pub(super) fn opens(round: &Round<'_>) -> anyhow::Result<()> {
    round.play(&round.role("opens", round.figure(150, 2000)), End::Killed)
}

fn play_opens(stage: &Stage) -> anyhow::Result<()> {
    for number in 0..stage.count {
        let mut client = stage.client()?;
        let grant = client.open(stage.card)?;
        match client.open(stage.card) {
            Err(error) if is_refused(&error, Kind::Invalid) || is_refused(&error, Kind::Held) => {}
            other => stage.broken(format!("a card that is open was opened again: {other:?}")),
        }
        match number % 4 {
            0 => client.done(&Request::Close { card: stage.card })?,
            1 => client.done(&Request::Goodbye)?,
            2 => drop(grant),
            // Unread, and gone.
            _ => drop(client.post(&Request::Close { card: stage.card }, &[])),
        }
        stage.did(1);
    }
    let _kept = stage.with_card()?;
    stage.stay()
}

/// Resident memory of the broker that a client with a card and a buffer may cost, in KiB.
const MOST_EACH: u64 = 32;

/// Beside so many clients that do nothing, the p99 of a small request may be so many times what it is alone.
const MOST_BESIDE: f64 = 3.0;

/// Four users, a thousand clients, each with the card and a buffer.
pub(super) fn crowd(round: &Round<'_>) -> anyhow::Result<()> {
    const FIRST: u32 = 61_240;
    if !rustix::process::getuid().is_root() {
        round.skip("it takes root to be several users, and one user may not have so many connections");
        return Ok(());
    }
    let before = round.arena.broker.census()?.resident;
    let mut villains = Vec::new();
    for user in FIRST..FIRST + 4 {
        let role = Role { user: Some(user), ..round.role("crowd", 250) };
        villains.push(round.start(&role)?);
    }
    for villain in &mut villains {
        villain.wait_until_ready(PLAY_LIMIT)?;
        round.did(250);
    }
    let each = round.arena.broker.census()?.resident.saturating_sub(before) / 1000;
    round.note(format!("{each} KiB of the broker's memory for each of a thousand clients"));
    if each > MOST_EACH {
        round.broken(format!("the broker has {each} KiB for each of a thousand clients"));
    }
    // The good clients go on beside them.
    let mut worst: f64 = 0.0;
    let beside = round.arena.good.watch(Duration::from_millis(round.figure(1500, 10_000).into()));
    for place in [Place::Same, Place::Other] {
        for act in [Act::Cards, Act::Lease, Act::Allocate, Act::Wire] {
            let [beside, alone] = [&beside, round.alone].map(|figures| figures.p99(place, act));
            let Some((beside, alone)) = beside.zip(alone) else { continue };
            let ratio = beside.as_secs_f64() / alone.as_secs_f64();
            if ratio > MOST_BESIDE {
                let (act, place) = (act.name(), place.name());
                round.slow(format!("beside a thousand clients the p99 of {act} on the {place} is {beside:?}, and {alone:?} alone"));
            }
            worst = worst.max(ratio);
        }
    }
    round.note(format!("p99 beside a thousand clients ÷ alone: {worst:.1} at most"));
    villains.into_iter().try_for_each(|villain| round.end(villain, End::Killed))
}

fn play_crowd(stage: &Stage) -> anyhow::Result<()> {
    let mut clients = Vec::new();
    for _ in 0..stage.count {
        let (mut client, grant) = stage.with_card()?;
        let buffer = client.allocate(stage.card, 4096)?;
        clients.push((client, grant, buffer));
    }
    // All of them are there at once, and are served.
    for (client, ..) in &mut clients {
        client.cards()?;
    }
    stage.stay()
}

pub(super) fn lines(round: &Round<'_>) -> anyhow::Result<()> {
    round.play(&round.role("lines", round.figure(2000, 20_000)), End::Killed)
}

/// As many as may stand in line for what one of them holds, who give up and come again, hold things themselves that others wait
/// for, and read nothing of it.
fn play_lines(stage: &Stage) -> anyhow::Result<()> {
    const IN_LINE: u32 = 8;
    let (mut holder, _grant) = stage.with_card()?;
    holder.lease(stage.card, "contested", &[])?;
    let mut clients = Vec::new();
    let mut random = stage.random();
    for number in 0..stage.count {
        if clients.len() < 30 {
            let (mut client, grant) = stage.with_card()?;
            // Another may have it by now.
            drop(client.lease(stage.card, &format!("own{}", number % 30), &[]));
            clients.push((client, grant));
        }
        let which = random.below(clients.len());
        let client = &mut clients[which].0;
        let part = match random.below(3) {
            0 => "contested".to_owned(),
            _ => format!("own{}", random.below(30)),
        };
        let wait = [1, 1000, u32::MAX][random.below(3)];
        let request = Request::Lease { card: stage.card, part, shared: false, will: Vec::new(), wait };
        let mut sent = client.post(&request, &[]).is_ok();
        if number % 16 > IN_LINE {
            let number = random.next() % 64;
            sent &= client.post(&Request::Withdraw { number }, &[]).is_ok();
        }
        stage.did(1);
        // Who has left too much unread was hung up on.
        if !sent {
            clients.swap_remove(which);
        }
    }
    stage.stay()
}

pub(super) fn behind_a_reset(round: &Round<'_>) -> anyhow::Result<()> {
    round.play(&round.role("behind-a-reset", round.figure(60, 1000)), End::Itself)
}

/// What waits for a reset when its sender hangs up must not leave anything behind: opens above all, whose grants are
/// descriptors.
fn play_behind_a_reset(stage: &Stage) -> anyhow::Result<()> {
    let card = stage.card;
    let event = EventFd::new()?;
    for _ in 0..stage.count {
        let (mut first, _grant) = stage.with_card()?;
        first.post(&Request::Reset { card }, &[])?;
        let mut clients = Vec::new();
        for _ in 0..4 {
            let mut client = stage.client()?;
            client.post(&Request::Open { card }, &[])?;
            client.post(&Request::lease(card, "irq5", &[]), &[])?;
            client.post(&Request::Wire { card, vector: 5 }, &[event.as_fd()])?;
            for _ in 0..20 {
                client.post(&Request::Open { card }, &[])?;
                client.post(&Request::allocate(card, 4096), &[])?;
            }
            clients.push(client);
        }
        drop(clients);
        drop(first);
        stage.did(1);
    }
    Ok(())
}

pub(super) fn leases(round: &Round<'_>) -> anyhow::Result<()> {
    for _ in 0..round.figure(2, 20) {
        round.play(&round.role("leases", 256), End::Killed)?;
    }
    Ok(())
}

fn play_leases(stage: &Stage) -> anyhow::Result<()> {
    let card = stage.card;
    let (mut client, _grant) = stage.with_card()?;
    let mut leases = Vec::new();
    for number in 0..stage.count {
        leases.push(client.lease(card, &format!("p{number}"), &[])?);
    }
    for lease in leases {
        client.done(&Request::Release { card, lease, will: false })?;
    }
    for number in 0..stage.count {
        client.lease(card, &format!("p{number}"), &[])?;
        stage.did(1);
    }
    match client.lease(card, "one-more", &[]) {
        Err(error) if is_refused(&error, Kind::Exhausted) => {}
        other => stage.broken(format!("a lease too many: {other:?}")),
    }
    stage.stay()
}

pub(super) fn buffers(round: &Round<'_>) -> anyhow::Result<()> {
    round.play(&round.role("buffers", round.figure(1000, 4096)), End::Killed)
}

fn play_buffers(stage: &Stage) -> anyhow::Result<()> {
    let (mut client, _grant) = stage.with_card()?;
    let mut buffers = Vec::new();
    for number in 0..stage.count {
        match client.allocate(stage.card, 4096) {
            Ok(buffer) => buffers.push(buffer.iova),
            Err(error) => bail!("buffer {number}: {error:#}"),
        }
        stage.did(1);
    }
    // Freed, not read, and gone: a few under way.
    for iova in buffers.iter().take(50) {
        client.post(&Request::Free { iova: *iova }, &[])?;
    }
    stage.stay()
}

pub(super) fn questions(round: &Round<'_>) -> anyhow::Result<()> {
    let villains = [(); 3].map(|()| round.start(&round.role("questions", round.figure(4000, 50_000))));
    for villain in villains {
        round.end(villain?, End::Itself)?;
    }
    Ok(())
}

/// Nearly as many under way as may be, all the time.
fn play_questions(stage: &Stage) -> anyhow::Result<()> {
    let mut client = stage.client()?;
    let mut under_way = 0;
    let mut left = stage.count;
    while left > 0 || under_way > 0 {
        while under_way < 60 && left > 0 {
            let usage = left.is_multiple_of(2);
            client.post(
                &if usage { Request::Usage { after: None } } else { Request::Cards { after: None } },
                &[],
            )?;
            under_way += 1;
            left -= 1;
        }
        match client.hear()? {
            Some((Heard::Reply { .. }, _)) => under_way -= 1,
            Some((Heard::Notice(_), _)) => {}
            other => bail!("a question was answered with {other:?}"),
        }
    }
    stage.did(stage.count.into());
    Ok(())
}
