//! The identifier register that opens every block but the MSI-X table (PG195, "H2C Channel Identifier (0x00)" and its
//! counterparts in the other blocks).

use bitfield_struct::bitfield;
use jitney_registers::{ReadOnly, Register};

use crate::block::Submodule;

/// The identifier of a block.
pub const IDENTIFIER: Register<Identifier, ReadOnly> = Register::new(0x00);

/// Bits 31:20 of every identifier.
pub const SUBSYSTEM: u16 = 0x1fc;

/// Bits 7:0 as the IP of version 4.x reports them.
pub const VERSION: u8 = 0x06;

/// What a block says it is. It is the only thing that tells a memory-mapped channel from a stream.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct Identifier {
    /// Version of the IP.
    pub version: u8,
    /// Channel number; 0 in blocks that the channels share.
    #[bits(4)]
    pub channel: u8,
    #[bits(3)]
    __: u8,
    /// The channel has an AXI4-Stream, not a memory-mapped AXI4, on the card's side.
    pub stream: bool,
    /// Number of the [`Submodule`].
    #[bits(4)]
    pub submodule: u8,
    /// [`SUBSYSTEM`] in a block that exists; anything else where there is none.
    #[bits(12)]
    pub subsystem: u16,
}

impl Identifier {
    /// What the block of `submodule` and `channel` reports.
    #[must_use]
    pub const fn of(submodule: Submodule, channel: u8, stream: bool) -> Self {
        Self::new()
            .with_subsystem(SUBSYSTEM)
            .with_submodule(submodule.number())
            .with_stream(stream)
            .with_channel(channel)
            .with_version(VERSION)
    }

    /// Whether a block of `submodule` and `channel` is here, of either kind and any version.
    ///
    /// Channels are found by asking for 0, 1, 2, 3 in turn up to the first that is not there.
    #[must_use]
    pub const fn is(self, submodule: Submodule, channel: u8) -> bool {
        self.subsystem() == SUBSYSTEM && self.submodule() == submodule.number() && self.channel() == channel
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Submodule::*;

    #[test]
    fn identifiers_are_those_that_cards_report() {
        for (submodule, channel, stream, expected) in [
            (H2cChannel, 0, false, 0x1fc0_0006),
            (C2hChannel, 0, false, 0x1fc1_0006),
            (H2cChannel, 1, true, 0x1fc0_8106),
            (Irq, 0, false, 0x1fc2_0006),
            (Config, 0, false, 0x1fc3_0006),
            (H2cSgdma, 0, false, 0x1fc4_0006),
            (C2hSgdma, 1, true, 0x1fc5_8106),
            (SgdmaCommon, 0, false, 0x1fc6_0006),
        ] {
            let identifier = Identifier::of(submodule, channel, stream);
            assert_eq!(u32::from(identifier), expected);
            assert!(identifier.is(submodule, channel));
            assert_eq!(identifier.stream(), stream);
        }
    }

    #[test]
    fn absent_and_foreign_blocks_are_told_apart() {
        for absent in [0, u32::MAX, 0x1fd0_0006] {
            assert!(!Identifier::from(absent).is(H2cChannel, 0));
        }
        assert!(!Identifier::of(H2cChannel, 1, false).is(H2cChannel, 0));
        assert!(!Identifier::of(C2hChannel, 0, false).is(H2cChannel, 0));
        assert!(Identifier::from(0x1fc0_0005).is(H2cChannel, 0), "another version is still an XDMA");
    }
}
