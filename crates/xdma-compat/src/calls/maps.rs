//! Mapping registers.

#![expect(unsafe_code, reason = "functions of the C library's names and types")]

use super::{answer, claimed};
use crate::failure::{Failure, Outcome};
use crate::inside::Inside;
use crate::machine::Machine;
use crate::node::Kind;
use crate::placeholder::Opened;
use crate::real;
use crate::trap::{self, Wanted};
use libc::{c_int, c_void, off_t, size_t};
use rustix::io::Errno;

fn map_device(opened: Opened, wanted: Wanted) -> *mut c_void {
    answer(format_args!("mmap of {:#x} bytes of {}", wanted.length, opened.node), libc::MAP_FAILED, || {
        if !matches!(opened.node.kind, Kind::User | Kind::Control | Kind::Bypass) {
            let why = "only registers can be mapped; channels are read and written";
            return Err(Failure::new(Errno::NODEV, why));
        }
        let card = Machine::get().card(opened.node.card)?;
        Ok(std::ptr::with_exposed_provenance_mut(trap::map(&card, opened, wanted)?))
    })
}

macro_rules! mappers {
    ($($name:ident),*) => {$(
        #[doc = concat!("`", stringify!($name), "`, of registers too.")]
        ///
        /// # Safety
        /// As the C library's.
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $name(
            address: *mut c_void,
            length: size_t,
            protection: c_int,
            flags: c_int,
            descriptor: c_int,
            offset: off_t,
        ) -> *mut c_void {
            let opened = if flags & libc::MAP_ANONYMOUS != 0 { None } else { claimed(descriptor) };
            match opened {
                Some(opened) => {
                    let address = address.expose_provenance();
                    map_device(opened, Wanted { address, length, protection, flags, offset })
                }
                // SAFETY: with what the caller gave.
                None => unsafe { real::$name(address, length, protection, flags, descriptor, offset) },
            }
        }
    )*};
}

mappers!(mmap, mmap64);

/// `munmap`, of registers too.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn munmap(address: *mut c_void, length: size_t) -> c_int {
    if !Inside::is_entered() && !trap::unmap(address.addr(), length) {
        return 0;
    }
    // SAFETY: with what the caller gave.
    unsafe { real::munmap(address, length) }
}

fn cannot_change(name: &str) -> Outcome<()> {
    Err(Failure::new(
        Errno::INVAL,
        format!("{name}: mapped registers cannot be changed: unmap and map them anew"),
    ))
}

/// `mprotect`, which registers refuse.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn mprotect(address: *mut c_void, length: size_t, protection: c_int) -> c_int {
    if !Inside::is_entered() && trap::is_window(address.addr(), length) {
        return answer(format_args!("mprotect of registers"), -1, || cannot_change("mprotect").map(|()| 0));
    }
    // SAFETY: with what the caller gave.
    unsafe { real::mprotect(address, length, protection) }
}

/// `mremap`, which registers refuse.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn mremap(
    address: *mut c_void,
    old: size_t,
    new: size_t,
    flags: c_int,
    wanted: *mut c_void,
) -> *mut c_void {
    if !Inside::is_entered() && trap::is_window(address.addr(), old.max(1)) {
        return answer(format_args!("mremap of registers"), libc::MAP_FAILED, || {
            cannot_change("mremap").map(|()| std::ptr::null_mut())
        });
    }
    // SAFETY: with what the caller gave.
    unsafe { real::mremap(address, old, new, flags, wanted) }
}
