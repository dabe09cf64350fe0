//! Lines of the log that a client can bring about: at most one of a kind in a second, with a count of those left out.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_secs(1);

/// Whether one more line of a kind may be written.
#[derive(Debug)]
pub(crate) struct Limited(Mutex<State>);

#[derive(Debug)]
struct State {
    last: Option<Instant>,
    left_out: u64,
}

impl Limited {
    /// Of a kind of which nothing was written yet.
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(State { last: None, left_out: 0 }))
    }

    /// Whether a line may be written now, and if so, how many have been left out since the last one, if any.
    pub(crate) fn pass(&self) -> Option<Option<u64>> {
        self.pass_at(Instant::now())
    }

    fn pass_at(&self, now: Instant) -> Option<Option<u64>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
            state.left_out = state.left_out.saturating_add(1);
            return None;
        }
        state.last = Some(now);
        let left_out = std::mem::take(&mut state.left_out);
        Some((left_out > 0).then_some(left_out))
    }
}

/// `tracing::warn!`, at most once a second for each place in the code.
macro_rules! warn_limited {
    ($($line:tt)*) => {{
        static LIMIT: $crate::limited::Limited = $crate::limited::Limited::new();
        if let Some(left_out) = LIMIT.pass() {
            tracing::warn!(left_out, $($line)*);
        }
    }};
}
pub(crate) use warn_limited;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_with_a_count_of_the_rest() {
        let limit = Limited::new();
        let start = Instant::now();
        assert_eq!(limit.pass_at(start), Some(None));
        let passed =
            (0..100_000).filter(|at| limit.pass_at(start + Duration::from_micros(*at)).is_some()).count();
        assert_eq!(passed, 0);
        assert_eq!(limit.pass_at(start + PAUSE), Some(Some(100_000)));
        assert_eq!(limit.pass_at(start + 2 * PAUSE), Some(None));
    }
}
