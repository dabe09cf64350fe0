//! A client's file, mapped, and how it is read and written although the client may do to it what it likes.
//!
//! Memory that is sealed against shrinking is there as long as its mapping is: it is copied in this process, at memory
//! speed. Any other file can be shortened while it is mapped, or lie on huge pages of which none is left when a hole was
//! punched into it; touching what is missing then raises SIGBUS, which would end this process and the board with it. So
//! the kernel copies there: `process_vm_readv` and `process_vm_writev` of our own memory answer EFAULT instead. With
//! 256 KiB at a time they were measured at 2.5 to 2.9 GB/s beside 7.4 in this process, with 4 KiB at 1.4.

use crate::function::CardRange;
use std::io::{IoSlice, IoSliceMut};

use jitney_memory::{AccessError, Mapping};
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;
use rustix::io::Errno;

/// Bytes that one call of the kernel copies; between it and the card they lie in a buffer that the caches hold.
const BUFFER: usize = 64 << 10;

/// The whole of a file of a client's.
#[derive(Debug)]
pub(crate) struct ClientMemory {
    mapping: Mapping,
    /// Nothing that the client does can take away what is mapped.
    steady: bool,
}

/// Why bytes of a client's file could not be copied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The kernel did not copy.
    #[error(
        "its file has no memory there any more ({0}): it was shortened after it was mapped, or no page was left"
    )]
    Missing(Errno),
}

impl ClientMemory {
    /// A mapping of the whole of a file from its start; `steady` if the client cannot take any of it away.
    ///
    /// # Errors
    /// What the kernel answers if it does not copy for us at all.
    pub(crate) fn new(mapping: Mapping, steady: bool) -> Result<Self, Errno> {
        let memory = Self { mapping, steady };
        if !steady
            && let Err(CopyError::Missing(errno @ (Errno::NOSYS | Errno::PERM))) = memory.read(0, &mut [0])
        {
            crate::limited::warn_limited!(
                "memory that is not sealed against shrinking cannot be used here: process_vm_readv answers {errno}"
            );
            return Err(errno);
        }
        Ok(memory)
    }

    /// The mapping.
    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// Reads from `offset` of the file on.
    pub(crate) fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), CopyError> {
        if self.steady {
            return Ok(self.mapping.read(offset, bytes)?);
        }
        let mut done = 0;
        while done < bytes.len() {
            let from = self.place(offset.saturating_add(done as u64), bytes.len() - done)?;
            let copied = process_vm_readv(Pid::this(), &mut [IoSliceMut::new(&mut bytes[done..])], &[from]);
            done += progress(copied)?;
        }
        Ok(())
    }

    /// Writes from `offset` of the file on.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), CopyError> {
        if self.steady {
            return Ok(self.mapping.write(offset, bytes)?);
        }
        let mut done = 0;
        while done < bytes.len() {
            let to = self.place(offset.saturating_add(done as u64), bytes.len() - done)?;
            let copied = process_vm_writev(Pid::this(), &[IoSlice::new(&bytes[done..])], &[to]);
            done += progress(copied)?;
        }
        Ok(())
    }

    /// The same for a part of much that is written in a row.
    pub(crate) fn write_past_caches(&self, offset: u64, bytes: &[u8]) -> Result<(), CopyError> {
        match self.steady {
            true => Ok(self.mapping.write_past_caches(offset, bytes)?),
            false => self.write(offset, bytes),
        }
    }

    /// Copies from `offset` of the file to the card's memory.
    pub(crate) fn copy_to(&self, offset: u64, card: CardRange<'_>) -> Result<(), CopyError> {
        let (to, length) = (card.offset, usize::try_from(card.length).unwrap_or(usize::MAX));
        if self.steady {
            return Ok(match card.past_caches {
                true => self.mapping.copy_past_caches_to(offset, card.memory, to, length),
                false => self.mapping.copy_to(offset, card.memory, to, length),
            }?);
        }
        let mut buffer = vec![0; length.min(BUFFER)];
        for start in (0..length).step_by(BUFFER) {
            let part = &mut buffer[..(length - start).min(BUFFER)];
            self.read(offset.saturating_add(start as u64), part)?;
            card.memory.write(to.saturating_add(start as u64), part)?;
        }
        Ok(())
    }

    /// Copies from the card's memory to `offset` of the file.
    pub(crate) fn copy_from(&self, offset: u64, card: CardRange<'_>) -> Result<(), CopyError> {
        let (from, length) = (card.offset, usize::try_from(card.length).unwrap_or(usize::MAX));
        if self.steady {
            return Ok(match card.past_caches {
                true => card.memory.copy_past_caches_to(from, &self.mapping, offset, length),
                false => card.memory.copy_to(from, &self.mapping, offset, length),
            }?);
        }
        let mut buffer = vec![0; length.min(BUFFER)];
        for start in (0..length).step_by(BUFFER) {
            let part = &mut buffer[..(length - start).min(BUFFER)];
            card.memory.read(from.saturating_add(start as u64), part)?;
            self.write(offset.saturating_add(start as u64), part)?;
        }
        Ok(())
    }

    /// Stores a word that tells that everything written before is there.
    ///
    /// In one store where the memory is steady and the word aligned in the file. Elsewhere byte by byte in the order of
    /// addresses, as the kernel may copy it.
    pub(crate) fn write_word(&self, offset: u64, bytes: &[u8]) -> Result<(), CopyError> {
        match <[u8; 4]>::try_from(bytes) {
            Ok(word) if self.steady && offset.is_multiple_of(4) => {
                Ok(self.mapping.store_release32(offset, u32::from_ne_bytes(word))?)
            }
            _ => self.write(offset, bytes),
        }
    }

    /// Where `length` bytes at `offset` of the file are in this process.
    fn place(&self, offset: u64, length: usize) -> Result<RemoteIoVec, AccessError> {
        let size = self.mapping.len();
        let start = usize::try_from(offset).ok().filter(|start| *start <= size && length <= size - start);
        let start = start.ok_or(AccessError::OutOfBounds { offset, len: length, size })?;
        let base = usize::try_from(self.mapping.address()).map_err(|_| AccessError::OutOfBounds {
            offset,
            len: length,
            size,
        })?;
        Ok(RemoteIoVec { base: base + start, len: length })
    }
}

/// How far the kernel came; it stops, without an error at first, where memory is missing.
fn progress(copied: nix::Result<usize>) -> Result<usize, CopyError> {
    match copied {
        Ok(0) => Err(CopyError::Missing(Errno::FAULT)),
        Ok(count) => Ok(count),
        Err(errno) => Err(CopyError::Missing(Errno::from_raw_os_error(errno as i32))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jitney_memory::Access;
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    use std::os::fd::OwnedFd;

    const SIZE: u64 = 1 << 20;

    fn shrinkable(access: Access) -> (OwnedFd, ClientMemory) {
        let file = memfd_create("shrinks", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, SIZE).unwrap();
        let mapping = Mapping::shared(&file, 0, usize::try_from(SIZE).unwrap(), access).unwrap();
        (file, ClientMemory::new(mapping, false).unwrap())
    }

    #[test]
    fn memory_that_is_gone_is_an_error_and_no_signal() {
        let (file, memory) = shrinkable(Access::ReadWrite);
        let card = Mapping::anonymous(1 << 20).unwrap();
        card.fill(0, 1 << 20, 7).unwrap();
        memory.copy_from(0, CardRange::new(&card, 0, 1 << 20)).unwrap();
        ftruncate(&file, 0x3000).unwrap();
        let missing = |result: Result<(), CopyError>| {
            assert!(matches!(result, Err(CopyError::Missing(Errno::FAULT))), "{result:?}");
        };
        missing(memory.copy_from(0, CardRange::new(&card, 0, 1 << 20)));
        missing(memory.copy_to(0x2000, CardRange::new(&card, 0, 0x2000)));
        missing(memory.read(0x3000, &mut [0]));
        missing(memory.write(0xF_FFFF, &[1]));
        missing(memory.write_word(0x3000, &[1, 2, 3, 4]));
        memory.copy_to(0x1000, CardRange::new(&card, 0, 0x2000)).unwrap();
        assert_eq!(rustix::fs::fstat(&file).unwrap().st_size, 0x3000, "a write made the file longer");
        // What grows again is there again, and empty.
        ftruncate(&file, SIZE).unwrap();
        let mut bytes = [1; 2];
        memory.read(0x2FFF, &mut bytes).unwrap();
        assert_eq!(bytes, [7, 0]);
    }

    #[test]
    fn what_is_outside_or_read_only_is_refused() {
        let (_file, memory) = shrinkable(Access::ReadOnly);
        memory.read(SIZE - 1, &mut [0]).unwrap();
        assert!(matches!(memory.read(SIZE, &mut [0]), Err(CopyError::Access(_))));
        assert!(matches!(memory.read(u64::MAX, &mut [0; 2]), Err(CopyError::Access(_))));
        assert!(memory.write(0, &[1]).is_err());
    }
}
