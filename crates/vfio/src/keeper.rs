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
}
