//! What tells the flashes apart, as their data sheets say it.

use super::sfdp;
use jitney_designs::Flash;
use std::time::Duration;

/// Who made a flash, which decides about most of its commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Maker {
    /// Spansion, later Cypress and Infineon: S25FL-S.
    Spansion,
    /// Micron, before Numonyx: N25Q and MT25Q.
    Micron,
    /// Macronix: MX25L.
    Macronix,
}

/// A flash.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) maker: Maker,
    /// Bytes in all.
    pub(super) size: u32,
    /// Bytes of each die: a read that comes to the end of one goes on at its start.
    pub(super) die: u32,
    /// What follows the command 9Fh.
    pub(super) id: Vec<u8>,
    /// Serial Flash Discoverable Parameters; a part without answers nothing.
    pub(super) sfdp: Vec<u8>,
    /// Whether subsectors of 4 KiB can be erased everywhere.
    pub(super) subsectors: bool,
    /// Whether 4-byte addresses need a write enable before they are switched on or off.
    pub(super) address_mode_needs_write_enable: bool,
    /// Whether it has opcodes of their own for programming and erasing with 4-byte addresses.
    pub(super) four_byte_writes: bool,
}

/// Bytes of a page: what is programmed at once.
pub(super) const PAGE: u32 = 256;
/// Bytes of a sector.
pub(super) const SECTOR: u32 = 64 << 10;
/// Bytes of a subsector.
pub(super) const SUBSECTOR: u32 = 4 << 10;

/// How long things take. Cards need some ten to hundred times longer; a driver that does not wait fails with these, too.
pub(super) const PROGRAM_TIME: Duration = Duration::from_micros(30);
pub(super) const SUBSECTOR_ERASE_TIME: Duration = Duration::from_micros(500);
pub(super) const SECTOR_ERASE_TIME: Duration = Duration::from_millis(2);
pub(super) const CHIP_ERASE_TIME: Duration = Duration::from_millis(50);
pub(super) const REGISTER_TIME: Duration = Duration::from_micros(200);

impl Part {
    /// What is known of `flash`.
    pub(super) fn of(flash: Flash) -> Self {
        let size = flash.size();
        let micron = |density: u8, extended: u8| {
            let mut id = vec![0x20, 0xBB, density, 0x10, extended, 0x00];
            // The rest of the unique ID, which the factory chooses.
            id.extend((1..=14).map(|byte: u8| byte.wrapping_mul(0x3B)));
            id
        };
        match flash {
            Flash::N25q256a => Self {
                maker: Maker::Micron,
                size,
                die: size,
                id: micron(0x19, 0x00),
                sfdp: sfdp::n25q256a(size),
                subsectors: true,
                address_mode_needs_write_enable: true,
                four_byte_writes: false,
            },
            Flash::Mt25qu256 => Self {
                maker: Maker::Micron,
                size,
                die: size,
                id: micron(0x19, 0x44),
                sfdp: sfdp::mt25q(size),
                subsectors: true,
                address_mode_needs_write_enable: false,
                four_byte_writes: true,
            },
            Flash::Mt25qu01g => Self {
                maker: Maker::Micron,
                size,
                die: size / 2,
                id: micron(0x21, 0x44),
                sfdp: sfdp::mt25q(size),
                subsectors: true,
                address_mode_needs_write_enable: false,
                four_byte_writes: true,
            },
            Flash::Mx25l12835f => Self {
                maker: Maker::Macronix,
                size,
                die: size,
                id: vec![0xC2, 0x20, 0x18],
                sfdp: sfdp::mx25l(size),
                subsectors: true,
                address_mode_needs_write_enable: false,
                four_byte_writes: false,
            },
            // Any further one is as the commonest of the boards here.
            _ => Self {
                maker: Maker::Spansion,
                size,
                die: size,
                id: s25fl256s_id(),
                // It has the same parameters as CFI, behind its ID.
                sfdp: Vec::new(),
                // Those of 4 KiB are at one end only, and larger erases take sixteen of them at once.
                subsectors: false,
                address_mode_needs_write_enable: false,
                four_byte_writes: true,
            },
        }
    }

    /// The bits of the status register that protect blocks.
    pub(super) const fn protection(&self) -> u8 {
        match self.maker {
            Maker::Spansion => 0b0001_1100,
            Maker::Micron => 0b0101_1100,
            Maker::Macronix => 0b0011_1100,
        }
    }

    /// The first byte that is protected while the status register is `status`; up to the end all are.
    pub(super) fn protected_from(&self, status: u8) -> u32 {
        let low = u32::from(status >> 2 & 0b111);
        let blocks = match self.maker {
            // 1/64, 1/32, … all (S25FL256S, "Block Protection").
            Maker::Spansion if low == 0 => 0,
            Maker::Spansion => (self.size / SECTOR) >> (7 - low),
            // 1, 2, 4, … sectors (N25Q256A, MX25L12835F, "Protected Area").
            Maker::Micron | Maker::Macronix => {
                let third = if self.maker == Maker::Micron { status >> 6 & 1 } else { status >> 5 & 1 };
                let level = low | u32::from(third) << 3;
                if level == 0 { 0 } else { 1 << (level - 1) }
            }
        };
        self.size.saturating_sub(blocks.saturating_mul(SECTOR))
    }
}

/// ID-CFI of an S25FL256S with sectors of 64 KiB, of which the lowest two are subsectors (data sheet, "ID-CFI Address Map").
fn s25fl256s_id() -> Vec<u8> {
    let mut id = vec![0; 0x51];
    id[..6].copy_from_slice(&[0x01, 0x02, 0x19, 0x4D, 0x01, 0x80]);
    // Query string, command sets, voltages and times, each as a power of two.
    id[0x10..0x1B].copy_from_slice(&[b'Q', b'R', b'Y', 0x02, 0x00, 0x40, 0x00, b'S', b'F', 0x51, 0x00]);
    id[0x1B..0x27].copy_from_slice(&[0x27, 0x36, 0x00, 0x00, 0x06, 0x08, 0x08, 0x0F, 0x02, 0x02, 0x03, 0x03]);
    // 2^25 bytes, serial, pages of 2^8, and two regions: 32 times 4 KiB, 510 times 64 KiB.
    id[0x27..0x2D].copy_from_slice(&[25, 0x02, 0x01, 8, 0x00, 2]);
    id[0x2D..0x35].copy_from_slice(&[0x1F, 0x00, 0x10, 0x00, 0xFD, 0x01, 0x00, 0x01]);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protection_is_from_the_top() {
        let spansion = Part::of(Flash::S25fl256s);
        for (status, from) in
            [(0, 32 << 20), (0b100, (32 << 20) - (512 << 10)), (0b1_1100, 0), (0b1_1000, 16 << 20)]
        {
            assert_eq!(spansion.protected_from(status), from, "{status:#b}");
        }
        let micron = Part::of(Flash::N25q256a);
        for (status, from) in [
            (0, 32 << 20),
            (0b100, (32 << 20) - (64 << 10)),
            (0b1000, (32 << 20) - (128 << 10)),
            (0b100_0000, (32 << 20) - (8 << 20)),
            (0b101_1100, 0),
        ] {
            assert_eq!(micron.protected_from(status), from, "{status:#b}");
        }
        let macronix = Part::of(Flash::Mx25l12835f);
        assert_eq!((macronix.protected_from(0b11_1100), macronix.protected_from(0b10_0000)), (0, 8 << 20));
    }
}
