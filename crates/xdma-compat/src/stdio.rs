//! `FILE`s, which the C library reads and writes by calls of its own that nobody can be put in front of.
//!
//! It has a kind of `FILE` that asks for each (`fopencookie`), and that is what a program gets for a device. Such a `FILE` has no
//! descriptor as far as the C library knows; `fileno` is told it here.

#![expect(unsafe_code, reason = "a FILE of the C library's with functions of ours")]

use crate::calls::{as_file, close, lseek, read, write};
use crate::failure::{Failure, Outcome, complain};
use crate::inside::Inside;
use crate::placeholder::Opened;
use crate::real::set_errno;
use crate::user_memory::UserMemory;
use libc::{FILE, c_char, c_int, c_void, off64_t, size_t, ssize_t};
use rustix::io::Errno;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

/// As `fopencookie` has them.
#[repr(C)]
struct Functions {
    read: extern "C" fn(*mut c_void, *mut c_char, size_t) -> ssize_t,
    write: extern "C" fn(*mut c_void, *const c_char, size_t) -> ssize_t,
    seek: extern "C" fn(*mut c_void, *mut off64_t, c_int) -> c_int,
    close: extern "C" fn(*mut c_void) -> c_int,
}

unsafe extern "C" {
    fn fopencookie(cookie: *mut c_void, mode: *const c_char, functions: Functions) -> *mut FILE;
}

/// How many there can be at once.
const MOST: usize = 256;

/// The descriptors of `FILE`s; a place whose `FILE` is 0 is free. No lock, which a fork could copy while it is held.
static FILES: [(AtomicUsize, AtomicI32); MOST] = [const { (AtomicUsize::new(0), AtomicI32::new(-1)) }; MOST];
/// A `FILE` that is being made.
const SOON: usize = 1;

/// A `FILE` of a device's descriptor, which is closed with it.
///
/// # Errors
/// EMFILE if there are too many; EINVAL for a mode that is none.
pub(crate) fn open(descriptor: c_int, mode: *const c_char) -> Outcome<*mut FILE> {
    let free = |place: &&(AtomicUsize, AtomicI32)| {
        place.0.compare_exchange(0, SOON, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    };
    let place = FILES.iter().find(free);
    let place = place
        .ok_or_else(|| Failure::new(Errno::MFILE, format!("{MOST} FILEs of devices at once are the most")))?;
    place.1.store(descriptor, Ordering::Release);
    let functions = Functions { read: read_some, write: write_some, seek, close: close_it };
    let cookie = std::ptr::without_provenance_mut(usize::try_from(descriptor).unwrap_or(0));
    // SAFETY: the mode is the program's string, the functions live as long as the process, and the cookie is a number.
    let file = unsafe { fopencookie(cookie, mode, functions) };
    place.0.store(file.addr(), Ordering::Release);
    if file.is_null() {
        return Err(Failure::silent(Errno::INVAL));
    }
    Ok(file)
}

/// The descriptor of a device's `FILE`.
pub(crate) fn descriptor_of(file: *mut FILE) -> Option<c_int> {
    let known = |place: &&(AtomicUsize, AtomicI32)| place.0.load(Ordering::Acquire) == file.addr();
    FILES.iter().find(known).filter(|_| file.addr() > SOON).map(|place| place.1.load(Ordering::Acquire))
}

fn number(cookie: *mut c_void) -> c_int {
    c_int::try_from(cookie.addr()).unwrap_or(-1)
}

/// Does something with the device of a `FILE`.
fn with<T>(cookie: *mut c_void, what: &str, failed: T, work: impl FnOnce(c_int, Opened) -> Outcome<T>) -> T {
    let descriptor = number(cookie);
    let outcome = match Opened::of(descriptor) {
        Some(opened) => Inside::enter().and_then(|_inside| work(descriptor, opened)),
        None => Err(Failure::new(Errno::BADF, "its descriptor was closed or is another's now")),
    };
    outcome.unwrap_or_else(|failure| {
        complain(format_args!("{what} of a FILE"), &failure);
        set_errno(failure.errno.raw_os_error());
        failed
    })
}

extern "C" fn read_some(cookie: *mut c_void, buffer: *mut c_char, size: size_t) -> ssize_t {
    with(cookie, "read", -1, |descriptor, opened| {
        signed(as_file(read, descriptor, opened, UserMemory::new(buffer.cast(), size))?)
    })
}

extern "C" fn write_some(cookie: *mut c_void, buffer: *const c_char, size: size_t) -> ssize_t {
    // The C library takes nothing written for a failure.
    with(cookie, "write", 0, |descriptor, opened| {
        signed(as_file(write, descriptor, opened, UserMemory::new(buffer.cast(), size))?)
    })
}

extern "C" fn seek(cookie: *mut c_void, offset: *mut off64_t, whence: c_int) -> c_int {
    with(cookie, "seek", -1, |descriptor, opened| {
        let place = UserMemory::new(offset.cast(), size_of::<off64_t>());
        let mut bytes = [0; size_of::<off64_t>()];
        place.read(&mut bytes)?;
        let reached = lseek(descriptor, opened, off64_t::from_ne_bytes(bytes), whence)?;
        place.write(&reached.to_ne_bytes())?;
        Ok(0)
    })
}

extern "C" fn close_it(cookie: *mut c_void) -> c_int {
    let descriptor = number(cookie);
    for place in FILES.iter().filter(|place| place.1.load(Ordering::Acquire) == descriptor) {
        place.1.store(-1, Ordering::Release);
        place.0.store(0, Ordering::Release);
    }
    close(descriptor)
}

fn signed(count: usize) -> Outcome<ssize_t> {
    ssize_t::try_from(count).map_err(|_| Failure::silent(Errno::INVAL))
}
