//! What the first byte of a transaction means to a flash.

use super::part::{CHIP_ERASE_TIME, Maker, Part, SECTOR, SECTOR_ERASE_TIME, SUBSECTOR, SUBSECTOR_ERASE_TIME};
use std::time::Duration;

/// A command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    /// Not one of this part's, or not one that it heeds now.
    Ignored,
    Id,
    Sfdp,
    /// Memory, after an address and so many bytes that mean nothing.
    Read {
        address: Address,
        dummy: u8,
    },
    /// A register, again and again as long as it is asked.
    Register(Register),
    Program {
        address: Address,
    },
    Erase {
        address: Address,
        length: u32,
        time: Duration,
    },
    EraseChip {
        time: Duration,
    },
    /// A register, from the bytes that follow.
    Write(Register),
    WriteEnable,
    WriteDisable,
    ClearFlags,
    AddressMode {
        four: bool,
    },
    EnableReset,
    Reset,
    PowerDown,
    WakeUp,
}

/// How many bytes of address follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Address {
    /// Three, or four in the mode for that.
    ByMode,
    Four,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Register {
    Status,
    /// Spansion's status 2.
    Status2,
    /// Spansion's configuration.
    Configuration,
    /// Micron's flag status.
    Flags,
    /// Macronix's security register.
    Security,
    /// The highest byte of addresses that have three: Micron's extended address register, Spansion's bank register.
    Bank,
    /// Micron's volatile configuration.
    Volatile,
    /// Micron's configuration that stays, two bytes.
    Nonvolatile,
}

/// What `opcode` means to `part`.
pub(super) fn decode(part: &Part, opcode: u8) -> Command {
    use Address::{ByMode, Four};
    use Maker::{Macronix, Micron, Spansion};
    let maker = part.maker;
    // Clocks that mean nothing, in bytes on as many lines as the command has there: as an AXI Quad SPI counts them.
    let quad_io = if maker == Micron { 5 } else { 3 };
    let dual_io = if maker == Micron { 2 } else { 1 };
    let erase = |address, length| Command::Erase {
        address,
        length,
        time: if length == SUBSECTOR { SUBSECTOR_ERASE_TIME } else { SECTOR_ERASE_TIME },
    };
    match (opcode, maker) {
        (0x9F, _) | (0x9E, Micron) => Command::Id,
        (0x5A, _) if !part.sfdp.is_empty() => Command::Sfdp,
        (0x03, _) => Command::Read { address: ByMode, dummy: 0 },
        (0x0B | 0x3B | 0x6B, _) => Command::Read { address: ByMode, dummy: 1 },
        (0xBB, _) => Command::Read { address: ByMode, dummy: dual_io },
        (0xEB, _) => Command::Read { address: ByMode, dummy: quad_io },
        (0x13, Micron | Spansion) => Command::Read { address: Four, dummy: 0 },
        (0x0C | 0x3C | 0x6C, Micron | Spansion) => Command::Read { address: Four, dummy: 1 },
        (0xBC, Micron | Spansion) => Command::Read { address: Four, dummy: dual_io },
        (0xEC, Micron | Spansion) => Command::Read { address: Four, dummy: quad_io },
        (0x05, _) => Command::Register(Register::Status),
        (0x07, Spansion) => Command::Register(Register::Status2),
        (0x35, Spansion) => Command::Register(Register::Configuration),
        (0x70, Micron) => Command::Register(Register::Flags),
        (0x2B, Macronix) => Command::Register(Register::Security),
        (0xC8, Micron) | (0x16, Spansion) => Command::Register(Register::Bank),
        (0x85, Micron) => Command::Register(Register::Volatile),
        (0xB5, Micron) => Command::Register(Register::Nonvolatile),
        (0x01, _) => Command::Write(Register::Status),
        (0xC5, Micron) | (0x17, Spansion) => Command::Write(Register::Bank),
        (0x02, _) | (0x32, Micron | Spansion) | (0xA2, Micron) => Command::Program { address: ByMode },
        (0x12 | 0x34, _) if part.four_byte_writes => Command::Program { address: Four },
        (0x20, _) if part.subsectors => erase(ByMode, SUBSECTOR),
        (0x21, _) if part.subsectors && part.four_byte_writes => erase(Four, SUBSECTOR),
        (0xD8, _) => erase(ByMode, SECTOR),
        (0xDC, _) if part.four_byte_writes => erase(Four, SECTOR),
        // A part of several dies erases them one by one.
        (0xC7, _) | (0x60, Spansion | Macronix) if part.die == part.size => {
            Command::EraseChip { time: CHIP_ERASE_TIME }
        }
        (0x06, _) => Command::WriteEnable,
        (0x04, _) => Command::WriteDisable,
        (0x30, Spansion) | (0x50, Micron) => Command::ClearFlags,
        (0xB7, Micron) => Command::AddressMode { four: true },
        (0xE9, Micron) => Command::AddressMode { four: false },
        (0x66, Micron | Macronix) => Command::EnableReset,
        (0x99, Micron | Macronix) | (0xF0, Spansion) => Command::Reset,
        (0xB9, Micron | Macronix) => Command::PowerDown,
        (0xAB, Micron | Macronix) => Command::WakeUp,
        _ => Command::Ignored,
    }
}
