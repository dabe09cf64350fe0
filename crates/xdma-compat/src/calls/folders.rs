//! Listing `/dev`, so that a shell's `/dev/xdma0_h2c_*` finds what is there.

#![expect(unsafe_code, reason = "functions of the C library's names and types")]

use super::device;
use crate::inside::Inside;
use crate::node::Node;
use crate::real;
use libc::{DIR, c_char, c_int, dirent};
use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};

/// A listing of `/dev` under way.
struct Listing {
    /// Where the C library has its own part of it.
    folder: usize,
    nodes: Vec<Node>,
    next: usize,
    /// What was told last, which stays where it is until the next.
    told: Box<dirent>,
}

static LISTINGS: Mutex<Vec<Listing>> = Mutex::new(Vec::new());
/// Whether there is one: other folders are listed without a look at them.
static ANY: AtomicBool = AtomicBool::new(false);
/// How often the lock is tried. It is held for moments; a child that was forked in such a moment never gets it, and lists without.
const TRIES: u32 = 10_000;

/// The listings under way, if there are any.
fn listings() -> Option<MutexGuard<'static, Vec<Listing>>> {
    if !ANY.load(Ordering::Acquire) {
        return None;
    }
    (0..TRIES).find_map(|_| match LISTINGS.try_lock() {
        Ok(listings) => Some(listings),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => {
            std::thread::yield_now();
            None
        }
    })
}

fn empty() -> dirent {
    // SAFETY: an entry is plain memory, for which zero is a value.
    unsafe { std::mem::zeroed() }
}

/// `opendir`.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn opendir(path: *const c_char) -> *mut DIR {
    // SAFETY: with what the caller gave.
    let folder = unsafe { real::opendir(path) };
    if folder.is_null() || path.is_null() {
        return folder;
    }
    // SAFETY: a path is a string that ends with a zero.
    let path = unsafe { CStr::from_ptr(path) }.to_bytes();
    let is_dev = path.strip_prefix(b"/dev").is_some_and(|rest| rest.iter().all(|byte| *byte == b'/'));
    if let Ok(_inside) = Inside::enter()
        && is_dev
        // Whoever lists a folder does not ask why there is no card.
        && let Ok(nodes) = device::all()
    {
        ANY.store(true, Ordering::Release);
        if let Some(mut listings) = listings() {
            listings.push(Listing { folder: folder.addr(), nodes, next: 0, told: Box::new(empty()) });
        }
    }
    folder
}

/// `closedir`.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn closedir(folder: *mut DIR) -> c_int {
    if let Some(mut listings) = listings() {
        listings.retain(|listing| listing.folder != folder.addr());
        ANY.store(!listings.is_empty(), Ordering::Release);
    }
    // SAFETY: with what the caller gave.
    unsafe { real::closedir(folder) }
}

/// `rewinddir`.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn rewinddir(folder: *mut DIR) {
    let mut listings = listings();
    let own = listings.iter_mut().flat_map(|listings| listings.iter_mut());
    own.filter(|listing| listing.folder == folder.addr()).for_each(|listing| listing.next = 0);
    // SAFETY: with what the caller gave.
    unsafe { real::rewinddir(folder) };
}

/// The next device of a listing that has told all else.
fn next(folder: usize) -> *mut dirent {
    let Some(mut listings) = listings() else { return std::ptr::null_mut() };
    let listing = listings.iter_mut().find(|listing| listing.folder == folder);
    let Some(listing) = listing else { return std::ptr::null_mut() };
    let Some(node) = listing.nodes.get(listing.next) else { return std::ptr::null_mut() };
    listing.next += 1;
    let mut entry = empty();
    entry.d_ino = 1;
    entry.d_type = libc::DT_CHR;
    entry.d_reclen = u16::try_from(size_of::<dirent>()).unwrap_or(0);
    let name = node.to_string();
    for (place, byte) in entry.d_name.iter_mut().zip(name.trim_start_matches("/dev/").bytes()) {
        *place = byte.cast_signed();
    }
    *listing.told = entry;
    &raw mut *listing.told
}

macro_rules! readers {
    ($($name:ident),*) => {$(
        #[doc = concat!("`", stringify!($name), "`: the devices come last.")]
        ///
        /// # Safety
        /// As the C library's.
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $name(folder: *mut DIR) -> *mut dirent {
            // SAFETY: with what the caller gave.
            let entry = unsafe { real::$name(folder) };
            if entry.is_null() { next(folder.addr()) } else { entry }
        }
    )*};
}

readers!(readdir, readdir64);
