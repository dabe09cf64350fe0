//! An interrupt vector, delivered to this process.

use crate::device::Device;
use crate::error::Result;
use crate::keeper::{Handed, Keeper};
use crate::leased::Lease;
use crate::transport::InterruptKind;
use jitney_memory::EventFd;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

/// An interrupt vector that is delivered to this process through an eventfd, until it is dropped.
///
/// [`AsFd`] gives the eventfd, readable when the vector has fired, for a poll loop of the caller's own.
///
/// A card that has only the interrupt line (INTx) has one vector. The line is a level, and it masks itself each time that
/// it fires: see [`rearm`](Self::rearm).
pub struct Interrupt {
    vector: u16,
    event: EventFd,
    /// Set for an interrupt line, whose mask is lifted through it.
    line: Option<Device>,
    /// What wakes tasks; made when one waits.
    #[cfg(feature = "async")]
    watched: crate::watched::Watched,
    keeper: Arc<dyn Keeper>,
    // After `keeper`, so that the vector is silent before somebody else can lease it.
    lease: Lease,
}

impl Interrupt {
    /// The vector that `keeper` wired to `event`, under `lease`. It is one of `kind` of `device`.
    pub fn new(
        vector: u16,
        event: EventFd,
        lease: Lease,
        keeper: Arc<dyn Keeper>,
        (kind, device): (InterruptKind, &Device),
    ) -> Self {
        let line = (kind == InterruptKind::Intx).then(|| device.clone());
        Self {
            vector,
            event,
            line,
            #[cfg(feature = "async")]
            watched: crate::watched::Watched::default(),
            keeper,
            lease,
        }
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
    ///
    /// # Errors
    /// What `poll` and [`rearm`](Self::rearm) say.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        if self.line.is_some() {
            if self.event.take()? > 0 {
                return Ok(true);
            }
            self.rearm()?;
        }
        Ok(self.event.wait(timeout)? && self.event.take()? > 0)
    }

    /// Whether the vector has fired since it was last asked.
    pub(crate) fn take(&self) -> Result<bool> {
        if self.event.take()? > 0 {
            return Ok(true);
        }
        if self.line.is_none() {
            return Ok(false);
        }
        self.rearm()?;
        Ok(self.event.take()? > 0)
    }

    /// As if the vector had fired again.
    pub(crate) fn put_back(&self) -> Result<()> {
        Ok(self.event.signal()?)
    }

    /// Waits until the vector has fired since the last call, as a task of any executor.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    #[cfg(feature = "async")]
    pub async fn fired(&self) -> Result<()> {
        loop {
            if self.wait(Some(Duration::ZERO))? {
                return Ok(());
            }
            self.watched.readable(&self.event).await?;
        }
    }

    /// Lifts the mask that the interrupt line (INTx) gets each time that it fires. [`wait`](Self::wait) does so itself;
    /// who polls the eventfd does it once the card has been told to take its request back, as the line fires again
    /// while it is up. Message-signalled vectors have no such mask, and nothing is done.
    ///
    /// # Errors
    /// What the transport says.
    pub fn rearm(&self) -> Result<()> {
        match &self.line {
            Some(device) => device.transport().unmask(InterruptKind::Intx, 0),
            None => Ok(()),
        }
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
