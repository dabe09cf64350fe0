//! The registers of a card, mapped.

use crate::error::{AccessError, Result};
use crate::mapped::{Access, Cell32, Mapped};
use std::os::fd::AsFd;
use std::sync::atomic::{Ordering, fence};

/// A mapping of a BAR; unmapped when dropped. An access to a register does something: each is one load or store of its
/// width, never left out, merged or repeated, and there are no copies, which would be all of that. Offsets are in bytes and
/// multiples of the width.
///
/// **A store comes after all that was written to memory before it**, and a load before all that is read from memory after it:
/// a descriptor that was written is there when the doorbell that was rung afterwards reaches the card, and a buffer is read
/// after the status that says it is full. On x86-64, where memory that a card sees is coherent and stores are not reordered
/// with stores, a fence for the compiler is enough for that, which is what each access has. Nothing else is supported.
///
/// A store is posted: that it returns does not mean that the card has it. A later load from the same card that has come back
/// does.
#[derive(Debug)]
pub struct Registers(Mapped);

impl Registers {
    /// Maps `len` bytes of a device's file from `offset`, a multiple of the page size.
    ///
    /// # Errors
    /// A length of zero, a range beyond the end of a regular file, or what `mmap` answers.
    pub fn map(file: impl AsFd, offset: u64, len: usize) -> Result<Self> {
        Mapped::shared(file, offset, len, Access::ReadWrite).map(Self)
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no bytes, which no mapping is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where they are in this process, for code that reaches them by loads and stores of its own, such as a program that was
    /// written for `mmap`. It means nothing once the mapping is dropped, and whoever uses it keeps to what is said of accesses above.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.0.address()
    }

    /// The 32 bits at `offset`, checked once, to be read and written often.
    ///
    /// # Errors
    /// An offset outside the mapping or not a multiple of 4.
    pub fn cell32(&self, offset: u64) -> Result<Cell32<'_>, AccessError> {
        self.0.cell32(offset)
    }
}

macro_rules! accessors {
    ($($load:ident, $store:ident, $type:ty, $bits:literal;)*) => {
        impl Registers {$(
            #[doc = concat!("Loads ", $bits, " bits, in the host's byte order.")]
            ///
            /// # Errors
            /// An offset outside the mapping or not a multiple of the width.
            #[inline]
            pub fn $load(&self, offset: u64) -> Result<$type, AccessError> {
                let value = self.0.load(offset)?;
                fence(Ordering::Acquire);
                Ok(value)
            }

            #[doc = concat!("Stores ", $bits, " bits, in the host's byte order.")]
            ///
            /// # Errors
            /// An offset outside the mapping or not a multiple of the width.
            #[inline]
            pub fn $store(&self, offset: u64, value: $type) -> Result<(), AccessError> {
                fence(Ordering::Release);
                self.0.store(offset, value)
            }
        )*}
    };
}

accessors! {
    load8, store8, u8, "8";
    load16, store16, u16, "16";
    load32, store32, u32, "32";
}
