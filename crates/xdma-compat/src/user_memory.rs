//! Memory of the program's, by the address that it gave.
//!
//! A program can pass any number as an address. The kernel copies for us (`process_vm_readv` and `process_vm_writev` of this
//! process's own memory) and answers EFAULT where there is nothing, as it does in a driver; a copy of our own would end the
//! program.

#![expect(unsafe_code, reason = "the kernel copies from and to addresses that the program has given")]

use crate::failure::{Failure, Outcome};
use jitney_vfio::DmaBuffer;
use rustix::io::Errno;
use std::ffi::c_void;

/// A range of the program's memory, which need not be there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UserMemory {
    address: usize,
    length: usize,
}

impl UserMemory {
    pub(crate) fn new(address: *const c_void, length: usize) -> Self {
        Self { address: address.addr(), length }
    }

    /// The memory at a number that came as an argument.
    pub(crate) const fn at(address: usize, length: usize) -> Self {
        Self { address, length }
    }

    /// Bytes of it.
    pub(crate) const fn len(self) -> usize {
        self.length
    }

    /// Its part from `start` on, of `length` bytes.
    pub(crate) const fn part(self, start: usize, length: usize) -> Self {
        Self { address: self.address.wrapping_add(start), length }
    }

    /// Copies as many bytes as `bytes` has out of it.
    ///
    /// # Errors
    /// EFAULT.
    pub(crate) fn read(self, bytes: &mut [u8]) -> Outcome<()> {
        copy(Way::FromUser, bytes.as_mut_ptr().addr(), self.part(0, bytes.len()))
    }

    /// Copies all of `bytes` into it.
    ///
    /// # Errors
    /// EFAULT.
    pub(crate) fn write(self, bytes: &[u8]) -> Outcome<()> {
        copy(Way::ToUser, bytes.as_ptr().addr(), self.part(0, bytes.len()))
    }

    /// Copies all of it to the start of a DMA buffer that has as many bytes.
    ///
    /// # Errors
    /// EFAULT.
    pub(crate) fn read_into(self, buffer: &DmaBuffer) -> Outcome<()> {
        copy(Way::FromUser, place(buffer, self.length)?, self)
    }

    /// Fills all of it from the start of a DMA buffer.
    ///
    /// # Errors
    /// EFAULT.
    pub(crate) fn write_from(self, buffer: &DmaBuffer) -> Outcome<()> {
        copy(Way::ToUser, place(buffer, self.length)?, self)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    FromUser,
    ToUser,
}

/// Where a DMA buffer is, if it has as many bytes.
fn place(buffer: &DmaBuffer, length: usize) -> Outcome<usize> {
    let fits = length as u64 <= buffer.size();
    usize::try_from(buffer.view().address())
        .ok()
        .filter(|_| fits)
        .ok_or_else(|| Failure::new(Errno::INVAL, "a DMA buffer is too short"))
}

/// Copies between memory of this library's at `own`, as long as `user`, and the program's.
fn copy(way: Way, own: usize, user: UserMemory) -> Outcome<()> {
    let mut done = 0;
    while done < user.length {
        let left = user.length - done;
        let vector = |address: usize| libc::iovec {
            iov_base: std::ptr::with_exposed_provenance_mut(address.wrapping_add(done)),
            iov_len: left,
        };
        let (local, remote) = (vector(own), vector(user.address));
        let call = match way {
            Way::FromUser => libc::SYS_process_vm_readv,
            Way::ToUser => libc::SYS_process_vm_writev,
        };
        let pid = rustix::process::getpid().as_raw_pid();
        // SAFETY: the kernel checks both ranges; the local one is memory of ours that lives as long as this call, the other
        // is for the program to answer for, as with any system call.
        let copied = unsafe {
            libc::syscall(call, pid, &raw const local, 1_usize, &raw const remote, 1_usize, 0_usize)
        };
        match usize::try_from(copied) {
            Ok(copied) if copied > 0 => done += copied,
            _ => return Err(refused(way)),
        }
    }
    Ok(())
}

fn refused(way: Way) -> Failure {
    let errno = std::io::Error::last_os_error().raw_os_error().map_or(Errno::FAULT, Errno::from_raw_os_error);
    match errno {
        Errno::NOSYS | Errno::PERM => Failure::new(
            errno,
            "this machine does not let a process copy its own memory by process_vm_readv, which a container may forbid",
        ),
        _ if way == Way::FromUser => {
            Failure::new(Errno::FAULT, "there is no memory to read at the given address")
        }
        _ => Failure::new(
            Errno::FAULT,
            "there is no memory to write to at the given address (registers that were mapped are none)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_and_go_and_a_bad_address_is_an_error() {
        let mut there = *b"0123456789";
        let memory = UserMemory::at(there.as_mut_ptr().expose_provenance(), there.len());
        let mut bytes = [0; 4];
        memory.part(3, 4).read(&mut bytes).unwrap();
        assert_eq!(&bytes, b"3456");
        memory.part(8, 2).write(b"xy").unwrap();
        assert_eq!(&there, b"01234567xy");
        for address in [0, 8, usize::MAX - 3] {
            let memory = UserMemory::at(address, 4);
            assert_eq!(memory.read(&mut bytes).unwrap_err().errno, Errno::FAULT, "{address:#x}");
            assert_eq!(memory.write(&bytes).unwrap_err().errno, Errno::FAULT, "{address:#x}");
        }
    }
}
