//! The functions that are put in front of the C library's.
//!
//! Each has its name and its type, and does nothing but to decide whose call it is: [`device`] has what a device does with it.

mod device;
mod files;
mod folders;
mod maps;
mod moves;
mod signals;
mod status;
mod streams;

pub(crate) use device::{as_file, close, lseek, read, write};

use crate::failure::{Failure, Outcome, complain};
use crate::inside::Inside;
use crate::node::{Named, Node};
use crate::placeholder::Opened;
use crate::real::set_errno;
use rustix::io::Errno;
use std::ffi::{CStr, c_char, c_int};
use std::fmt;

/// Answers a call on a device: what it comes to, or `failed` with the errno, and a line that says why.
fn answer<T>(call: fmt::Arguments<'_>, failed: T, work: impl FnOnce() -> Outcome<T>) -> T {
    let outcome = Inside::enter().and_then(|_inside| work());
    outcome.unwrap_or_else(|failure| {
        complain(call, &failure);
        set_errno(failure.errno.raw_os_error());
        failed
    })
}

/// What a path is that is relative to a folder; nothing if it is none of a device's.
#[expect(unsafe_code, reason = "a program's string")]
fn named(folder: c_int, path: *const c_char) -> Option<Result<Node, Failure>> {
    // This library's own calls go by.
    if path.is_null() || Inside::is_entered() {
        return None;
    }
    // SAFETY: a path is a string that ends with a zero, as the real function takes it to be.
    let path = unsafe { CStr::from_ptr(path) };
    let from_dev = Named::could_be(path) && is_dev(folder);
    match Named::of(path, from_dev) {
        Named::Other => None,
        Named::Nothing => Some(Err(Failure::new(Errno::NOENT, "an XDMA has no such device here"))),
        Named::Node(node) => Some(Ok(node)),
    }
}

/// Whether a folder, or the current one, is `/dev`.
fn is_dev(folder: c_int) -> bool {
    let name = match folder {
        libc::AT_FDCWD => "/proc/self/cwd".to_owned(),
        descriptor => format!("/proc/self/fd/{descriptor}"),
    };
    rustix::fs::readlink(name, Vec::new()).is_ok_and(|target| target.to_bytes() == b"/dev")
}

/// Which device a descriptor is, if it is one's.
fn claimed(descriptor: c_int) -> Option<Opened> {
    Opened::of(descriptor)
}
