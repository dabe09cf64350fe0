//! What an engine sleeps on while a stream makes it wait.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Wake;
use std::time::{Duration, Instant};

/// How long to look again at once, and only let others run, before sleeping: two channels that hand each other data wait for
/// less than it takes to wake a thread that sleeps, on a virtual machine above all.
const PATIENCE: Duration = Duration::from_micros(50);

/// Rung by a stream's port that goes on, and by whoever stops the channel. It stays rung until it is cleared.
#[derive(Debug, Default)]
pub(super) struct Bell {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    rung: bool,
    /// Somebody has to be woken.
    asleep: bool,
}

impl Bell {
    pub(super) fn ring(&self) {
        let mut state = self.state();
        state.rung = true;
        if state.asleep {
            self.changed.notify_all();
        }
    }

    /// Forgets what was rung so far. What is looked at after this and then waited for is not missed.
    pub(super) fn clear(&self) {
        self.state().rung = false;
    }

    /// Waits until it is rung, at most until `deadline`; whether it was.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> bool {
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            if self.state().rung {
                return true;
            }
            std::thread::yield_now();
        }
        let mut state = self.state();
        while !state.rung {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return false;
            }
            state.asleep = true;
            state = match left {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.asleep = false;
        }
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
}
