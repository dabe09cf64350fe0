//! Opening and closing, and what is asked of a descriptor.

#![expect(unsafe_code, reason = "functions of the C library's names and types")]

use super::{answer, claimed, device, named};
use crate::failure::{Failure, Outcome};
use crate::inside::Inside;
use crate::node::{Kind, Node};
use crate::placeholder::Opened;
use crate::{control, real};
use libc::{c_char, c_int, c_ulong, c_void, mode_t, off_t};
use rustix::io::Errno;

/// Opens what `named` found, for the function `name`.
fn open_device(name: &str, found: Result<Node, Failure>, flags: c_int) -> c_int {
    match found {
        Ok(node) => answer(format_args!("{name}({node})"), -1, || device::open(node, flags)),
        Err(failure) => answer(format_args!("{name}"), -1, || Err(failure)),
    }
}

macro_rules! openers {
    ($($name:ident($($argument:ident: $type:ty),*), of $folder:expr, $path:ident, $flags:expr;)*) => {$(
        #[doc = concat!("`", stringify!($name), "`, of devices too.")]
        ///
        /// # Safety
        /// As the C library's.
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $name($($argument: $type),*) -> c_int {
            match named($folder, $path) {
                Some(found) => open_device(stringify!($name), found, $flags),
                // SAFETY: with what the caller gave.
                None => unsafe { real::$name($($argument),*) },
            }
        }
    )*};
}

openers! {
    open(path: *const c_char, flags: c_int, mode: mode_t), of libc::AT_FDCWD, path, flags;
    open64(path: *const c_char, flags: c_int, mode: mode_t), of libc::AT_FDCWD, path, flags;
    __open_2(path: *const c_char, flags: c_int), of libc::AT_FDCWD, path, flags;
    __open64_2(path: *const c_char, flags: c_int), of libc::AT_FDCWD, path, flags;
    openat(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t), of folder, path, flags;
    openat64(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t), of folder, path, flags;
    __openat_2(folder: c_int, path: *const c_char, flags: c_int), of folder, path, flags;
    __openat64_2(folder: c_int, path: *const c_char, flags: c_int), of folder, path, flags;
    creat(path: *const c_char, mode: mode_t), of libc::AT_FDCWD, path, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
    creat64(path: *const c_char, mode: mode_t), of libc::AT_FDCWD, path, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
}

/// `close`: a stream that was read is free for others when its last descriptor is closed.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn close(descriptor: c_int) -> c_int {
    device::close(descriptor)
}

/// `dup2`, which closes what the number was.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn dup2(descriptor: c_int, other: c_int) -> c_int {
    let was = claimed(other).filter(|_| descriptor != other && !Inside::is_entered());
    // SAFETY: with what the caller gave.
    let outcome = unsafe { real::dup2(descriptor, other) };
    after(was);
    outcome
}

/// `dup3`, likewise.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn dup3(descriptor: c_int, other: c_int, flags: c_int) -> c_int {
    let was = claimed(other).filter(|_| descriptor != other && !Inside::is_entered());
    // SAFETY: with what the caller gave.
    let outcome = unsafe { real::dup3(descriptor, other, flags) };
    after(was);
    outcome
}

fn after(was: Option<Opened>) {
    if let Some(opened) = was {
        answer(format_args!("dup2 over {}", opened.node), (), || {
            device::closed(opened.node);
            Ok(())
        });
    }
}

macro_rules! seekers {
    ($($name:ident),*) => {$(
        #[doc = concat!("`", stringify!($name), "`: a position is an address on the card.")]
        ///
        /// # Safety
        /// As the C library's.
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $name(descriptor: c_int, offset: off_t, whence: c_int) -> off_t {
            match claimed(descriptor) {
                Some(opened) => {
                    answer(format_args!("lseek of {}", opened.node), -1, || device::lseek(descriptor, opened, offset, whence))
                }
                // SAFETY: with what the caller gave.
                None => unsafe { real::$name(descriptor, offset, whence) },
            }
        }
    )*};
}

seekers!(lseek, lseek64);

/// `ioctl`: the calls of the driver's headers.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn ioctl(descriptor: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    let Some(opened) = claimed(descriptor) else {
        // SAFETY: with what the caller gave.
        return unsafe { real::ioctl(descriptor, request, argument) };
    };
    let number = u32::try_from(request & 0xffff_ffff).unwrap_or(0);
    answer(format_args!("ioctl of {}", opened.node), -1, || {
        control::ioctl(opened.node, number, argument.expose_provenance()).map(|()| 0)
    })
}

macro_rules! controllers {
    ($($name:ident),*) => {$(
        #[doc = concat!("`", stringify!($name), "`: a device's flags are those that it was opened with.")]
        ///
        /// # Safety
        /// As the C library's.
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $name(descriptor: c_int, command: c_int, argument: *mut c_void) -> c_int {
            let opened = match command {
                libc::F_GETFL | libc::F_GETLK | libc::F_SETLK | libc::F_SETLKW | libc::F_OFD_GETLK
                | libc::F_OFD_SETLK | libc::F_OFD_SETLKW => claimed(descriptor),
                _ => None,
            };
            if let Some(opened) = opened.filter(|_| command != libc::F_GETFL) {
                return answer(format_args!("fcntl of {}", opened.node), -1, || Err(no_locks()));
            }
            // SAFETY: with what the caller gave.
            let outcome = unsafe { real::$name(descriptor, command, argument) };
            match opened {
                Some(opened) if outcome >= 0 => outcome & !libc::O_ACCMODE | opened.access.flags(),
                _ => outcome,
            }
        }
    )*};
}

controllers!(fcntl, fcntl64);

/// Each opening of a device is a file of its own here, so that a lock of one would keep nobody out.
fn no_locks() -> Failure {
    let why =
        "locks of devices cannot be kept between programs; jitney lease keeps other programs from a channel";
    Failure::new(Errno::NOLCK, why)
}

macro_rules! refused {
    ($($name:ident($($argument:ident: $type:ty),*), with $failure:expr;)*) => {$(
        #[doc = concat!("`", stringify!($name), "`, which devices refuse.")]
        ///
        /// # Safety
        /// As the C library's.
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $name(descriptor: c_int, $($argument: $type),*) -> c_int {
            match claimed(descriptor) {
                Some(opened) => answer(
                    format_args!("{} of {}", stringify!($name), opened.node),
                    -1,
                    || -> Outcome<c_int> { Err($failure) },
                ),
                // SAFETY: with what the caller gave.
                None => unsafe { real::$name(descriptor, $($argument),*) },
            }
        }
    )*};
}

refused! {
    ftruncate(length: off_t), with Failure::silent(Errno::INVAL);
    ftruncate64(length: off_t), with Failure::silent(Errno::INVAL);
    flock(operation: c_int), with no_locks();
    lockf(command: c_int, length: off_t), with no_locks();
    lockf64(command: c_int, length: off_t), with no_locks();
}

/// Says whether a device can be opened as a stream of the C library's.
pub(super) const fn is_event(node: Node) -> bool {
    matches!(node.kind, Kind::Events(_))
}
