//! The descriptor, 32 bytes in host memory: PG195, "Descriptors".

use std::mem::{offset_of, size_of};

use bitfield_struct::bitfield;

/// Bits 31:16 of a descriptor's control word.
pub const MAGIC: u16 = 0xad4b;

/// The longest transfer of one descriptor, in bytes: 28 bits.
pub const MAX_LENGTH: u32 = 0x0fff_ffff;

/// The most descriptors that may follow another in one block, fetched together with it.
pub const MAX_ADJACENT: u8 = 63;

/// A block of adjacent descriptors may not cross a multiple of this, in bytes.
pub const ADJACENT_BOUNDARY: u64 = 4096;

/// Bytes of a descriptor. Its address is a multiple of this.
pub const SIZE: usize = 32;

/// One transfer. Fields are in the host's byte order; [`to_bytes`](Self::to_bytes) has the card's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Descriptor {
    /// Magic and flags.
    pub control: DescriptorControl,
    /// Bytes to move, at most [`MAX_LENGTH`].
    pub length: u32,
    /// Where the data comes from. H2C: an IOVA. C2H memory-mapped: a card address. C2H stream: the IOVA of the
    /// descriptor's [`StreamSlot`](crate::StreamSlot).
    pub source: u64,
    /// Where the data goes. H2C memory-mapped: a card address. C2H: an IOVA. H2C stream: not used.
    pub destination: u64,
    /// IOVA of the next descriptor; not used after one with STOP.
    pub next: u64,
}

const _: () = {
    assert!(size_of::<Descriptor>() == SIZE);
    assert!(offset_of!(Descriptor, control) == 0x00);
    assert!(offset_of!(Descriptor, length) == 0x04);
    assert!(offset_of!(Descriptor, source) == 0x08);
    assert!(offset_of!(Descriptor, destination) == 0x10);
    assert!(offset_of!(Descriptor, next) == 0x18);
};

/// The first word of a [`Descriptor`]. A new one has the right magic and nothing else.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct DescriptorControl {
    /// The engine stops after this descriptor.
    pub stop: bool,
    /// The engine reports the end of this descriptor: status, interrupt, write-back.
    pub completed: bool,
    #[bits(2)]
    __: u8,
    /// Its last byte ends a packet; H2C streams only.
    pub end_of_packet: bool,
    #[bits(3)]
    __: u8,
    /// Descriptors that follow the *next* one without a gap, at most [`MAX_ADJACENT`]; see [`adjacent`].
    #[bits(6)]
    pub next_adjacent: u8,
    #[bits(2)]
    __: u8,
    /// [`MAGIC`], or the engine stops.
    #[bits(16, default = MAGIC)]
    pub magic: u16,
}

impl DescriptorControl {
    /// Whether the magic is right.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.magic() == MAGIC
    }
}

impl Descriptor {
    /// The descriptor as it lies in host memory, little endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        bytes[0x00..0x04].copy_from_slice(&self.control.into_bits().to_le_bytes());
        bytes[0x04..0x08].copy_from_slice(&self.length.to_le_bytes());
        bytes[0x08..0x10].copy_from_slice(&self.source.to_le_bytes());
        bytes[0x10..0x18].copy_from_slice(&self.destination.to_le_bytes());
        bytes[0x18..0x20].copy_from_slice(&self.next.to_le_bytes());
        bytes
    }

    /// The descriptor that lies in host memory as `bytes`. Anything may be in it: the magic is for the caller to check.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; SIZE]) -> Self {
        let (words, _) = bytes.as_chunks::<4>();
        let word = |index: usize| u32::from_le_bytes(words[index]);
        let pair = |index: usize| u64::from(word(index + 1)) << 32 | u64::from(word(index));
        Self {
            control: DescriptorControl::from_bits(word(0)),
            length: word(1),
            source: pair(2),
            destination: pair(4),
            next: pair(6),
        }
    }
}

/// The most descriptors that a card may fetch in one block if its largest read request has `max_read_request` bytes: what
/// fits into one request, 1 to 64.
///
/// PG195 bounds a block by [`MAX_ADJACENT`] and by the maximum read request size, which
/// [`PCIE_MAX_READ_REQUEST`](crate::config::PCIE_MAX_READ_REQUEST) tells: 16 descriptors for the usual 512 bytes.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "at most 64")]
pub const fn block_of(max_read_request: u32) -> u8 {
    match max_read_request / SIZE as u32 {
        0 => 1,
        fits @ 1..=64 => fits as u8,
        _ => MAX_ADJACENT + 1,
    }
}

/// How many of the `following` descriptors that lie directly behind the one at `address` may be fetched together with
/// it, if the table is divided into blocks of `block` descriptors, a power of two up to 64, each of which starts at a
/// multiple of its size: those up to the end of the block.
///
/// It is what goes into [`FIRST_DESCRIPTOR_ADJACENT`](crate::sgdma::FIRST_DESCRIPTOR_ADJACENT) for the first descriptor,
/// and into [`DescriptorControl::next_adjacent`] of the one before `address` for every other. So it falls by one from each
/// descriptor to the next and is 0 where the next one is the last of its block, as PG195 demands; and since a page is whole
/// blocks, none crosses [`ADJACENT_BOUNDARY`].
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "less than 64")]
pub fn adjacent(address: u64, following: u64, block: u8) -> u8 {
    let block = u64::from(block.clamp(1, MAX_ADJACENT + 1));
    let left_in_block = block - 1 - address / SIZE as u64 % block;
    following.min(left_in_block) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_bits_are_where_pg195_puts_them() {
        let bits = |control: DescriptorControl| control.into_bits();
        assert_eq!(bits(DescriptorControl::new()), 0xad4b_0000);
        assert_eq!(bits(DescriptorControl::new().with_stop(true).with_completed(true)), 0xad4b_0003);
        assert_eq!(bits(DescriptorControl::new().with_end_of_packet(true)), 0xad4b_0010);
        assert_eq!(bits(DescriptorControl::new().with_next_adjacent(MAX_ADJACENT)), 0xad4b_3f00);
        assert!(!DescriptorControl::from_bits(0).is_valid());
    }

    #[test]
    fn bytes_are_little_endian_and_in_order() {
        let descriptor = Descriptor {
            control: DescriptorControl::new().with_stop(true),
            length: MAX_LENGTH,
            source: 0x0102_0304_0506_0708,
            destination: 0x1112_1314_1516_1718,
            next: 0x2122_2324_2526_2728,
        };
        let bytes = descriptor.to_bytes();
        assert_eq!(bytes[..8], [0x01, 0x00, 0x4b, 0xad, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(bytes[8..16], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(bytes[16], 0x18);
        assert_eq!(bytes[31], 0x21);
        assert_eq!(Descriptor::from_bytes(&bytes), descriptor);
    }

    #[test]
    fn any_bytes_survive_the_round_trip() {
        let mut bytes = [0; SIZE];
        for (byte, value) in bytes.iter_mut().zip((0..=0xff).rev().step_by(7)) {
            *byte = value;
        }
        assert_eq!(Descriptor::from_bytes(&bytes).to_bytes(), bytes);
        assert!(!Descriptor::from_bytes(&bytes).control.is_valid());
    }

    #[test]
    fn a_block_is_what_one_read_request_fetches() {
        for (bytes, descriptors) in
            [(0, 1), (128, 4), (256, 8), (512, 16), (1024, 32), (2048, 64), (4096, 64)]
        {
            assert_eq!(block_of(bytes), descriptors, "{bytes}");
        }
        assert_eq!(block_of(u32::MAX), 64);
    }

    #[test]
    fn adjacent_counts_down_to_the_end_of_an_aligned_block() {
        let row = |block| (0..20).map(|index| adjacent(0x1000 + index * 32, 1000, block)).collect::<Vec<_>>();
        assert_eq!(row(4), [3, 2, 1, 0].repeat(5));
        assert_eq!(row(16)[..18], [15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 15, 14]);
        assert_eq!(row(1), [0; 20]);
        assert_eq!((adjacent(0, 1000, 64), adjacent(0, 5, 64), adjacent(0x07e0, 1000, 64)), (63, 5, 0));
        assert_eq!(adjacent(0x0fc0, 1000, 64), 1, "the page ends");
        assert_eq!((adjacent(0, 9, 0), adjacent(0, 900, 255)), (0, 63), "blocks that cannot be");
        assert_eq!(adjacent(u64::MAX, 1, 64), 0, "an address that no descriptor has");
    }
}
