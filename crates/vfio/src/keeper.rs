//! Who handed something out, and takes it back.

use crate::error::Result;
use crate::lease::LeaseId;

/// Something that was handed out and goes back to its [`Keeper`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handed {
    /// A DMA buffer, by its IOVA.
    Buffer {
        /// Where it is mapped.
        iova: u64,
    },
    /// A lease.
    Lease {
        /// Which one.
        id: LeaseId,
    },
    /// An armed interrupt vector.
    Interrupt {
        /// Which one.
        vector: u16,
    },
}

/// Who handed something out and takes it back: the owner itself, a client's link to its broker, or a fake.
pub trait Keeper: Send + Sync {
    /// Takes it back. When this returns a buffer is unmapped, a lease free for others, a vector silent.
    fn take_back(&self, what: Handed) -> Result<()>;

    /// Whether who offered a buffer to this process still offers it. What this process made itself stays as long as it wants.
    ///
    /// # Errors
    /// What asking for it says.
    fn is_offered(&self, offer: u64) -> Result<bool> {
        let _ = offer;
        Ok(true)
    }

    /// Takes it back soon, for somebody who only lets go of it: in a destructor there is nobody to wait, or to be told
    /// what went wrong. A keeper that has to ask somebody else need not wait for the answer.
    fn take_back_soon(&self, what: Handed) {
        if let Err(error) = self.take_back(what) {
            tracing::warn!(?what, %error, "could not be given back");
        }
    }
}
