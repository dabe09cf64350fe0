//! The address map of the DMA BAR (PG195, "PCIe to DMA Address Map").
//!
//! An offset is made of a submodule (bits 15:12), a channel (11:8) and a register (7:0).

use std::fmt;

/// Channels that the IP can have in each direction.
pub const MAX_CHANNELS: u8 = 4;

/// Bytes that the DMA BAR decodes: 64 KiB.
pub const DMA_BAR_SIZE: u64 = 0x1_0000;

/// Which way a channel moves data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// H2C: the card reads host memory.
    HostToCard,
    /// C2H: the card writes host memory.
    CardToHost,
}

impl Direction {
    /// Both directions, in the order of their submodules.
    pub const ALL: [Self; 2] = [Self::HostToCard, Self::CardToHost];

    /// The block with the channel registers of this direction.
    #[must_use]
    pub const fn channel_block(self) -> Submodule {
        match self {
            Self::HostToCard => Submodule::H2cChannel,
            Self::CardToHost => Submodule::C2hChannel,
        }
    }

    /// The block with the descriptor registers of this direction.
    #[must_use]
    pub const fn sgdma_block(self) -> Submodule {
        match self {
            Self::HostToCard => Submodule::H2cSgdma,
            Self::CardToHost => Submodule::C2hSgdma,
        }
    }
}

/// Writes `h2c` or `c2h`.
impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::HostToCard => "h2c",
            Self::CardToHost => "c2h",
        })
    }
}

/// A block of registers in the DMA BAR, 4 KiB each. 7 and 9 to 15 are not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Submodule {
    /// Channel registers, host to card.
    H2cChannel = 0,
    /// Channel registers, card to host.
    C2hChannel = 1,
    /// Interrupt masks, requests and vectors.
    Irq = 2,
    /// What the IP knows about its PCIe link.
    Config = 3,
    /// Descriptor fetch, host to card.
    H2cSgdma = 4,
    /// Descriptor fetch, card to host.
    C2hSgdma = 5,
    /// Descriptor halt and credit mode of all channels.
    SgdmaCommon = 6,
    /// MSI-X table and pending bits; the only block without an identifier register.
    MsixTable = 8,
}

impl Submodule {
    /// All submodules, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::H2cChannel,
        Self::C2hChannel,
        Self::Irq,
        Self::Config,
        Self::H2cSgdma,
        Self::C2hSgdma,
        Self::SgdmaCommon,
        Self::MsixTable,
    ];

    /// Its number, as in bits 15:12 of an offset and 19:16 of an [`Identifier`](crate::Identifier).
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The submodule with this number, if there is one.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::H2cChannel,
            1 => Self::C2hChannel,
            2 => Self::Irq,
            3 => Self::Config,
            4 => Self::H2cSgdma,
            5 => Self::C2hSgdma,
            6 => Self::SgdmaCommon,
            8 => Self::MsixTable,
            _ => return None,
        })
    }

    /// The direction that it serves; `None` for a block that the channels share.
    #[must_use]
    pub const fn direction(self) -> Option<Direction> {
        match self {
            Self::H2cChannel | Self::H2cSgdma => Some(Direction::HostToCard),
            Self::C2hChannel | Self::C2hSgdma => Some(Direction::CardToHost),
            Self::Irq | Self::Config | Self::SgdmaCommon | Self::MsixTable => None,
        }
    }
}

/// Where the registers of `channel` in `submodule` start in the DMA BAR, in bytes.
///
/// Blocks that the channels share take channel 0.
///
/// # Panics
/// If `channel` is not below [`MAX_CHANNELS`]: the offset would lie in another block.
#[must_use]
pub const fn offset(submodule: Submodule, channel: u8) -> u64 {
    assert!(channel < MAX_CHANNELS, "an XDMA has at most four channels in a direction");
    (submodule as u64) << 12 | (channel as u64) << 8
}

/// What an offset into the DMA BAR addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The block.
    pub submodule: Submodule,
    /// The channel, below [`MAX_CHANNELS`]; 0 in a block that the channels share.
    pub channel: u8,
    /// Bytes from the start of the channel's registers or, in the MSI-X table, of the block.
    pub register: u32,
}

/// What lies at `offset` of the DMA BAR: the inverse of [`offset`], with the register added.
///
/// Blocks that the channels share do not decode the channel bits, so they repeat every 256 bytes; the MSI-X table
/// alone uses all of its 4 KiB. `None` where no block or no channel can be.
#[must_use]
pub const fn decode(offset: u64) -> Option<Location> {
    if offset >= DMA_BAR_SIZE {
        return None;
    }
    let number = (offset >> 12 & 0xf) as u8;
    let channel = (offset >> 8 & 0xf) as u8;
    let Some(submodule) = Submodule::from_number(number) else { return None };
    Some(match submodule {
        Submodule::MsixTable => Location { submodule, channel: 0, register: (offset & 0xfff) as u32 },
        shared if shared.direction().is_none() => {
            Location { submodule, channel: 0, register: (offset & 0xff) as u32 }
        }
        _ if channel < MAX_CHANNELS => Location { submodule, channel, register: (offset & 0xff) as u32 },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_those_of_the_address_map() {
        assert_eq!(offset(Submodule::H2cChannel, 0), 0x0000);
        assert_eq!(offset(Submodule::C2hChannel, 3), 0x1300);
        assert_eq!(offset(Submodule::Irq, 0), 0x2000);
        assert_eq!(offset(Submodule::Config, 0), 0x3000);
        assert_eq!(offset(Submodule::H2cSgdma, 1), 0x4100);
        assert_eq!(offset(Submodule::C2hSgdma, 2), 0x5200);
        assert_eq!(offset(Submodule::SgdmaCommon, 0), 0x6000);
        assert_eq!(offset(Submodule::MsixTable, 0), 0x8000);
    }

    #[test]
    #[should_panic(expected = "at most four channels")]
    fn a_fifth_channel_has_no_offset() {
        let _ = offset(Submodule::H2cChannel, 4);
    }

    #[test]
    fn decoding_inverts_offset_for_every_register() {
        for submodule in Submodule::ALL {
            assert_eq!(Submodule::from_number(submodule.number()), Some(submodule));
            for channel in 0..if submodule.direction().is_some() { MAX_CHANNELS } else { 1 } {
                for register in 0..0x100 {
                    assert_eq!(
                        decode(offset(submodule, channel) + u64::from(register)),
                        Some(Location { submodule, channel, register })
                    );
                }
            }
        }
    }

    #[test]
    fn shared_blocks_alias_and_the_msix_table_does_not() {
        let location = |submodule, register| Some(Location { submodule, channel: 0, register });
        assert_eq!(decode(0x2f04), location(Submodule::Irq, 0x04));
        assert_eq!(decode(0x6110), location(Submodule::SgdmaCommon, 0x10));
        assert_eq!(decode(0x8fe0), location(Submodule::MsixTable, 0xfe0));
    }

    #[test]
    fn nothing_is_where_nothing_can_be() {
        for hole in [0x0400, 0x1f00, 0x4400, 0x7000, 0x9000, 0xffff, DMA_BAR_SIZE, u64::MAX] {
            assert_eq!(decode(hole), None, "{hole:#x}");
        }
    }

    #[test]
    fn directions_name_their_blocks() {
        for direction in Direction::ALL {
            assert_eq!(direction.channel_block().direction(), Some(direction));
            assert_eq!(direction.sgdma_block().direction(), Some(direction));
        }
        assert_eq!(format!("{}/{}", Direction::HostToCard, Direction::CardToHost), "h2c/c2h");
    }
}
