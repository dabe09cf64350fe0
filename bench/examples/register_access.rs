//! A load and a store of a register on a mapped BAR, and the plain volatile ones to compare the instructions with. The
//! bench program has this compiled to assembly; nobody runs it.

#![expect(unsafe_code, reason = "the plain volatile accesses")]

use jitney_memory::Cell32;

/// Loads a register as a driver does.
#[inline(never)]
pub fn mapped_read(register: Cell32<'_>) -> u32 {
    register.read()
}

/// Stores to a register as a driver does.
#[inline(never)]
pub fn mapped_write(register: Cell32<'_>, value: u32) {
    register.write(value);
}

/// Loads a word.
///
/// # Safety
/// As for [`std::ptr::read_volatile`].
#[inline(never)]
pub unsafe fn volatile_read(word: *const u32) -> u32 {
    // SAFETY: The caller vouches for the address.
    unsafe { word.read_volatile() }
}

/// Stores a word.
///
/// # Safety
/// As for [`std::ptr::write_volatile`].
#[inline(never)]
pub unsafe fn volatile_write(word: *mut u32, value: u32) {
    // SAFETY: The caller vouches for the address.
    unsafe { word.write_volatile(value) }
}
