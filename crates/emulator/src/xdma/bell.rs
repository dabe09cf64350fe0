//! What an engine sleeps on while a stream makes it wait.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::Wake;

/// Rung by a stream's port that goes on, and by whoever stops the channel. It stays rung until it is cleared.
#[derive(Debug, Default)]
pub(super) struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    pub(super) fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Forgets what was rung so far. What is looked at after this and then waited for is not missed.
    pub(super) fn clear(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }

    pub(super) fn wait(&self) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_while(rung, |rung| !*rung).unwrap_or_else(PoisonError::into_inner));
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }
}
