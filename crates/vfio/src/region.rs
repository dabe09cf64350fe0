//! Access to a region of a card: a BAR or configuration space, by mapping or by trap.

use crate::error::{Error, ErrorKind, Result};
use jitney_memory::Registers;
use jitney_registers::RegisterSpace;
use std::fmt;
use std::sync::Arc;

/// Accesses to a region that a transport carries out one by one.
pub trait Trap: Send + Sync {
    /// Reads `data.len()` bytes (1, 2, 4 or 8) at `offset`; the bytes are in the card's order, little endian.
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<()>;

    /// Writes `data.len()` bytes (1, 2, 4 or 8) at `offset`.
    fn write(&self, offset: u64, data: &[u8]) -> Result<()>;
}

/// A region of a card. Cheap to clone; clones reach the same region.
///
/// An access is one load or store where the region is mapped, else one request to the transport; those of 64 bits are two of
/// 32, low word first. Offsets are in bytes and must be multiples of the access's width. There are no copies: a register is
/// no memory.
///
/// **A write comes after all that was written to DMA memory before it**, and a read before all that is read from DMA memory
/// after it, whether the region is mapped or not: a doorbell never overtakes the descriptor that it is about. A write is
/// posted: a read of the same card that has come back says that the card has it.
#[derive(Clone)]
pub struct Region {
    name: Arc<str>,
    size: u64,
    trap: Arc<dyn Trap>,
    mapped: Option<Arc<Registers>>,
}

impl Region {
    /// A region of `size` bytes. `name` says in errors which one of which card it is, as `BAR 2 of 0000:2e:00.0`.
    /// `mapped`, where it is there, covers the region from its start; what lies behind its end goes through `trap`.
    pub fn new(
        name: impl Into<Arc<str>>,
        size: u64,
        trap: Arc<dyn Trap>,
        mapped: Option<Arc<Registers>>,
    ) -> Self {
        Self { name: name.into(), size, trap, mapped }
    }

    /// Its size in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Which region of which card it is.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The mapped registers, if the region is mapped: for code that wants [`Registers::cell32`], a register that costs one
    /// instruction.
    #[must_use]
    pub fn registers(&self) -> Option<&Arc<Registers>> {
        self.mapped.as_ref()
    }

    /// The same error for every access that does not fit.
    #[cold]
    fn misfit(&self, offset: u64, width: usize) -> Error {
        let name = &self.name;
        if offset.is_multiple_of(width as u64) {
            let size = self.size;
            Error::new(
                ErrorKind::OutOfBounds,
                format!("{width} bytes at {offset:#x} are outside of {name}, which has {size:#x} bytes"),
            )
        } else {
            Error::new(
                ErrorKind::Invalid,
                format!("offset {offset:#x} in {name} is no multiple of {width}, the width of the access"),
            )
        }
    }

    /// The mapping that an access of `width` bytes at `offset` goes through, if any.
    #[inline]
    fn route(&self, offset: u64, width: usize) -> Result<Option<&Registers>> {
        let end = offset.checked_add(width as u64);
        if !offset.is_multiple_of(width as u64) || end.is_none_or(|end| end > self.size) {
            return Err(self.misfit(offset, width));
        }
        Ok(self.mapped.as_deref().filter(|mapping| end.is_some_and(|end| end <= mapping.len() as u64)))
    }
}

macro_rules! accessors {
    ($($read:ident, $write:ident, $load:ident, $store:ident, $type:ty, $bits:literal;)*) => {
        impl Region {$(
            #[doc = concat!("Reads ", $bits, " bits at `offset`.")]
            #[inline]
            pub fn $read(&self, offset: u64) -> Result<$type> {
                const WIDTH: usize = size_of::<$type>();
                if let Some(mapping) = self.route(offset, WIDTH)? {
                    return mapping.$load(offset).map_err(|_| self.misfit(offset, WIDTH));
                }
                let mut bytes = [0; WIDTH];
                self.trap.read(offset, &mut bytes)?;
                Ok(<$type>::from_le_bytes(bytes))
            }

            #[doc = concat!("Writes ", $bits, " bits at `offset`.")]
            #[inline]
            pub fn $write(&self, offset: u64, value: $type) -> Result<()> {
                const WIDTH: usize = size_of::<$type>();
                if let Some(mapping) = self.route(offset, WIDTH)? {
                    return mapping.$store(offset, value).map_err(|_| self.misfit(offset, WIDTH));
                }
                self.trap.write(offset, &value.to_le_bytes())
            }
        )*}
    };
}

accessors! {
    read8, write8, load8, store8, u8, "8";
    read16, write16, load16, store16, u16, "16";
    read32, write32, load32, store32, u32, "32";
}

impl Region {
    /// Reads 64 bits at `offset` as two times 32, low word first.
    ///
    /// # Errors
    /// As [`read32`](Self::read32).
    #[inline]
    pub fn read64(&self, offset: u64) -> Result<u64> {
        self.route(offset, size_of::<u64>())?;
        let low = self.read32(offset)?;
        Ok(u64::from(self.read32(offset + 4)?) << 32 | u64::from(low))
    }

    /// Writes 64 bits at `offset` as two times 32, low word first.
    ///
    /// # Errors
    /// As [`write32`](Self::write32). After one, the low word may have been written.
    #[inline]
    pub fn write64(&self, offset: u64, value: u64) -> Result<()> {
        self.route(offset, size_of::<u64>())?;
        let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
        self.write32(offset, u32::from_le_bytes([a, b, c, d]))?;
        self.write32(offset + 4, u32::from_le_bytes([e, f, g, h]))
    }
}

impl RegisterSpace for Region {
    type Error = Error;

    #[inline]
    fn read32(&self, offset: u64) -> Result<u32> {
        Self::read32(self, offset)
    }

    #[inline]
    fn write32(&self, offset: u64, value: u32) -> Result<()> {
        Self::write32(self, offset, value)
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.mapped.is_some() { "mapped" } else { "trapped" };
        write!(f, "Region({}, {:#x} bytes, {how})", self.name, self.size)
    }
}
