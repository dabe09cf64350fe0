//! The test pattern that card memory is checked with: a 32-bit linear congruential generator, x → 1664525·x +
//! 1013904223, one word after the other in little-endian order.
//!
//! Its period is 2^32 words, so that a pass over 1 GiB can go on where the last one ended and 16 passes meet every
//! value at some address. A word depends on the one before, which makes the plain loop wait for one multiplication a
//! word; here 64 words are made at a time, each from the one 64 places before it.
//!
//! ```
//! use jitney_memory::Mapping;
//! use jitney_pattern::Pattern;
//!
//! let memory = Mapping::anonymous(1 << 20)?;
//! let mut written = Pattern::starting_at(0);
//! written.fill(&memory, 0, 1 << 20)?;
//!
//! let mut expected = Pattern::starting_at(0);
//! assert!(expected.compare(&memory, 0, 1 << 20)?.is_none());
//! # Ok::<(), jitney_memory::Error>(())
//! ```

#![forbid(unsafe_code)]

mod mismatch;

use jitney_memory::{AccessError, Mapping};
pub use mismatch::{Mismatch, WrongWord};
use multiversion::multiversion;
use zerocopy::IntoBytes;

const MULTIPLIER: u32 = 1_664_525;
const INCREMENT: u32 = 1_013_904_223;

/// Words made at a time, enough to keep the vector units busy while multiplications are under way.
const LANES: usize = 64;
/// Words per block. A block stays in the first-level cache between being made and being copied or compared.
const BLOCK: usize = 2048;
const BLOCK_BYTES: usize = BLOCK * 4;

/// So many bytes are written past the caches: whoever reads them finds few of them there in either case.
const MANY: u64 = 32 << 20;

/// The words of a block, at the start of a cache line: copies of what begins within one were measured at half the speed.
#[repr(align(64))]
struct Block([u32; BLOCK]);

/// x → a·x + c, and the same taken `LANES` times at once.
const fn leap(steps: usize) -> (u32, u32) {
    let (mut a, mut c) = (1u32, 0u32);
    let mut step = 0;
    while step < steps {
        a = a.wrapping_mul(MULTIPLIER);
        c = c.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT);
        step += 1;
    }
    (a, c)
}
const LEAP: (u32, u32) = leap(LANES);

/// The pattern from some word on. Filling or comparing moves it on, so that the next pass continues it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    next: u32,
}

impl Pattern {
    /// The pattern whose first word is `word`.
    #[must_use]
    pub const fn starting_at(word: u32) -> Self {
        Self { next: word }
    }

    /// The next word. This is the plain loop that everything else here is measured against.
    #[inline]
    pub const fn next_word(&mut self) -> u32 {
        let word = self.next;
        self.next = word.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT);
        word
    }

    /// Fills `length` bytes of `memory` from `offset` on. A length that is no multiple of four ends within a word; the
    /// pattern goes on with the next one.
    ///
    /// # Errors
    /// If the range lies outside of the memory; then nothing was written.
    pub fn fill(&mut self, memory: &Mapping, offset: u64, length: u64) -> Result<(), AccessError> {
        check(memory, offset, length)?;
        let Block(block) = &mut Block([0; BLOCK]);
        for (at, bytes) in blocks(offset, length) {
            self.next_block(block, bytes);
            let block = &block.as_bytes()[..bytes];
            if length >= MANY { memory.write_past_caches(at, block) } else { memory.write(at, block) }?;
        }
        Ok(())
    }

    /// Compares `length` bytes of `memory` from `offset` on with the pattern, all of them; `None` if they agree.
    ///
    /// # Errors
    /// If the range lies outside of the memory.
    pub fn compare(
        &mut self,
        memory: &Mapping,
        offset: u64,
        length: u64,
    ) -> Result<Option<Mismatch>, AccessError> {
        check(memory, offset, length)?;
        let Block(expected) = &mut Block([0; BLOCK]);
        let Block(actual) = &mut Block([0; BLOCK]);
        let mut mismatch: Option<Mismatch> = None;
        for (at, bytes) in blocks(offset, length) {
            memory.read(at, &mut actual.as_mut_bytes()[..bytes])?;
            if bytes == BLOCK_BYTES
                && let Some(next) = check_block(self.next, actual)
            {
                self.next = next;
                continue;
            }
            self.next_block(expected, bytes);
            if expected.as_bytes()[..bytes] != actual.as_bytes()[..bytes] {
                let wrong = mismatch.get_or_insert_default();
                wrong.note(at - offset, &expected.as_bytes()[..bytes], &actual.as_bytes()[..bytes]);
            }
        }
        Ok(mismatch)
    }

    /// Makes the words of the next `bytes` bytes, little endian.
    fn next_block(&mut self, block: &mut [u32; BLOCK], bytes: usize) {
        let words = bytes.div_ceil(4);
        if words == BLOCK {
            self.next = make_block(self.next, block);
        } else {
            block[..words].fill_with(|| self.next_word());
        }
        if cfg!(target_endian = "big") {
            block.iter_mut().for_each(|word| *word = word.to_le());
        }
    }
}

// The loops over lanes below are written so that the compiler keeps the lanes in vector registers: both run as fast as
// the first-level cache. Copying a whole chunk of lanes at once, for instance, takes them through memory and is five
// times slower.

/// Fills `block` with the words from `first` on and returns the one after them.
#[multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2", "x86_64+sse4.1"))]
fn make_block(first: u32, block: &mut [u32; BLOCK]) -> u32 {
    let mut lanes = first_lanes(first);
    for chunk in block.as_chunks_mut::<LANES>().0 {
        for (word, lane) in chunk.iter_mut().zip(&mut lanes) {
            *word = *lane;
            *lane = lane.wrapping_mul(LEAP.0).wrapping_add(LEAP.1);
        }
    }
    lanes[0]
}

/// The word after those of `block`, as it was read, if they are the ones from `first` on.
#[multiversion(targets("x86_64+avx512f+avx512dq", "x86_64+avx2", "x86_64+sse4.1"))]
fn check_block(first: u32, block: &[u32; BLOCK]) -> Option<u32> {
    let mut lanes = first_lanes(first);
    let mut differences = [0u32; LANES];
    for chunk in block.as_chunks::<LANES>().0 {
        for ((word, lane), difference) in chunk.iter().zip(&mut lanes).zip(&mut differences) {
            *difference |= u32::from_le(*word) ^ *lane;
            *lane = lane.wrapping_mul(LEAP.0).wrapping_add(LEAP.1);
        }
    }
    differences.iter().all(|&difference| difference == 0).then_some(lanes[0])
}

/// The words from `first` on.
const fn first_lanes(first: u32) -> [u32; LANES] {
    let mut pattern = Pattern::starting_at(first);
    let mut lanes = [0; LANES];
    let mut index = 0;
    while index < LANES {
        lanes[index] = pattern.next_word();
        index += 1;
    }
    lanes
}

fn check(memory: &Mapping, offset: u64, length: u64) -> Result<(), AccessError> {
    let size = memory.len();
    match offset.checked_add(length) {
        Some(end) if end <= size as u64 => Ok(()),
        _ => {
            let len = usize::try_from(length).unwrap_or(usize::MAX);
            Err(AccessError::OutOfBounds { offset, len, size })
        }
    }
}

/// The pieces of at most one block that make up a range: where each starts, and its bytes.
fn blocks(offset: u64, length: u64) -> impl Iterator<Item = (u64, usize)> {
    let whole = length / BLOCK_BYTES as u64;
    let rest = usize::try_from(length % BLOCK_BYTES as u64).unwrap_or(0);
    let start = move |index: u64| offset + index * BLOCK_BYTES as u64;
    (0..whole).map(move |index| (start(index), BLOCK_BYTES)).chain((rest > 0).then(|| (start(whole), rest)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes_of(memory: &Mapping) -> Vec<u8> {
        let mut bytes = vec![0; memory.len()];
        memory.read(0, &mut bytes).unwrap();
        bytes
    }

    fn plain(first: u32, length: usize) -> Vec<u8> {
        let mut pattern = Pattern::starting_at(first);
        (0..length.div_ceil(4)).flat_map(|_| pattern.next_word().to_le_bytes()).take(length).collect()
    }

    #[test]
    fn the_first_words_are_the_generator_s() {
        let mut pattern = Pattern::starting_at(0);
        assert_eq!(
            [0; 4].map(|_: u32| pattern.next_word()),
            [0, 1_013_904_223, 1_196_435_762, 3_519_870_697]
        );
    }

    proptest! {
        #[test]
        fn filling_makes_what_the_plain_loop_makes(first: u32, offset in 0usize..100, length in 0usize..40_000) {
            let memory = Mapping::anonymous(offset + length + 100).unwrap();
            let mut pattern = Pattern::starting_at(first);
            pattern.fill(&memory, offset as u64, length as u64).unwrap();
            let bytes = bytes_of(&memory);
            prop_assert_eq!(&bytes[offset..offset + length], &plain(first, length)[..]);
            prop_assert!(bytes[..offset].iter().chain(&bytes[offset + length..]).all(|&byte| byte == 0));
            let mut beside = Pattern::starting_at(first);
            (0..length.div_ceil(4)).for_each(|_| { beside.next_word(); });
            prop_assert_eq!(pattern, beside);
        }

        #[test]
        fn any_changed_byte_is_found(first: u32, length in 1usize..40_000, at: prop::sample::Index, flip in 1u8..) {
            let memory = Mapping::anonymous(length).unwrap();
            Pattern::starting_at(first).fill(&memory, 0, length as u64).unwrap();
            prop_assert_eq!(Pattern::starting_at(first).compare(&memory, 0, length as u64).unwrap(), None);
            let at = at.index(length);
            memory.store8(at as u64, bytes_of(&memory)[at] ^ flip).unwrap();
            let found = Pattern::starting_at(first).compare(&memory, 0, length as u64).unwrap().unwrap();
            prop_assert_eq!(found.words, 1);
            prop_assert_eq!(found.first[0].offset, (at - at % 4) as u64);
        }
    }

    #[test]
    fn a_range_outside_is_refused_before_anything_is_written() {
        let memory = Mapping::anonymous(4096).unwrap();
        for (offset, length) in [(0, 4097), (4096, 1), (u64::MAX, 2), (1, u64::MAX)] {
            assert!(Pattern::starting_at(1).fill(&memory, offset, length).is_err());
            assert!(Pattern::starting_at(1).compare(&memory, offset, length).is_err());
        }
        assert!(bytes_of(&memory).iter().all(|&byte| byte == 0));
    }
}
