//! A transfer of a buffer that is a program's alone.

use crate::error::Error;
use crate::pending::{Completed, Pending};
use jitney_vfio::{DmaBuffer, OwnBuffer};

/// A transfer that has a buffer for as long as it lasts, see [`Channel::submit_own`](crate::Channel::submit_own). Dropping it lets
/// the transfer go on, and the buffer goes back to the card's owner afterwards.
#[derive(Debug)]
#[must_use = "it has the buffer; call wait"]
pub struct Lent {
    pub(crate) pending: Pending,
    pub(crate) buffer: DmaBuffer,
}

impl Lent {
    /// Whether the transfer has ended; [`wait`](Self::wait) does not wait then.
    ///
    /// # Errors
    /// As [`Pending::poll`].
    pub fn poll(&self) -> Result<Option<Completed>, Error> {
        self.pending.poll()
    }

    /// Waits until the transfer has ended, and gives the buffer back: nothing of it only if the engine failed and could not be
    /// stopped, so that it may still be writing.
    pub fn wait(self) -> (Result<Completed, Error>, Option<OwnBuffer>) {
        let outcome = self.pending.wait();
        (outcome, self.buffer.into_own().ok())
    }

    /// Ends the transfer, else as [`wait`](Self::wait); nothing was done if it was cancelled.
    pub fn cancel(self) -> (Result<Option<Completed>, Error>, Option<OwnBuffer>) {
        let outcome = self.pending.cancel();
        (outcome, self.buffer.into_own().ok())
    }
}
