//! The descriptor that a program gets for a device.
//!
//! It is an empty memory file, sealed and opened for writing only: a read that goes past this library is EBADF, a write EPERM,
//! and so no such call does something else than it would on a device. Its position is the kernel's, which `dup`, `fork` and
//! `exec` share as they do any file's. Which device it is, and how it was opened, stands in the time of its inode's last access,
//! which nothing changes, as it cannot be read: one `fstat` tells, in whatever process and under whatever number it turns up.
//!
//! The device of an interrupt has to be one that can be polled, and so is a socket, whose inode says the same.

#![expect(unsafe_code, reason = "a program's descriptor is known by its number alone")]

use crate::failure::{Failure, Outcome};
use crate::node::{Kind, Node};
use rustix::fs::{
    FlockOperation, MemfdFlags, Mode, OFlags, SealFlags, Timespec, Timestamps, fchmod, fcntl_add_seals,
    flock, fstat, futimens, memfd_create,
};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The permissions of a placeholder, which no other file is likely to have: nobody but this user, and sticky.
const MODE: u32 = 0o1600;
/// The seconds of its last access: "jitn".
const MARK: i64 = 0x6a69_746e;

/// A descriptor of a device: which one, and how it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) node: Node,
    pub(crate) access: Access,
}

/// How a device was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    Both,
}

impl Access {
    /// What the flags of `open` say.
    pub(crate) fn of_flags(flags: i32) -> Option<Self> {
        match flags & libc::O_ACCMODE {
            libc::O_RDONLY => Some(Self::Read),
            libc::O_WRONLY => Some(Self::Write),
            libc::O_RDWR => Some(Self::Both),
            _ => None,
        }
    }

    /// As the flags of `open` have it.
    pub(crate) const fn flags(self) -> i32 {
        match self {
            Self::Read => libc::O_RDONLY,
            Self::Write => libc::O_WRONLY,
            Self::Both => libc::O_RDWR,
        }
    }

    /// Whether it can be read.
    pub(crate) const fn reads(self) -> bool {
        matches!(self, Self::Read | Self::Both)
    }

    /// Whether it can be written to.
    pub(crate) const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Both)
    }
}

impl Opened {
    /// All of it in one number, below 2^30: as many nanoseconds are less than a second.
    const fn code(self) -> i64 {
        let access = match self.access {
            Access::Read => 1,
            Access::Write => 2,
            Access::Both => 3,
        };
        (self.node.card as i64) << 16 | (self.node.kind.number() as i64) << 8 | access
    }

    fn of_code(code: i64) -> Option<Self> {
        let [access, kind, card, 0] = u32::try_from(code).ok()?.to_le_bytes() else { return None };
        let access = match access {
            1 => Access::Read,
            2 => Access::Write,
            3 => Access::Both,
            _ => return None,
        };
        Some(Self { node: Node { card, kind: Kind::of_number(kind)? }, access })
    }

    /// What the descriptor is, if it is a device's. One system call, and nothing that could wait.
    pub(crate) fn of(descriptor: i32) -> Option<Self> {
        let stat = fstat(borrow(descriptor)?).ok()?;
        let kind = stat.st_mode & libc::S_IFMT;
        let is_marked = stat.st_mode & 0o7777 == MODE && stat.st_size == 0 && stat.st_atime == MARK;
        if !is_marked || (kind != libc::S_IFREG && kind != libc::S_IFSOCK) {
            return None;
        }
        let opened = Self::of_code(i64::try_from(stat.st_atime_nsec).ok()?)?;
        let is_socket = matches!(opened.node.kind, Kind::Events(_));
        (is_socket == (kind == libc::S_IFSOCK)).then_some(opened)
    }

    /// Marks an inode as this device's.
    ///
    /// # Errors
    /// What the kernel says, or that it does not keep the mark.
    pub(crate) fn mark(self, descriptor: impl AsFd) -> Outcome<()> {
        let time = Timespec { tv_sec: MARK, tv_nsec: self.code() };
        let failed = |errno: Errno| Failure::new(errno, "a descriptor for the device could not be marked");
        fchmod(&descriptor, Mode::from_raw_mode(MODE)).map_err(failed)?;
        futimens(&descriptor, &Timestamps { last_access: time, last_modification: time }).map_err(failed)?;
        match Self::of(descriptor.as_fd().as_raw_fd()) == Some(self) {
            true => Ok(()),
            false => Err(failed(Errno::OPNOTSUPP)),
        }
    }
}

/// A placeholder that was made, and a way to see when the program has closed all that it made of it.
#[derive(Debug)]
pub(crate) struct Placeholder {
    /// For the program.
    pub(crate) descriptor: OwnedFd,
    pub(crate) watch: Watch,
}

/// Sees when a placeholder is closed, by a lock that its open file description holds.
#[derive(Debug)]
pub(crate) struct Watch(OwnedFd);

impl Watch {
    /// Whether no descriptor of the placeholder is left, in any process.
    pub(crate) fn is_closed(&self) -> bool {
        flock(&self.0, FlockOperation::NonBlockingLockExclusive).is_ok()
    }
}

impl Placeholder {
    /// A new placeholder, with those of the flags of `open` that live in a descriptor.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn new(opened: Opened, flags: i32) -> Outcome<Self> {
        let name = opened.node.to_string();
        let name = name.trim_start_matches("/dev/");
        let failed = |errno| Failure::new(errno, "a descriptor for the device could not be made");
        let file = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).map_err(failed)?;
        opened.mark(&file)?;
        fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)
            .map_err(failed)?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let kept = flags & (libc::O_CLOEXEC | libc::O_NONBLOCK);
        let kept = OFlags::from_bits_retain(kept.cast_unsigned()) | OFlags::WRONLY;
        let descriptor = rustix::fs::open(path, kept, Mode::empty()).map_err(failed)?;
        flock(&descriptor, FlockOperation::NonBlockingLockExclusive).map_err(failed)?;
        Ok(Self { descriptor, watch: Watch(file) })
    }
}

/// A program's descriptor, for one call.
pub(crate) fn borrow<'a>(descriptor: i32) -> Option<BorrowedFd<'a>> {
    // SAFETY: the number is not -1, and whoever borrows it makes a call or two that do nothing to what is not open.
    (descriptor >= 0).then(|| unsafe { BorrowedFd::borrow_raw(descriptor) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placeholder(access: Access) -> (Opened, Placeholder) {
        let opened = Opened { node: Node { card: 3, kind: Kind::C2h(2) }, access };
        (opened, Placeholder::new(opened, libc::O_RDWR | libc::O_CLOEXEC).unwrap())
    }

    #[test]
    fn what_a_descriptor_is_stands_in_it() {
        for access in [Access::Read, Access::Write, Access::Both] {
            let (opened, made) = placeholder(access);
            let copy = rustix::io::dup(&made.descriptor).unwrap();
            assert_eq!(Opened::of(copy.as_raw_fd()), Some(opened));
            assert_eq!(Access::of_flags(access.flags()), Some(access));
        }
        let other = memfd_create("other", MemfdFlags::CLOEXEC).unwrap();
        assert_eq!(Opened::of(other.as_raw_fd()), None);
        assert_eq!((Opened::of(-1), Opened::of(1_000_000)), (None, None));
    }

    #[test]
    fn calls_that_go_past_the_library_fail() {
        let (_, made) = placeholder(Access::Both);
        assert_eq!(rustix::io::read(&made.descriptor, &mut [0_u8; 4]), Err(Errno::BADF));
        assert_eq!(rustix::io::write(&made.descriptor, b"abcd"), Err(Errno::PERM));
        assert_eq!(rustix::fs::ftruncate(&made.descriptor, 4096), Err(Errno::PERM));
        assert!(Opened::of(made.descriptor.as_raw_fd()).is_some(), "and what it is, is known as before");
    }

    #[test]
    fn its_end_is_seen_when_the_last_copy_is_closed() {
        let (_, made) = placeholder(Access::Both);
        let copy = rustix::io::dup(&made.descriptor).unwrap();
        drop(made.descriptor);
        assert!(!made.watch.is_closed());
        drop(copy);
        assert!(made.watch.is_closed());
    }
}
