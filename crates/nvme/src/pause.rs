//! Waiting in memory: a look at once at first, then less and less often.

use std::time::{Duration, Instant};

/// How often the controller's status is looked at while something is waited for: a command whose controller is gone does not end.
pub(crate) const STATUS_PACE: Duration = Duration::from_millis(50);

const SPIN: Duration = Duration::from_micros(20);
const LONGEST: Duration = Duration::from_millis(1);
/// A sleep lasts this part of the wait so far.
const SHARE: u32 = 16;

/// A wait that has begun.
#[derive(Debug)]
pub(crate) struct Pause {
    since: Instant,
    status: Instant,
}

impl Pause {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self { since: now, status: now }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    pub(crate) fn pause(&self) {
        match self.elapsed() {
            elapsed if elapsed < SPIN => std::hint::spin_loop(),
            elapsed => std::thread::sleep((elapsed / SHARE).min(LONGEST)),
        }
    }

    /// Whether the controller's status is to be looked at now.
    pub(crate) fn is_status_due(&mut self) -> bool {
        let due = self.status.elapsed() >= STATUS_PACE;
        if due {
            self.status = Instant::now();
        }
        due
    }
}
