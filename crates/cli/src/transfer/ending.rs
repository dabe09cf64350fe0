//! When a command has had enough of a stream that has no end.

use crate::args::{limit, seconds};
use crate::size;
use clap::Args;
use std::time::{Duration, Instant};

/// How often it is looked whether it is enough.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// When it is enough, if not with what ends the stream.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Ending {
    /// End after so many bytes: 4096, 64K, 1G.
    #[arg(long, value_name = "SIZE", value_parser = size::parse_length)]
    pub(super) bytes: Option<u64>,
    /// End after this time: 500ms, 10s, 5m, 1h.
    #[arg(long = "for", value_name = "TIME", value_parser = limit)]
    time: Option<Duration>,
    /// End when nothing came for so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    until_idle: Option<Duration>,
}

impl Ending {
    /// Whether its time is over, or nothing came since `last` for too long.
    pub(super) fn is_due(&self, started: Instant, last: Instant) -> bool {
        self.time.is_some_and(|time| started.elapsed() >= time)
            || self.until_idle.is_some_and(|idle| last.elapsed() >= idle)
    }

    /// Whether that many bytes are enough.
    pub(super) fn has(&self, bytes: u64) -> bool {
        self.bytes.is_some_and(|most| bytes >= most)
    }

    /// How many of the next `length` bytes are still wanted, behind those that are done.
    pub(super) fn wanted(&self, done: u64, length: usize) -> usize {
        let left = self.bytes.map_or(u64::MAX, |most| most.saturating_sub(done));
        usize::try_from(left).unwrap_or(usize::MAX).min(length)
    }
}
