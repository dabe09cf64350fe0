//! Descriptors that a process was started with.

#![expect(unsafe_code, reason = "a descriptor that came with the process is known by its number alone")]

use crate::error::{Error, Result};
use rustix::fs::FileType;
use rustix::io::{Errno, FdFlags};
use std::collections::BTreeSet;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

/// A copy, closed on exec, of the socket that this process was started with under `number`. The original stays open for
/// this process's own children.
///
/// Only what survives an exec can have come through one: what this process has opened itself is closed on exec, here and
/// in Rust's standard library, and is refused. So no number makes a copy of a socket that belongs to another part of the
/// program.
///
/// # Errors
/// `EBADF` if nothing is open under that number, [`Error::Descriptor`] if it is no socket, was not inherited, or is one
/// of the three standard descriptors.
pub fn inherited_socket(number: i32) -> Result<OwnedFd> {
    let refused = |found: &str| Error::Descriptor {
        expected: "a socket inherited from the parent".into(),
        found: format!("{found} under number {number}"),
    };
    let failed = |errno| Error::system("fcntl", format!("of inherited descriptor {number}"), errno);
    if number <= 2 {
        return Err(refused("standard input, output or error, or nothing"));
    }
    // SAFETY: the number is not -1, and the borrow lasts for two calls: one that looks at a flag, and one that copies what
    // nobody in this process owns. If nothing is open there, both say EBADF.
    let original = unsafe { BorrowedFd::borrow_raw(number) };
    if rustix::io::fcntl_getfd(original).map_err(failed)?.contains(FdFlags::CLOEXEC) {
        return Err(refused("something that this process has opened itself"));
    }
    let copy = rustix::io::fcntl_dupfd_cloexec(original, 3).map_err(failed)?;
    let status = rustix::fs::fstat(&copy)
        .map_err(|errno| Error::system("fstat", format!("of inherited descriptor {number}"), errno))?;
    match FileType::from_raw_mode(status.st_mode) {
        FileType::Socket => Ok(copy),
        other => Err(refused(&format!("{other:?}"))),
    }
}

/// Takes over the descriptor that this process was started with under `number`: it is open nowhere else in this process, and
/// closed when the result is dropped.
///
/// # Errors
/// As [`inherited_socket`], of a descriptor of any kind. A number that was taken before is refused.
pub fn take_inherited(number: i32) -> Result<OwnedFd> {
    let refused = |found: &str| Error::Descriptor {
        expected: "a descriptor inherited from the parent".into(),
        found: format!("{found} under number {number}"),
    };
    let failed = |errno| Error::system("fcntl", format!("of inherited descriptor {number}"), errno);
    if number <= 2 {
        return Err(refused("standard input, output or error, or nothing"));
    }
    // SAFETY: the number is not -1, and the borrow lasts for two calls: one that looks at a flag, and one that sets it for
    // what nobody in this process owns. If nothing is open there, both say EBADF.
    let inherited = unsafe { BorrowedFd::borrow_raw(number) };
    if rustix::io::fcntl_getfd(inherited).map_err(failed)?.contains(FdFlags::CLOEXEC) {
        return Err(refused("something that this process has opened itself"));
    }
    rustix::io::fcntl_setfd(inherited, FdFlags::CLOEXEC).map_err(failed)?;
    // SAFETY: it is open, was not opened by this process, and is owned by nobody: an owner would have it closed on exec, as
    // it is from now on.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The descriptors from 3 on that this process was started with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inherited(BTreeSet<i32>);

/// Marks every descriptor from 3 on that this process was started with as closed on exec, so that the programs that it
/// starts get only what they are handed. For the start of a process that has something to hand on: what it opens itself
/// is closed on exec anyway. Returns those that were not marked.
///
/// # Errors
/// What reading /proc/self/fd or marking a descriptor says.
pub fn keep_from_children() -> Result<Inherited> {
    let failed = |error: std::io::Error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        Error::system("readdir", "/proc/self/fd", errno)
    };
    let mut inherited = Inherited::default();
    for entry in std::fs::read_dir("/proc/self/fd").map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(number) =
            name.to_str().and_then(|name| name.parse::<i32>().ok()).filter(|number| *number > 2)
        else {
            continue;
        };
        if mark(number, FdFlags::CLOEXEC)? == Some(FdFlags::empty()) {
            inherited.0.insert(number);
        }
    }
    Ok(inherited)
}

impl Inherited {
    /// Has the programs that this process starts from now on inherit them after all. Nothing of this process may have closed one
    /// of them.
    ///
    /// # Errors
    /// What marking a descriptor says.
    pub fn hand_on(&self) -> Result<()> {
        self.0.iter().try_for_each(|number| mark(*number, FdFlags::empty()).map(drop))
    }

    /// The lowest number from 3 on that none of them has.
    #[must_use]
    pub fn free_number(&self) -> i32 {
        (3..).find(|number| !self.0.contains(number)).unwrap_or(i32::MAX)
    }
}

/// Sets a descriptor's flags, and returns those that it had; none if nothing is open there.
fn mark(number: i32, flags: FdFlags) -> Result<Option<FdFlags>> {
    // SAFETY: the number is not -1, and the borrow lasts for two calls that read and set a flag which takes nothing from an
    // owner: what this process opened itself has CLOEXEC already, and only what had not is ever given another.
    let inherited = unsafe { BorrowedFd::borrow_raw(number) };
    let outcome = rustix::io::fcntl_getfd(inherited)
        .and_then(|before| rustix::io::fcntl_setfd(inherited, flags).map(|()| before));
    match outcome {
        Ok(before) => Ok(Some(before)),
        // The folder's own is closed by now, or another thread's.
        Err(Errno::BADF) => Ok(None),
        Err(errno) => Err(Error::system("fcntl", format!("of descriptor {number}"), errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::os::fd::AsRawFd;

    #[test]
    fn what_was_inherited_is_kept_from_children() {
        let file = std::fs::File::open("/proc/self/status").unwrap();
        rustix::io::fcntl_setfd(&file, FdFlags::empty()).unwrap();
        let inherited = keep_from_children().unwrap();
        assert_eq!(rustix::io::fcntl_getfd(&file), Ok(FdFlags::CLOEXEC));
        assert!(inherited.0.contains(&file.as_raw_fd()) && !inherited.0.contains(&inherited.free_number()));
        Inherited([file.as_raw_fd()].into()).hand_on().unwrap();
        assert_eq!(rustix::io::fcntl_getfd(&file), Ok(FdFlags::empty()));
        Inherited([1_000_000].into()).hand_on().unwrap();
        let none = Inherited::default().free_number();
        assert_eq!((none, Inherited([3, 4, 6].into()).free_number()), (3, 5));
    }

    #[test]
    fn what_is_taken_is_closed_and_taken_once() {
        let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        assert!(take_inherited(theirs.as_raw_fd()).unwrap_err().to_string().contains("opened itself"));
        rustix::io::fcntl_setfd(&theirs, FdFlags::empty()).unwrap();
        let number = std::os::fd::IntoRawFd::into_raw_fd(theirs);
        let taken = take_inherited(number).unwrap();
        assert!(take_inherited(number).is_err());
        rustix::io::write(&taken, b"x").unwrap();
        drop(taken);
        let mut bytes = [0; 2];
        assert_eq!(
            (rustix::io::read(&ours, &mut bytes), rustix::io::read(&ours, &mut bytes)),
            (Ok(1), Ok(0))
        );
        for nothing in [-1, 0, 2] {
            assert!(matches!(take_inherited(nothing), Err(Error::Descriptor { .. })), "{nothing}");
        }
        assert_eq!(take_inherited(1_000_000).unwrap_err().errno(), Some(Errno::BADF));
    }

    #[test]
    fn a_socket_is_copied_and_anything_else_refused() {
        let (socket, _other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let error = inherited_socket(socket.as_raw_fd()).unwrap_err();
        assert!(error.to_string().contains("opened itself"), "{error}");
        rustix::io::fcntl_setfd(&socket, FdFlags::empty()).unwrap();
        let copy = inherited_socket(socket.as_raw_fd()).unwrap();
        assert_ne!(copy.as_raw_fd(), socket.as_raw_fd());
        assert_eq!(rustix::io::fcntl_getfd(&copy), Ok(FdFlags::CLOEXEC));

        let file = std::fs::File::open("/proc/self/status").unwrap();
        rustix::io::fcntl_setfd(&file, FdFlags::empty()).unwrap();
        assert!(matches!(inherited_socket(file.as_raw_fd()), Err(Error::Descriptor { .. })));
        assert!(matches!(inherited_socket(-1), Err(Error::Descriptor { .. })));
        assert_eq!(inherited_socket(1_000_000).unwrap_err().errno(), Some(Errno::BADF));
    }
}
