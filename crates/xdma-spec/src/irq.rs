//! The IRQ block (block 2) and the MSI-X table (block 8): PG195, "IRQ Block Registers (0x2)" and "MSI-X Vector Table
//! and PBA (0x8)".
//!
//! `_SET` and `_CLEAR` are the W1S and W1C twins of a mask.

use jitney_registers::{ReadOnly, ReadWrite, Register, WriteOnly};

use crate::block::Direction;

pub use crate::identifier::IDENTIFIER;

/// User interrupts that may pass, one bit each.
pub const USER_ENABLE: Register<u32, ReadWrite> = Register::new(0x04);
/// User interrupt enable, W1S.
pub const USER_ENABLE_SET: Register<u32, WriteOnly> = Register::new(0x08);
/// User interrupt enable, W1C.
pub const USER_ENABLE_CLEAR: Register<u32, WriteOnly> = Register::new(0x0c);
/// Channel interrupts that may pass.
pub const CHANNEL_ENABLE: Register<PackedChannels, ReadWrite> = Register::new(0x10);
/// Channel interrupt enable, W1S.
pub const CHANNEL_ENABLE_SET: Register<PackedChannels, WriteOnly> = Register::new(0x14);
/// Channel interrupt enable, W1C.
pub const CHANNEL_ENABLE_CLEAR: Register<PackedChannels, WriteOnly> = Register::new(0x18);
/// User interrupts that are requested, after the mask.
pub const USER_REQUEST: Register<u32, ReadOnly> = Register::new(0x40);
/// Channel interrupts that are requested, after the mask.
pub const CHANNEL_REQUEST: Register<PackedChannels, ReadOnly> = Register::new(0x44);
/// User interrupts that are pending, before the mask.
pub const USER_PENDING: Register<u32, ReadOnly> = Register::new(0x48);
/// Channel interrupts that are pending, before the mask.
pub const CHANNEL_PENDING: Register<PackedChannels, ReadOnly> = Register::new(0x4c);
/// Vectors of the user interrupts 0 to 3; three more registers follow, see [`user_vectors`].
pub const USER_VECTORS: Register<VectorNumbers, ReadWrite> = Register::new(0x80);
/// Vectors of the channel interrupts 0 to 3; one more register follows, see [`channel_vectors`].
pub const CHANNEL_VECTORS: Register<VectorNumbers, ReadWrite> = Register::new(0xa0);

/// User interrupts that the IP can have.
pub const USER_INTERRUPTS: u8 = 16;
/// Channel interrupts that the IP can have: four channels in each direction.
pub const CHANNEL_INTERRUPTS: u8 = 8;

/// Entries in the MSI-X table.
pub const MSIX_VECTORS: u16 = 32;
/// The MSI-X table in the DMA BAR, in bytes.
pub const MSIX_TABLE: u64 = 0x8000;
/// The MSI-X pending bits in the DMA BAR, in bytes.
pub const MSIX_PENDING: u64 = 0x8fe0;

/// The register and the place in it that hold the vector of a user interrupt; `interrupt` is taken modulo 16.
#[must_use]
pub const fn user_vectors(interrupt: u8) -> (Register<VectorNumbers, ReadWrite>, u8) {
    (USER_VECTORS.nth((interrupt % USER_INTERRUPTS / 4) as u32, 4), interrupt % 4)
}

/// The register and the place in it that hold the vector of a channel interrupt, by its bit in [`PackedChannels`],
/// taken modulo 8.
#[must_use]
pub const fn channel_vectors(bit: u8) -> (Register<VectorNumbers, ReadWrite>, u8) {
    (CHANNEL_VECTORS.nth((bit % CHANNEL_INTERRUPTS / 4) as u32, 4), bit % 4)
}

/// One bit for every channel as the IRQ block places them: H2C from bit 0, C2H directly after the last H2C that the
/// card has.
///
/// Block 6 places them otherwise: [`ChannelSet`](crate::ChannelSet).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PackedChannels(u32);

impl PackedChannels {
    /// The bit number of a channel on a card with `h2c_channels` H2C channels.
    #[must_use]
    pub const fn bit(direction: Direction, channel: u8, h2c_channels: u8) -> u8 {
        match direction {
            Direction::HostToCard => channel,
            Direction::CardToHost => h2c_channels.saturating_add(channel),
        }
    }

    /// One channel of a card with `h2c_channels` H2C channels; empty if no such channel can be.
    #[must_use]
    pub const fn only(direction: Direction, channel: u8, h2c_channels: u8) -> Self {
        let bit = Self::bit(direction, channel, h2c_channels);
        Self(if bit < CHANNEL_INTERRUPTS { 1 << bit } else { 0 })
    }

    /// Whether the channel's bit is set, on a card with `h2c_channels` H2C channels.
    #[must_use]
    pub const fn contains(self, direction: Direction, channel: u8, h2c_channels: u8) -> bool {
        self.0 & Self::only(direction, channel, h2c_channels).0 != 0
    }
}

impl From<u32> for PackedChannels {
    fn from(bits: u32) -> Self {
        Self(bits)
    }
}

impl From<PackedChannels> for u32 {
    fn from(channels: PackedChannels) -> u32 {
        channels.0
    }
}

/// The MSI or MSI-X vectors of four interrupts, one byte each, of which five bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VectorNumbers(u32);

impl VectorNumbers {
    /// The bits that can be written.
    pub const MASK: u32 = 0x1f1f_1f1f;

    /// The vector at `place` (0 to 3, taken modulo 4).
    #[must_use]
    pub const fn get(self, place: u8) -> u8 {
        self.0.to_le_bytes()[(place % 4) as usize] & 0x1f
    }

    /// The same with the vector at `place` (taken modulo 4) replaced; `vector` is taken modulo 32.
    #[must_use]
    pub const fn with(self, place: u8, vector: u8) -> Self {
        let mut bytes = self.0.to_le_bytes();
        bytes[(place % 4) as usize] = vector & 0x1f;
        Self(u32::from_le_bytes(bytes))
    }
}

impl From<u32> for VectorNumbers {
    fn from(bits: u32) -> Self {
        Self(bits & Self::MASK)
    }
}

impl From<VectorNumbers> for u32 {
    fn from(vectors: VectorNumbers) -> u32 {
        vectors.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::*;

    #[test]
    fn c2h_follows_the_last_h2c() {
        assert_eq!(u32::from(PackedChannels::only(HostToCard, 0, 1)), 0b01);
        assert_eq!(u32::from(PackedChannels::only(CardToHost, 0, 1)), 0b10);
        assert_eq!(u32::from(PackedChannels::only(CardToHost, 1, 2)), 0b1000);
        assert_eq!(u32::from(PackedChannels::only(CardToHost, 3, 4)), 0x80);
        assert!(PackedChannels::from(0b10).contains(CardToHost, 0, 1));
        assert!(!PackedChannels::from(0b10).contains(CardToHost, 0, 2));
    }

    #[test]
    fn channels_that_cannot_be_have_no_bit() {
        assert_eq!(u32::from(PackedChannels::only(CardToHost, u8::MAX, u8::MAX)), 0);
        assert!(!PackedChannels::from(u32::MAX).contains(HostToCard, 200, 1));
    }

    #[test]
    fn vectors_are_a_byte_apart_and_five_bits_wide() {
        let vectors = VectorNumbers::default().with(0, 1).with(1, 2).with(2, 31).with(3, 4);
        assert_eq!(u32::from(vectors), 0x041f_0201);
        assert_eq!(vectors.get(2), 31);
        assert_eq!(u32::from(VectorNumbers::default().with(1, 0xff)), 0x1f00);
        assert_eq!(u32::from(VectorNumbers::from(u32::MAX)), VectorNumbers::MASK);
    }

    #[test]
    fn vectors_are_found_in_the_right_register() {
        let place = |(register, place): (Register<_, _>, u8)| (register.offset(), place);
        assert_eq!(place(user_vectors(0)), (0x80, 0));
        assert_eq!(place(user_vectors(15)), (0x8c, 3));
        assert_eq!(place(channel_vectors(0)), (0xa0, 0));
        assert_eq!(place(channel_vectors(7)), (0xa4, 3));
    }
}
