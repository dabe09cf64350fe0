//! A progress bar for what takes longer than it takes to wonder.

use super::report::Report;
use std::time::{Duration, Instant};

/// What is over sooner needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// How far something has come.
#[derive(Debug)]
pub(crate) struct Progress<'a> {
    report: &'a Report,
    done: u64,
    begun: Instant,
    is_shown: bool,
}

impl<'a> Progress<'a> {
    /// Of `total` bytes, if that is known.
    pub(crate) fn new(report: &'a mut Report, what: &str, total: Option<u64>) -> Self {
        report.prepare(what, total);
        Self { report, done: 0, begun: Instant::now(), is_shown: false }
    }

    /// Some more bytes are done.
    pub(crate) fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        self.report.advance(bytes);
        if !self.is_shown && self.begun.elapsed() > PATIENCE {
            self.report.show();
            self.is_shown = true;
        }
    }

    /// How many bytes are done.
    pub(crate) const fn done(&self) -> u64 {
        self.done
    }

    /// It is over: how many bytes were done, in how much time.
    pub(crate) fn end(self) -> (u64, Duration) {
        self.report.stop();
        (self.done, self.begun.elapsed())
    }
}
