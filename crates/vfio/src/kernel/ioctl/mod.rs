//! The ioctls of VFIO and iommufd, as thin safe functions on types that own the descriptor: the only unsafe code of this
//! crate.
//!
//! Numbers and structures are those of the published crates `vfio-bindings` and `iommufd-bindings`, generated from the
//! kernel's headers. What the kernel answers in a buffer is returned as bytes, for [`info`](super::info) to read.
//!
//! Every ioctl of both families is `_IO(';', number)`: its argument is nothing, a number, or the address of a structure
//! that begins with its own size, beyond which the kernel neither reads nor writes.

#![expect(unsafe_code, reason = "ioctl passes addresses to the kernel")]

mod iommufd;
mod vfio;

pub(super) use iommufd::Iommufd;
pub(super) use vfio::{Container, DeviceFile, Group};

use jitney_memory::Mapping;
use rustix::io::{Errno, Result};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, opcode};
use std::ffi::c_void;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

/// The letter of both families (Documentation/userspace-api/ioctl/ioctl-number.rst).
const FAMILY: u8 = b';';

const _: () = assert!(FAMILY == vfio_bindings::bindings::vfio::VFIO_TYPE);
const _: () = assert!(FAMILY == iommufd_bindings::IOMMUFD_TYPE);

/// The longest answer that is asked for, in bytes; none that is known comes near.
const LONGEST_ANSWER: usize = 64 << 10;

struct Call {
    number: u8,
    argument: *mut c_void,
}

// SAFETY: `Call` is made by `call` alone, whose caller promises that the argument suits the number. The output is the
// kernel's return value, whatever the argument is, and the argument is taken to be written to.
unsafe impl Ioctl for Call {
    type Output = IoctlOutput;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::none(FAMILY, self.number)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.argument
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> Result<IoctlOutput> {
        Ok(output)
    }
}

/// Calls ioctl `number` and returns what it returned, which is not negative.
///
/// # Safety
/// `argument` is what this ioctl takes: a number, or memory that the kernel may access for as long as the call lasts.
unsafe fn call(file: BorrowedFd<'_>, number: u8, argument: *mut c_void) -> Result<IoctlOutput> {
    // SAFETY: The caller's promise.
    unsafe { rustix::ioctl::ioctl(file, Call { number, argument }) }
}

/// Calls ioctl `number` with a number, or with 0 where it takes nothing.
///
/// # Safety
/// The ioctl takes no address.
unsafe fn call_with_number(file: BorrowedFd<'_>, number: u8, argument: usize) -> Result<IoctlOutput> {
    // SAFETY: No memory is at stake, as the caller promises.
    unsafe { call(file, number, std::ptr::without_provenance_mut(argument)) }
}

/// Calls ioctl `number` with a structure of fixed size.
///
/// # Safety
/// The ioctl takes a `T`, whose field for its size says `size_of::<T>()` or less.
unsafe fn call_with<T>(file: BorrowedFd<'_>, number: u8, argument: &mut T) -> Result<IoctlOutput> {
    // SAFETY: The kernel accesses no more than a `T`, which is borrowed exclusively, and everything that it can write to
    // an integer is a value of it. That `T` suits the number is the caller's promise.
    unsafe { call(file, number, std::ptr::from_mut(argument).cast()) }
}

/// Calls ioctl `number` with a structure that begins with its size in 32 bits, which is filled in here.
///
/// # Safety
/// The ioctl takes a structure of this kind and stores no address that is in it.
unsafe fn call_with_bytes(file: BorrowedFd<'_>, number: u8, argument: &mut [u8]) -> Result<IoctlOutput> {
    let size = u32::try_from(argument.len()).map_err(|_| Errno::TOOBIG)?;
    argument.get_mut(..4).ok_or(Errno::INVAL)?.copy_from_slice(&size.to_ne_bytes());
    // SAFETY: The kernel accesses no more than the size that the structure says, all of which is borrowed exclusively.
    unsafe { call(file, number, argument.as_mut_ptr().cast()) }
}

/// Asks for a description that ends with capabilities: again with more room, if the kernel says that it needs more than
/// the `fixed` bytes of the structure. `head` holds the words after the size.
///
/// # Safety
/// As [`call_with_bytes`].
unsafe fn describe(file: BorrowedFd<'_>, number: u8, head: &[u32], fixed: usize) -> Result<Vec<u8>> {
    let mut size = fixed;
    // What is described may grow between two questions, though not for ever.
    for _ in 0..4 {
        let mut answer = vec![0; size];
        for (field, value) in answer.chunks_exact_mut(4).skip(1).zip(head) {
            field.copy_from_slice(&value.to_ne_bytes());
        }
        // SAFETY: The caller's promise.
        unsafe { call_with_bytes(file, number, &mut answer) }?;
        let needed = answer.first_chunk().map_or(0, |size| u32::from_ne_bytes(*size)) as usize;
        if needed <= size {
            return Ok(answer);
        }
        if needed > LONGEST_ANSWER {
            return Err(Errno::OVERFLOW);
        }
        size = needed;
    }
    Err(Errno::OVERFLOW)
}

/// The number of an ioctl, which the bindings give as an offset or with more bits than it has.
const fn number(value: u32) -> u8 {
    assert!(value <= 0xff);
    #[expect(clippy::cast_possible_truncation, reason = "checked, at compile time")]
    {
        value as u8
    }
}

/// Opens a device node for reading and writing, closed on exec.
fn open_node(path: &Path) -> Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    rustix::io::retry_on_intr(|| rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()))
}

/// The size field of a structure.
const fn size<T>() -> u32 {
    assert!(size_of::<T>() <= 4096);
    #[expect(clippy::cast_possible_truncation, reason = "checked, at compile time")]
    {
        size_of::<T>() as u32
    }
}

/// The address of `length` bytes of `view` from `offset` on.
fn part_of(view: &Mapping, offset: u64, length: u64) -> Result<u64> {
    match offset.checked_add(length) {
        Some(end) if end <= view.len() as u64 => Ok(view.address() + offset),
        _ => Err(Errno::INVAL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_view_has_can_be_mapped() {
        let view = Mapping::anonymous(8192).unwrap();
        assert_eq!(part_of(&view, 4096, 4096), Ok(view.address() + 4096));
        for (offset, length) in [(4096, 4097), (8193, 0), (u64::MAX, 1), (1, u64::MAX)] {
            assert_eq!(part_of(&view, offset, length), Err(Errno::INVAL));
        }
    }
}
