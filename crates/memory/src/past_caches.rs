//! Copies that leave the caches as they are, for amounts that no cache holds.
//!
//! A usual store first loads the line that it changes. For memory that is written as a whole that is a third of all that
//! is moved: beside a loop of usual copies this was measured at 1.7 times for copies and 2.3 times for writes of 1 GiB.
//! The C library does the same for a single copy that is as long as its third-level cache.

#![expect(unsafe_code, reason = "stores that go past the caches have no safe form for shared memory")]

/// Bytes of a cache line.
const LINE: usize = 64;
/// Several pages are copied side by side, as the processor's prefetchers and the memory's banks like it: one alone was
/// measured a quarter slower.
const PAGE: usize = 4096;
const PAGES: usize = 4;

/// Copies `len` bytes from `source` to `target`, in no particular order; visible to others before what is stored next.
///
/// # Safety
/// Both are mapped for `len` bytes, `target` can be written to, and they do not overlap.
pub(crate) unsafe fn copy(source: *const u8, target: *mut u8, len: usize) {
    let head = target.align_offset(LINE).min(len);
    let lines = (len - head) / LINE * LINE;
    // SAFETY: The beginning of the caller's ranges.
    unsafe { std::ptr::copy_nonoverlapping(source, target, head) };
    // SAFETY: What follows of them, as far as it is whole lines of the target.
    unsafe { copy_lines(source.wrapping_add(head), target.wrapping_add(head), lines) };
    let tail = head + lines;
    let (source, target) = (source.wrapping_add(tail), target.wrapping_add(tail));
    // SAFETY: Their ends.
    unsafe { std::ptr::copy_nonoverlapping(source, target, len - tail) };
}

/// The same for whole lines of the target.
unsafe fn copy_lines(source: *const u8, target: *mut u8, len: usize) {
    let line = |at: usize| {
        // SAFETY: Every line below is one of the caller's range.
        unsafe { copy_line(source.wrapping_add(at), target.wrapping_add(at)) };
    };
    let side_by_side = len / (PAGE * PAGES) * (PAGE * PAGES);
    for block in (0..side_by_side).step_by(PAGE * PAGES) {
        for offset in (0..PAGE).step_by(LINE) {
            for page in 0..PAGES {
                line(block + page * PAGE + offset);
            }
        }
    }
    (side_by_side..len).step_by(LINE).for_each(line);
    written();
}

#[cfg(target_arch = "x86_64")]
#[inline]
unsafe fn copy_line(source: *const u8, target: *mut u8) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};
    let (source, target) = (source.cast::<__m128i>(), target.cast::<__m128i>());
    let parts = [0, 1, 2, 3].map(|part| {
        // SAFETY: Four times 16 bytes are the caller's line. SSE2 is part of x86-64.
        unsafe { _mm_loadu_si128(source.wrapping_add(part)) }
    });
    for (part, value) in parts.into_iter().enumerate() {
        // SAFETY: As above, and the target begins at a line.
        unsafe { _mm_stream_si128(target.wrapping_add(part), value) };
    }
}

/// Stores past the caches are in no order with others until this.
#[cfg(target_arch = "x86_64")]
fn written() {
    // SAFETY: SSE is part of x86-64.
    unsafe { std::arch::x86_64::_mm_sfence() };
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
unsafe fn copy_line(source: *const u8, target: *mut u8) {
    // SAFETY: The caller's line.
    unsafe { std::ptr::copy_nonoverlapping(source, target, LINE) };
}

#[cfg(not(target_arch = "x86_64"))]
fn written() {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn copies_what_a_copy_copies(from in 0_usize..200, to in 0_usize..200, len in 0_usize..70_000) {
            let source: Vec<u8> = (0..from + len).map(|at| at.to_le_bytes()[0]).collect();
            let mut target = vec![0xee; to + len + 200];
            // SAFETY: Both ranges lie in their vectors, which are two.
            unsafe { copy(source[from..].as_ptr(), target[to..].as_mut_ptr(), len) };
            prop_assert!(target[..to].iter().all(|byte| *byte == 0xee));
            prop_assert_eq!(&target[to..to + len], &source[from..]);
            prop_assert!(target[to + len..].iter().all(|byte| *byte == 0xee));
        }
    }
}
