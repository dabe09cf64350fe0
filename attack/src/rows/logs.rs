//! A log that nobody reads: the broker's standard error is a pipe that is full.

use crate::arena::{Arena, Options};
use crate::round::{End, Round};
use crate::trial::time;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::{Errno, write};
use rustix::pipe::{PipeFlags, pipe_with};
use std::time::Duration;

/// A good client waits no longer than this, on a busy machine.
const HELD_UP: Duration = Duration::from_millis(1000);

pub(super) fn row(round: &Round<'_>) -> anyhow::Result<()> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    while write(&writer, &[b'.'; 4096]) != Err(Errno::AGAIN) {}
    fcntl_setfl(&writer, OFlags::empty())?;
    let arena = Arena::start(Options { stderr: Some(writer), ..Options::default() })?;
    let inner = Round::new(&arena, round.long, round.seed, round.alone);
    arena.good.take();
    for play in ["garbage", "unreadable", "unread"] {
        inner.play(&inner.role(play, round.figure(20, 200)), End::Itself)?;
    }
    for _ in 0..round.figure(5, 100) {
        inner.play(&inner.role("dma", 1), End::Killed)?;
    }
    let (figures, rounds, troubles) = arena.good.take();
    let told = inner.findings().told;
    round.did(told.did);
    told.broken.into_iter().for_each(|what| round.broken(what));
    for trouble in troubles.iter().take(3) {
        round.broken(format!("a good client was let down: {}", trouble.what));
    }
    for (place, act, times) in figures.each() {
        let worst = times.iter().max().copied().unwrap_or_default();
        if worst > HELD_UP {
            let worst = time(worst.as_secs_f64());
            round.broken(format!("{} on the {} took {worst}", act.name(), place.name()));
        }
    }
    if rounds == 0 {
        round.broken("no good client got anywhere");
    }
    // The reader is there to the end: without one the broker would get EPIPE and not wait.
    drop(arena);
    drop(reader);
    Ok(())
}
