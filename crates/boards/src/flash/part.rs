//! What a flash is: by its ID, by what it says of itself (SFDP), and where it does not, by its data sheet.

use super::sfdp::{Erase, FourByte, Parameters};
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// The longest that a page may take to program where nobody says so: several times what data sheets have.
const PROGRAM_LIMIT: Duration = Duration::from_millis(50);
/// The longest that a sector may take to erase, likewise.
const ERASE_LIMIT: Duration = Duration::from_secs(10);
/// The largest flash whose bytes all have addresses of three bytes.
const THREE_BYTES: u64 = 1 << 24;

/// Who made a flash, as JEDEC numbers them (JEP106).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Maker {
    /// Spansion, later Cypress and Infineon.
    Spansion,
    /// Micron, before Numonyx and ST.
    Micron,
    /// Macronix.
    Macronix,
    /// Winbond.
    Winbond,
    /// Another one; what is common to most is assumed of it.
    Other,
}

impl Maker {
    fn of(id: u8) -> Self {
        match id {
            0x01 => Self::Spansion,
            0x20 | 0x2c => Self::Micron,
            0xc2 => Self::Macronix,
            0xef => Self::Winbond,
            _ => Self::Other,
        }
    }

    /// The bits of the status register that protect blocks.
    pub(super) const fn protection(self) -> u8 {
        match self {
            Self::Micron => 0b0101_1100,
            Self::Macronix => 0b0011_1100,
            _ => 0b0001_1100,
        }
    }
}

impl fmt::Display for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Spansion => "Spansion",
            Self::Micron => "Micron",
            Self::Macronix => "Macronix",
            Self::Winbond => "Winbond",
            Self::Other => "unknown maker",
        })
    }
}

/// How more than 16 MiB are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Addressing {
    /// There are no more: addresses have three bytes.
    Three,
    /// Commands of their own have four, for everything.
    Commands,
    /// In a mode, that has to be left again: an FPGA that configures itself sends three.
    Mode {
        write_enable: bool,
        /// There are commands of their own for reading at least.
        read_commands: bool,
    },
    /// Always.
    Four,
}

/// What a flash is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlashPart {
    /// What it is called, if its ID is known: `S25FL256S`.
    pub name: Option<&'static str>,
    /// Who made it.
    pub maker: Maker,
    /// The bytes behind 9Fh: maker, type, capacity, and what follows.
    pub id: [u8; 6],
    /// Bytes in all.
    pub size: u64,
    /// Bytes that are programmed at once.
    pub page: u64,
    /// Bytes that are erased at once.
    pub sector: u64,
    /// The revision of its SFDP, if it could be read: 1.6 is (1, 6).
    pub sfdp: Option<(u8, u8)>,
    pub(super) erase: u8,
    pub(super) erase_limit: Duration,
    pub(super) program_limit: Duration,
    pub(super) addressing: Addressing,
}

impl FlashPart {
    /// What `id` is by `parameters`.
    pub(super) fn of_sfdp(id: [u8; 6], parameters: &Parameters) -> Self {
        let maker = Maker::of(id[0]);
        let addressing = match (parameters.size > THREE_BYTES, parameters.four_byte, maker) {
            (_, FourByte::Always, _) => Addressing::Four,
            (false, ..) => Addressing::Three,
            // It may need the write enable, and is not harmed by it.
            (true, _, Maker::Micron) => Addressing::Mode { write_enable: true, read_commands: true },
            (true, FourByte::Mode { write_enable }, _) => {
                Addressing::Mode { write_enable, read_commands: false }
            }
            (true, FourByte::Unknown, _) => Addressing::Mode { write_enable: false, read_commands: false },
        };
        // As large as possible, up to what a bitstream's start may well have to itself.
        let fitting = parameters.erases.iter().rfind(|own| own.size <= 64 << 10);
        let Erase { size: sector, command, limit } = *fitting
            .or(parameters.erases.first())
            .unwrap_or(&Erase { size: 64 << 10, command: 0xd8, limit: None });
        Self {
            name: name(id),
            maker,
            id,
            size: parameters.size,
            page: parameters.page,
            sector,
            sfdp: Some(parameters.revision),
            erase: command,
            erase_limit: generous(limit, ERASE_LIMIT),
            program_limit: generous(parameters.program_limit, PROGRAM_LIMIT),
            addressing,
        }
    }

    /// What `id` is by its data sheet. Spansion's have their parameters as CFI, and cores for them do not send 5Ah.
    pub(super) fn of_data_sheet(id: [u8; 6]) -> Option<Self> {
        let [maker, kind, capacity, _, sectors, _] = id;
        let (size, sector) = match ((maker, kind, capacity), sectors) {
            ((0x01, 0x20, 0x18), 0x01) => (16 << 20, 64 << 10),
            ((0x01, 0x20, 0x18), 0x00) => (16 << 20, 256 << 10),
            ((0x01, 0x02, 0x19), 0x01) => (32 << 20, 64 << 10),
            ((0x01, 0x02, 0x19), 0x00) => (32 << 20, 256 << 10),
            _ => return None,
        };
        Some(Self {
            name: name(id),
            maker: Maker::Spansion,
            id,
            size,
            page: 256,
            sector,
            sfdp: None,
            erase: 0xd8,
            erase_limit: ERASE_LIMIT,
            program_limit: PROGRAM_LIMIT,
            addressing: if size > THREE_BYTES { Addressing::Commands } else { Addressing::Three },
        })
    }
}

/// What is said may be meant for a warm chip in its best years.
fn generous(said: Option<Duration>, usual: Duration) -> Duration {
    said.map_or(usual, |said| (4 * said).max(Duration::from_millis(10)))
}

/// The parts of the boards in the catalogue, and their like.
fn name(id: [u8; 6]) -> Option<&'static str> {
    let [maker, kind, capacity, _, extended, _] = id;
    Some(match (maker, kind, capacity) {
        (0x01, 0x20, 0x18) => "S25FL128S",
        (0x01, 0x02, 0x19) => "S25FL256S",
        // The second generation says so in its extended ID.
        (0x20, 0xbb, 0x19) if extended & 1 << 6 == 0 => "N25Q256A, 1.8 V",
        (0x20, 0xba, 0x19) if extended & 1 << 6 == 0 => "N25Q256A, 3 V",
        (0x20, 0xbb, 0x18) => "N25Q128A or MT25QU128, 1.8 V",
        (0x20, 0xba, 0x18) => "N25Q128A or MT25QL128, 3 V",
        (0x20, 0xbb, 0x19) => "MT25QU256",
        (0x20, 0xba, 0x19) => "MT25QL256",
        (0x20, 0xbb, 0x20) => "MT25QU512",
        (0x20, 0xba, 0x20) => "MT25QL512",
        (0x20, 0xbb, 0x21) => "MT25QU01G",
        (0x20, 0xba, 0x21) => "MT25QL01G",
        (0xc2, 0x20, 0x18) => "MX25L128",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(size: u64, four_byte: FourByte) -> Parameters {
        let erase = |size, command| Erase { size, command, limit: Some(Duration::from_millis(1600)) };
        Parameters {
            revision: (1, 6),
            size,
            page: 256,
            erases: vec![erase(4096, 0x20), erase(1 << 16, 0xd8), erase(1 << 18, 0xd7)],
            program_limit: None,
            four_byte,
            three_byte: true,
        }
    }

    #[test]
    fn a_large_micron_needs_its_mode_and_a_small_one_none() {
        let part =
            FlashPart::of_sfdp([0x20, 0xbb, 0x19, 0x10, 0, 0], &parameters(32 << 20, FourByte::Unknown));
        assert_eq!(part.addressing, Addressing::Mode { write_enable: true, read_commands: true });
        assert_eq!((part.name, part.sector, part.erase), (Some("N25Q256A, 1.8 V"), 1 << 16, 0xd8));
        assert_eq!((part.erase_limit, part.program_limit), (Duration::from_millis(6400), PROGRAM_LIMIT));
        let small = FlashPart::of_sfdp(
            [0xc2, 0x20, 0x18, 0xc2, 0x20, 0x18],
            &parameters(16 << 20, FourByte::Unknown),
        );
        assert_eq!(small.addressing, Addressing::Three);
    }

    #[test]
    fn spansions_are_known_by_their_id_alone() {
        let part = FlashPart::of_data_sheet([0x01, 0x02, 0x19, 0x4d, 0x01, 0x80]).unwrap();
        assert_eq!((part.size, part.sector, part.addressing), (32 << 20, 64 << 10, Addressing::Commands));
        assert_eq!(FlashPart::of_data_sheet([0x01, 0x02, 0x19, 0x4d, 0x00, 0x80]).unwrap().sector, 256 << 10);
        assert_eq!(FlashPart::of_data_sheet([0x01, 0x02, 0x19, 0x4d, 0x07, 0x80]), None);
        assert_eq!(FlashPart::of_data_sheet([0xef, 0x40, 0x18, 0, 0, 0]), None);
    }
}
