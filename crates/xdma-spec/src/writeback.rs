//! What the card writes to host memory beside data: PG195, "Poll Mode" and "DMA C2H Stream".

use std::mem::{offset_of, size_of};

use bitfield_struct::bitfield;

/// Bits 31:16 of a stream slot that the card has written.
pub const STREAM_MAGIC: u16 = 0x52b4;

/// The 4-byte word at a channel's write-back address, written when a descriptor with COMPLETED ends, after its data.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Writeback {
    /// The low 24 bits of the completed count; it wraps.
    #[bits(24)]
    pub count: u32,
    #[bits(7)]
    __: u8,
    /// An error bit of the channel's status is set.
    pub error: bool,
}

/// The first word of a [`StreamSlot`]. A new one has the right magic and nothing else.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct StreamStatus {
    /// The data ends a packet.
    pub end_of_packet: bool,
    #[bits(15)]
    __: u16,
    /// [`STREAM_MAGIC`] once the card has written the slot.
    #[bits(16, default = STREAM_MAGIC)]
    pub magic: u16,
}

/// What the card writes for each descriptor of a C2H stream, to the address in its source field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct StreamSlot {
    /// Magic and end of packet.
    pub status: StreamStatus,
    /// Bytes received; exact at the end of a packet, else rounded up to the width of the card's data path.
    pub length: u32,
}

const _: () = {
    assert!(size_of::<StreamSlot>() == StreamSlot::SIZE);
    assert!(offset_of!(StreamSlot, status) == 0);
    assert!(offset_of!(StreamSlot, length) == 4);
};

impl StreamSlot {
    /// Bytes of a slot.
    pub const SIZE: usize = 8;

    /// Whether the card has written this slot.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.status.magic() == STREAM_MAGIC
    }

    /// The slot as it lies in host memory, little endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        (u64::from(self.length) << 32 | u64::from(self.status.into_bits())).to_le_bytes()
    }

    /// The slot that lies in host memory as `bytes`.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the two halves are what is meant")]
    pub fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
        let both = u64::from_le_bytes(bytes);
        Self { status: StreamStatus::from_bits(both as u32), length: (both >> 32) as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_writeback_word() {
        assert_eq!(u32::from(Writeback::new().with_error(true).with_count(5)), 0x8000_0005);
        assert_eq!(Writeback::from(0x7fff_ffff).count(), 0x00ff_ffff);
        assert!(!Writeback::from(0x7fff_ffff).error());
    }

    #[test]
    fn the_stream_slot() {
        let slot = StreamSlot { status: StreamStatus::new().with_end_of_packet(true), length: 0x0081_0210 };
        assert_eq!(slot.to_bytes(), [0x01, 0x00, 0xb4, 0x52, 0x10, 0x02, 0x81, 0x00]);
        assert_eq!(StreamSlot::from_bytes(slot.to_bytes()), slot);
        assert!(slot.is_valid());
        assert!(!StreamSlot::from_bytes([0; 8]).is_valid());
    }
}
