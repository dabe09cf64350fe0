//! The broker is told to stop in the middle of everything.

use crate::arena::{Arena, Jitney, Options};
use crate::grant::Grant;
use crate::round::{PLAY_LIMIT, Round};
use crate::villain::Role;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// How soon it ends: the longest will, and what memory takes to go.
const LIMIT: Duration = Duration::from_secs(15);

pub(super) fn row(round: &Round<'_>) -> anyhow::Result<()> {
    for _ in 0..round.figure(1, 20) {
        let mut arena = Arena::start(Options::default())?;
        let inner = Round::new(&arena, round.long, round.seed, round.alone);
        let mut villains = Vec::new();
        if rustix::process::getuid().is_root() && std::path::Path::new("/dev/fuse").exists() {
            // The kernel keeps a process whose file is being closed until the file's server answers (docs/limits.md): not for long here.
            let mut villain = inner.start(&Role { user: None, word: "6".into(), ..inner.role("fuse", 1) })?;
            villain.wait_until_ready(PLAY_LIMIT)?;
            villains.push(villain);
        }
        for (play, count, word) in [
            ("dma", 1, "none"),
            ("wills", 1, ""),
            ("stopped", 1, "unread"),
            ("stopped", 1, "wired"),
            ("huge-map", 8, "2"),
        ] {
            let mut villain = inner.start(&Role { word: word.to_owned(), ..inner.role(play, count) })?;
            villain.wait_until_ready(PLAY_LIMIT)?;
            if play == "stopped" {
                villain.signal(Signal::STOP)?;
            }
            villains.push(villain);
        }
        drop(inner);
        let told = Instant::now();
        arena.broker.signal(Signal::TERM)?;
        match arena.broker.wait(LIMIT)? {
            Some(status) if status.success() => {}
            Some(status) => round.broken(format!(
                "the broker that was told to stop ended with {status} after {:.1} s: {}",
                told.elapsed().as_secs_f64(),
                arena.place.end_of_log("broker")
            )),
            None => round.broken(format!("the broker did not stop in {} s", LIMIT.as_secs())),
        }
        // The villains still have their grants.
        let board = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        connect(&board, &SocketAddrUnix::new(arena.board_socket())?)?;
        if Grant::negotiate(board)?.is_master()? {
            round.broken("the broker has stopped, and its card can still start DMA");
        }
        // Those who are left do not keep its cards from the next one.
        let mut next = arena.place.broker();
        next.stderr(arena.place.log("next")?);
        if let Err(error) = Jitney::start(next, "listening") {
            round.broken(format!("the next broker: {error:#}: {}", arena.place.end_of_log("next")));
        }
        drop(villains);
        round.did(1);
    }
    Ok(())
}
