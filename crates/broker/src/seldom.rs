//! What clients can provoke is said seldom: a log that somebody else fills is of no use to anybody.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often it may be said.
const PACE: Duration = Duration::from_secs(1);

/// Lets something be said at most once a second.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<(Option<Instant>, u64)>);

impl Seldom {
    /// One that has said nothing yet.
    pub(crate) const fn new() -> Self {
        Self(Mutex::new((None, 0)))
    }

    /// If it may be said now, how often it was not said since the last time.
    pub(crate) fn allows(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, left_out) = &mut *state;
        if last.is_some_and(|last| last.elapsed() < PACE) {
            *left_out += 1;
            return None;
        }
        *last = Some(Instant::now());
        Some(std::mem::take(left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_counted() {
        let seldom = Seldom::new();
        assert_eq!(seldom.allows(), Some(0));
        assert_eq!((seldom.allows(), seldom.allows()), (None, None));
        seldom.0.lock().unwrap().0 = Instant::now().checked_sub(PACE);
        assert_eq!(seldom.allows(), Some(2));
    }
}
