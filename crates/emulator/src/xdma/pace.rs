//! How fast data goes over the link, where a board was asked to be slow.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The two directions of a link; the channels of one share it.
#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes a second each way, at least 1.
    speed: u64,
    /// When each direction has moved all that it took on.
    free: [Mutex<Instant>; 2],
}

impl Pace {
    /// A link of `speed` bytes a second each way.
    pub(super) fn new(speed: u64) -> Self {
        let now = Instant::now();
        Self { speed: speed.max(1), free: [Mutex::new(now), Mutex::new(now)] }
    }

    /// Of `piece`, as many bytes as take about a millisecond, so that a reset is noticed soon. At least a packet of 64.
    pub(super) fn piece(&self, piece: u64) -> u64 {
        piece.min((self.speed / 1000).next_multiple_of(64).max(64))
    }

    /// Waits as long as `length` bytes take in a direction.
    pub(super) fn wait(&self, direction: usize, length: u64) {
        let nanoseconds = u128::from(length) * 1_000_000_000 / u128::from(self.speed);
        let takes = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        let Some(free) = self.free.get(direction) else { return };
        let now = Instant::now();
        let until = {
            let mut free = free.lock().unwrap_or_else(PoisonError::into_inner);
            *free = (*free).max(now) + takes;
            *free
        };
        std::thread::sleep(until.saturating_duration_since(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_their_time_and_directions_do_not_wait_for_each_other() {
        let pace = Pace::new(10_000_000);
        assert_eq!((pace.piece(256 << 10), pace.piece(8)), (10_048, 8));
        assert_eq!(Pace::new(1).piece(4096), 64);
        let start = Instant::now();
        (0..20).for_each(|_| pace.wait(0, 10_000));
        let other = Instant::now();
        pace.wait(1, 10_000);
        assert!(start.elapsed() >= Duration::from_millis(21), "{:?}", start.elapsed());
        assert!(other.elapsed() >= Duration::from_millis(1));
    }
}
