//! Waiting for something that no interrupt announces, without taking a processor away from who works on it.

use std::time::{Duration, Instant};

#[cfg(fuzzing)]
pub(crate) use virtual_clock::{now, sleep};

/// The time.
#[cfg(not(fuzzing))]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Lets time pass without this thread.
#[cfg(not(fuzzing))]
fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}

/// A transfer of some pages is done within this: looking again at once costs least.
const SPIN: Duration = Duration::from_micros(30);
/// A transfer of a megabyte is done within this. Sleeping would take longer than is left; yielding lets others run.
const YIELD: Duration = Duration::from_micros(500);
/// A sleep lasts this part of the wait so far, so that a transfer takes at most so much longer than it has to. Each look
/// may take the processor from an engine that is a process of its own: looking every 0.1 ms was measured to make an
/// emulated board of 1 GiB a tenth slower.
const SHARE: u32 = 32;
const SHORTEST_SLEEP: Duration = Duration::from_micros(10);
const LONGEST_SLEEP: Duration = Duration::from_millis(1);

/// How long to pause between two looks: not at all, then only for others, then in sleeps that grow.
#[derive(Debug)]
pub(crate) struct Backoff {
    since: Instant,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { since: now() }
    }

    /// How long this wait has lasted.
    pub(crate) fn elapsed(&self) -> Duration {
        now().saturating_duration_since(self.since)
    }

    /// Whether a short transfer may still end in time for somebody who does not sleep.
    pub(crate) fn is_short(&self) -> bool {
        self.elapsed() < SPIN
    }

    /// How long to pause now.
    pub(crate) fn next_pause(&self) -> Pause {
        match self.elapsed() {
            elapsed if elapsed < SPIN => Pause::Spin,
            elapsed if elapsed < YIELD => Pause::Yield,
            elapsed => Pause::Sleep(sleep_after(elapsed)),
        }
    }

    pub(crate) fn pause(&self) {
        match self.next_pause() {
            Pause::Spin => std::hint::spin_loop(),
            Pause::Yield => std::thread::yield_now(),
            Pause::Sleep(time) => sleep(time),
        }
    }
}

/// A pause between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pause {
    /// None.
    Spin,
    /// Until others have run that want to.
    Yield,
    /// Some time.
    Sleep(Duration),
}

fn sleep_after(elapsed: Duration) -> Duration {
    (elapsed / SHARE).clamp(SHORTEST_SLEEP, LONGEST_SLEEP)
}

/// Time of each thread's own, which passes only when it is looked at: a fuzzer sees every wait to its end, at once and in
/// the same way each time.
#[cfg(fuzzing)]
mod virtual_clock {
    use super::{Duration, Instant};
    use std::cell::Cell;
    use std::sync::LazyLock;

    /// What a look takes: some hundred of them last longer than any wait of this driver.
    const LOOK: Duration = Duration::from_millis(20);

    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    thread_local!(static PASSED: Cell<Duration> = const { Cell::new(Duration::ZERO) });

    pub(crate) fn now() -> Instant {
        sleep(LOOK);
        *START + PASSED.get()
    }

    pub(crate) fn sleep(duration: Duration) {
        PASSED.set(PASSED.get() + duration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_wait_looks_less_often_but_often_enough() {
        let ms = Duration::from_millis;
        assert_eq!(sleep_after(YIELD), Duration::from_nanos(15_625));
        assert_eq!(sleep_after(ms(16)), Duration::from_micros(500));
        assert_eq!(sleep_after(ms(100_000)), ms(1));
    }
}
