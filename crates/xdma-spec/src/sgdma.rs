//! SGDMA registers, blocks 4 (H2C) and 5 (C2H), and the common block 6: PG195, "H2C SGDMA Registers (0x4)",
//! "C2H SGDMA Registers (0x5)" and "SGDMA Common Registers (0x6)".
//!
//! The registers at the top of this module are a channel's; those in [`common`] hold one bit for every channel.

use bitfield_struct::bitfield;
use jitney_registers::{ReadWrite, Register};

use crate::block::Direction;

pub use crate::identifier::IDENTIFIER;

/// IOVA of the first descriptor, bits 31:0; latched when RUN rises.
pub const FIRST_DESCRIPTOR_LOW: Register<u32, ReadWrite> = Register::new(0x80);
/// IOVA of the first descriptor, bits 63:32.
pub const FIRST_DESCRIPTOR_HIGH: Register<u32, ReadWrite> = Register::new(0x84);
/// Descriptors that follow the first without a gap, at most
/// [`MAX_ADJACENT`](crate::descriptor::MAX_ADJACENT): bits 5:0. The card fetches them together with the first.
pub const FIRST_DESCRIPTOR_ADJACENT: Register<u32, ReadWrite> = Register::new(0x88);
/// Credits, bits 9:0: a write adds to them, a read tells how many are left. They work in credit mode only, and are
/// dropped when RUN falls or credit mode ends.
pub const CREDITS: Register<u32, ReadWrite> = Register::new(0x8c);

/// The most credits that a channel can hold.
pub const MAX_CREDITS: u32 = 0x3ff;

/// SGDMA common registers, block 6.
pub mod common {
    use jitney_registers::{ReadWrite, Register, WriteOnly};

    use super::ChannelSet;

    pub use crate::identifier::IDENTIFIER;

    /// Channels that fetch no descriptors.
    pub const HALT: Register<ChannelSet, ReadWrite> = Register::new(0x10);
    /// Halt, W1S.
    pub const HALT_SET: Register<ChannelSet, WriteOnly> = Register::new(0x14);
    /// Halt, W1C.
    pub const HALT_CLEAR: Register<ChannelSet, WriteOnly> = Register::new(0x18);
    /// Channels that fetch one descriptor for each credit.
    pub const CREDIT_MODE: Register<ChannelSet, ReadWrite> = Register::new(0x20);
    /// Credit mode, W1S.
    pub const CREDIT_MODE_SET: Register<ChannelSet, WriteOnly> = Register::new(0x24);
    /// Credit mode, W1C.
    pub const CREDIT_MODE_CLEAR: Register<ChannelSet, WriteOnly> = Register::new(0x28);
}

/// One bit for every channel as block 6 places them: H2C in 3:0, C2H in 19:16, however many there are.
///
/// The IRQ block places them otherwise: [`PackedChannels`](crate::PackedChannels).
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct ChannelSet {
    /// H2C channels 0 to 3.
    #[bits(4)]
    pub h2c: u8,
    #[bits(12)]
    __: u16,
    /// C2H channels 0 to 3.
    #[bits(4)]
    pub c2h: u8,
    #[bits(12)]
    __: u16,
}

impl ChannelSet {
    /// Every channel that the IP can have: the bits that can be written.
    pub const ALL: Self = Self::new().with_h2c(0xf).with_c2h(0xf);

    /// One channel; `channel` is taken modulo four.
    #[must_use]
    pub const fn only(direction: Direction, channel: u8) -> Self {
        let bit = 1 << (channel & 3);
        match direction {
            Direction::HostToCard => Self::new().with_h2c(bit),
            Direction::CardToHost => Self::new().with_c2h(bit),
        }
    }

    /// Whether the channel's bit is set.
    #[must_use]
    pub const fn contains(self, direction: Direction, channel: u8) -> bool {
        self.into_bits() & Self::only(direction, channel).into_bits() != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c2h_starts_at_bit_16() {
        assert_eq!(u32::from(ChannelSet::only(Direction::HostToCard, 3)), 1 << 3);
        assert_eq!(u32::from(ChannelSet::only(Direction::CardToHost, 0)), 1 << 16);
        assert_eq!(u32::from(ChannelSet::only(Direction::CardToHost, 3)), 1 << 19);
        assert_eq!(u32::from(ChannelSet::ALL), 0x000f_000f);
    }

    #[test]
    fn membership() {
        let set = ChannelSet::from(0x0002_0001);
        assert!(set.contains(Direction::HostToCard, 0) && set.contains(Direction::CardToHost, 1));
        assert!(!set.contains(Direction::HostToCard, 1) && !set.contains(Direction::CardToHost, 0));
    }
}
