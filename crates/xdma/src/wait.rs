//! Waiting for something that no interrupt announces, without taking a processor away from who works on it.

use std::time::{Duration, Instant};

/// A transfer of some pages is done within this: looking again at once costs least.
const SPIN: Duration = Duration::from_micros(30);
/// A transfer of a megabyte is done within this. Sleeping would take longer than is left; yielding lets others run.
const YIELD: Duration = Duration::from_micros(500);
const FIRST_SLEEP: Duration = Duration::from_micros(10);
const LONGEST_SLEEP: Duration = Duration::from_micros(100);

/// How long to pause between two looks: not at all, then only for others, then in sleeps that grow.
#[derive(Debug)]
pub(crate) struct Backoff {
    since: Instant,
    sleep: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), sleep: FIRST_SLEEP }
    }

    /// How long this wait has lasted.
    pub(crate) fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    pub(crate) fn pause(&mut self) {
        match self.elapsed() {
            elapsed if elapsed < SPIN => std::hint::spin_loop(),
            elapsed if elapsed < YIELD => std::thread::yield_now(),
            _ => {
                std::thread::sleep(self.sleep);
                self.sleep = (self.sleep * 2).min(LONGEST_SLEEP);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_wait_sleeps_and_looks_often_enough() {
        let mut backoff = Backoff::new();
        while backoff.elapsed() < YIELD {
            assert_eq!(backoff.sleep, FIRST_SLEEP, "no sleep so early");
            backoff.pause();
        }
        for _ in 0..10 {
            backoff.pause();
        }
        assert_eq!(backoff.sleep, LONGEST_SLEEP);
    }
}
