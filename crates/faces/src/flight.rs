//! A transfer under way, as its handle and its channel have it.

use crate::failure::Failure;
use crate::slot::{Child, Slot};
use jitney::xdma::{Completed, Pending};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A transfer under way, or over.
#[derive(Debug)]
pub struct Flight {
    slot: Slot<Pending>,
    name: String,
    /// How it has ended, once that was seen: then the channel's queue is let go of.
    outcome: Mutex<Option<Result<Completed, Failure>>>,
}

impl Flight {
    /// A transfer on the channel that is called `name`.
    #[must_use]
    pub fn new(pending: Pending, name: &str) -> Arc<Self> {
        let slot = Slot::new("the transfer", Arc::new(pending));
        Arc::new(Self { slot, name: name.to_owned(), outcome: Mutex::new(None) })
    }

    /// The channel's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Looks whether it has ended, for `timeout`.
    ///
    /// # Errors
    /// With what it has ended, each time; [`Kind::Forked`](crate::Kind::Forked).
    pub fn look(&self, timeout: Duration) -> Result<Option<Completed>, Failure> {
        let Some(pending) = self.pending()? else { return self.seen() };
        match pending.wait_for(timeout) {
            Ok(None) => Ok(None),
            outcome => {
                let ended = outcome.map_err(Failure::from).transpose();
                if let Some(ended) = ended {
                    self.end(ended);
                }
                self.seen()
            }
        }
    }

    /// The transfer; nothing if it has ended.
    ///
    /// # Errors
    /// [`Kind::Forked`](crate::Kind::Forked).
    pub fn pending(&self) -> Result<Option<Arc<Pending>>, Failure> {
        self.slot.check()?;
        match self.slot.get() {
            Ok(pending) => Ok(Some(pending)),
            Err(_) if self.ended().is_some() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    fn ended(&self) -> MutexGuard<'_, Option<Result<Completed, Failure>>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seen(&self) -> Result<Option<Completed>, Failure> {
        self.ended().clone().transpose()
    }

    /// Takes note of how it has ended.
    fn end(&self, outcome: Result<Completed, Failure>) {
        self.ended().get_or_insert(outcome);
        drop(self.slot.take());
    }

    /// Ends it; whether it was not over by then.
    ///
    /// # Errors
    /// Why the engine could not be stopped.
    pub fn cancel(&self) -> Result<bool, Failure> {
        let Some(pending) = self.pending()? else { return Ok(false) };
        if self.look(Duration::ZERO).is_err() || self.seen()?.is_some() {
            return Ok(false);
        }
        match pending.cancel()? {
            Some(completed) => {
                self.end(Ok(completed));
                Ok(false)
            }
            None => {
                // It says that it was cancelled, and after how much.
                let _ = self.look(Duration::ZERO);
                Ok(true)
            }
        }
    }
}

impl Child for Flight {
    fn shut(&self) {
        if self.cancel().is_err() {
            // Whoever waits for it is told; the driver keeps what memory the engine may have.
            self.end(Err(Failure::closed("the transfer's channel")));
        }
    }
}
