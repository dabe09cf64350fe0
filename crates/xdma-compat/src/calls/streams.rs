//! `FILE`s of devices.

#![expect(unsafe_code, reason = "functions of the C library's names and types")]

use super::{answer, claimed, device, named};
use crate::failure::{Failure, Outcome};
use crate::node::Node;
use crate::{real, stdio};
use libc::{FILE, c_char, c_int};
use rustix::io::Errno;
use std::ffi::CStr;

/// The flags of `open` that a mode of `fopen` stands for.
fn flags_of(mode: *const c_char) -> Outcome<c_int> {
    if mode.is_null() {
        return Err(Failure::silent(Errno::INVAL));
    }
    // SAFETY: a mode is a string that ends with a zero, as the real function takes it to be.
    let mode = unsafe { CStr::from_ptr(mode) }.to_bytes();
    let both = mode.contains(&b'+');
    let access = match (mode.first(), both) {
        (Some(b'r' | b'w' | b'a'), true) => libc::O_RDWR,
        (Some(b'r'), false) => libc::O_RDONLY,
        (Some(b'w' | b'a'), false) => libc::O_WRONLY,
        _ => return Err(Failure::silent(Errno::INVAL)),
    };
    Ok(access | if mode.contains(&b'e') { libc::O_CLOEXEC } else { 0 })
}

fn open_stream(name: &str, found: Result<Node, Failure>, mode: *const c_char) -> *mut FILE {
    let call = match &found {
        Ok(node) => format!("{name}({node})"),
        Err(_) => name.to_owned(),
    };
    answer(format_args!("{call}"), std::ptr::null_mut(), || {
        stdio::open(device::open(found?, flags_of(mode)?)?, mode)
    })
}

macro_rules! openers {
    ($($name:ident),*) => {$(
        #[doc = concat!("`", stringify!($name), "`, of devices too.")]
        ///
        /// # Safety
        /// As the C library's.
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $name(path: *const c_char, mode: *const c_char) -> *mut FILE {
            match named(libc::AT_FDCWD, path) {
                Some(found) => open_stream(stringify!($name), found, mode),
                // SAFETY: with what the caller gave.
                None => unsafe { real::$name(path, mode) },
            }
        }
    )*};
}

openers!(fopen, fopen64);

macro_rules! reopeners {
    ($($name:ident),*) => {$(
        #[doc = concat!("`", stringify!($name), "`, which cannot be had of a device.")]
        ///
        /// # Safety
        /// As the C library's.
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $name(path: *const c_char, mode: *const c_char, file: *mut FILE) -> *mut FILE {
            match named(libc::AT_FDCWD, path) {
                Some(_) => answer(format_args!("{} of a device", stringify!($name)), std::ptr::null_mut(), || {
                    let why = "a FILE that is there cannot become a device's: use fopen";
                    Err(Failure::new(Errno::OPNOTSUPP, why))
                }),
                // SAFETY: with what the caller gave.
                None => unsafe { real::$name(path, mode, file) },
            }
        }
    )*};
}

reopeners!(freopen, freopen64);

/// `fdopen`, of a device's descriptor too.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn fdopen(descriptor: c_int, mode: *const c_char) -> *mut FILE {
    match claimed(descriptor) {
        Some(opened) => answer(format_args!("fdopen of {}", opened.node), std::ptr::null_mut(), || {
            flags_of(mode)?;
            stdio::open(descriptor, mode)
        }),
        // SAFETY: with what the caller gave.
        None => unsafe { real::fdopen(descriptor, mode) },
    }
}

macro_rules! numbers {
    ($($name:ident),*) => {$(
        #[doc = concat!("`", stringify!($name), "`: the device's descriptor.")]
        ///
        /// # Safety
        /// As the C library's.
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $name(file: *mut FILE) -> c_int {
            match stdio::descriptor_of(file) {
                Some(descriptor) => descriptor,
                // SAFETY: with what the caller gave.
                None => unsafe { real::$name(file) },
            }
        }
    )*};
}

numbers!(fileno, fileno_unlocked);
