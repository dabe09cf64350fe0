//! Memory that is shared with cards and other processes.

use crate::error::{AccessError, Result};
use crate::mapped::{Access, Mapped};
use std::os::fd::AsFd;
use std::time::Duration;

/// A mapping of memory that others may write to at any time; unmapped when dropped. The registers of a card are no memory:
/// they are [`Registers`](crate::Registers).
///
/// A card, another process or another thread may write to it between any two instructions, so no `&[u8]` to it may ever
/// exist. It is accessed in three ways:
///
/// - copies ([`Mapping::read`], [`Mapping::write`], [`Mapping::copy_to`], [`Mapping::fill`]) for data. What is
///   copied while somebody else writes may be part old and part new, byte by byte; who owns which bytes when is a
///   matter of the protocol above. Writes of this kind are ordered before a later store to a register or a word,
///   and reads after an earlier load.
/// - atomic words ([`Mapping::load_acquire32`], [`Mapping::store_release32`]) in which one side tells the other that data
///   is ready.
/// - volatile words ([`Mapping::load32`], [`Mapping::store32`] and their like): one access each, never left out, merged or
///   moved across each other, and not ordered with copies.
#[derive(Debug)]
pub struct Mapping(Mapped);

impl Mapping {
    /// Maps `len` bytes of a file from `offset`, shared with everybody else who has it.
    ///
    /// `offset` is a multiple of the page size. The file has to be that long; unless it is sealed against shrinking (see
    /// [`Memfd`](crate::Memfd)), whoever shortens it later kills this process by SIGBUS.
    ///
    /// # Errors
    /// A length of zero, a range beyond the end of the file, or what `mmap` answers.
    pub fn shared(file: impl AsFd, offset: u64, len: usize, access: Access) -> Result<Self> {
        Mapped::shared(file, offset, len, access).map(Self)
    }

    /// Maps `len` bytes of zeroed memory of this process alone.
    ///
    /// Nothing is set aside for it: memory that nobody wrote to costs nothing, even when it is read. The first
    /// write takes a page. Huge pages are not asked for: copies of 1 GiB were measured to be no faster with them,
    /// and one written byte would cost 2 MiB.
    ///
    /// # Errors
    /// A length of zero or what `mmap` answers.
    pub fn anonymous(len: usize) -> Result<Self> {
        Mapped::anonymous(len).map(Self)
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

    /// All of its bytes as a slice, for memory that is one owner's for a while.
    ///
    /// # Safety
    /// Nobody writes to them while the slice lives: no other process, no card, and no method of this.
    #[must_use]
    #[expect(unsafe_code, reason = "who else has the memory is known to the caller alone")]
    pub unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: The caller's promise is the one that is asked for.
        unsafe { self.0.bytes() }
    }

    /// The same to write to.
    ///
    /// # Safety
    /// Nobody else reads or writes them while the slice lives.
    ///
    /// # Panics
    /// If it was mapped for reading only.
    #[must_use]
    #[expect(unsafe_code, reason = "who else has the memory is known to the caller alone")]
    pub unsafe fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: The caller's promise is the one that is asked for.
        unsafe { self.0.bytes_mut() }
    }

    /// What it may be used for.
    #[must_use]
    pub fn access(&self) -> Access {
        self.0.access()
    }

    /// Where it is in this process: a number for calls that have the kernel pin or map the memory, such as VFIO's
    /// `MAP_DMA`. It is no way to the memory itself, and means nothing once the mapping is dropped.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.0.address()
    }

    /// Copies the bytes from `offset` on into `buffer`.
    ///
    /// # Errors
    /// A range outside the mapping.
    #[inline]
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), AccessError> {
        self.0.read(offset, buffer)
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Errors
    /// A range outside the mapping, or a mapping that is read-only.
    #[inline]
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), AccessError> {
        self.0.write(offset, bytes)
    }

    /// Copies `bytes` to `offset` and leaves the caches as they are: a part of much that is written in a row, none of which is
    /// read soon. Faster than [`write`](Self::write) where the whole is far larger than the caches, and slower elsewhere.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    #[inline]
    pub fn write_past_caches(&self, offset: u64, bytes: &[u8]) -> Result<(), AccessError> {
        self.0.write_past_caches(offset, bytes)
    }

    /// Copies `len` bytes from `offset` to `to_offset` of another mapping or of this one; the ranges may overlap.
    ///
    /// # Errors
    /// A range outside its mapping, or a target that is read-only.
    pub fn copy_to(&self, offset: u64, to: &Self, to_offset: u64, len: usize) -> Result<(), AccessError> {
        self.0.copy_to(offset, &to.0, to_offset, len)
    }

    /// The same, and leaves the caches as they are: for a part of much, see [`write_past_caches`](Self::write_past_caches).
    ///
    /// # Errors
    /// As [`copy_to`](Self::copy_to).
    pub fn copy_past_caches_to(
        &self,
        offset: u64,
        to: &Self,
        to_offset: u64,
        len: usize,
    ) -> Result<(), AccessError> {
        self.0.copy_past_caches_to(offset, &to.0, to_offset, len)
    }

    /// Sets `len` bytes from `offset` on to `byte`.
    ///
    /// # Errors
    /// A range outside the mapping, or a mapping that is read-only.
    pub fn fill(&self, offset: u64, len: usize, byte: u8) -> Result<(), AccessError> {
        self.0.fill(offset, len, byte)
    }

    /// Loads 8 bits with one volatile access.
    ///
    /// # Errors
    /// An offset outside the mapping.
    #[inline]
    pub fn load8(&self, offset: u64) -> Result<u8, AccessError> {
        self.0.load(offset)
    }

    /// Loads 16 bits, in the host's byte order, with one volatile access.
    ///
    /// # Errors
    /// An offset outside the mapping or not a multiple of 2.
    #[inline]
    pub fn load16(&self, offset: u64) -> Result<u16, AccessError> {
        self.0.load(offset)
    }

    /// Loads 32 bits, in the host's byte order, with one volatile access.
    ///
    /// # Errors
    /// An offset outside the mapping or not a multiple of 4.
    #[inline]
    pub fn load32(&self, offset: u64) -> Result<u32, AccessError> {
        self.0.load(offset)
    }

    /// Stores 8 bits with one volatile access.
    ///
    /// # Errors
    /// An offset outside the mapping, or a mapping that is read-only.
    #[inline]
    pub fn store8(&self, offset: u64, value: u8) -> Result<(), AccessError> {
        self.0.store(offset, value)
    }

    /// Stores 16 bits, in the host's byte order, with one volatile access.
    ///
    /// # Errors
    /// An offset outside the mapping or not a multiple of 2, or a mapping that is read-only.
    #[inline]
    pub fn store16(&self, offset: u64, value: u16) -> Result<(), AccessError> {
        self.0.store(offset, value)
    }

    /// Stores 32 bits, in the host's byte order, with one volatile access.
    ///
    /// # Errors
    /// An offset outside the mapping or not a multiple of 4, or a mapping that is read-only.
    #[inline]
    pub fn store32(&self, offset: u64, value: u32) -> Result<(), AccessError> {
        self.0.store(offset, value)
    }

    /// Loads 32 bits such that what is read afterwards was written before whoever stored them did.
    ///
    /// # Errors
    /// An offset outside the mapping or not a multiple of 4.
    #[inline]
    pub fn load_acquire32(&self, offset: u64) -> Result<u32, AccessError> {
        self.0.load_acquire32(offset)
    }

    /// Stores 32 bits such that who loads them sees all that was written before.
    ///
    /// # Errors
    /// An offset outside the mapping or not a multiple of 4, or a mapping that is read-only.
    #[inline]
    pub fn store_release32(&self, offset: u64, value: u32) -> Result<(), AccessError> {
        self.0.store_release32(offset, value)
    }

    /// The same of 64 bits.
    ///
    /// # Errors
    /// An offset outside the mapping or not a multiple of 8.
    #[inline]
    pub fn load_acquire64(&self, offset: u64) -> Result<u64, AccessError> {
        self.0.load_acquire64(offset)
    }

    /// Stores 64 bits such that who loads them sees all that was written before.
    ///
    /// # Errors
    /// An offset outside the mapping or not a multiple of 8, or a mapping that is read-only.
    #[inline]
    pub fn store_release64(&self, offset: u64, value: u64) -> Result<(), AccessError> {
        self.0.store_release64(offset, value)
    }

    /// Sleeps as long as the 32 bits there are `value`, until somebody [wakes](Self::wake32) those who wait for them or `timeout` is
    /// over: then false. It may come back early, so who waits looks again. A mapping for reading will do.
    ///
    /// # Errors
    /// An offset outside the mapping or not a multiple of 4; what `futex` says.
    pub fn wait32(&self, offset: u64, value: u32, timeout: Duration) -> Result<bool> {
        self.0.wait32(offset, value, timeout)
    }

    /// Wakes all who [wait](Self::wait32) for the 32 bits there, in this process and others.
    ///
    /// # Errors
    /// An offset outside the mapping or not a multiple of 4, or a mapping that is read-only.
    pub fn wake32(&self, offset: u64) -> Result<()> {
        self.0.wake32(offset)
    }
}
