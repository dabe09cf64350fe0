//! Clients that do not read, do not run, or are not the process that they were.

use super::Play;
use crate::protocol::Request;
use crate::round::{End, Round};
use crate::stage::Stage;
use crate::villain::Role;
use anyhow::{Context, bail};
use rustix::net::{SendFlags, send};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(super) const PLAYS: &[(&str, Play)] = &[
    ("unread", play_unread),
    ("stopped", play_stopped),
    ("orphan", play_orphan),
    ("child", play_child),
    ("namespace", play_namespace),
];

pub(super) fn unread(round: &Round<'_>) -> anyhow::Result<()> {
    round.play(&round.role("unread", round.figure(3, 100)), End::Itself)
}

/// Asks and asks. The broker drops it; until then nobody else notices.
fn play_unread(stage: &Stage) -> anyhow::Result<()> {
    for number in 0..stage.count {
        let (client, _grant) = stage.with_card()?;
        let question = match number % 3 {
            0 => Request::Usage { after: None }.encode(9),
            1 => Request::Cards { after: None }.encode(9),
            _ => Request::lease(stage.card, "H2C", &[]).encode(9),
        };
        let since = Instant::now();
        while send(&client.socket, &question, SendFlags::NOSIGNAL).is_ok() {
            stage.did(1);
            if since.elapsed() > Duration::from_secs(10) {
                stage.broken("a client that reads nothing was not dropped in 10 s");
                break;
            }
        }
    }
    Ok(())
}

/// Where a client is stopped.
const POINTS: [&str; 6] = ["connected", "hello", "lease", "map", "unread", "wired"];

pub(super) fn stopped(round: &Round<'_>) -> anyhow::Result<()> {
    let time = Duration::from_millis(round.figure(300, 5000).into());
    for point in POINTS {
        let role = Role { word: point.to_owned(), ..round.role("stopped", 1) };
        round.play(&role, End::StoppedAndKilled(time)).with_context(|| format!("stopped at {point}"))?;
        round.did(1);
    }
    // All of them at once.
    let mut villains = Vec::new();
    for point in POINTS {
        villains.push(round.start(&Role { word: point.to_owned(), ..round.role("stopped", 1) })?);
    }
    for villain in villains {
        round.end(villain, End::StoppedAndKilled(time / 4))?;
        round.did(1);
    }
    Ok(())
}

fn play_stopped(stage: &Stage) -> anyhow::Result<()> {
    if stage.word == "connected" {
        let _client = stage.stranger()?;
        stage.stay()
    }
    let (mut client, _grant) = stage.with_card()?;
    match stage.word.as_str() {
        "lease" => drop(client.lease(stage.card, "stopped", &[])?),
        "map" => drop(client.post(&Request::allocate(stage.card, 256 << 20), &[])?),
        "unread" => {
            for _ in 0..60 {
                client.post(&Request::Usage { after: None }, &[])?;
            }
        }
        "wired" => {
            client.lease(stage.card, "irq1", &[])?;
            client.wire(stage.card, 1, jitney_memory::EventFd::new()?)?;
        }
        _ => {}
    }
    stage.stay()
}

pub(super) fn orphans(round: &Round<'_>) -> anyhow::Result<()> {
    for _ in 0..round.figure(5, 100) {
        // The parent ends by itself; its child has the socket for two seconds more.
        round.play(&round.role("orphan", 1), End::Itself)?;
        round.did(1);
    }
    Ok(())
}

/// Leaves its connection to a child and ends.
fn play_orphan(stage: &Stage) -> anyhow::Result<()> {
    let (mut client, _grant) = stage.with_card()?;
    client.lease(stage.card, "orphan", &[])?;
    client.allocate(stage.card, 1 << 20)?;
    // As standard input, which has no close-on-exec.
    let child = Command::new(std::env::current_exe()?)
        .args(["--play", "child"])
        .stdin(Stdio::from(client.socket))
        .stdout(Stdio::null())
        .spawn();
    child.context("a child").map(drop)
}

fn play_child(_stage: &Stage) -> anyhow::Result<()> {
    let socket = std::io::stdin();
    let since = Instant::now();
    // It goes on asking over what is not its own.
    while since.elapsed() < Duration::from_secs(2) {
        if send(&socket, &Request::Usage { after: None }.encode(99), SendFlags::NOSIGNAL).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_secs(2).saturating_sub(since.elapsed()));
    Ok(())
}

pub(super) fn namespace(round: &Round<'_>) -> anyhow::Result<()> {
    let unshare = ["/usr/bin/unshare", "/bin/unshare"].into_iter().find(|path| Path::new(path).exists());
    let Some(unshare) = unshare.filter(|_| rustix::process::getuid().is_root()) else {
        round.skip("a pid namespace takes root and the program unshare");
        return Ok(());
    };
    for _ in 0..round.figure(3, 50) {
        let starter = [unshare, "--pid", "--fork", "--kill-child"];
        // Its own broker's view of it is that it has no pid of the broker's namespace, or another than it thinks.
        round.play(&Role { starter: &starter, user: None, ..round.role("namespace", 1) }, End::Killed)?;
    }
    Ok(())
}

fn play_namespace(stage: &Stage) -> anyhow::Result<()> {
    let (mut client, _grant) = stage.with_card()?;
    client.lease(stage.card, "namespace", &[])?;
    client.allocate(stage.card, 1 << 20)?;
    if !client.users()?.iter().any(|user| user.program == "villain" && user.leases == 1) {
        bail!("Usage does not name a client of another namespace");
    }
    stage.did(1);
    stage.stay()
}
