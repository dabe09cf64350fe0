//! An interrupt vector, delivered to this process.

use crate::error::Result;
use crate::keeper::{Handed, Keeper};
use crate::leased::Lease;
use jitney_memory::EventFd;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

/// An interrupt vector that is delivered to this process through an eventfd, until it is dropped.
///
/// [`AsFd`] gives the eventfd, readable when the vector has fired, for a poll loop of the caller's own.
pub struct Interrupt {
    vector: u16,
    event: EventFd,
    keeper: Arc<dyn Keeper>,
    // After `keeper`, so that the vector is silent before somebody else can lease it.
    lease: Lease,
}

impl Interrupt {
    /// The vector that `keeper` wired to `event`, under `lease`.
    pub fn new(vector: u16, event: EventFd, lease: Lease, keeper: Arc<dyn Keeper>) -> Self {
        Self { vector, event, keeper, lease }
    }

    /// Which vector it is.
    #[must_use]
    pub const fn vector(&self) -> u16 {
        self.vector
    }

    /// The lease that the vector is held by.
    #[must_use]
    pub const fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Waits until the vector has fired since the last call, at most `timeout` (for ever without one). Returns whether it has.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        Ok(self.event.wait(timeout)? && self.event.take()? > 0)
    }
}

impl AsFd for Interrupt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        if let Err(error) = self.keeper.take_back(Handed::Interrupt { vector: self.vector }) {
            tracing::warn!(vector = self.vector, %error, "an interrupt vector could not be silenced");
        }
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interrupt({})", self.vector)
    }
}
