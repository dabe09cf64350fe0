//! Device registers as types.
//!
//! A [`Register`] knows its offset, what its 32 bits mean and whether it may be read or written, so that writing a
//! read-only register does not compile and no offset arithmetic stands in driver code. It holds no memory: the same
//! constants describe a mapped BAR, a BAR whose accesses travel over a socket, and the inside of an emulated card.
//!
//! All registers are 32 bits wide. The cards this project drives accept nothing else: on an XDMA a 64-bit store
//! changes only the low half and a 64-bit load returns all ones, so [`Block::read_pair`] and [`Block::write_pair`]
//! make two accesses, low word first.
//!
//! ```
//! use jitney_registers::{Block, ReadOnly, ReadWrite, Register, RegisterSpace};
//!
//! const IDENTIFIER: Register<u32, ReadOnly> = Register::new(0x00);
//! const CONTROL: Register<u32, ReadWrite> = Register::new(0x04);
//!
//! fn start<S: RegisterSpace>(space: S) -> Result<u32, S::Error> {
//!     let channel = Block::new(space, 0x1000);
//!     channel.write(CONTROL, 1)?;
//!     channel.read(IDENTIFIER)
//! }
//! ```

#![forbid(unsafe_code)]

use std::marker::PhantomData;

/// Something with 32-bit registers: a BAR, a window of one, or a fake.
///
/// Offsets are in bytes and multiples of four; values are in the host's byte order.
pub trait RegisterSpace {
    /// What a failed access says.
    type Error;

    /// Reads the 32-bit register at `offset`.
    fn read32(&self, offset: u64) -> Result<u32, Self::Error>;

    /// Writes the 32-bit register at `offset`.
    fn write32(&self, offset: u64, value: u32) -> Result<(), Self::Error>;
}

impl<S: RegisterSpace + ?Sized> RegisterSpace for &S {
    type Error = S::Error;

    fn read32(&self, offset: u64) -> Result<u32, S::Error> {
        (**self).read32(offset)
    }

    fn write32(&self, offset: u64, value: u32) -> Result<(), S::Error> {
        (**self).write32(offset, value)
    }
}

/// Access right: may be read only.
#[derive(Debug, Clone, Copy)]
pub enum ReadOnly {}
/// Access right: may be written only; what a read returns has no meaning.
#[derive(Debug, Clone, Copy)]
pub enum WriteOnly {}
/// Access right: may be read and written.
#[derive(Debug, Clone, Copy)]
pub enum ReadWrite {}

/// An access right that allows reading.
pub trait Readable {}
/// An access right that allows writing.
pub trait Writable {}
impl Readable for ReadOnly {}
impl Readable for ReadWrite {}
impl Writable for WriteOnly {}
impl Writable for ReadWrite {}

/// One 32-bit register: where it is in its block, what its bits mean (`V`) and how it may be accessed (`A`).
pub struct Register<V, A> {
    offset: u32,
    meaning: PhantomData<fn() -> (V, A)>,
}

// Derives would ask the same of `V` and `A`, which are only markers here.
impl<V, A> Clone for Register<V, A> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<V, A> Copy for Register<V, A> {}
impl<V, A> std::fmt::Debug for Register<V, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Register({:#x})", self.offset)
    }
}

impl<V, A> Register<V, A> {
    /// A register at `offset` bytes from the start of its block.
    ///
    /// # Panics
    /// If `offset` is no multiple of four; in a constant that is a compile error.
    #[must_use]
    pub const fn new(offset: u32) -> Self {
        assert!(offset.is_multiple_of(4), "registers are 32 bits wide and aligned");
        Self { offset, meaning: PhantomData }
    }

    /// Its offset from the start of its block, in bytes.
    #[must_use]
    pub const fn offset(self) -> u32 {
        self.offset
    }

    /// The register `index` places further in an array of registers with `stride` bytes between them.
    #[must_use]
    pub const fn nth(self, index: u32, stride: u32) -> Self {
        Self::new(self.offset + index * stride)
    }
}

/// A block of registers at a place in a space: a channel, a peripheral.
#[derive(Debug, Clone, Copy)]
pub struct Block<S> {
    space: S,
    base: u64,
}

impl<S: RegisterSpace> Block<S> {
    /// The block that starts at `base` bytes of `space`.
    pub const fn new(space: S, base: u64) -> Self {
        Self { space, base }
    }

    /// Where the block starts in its space, in bytes.
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// The space that the block lies in.
    pub const fn space(&self) -> &S {
        &self.space
    }

    /// Reads a register.
    #[inline]
    pub fn read<V: From<u32>, A: Readable>(&self, register: Register<V, A>) -> Result<V, S::Error> {
        self.space.read32(self.base + u64::from(register.offset)).map(V::from)
    }

    /// Writes a register.
    #[inline]
    pub fn write<V: Into<u32>, A: Writable>(
        &self,
        register: Register<V, A>,
        value: V,
    ) -> Result<(), S::Error> {
        self.space.write32(self.base + u64::from(register.offset), value.into())
    }

    /// Reads a 64-bit quantity from two registers, the low word first.
    pub fn read_pair<A: Readable>(
        &self,
        low: Register<u32, A>,
        high: Register<u32, A>,
    ) -> Result<u64, S::Error> {
        let low = self.read(low)?;
        Ok(u64::from(self.read(high)?) << 32 | u64::from(low))
    }

    /// Writes a 64-bit quantity to two registers, the low word first.
    #[expect(clippy::cast_possible_truncation, reason = "the two halves are what is meant")]
    pub fn write_pair<A: Writable>(
        &self,
        low: Register<u32, A>,
        high: Register<u32, A>,
        value: u64,
    ) -> Result<(), S::Error> {
        self.write(low, value as u32)?;
        self.write(high, (value >> 32) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::convert::Infallible;

    #[derive(Default)]
    struct Log(RefCell<Vec<(u64, u32)>>);

    impl RegisterSpace for Log {
        type Error = Infallible;
        fn read32(&self, offset: u64) -> Result<u32, Infallible> {
            Ok(u32::try_from(offset).unwrap())
        }
        fn write32(&self, offset: u64, value: u32) -> Result<(), Infallible> {
            self.0.borrow_mut().push((offset, value));
            Ok(())
        }
    }

    const LOW: Register<u32, ReadWrite> = Register::new(0x80);
    const HIGH: Register<u32, ReadWrite> = Register::new(0x84);

    #[test]
    fn a_pair_is_two_accesses_with_the_low_word_first() {
        let log = Log::default();
        let block = Block::new(&log, 0x4000);
        block.write_pair(LOW, HIGH, 0x1122_3344_5566_7788).unwrap();
        assert_eq!(*log.0.borrow(), [(0x4080, 0x5566_7788), (0x4084, 0x1122_3344)]);
        assert_eq!(block.read_pair(LOW, HIGH).unwrap(), 0x4084_0000_4080);
    }

    #[test]
    fn registers_of_an_array_are_a_stride_apart() {
        assert_eq!(LOW.nth(3, 4).offset(), 0x8c);
    }
}
