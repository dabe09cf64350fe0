//! What a memory module says of itself (JEDEC 21-C, annexes K and L: Serial Presence Detect for DDR3 and DDR4). Pure.

mod ddr3;
mod ddr4;
mod identity;

pub use identity::Manufacturer;

use serde::Serialize;
use std::fmt;

/// What is needed at least: the basic description and its sum.
const SHORTEST: usize = 128;

/// A generation of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Generation {
    /// DDR3 SDRAM.
    #[serde(rename = "DDR3")]
    Ddr3,
    /// DDR4 SDRAM.
    #[serde(rename = "DDR4")]
    Ddr4,
}

/// Writes `DDR3`.
impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ddr3 => "DDR3",
            Self::Ddr4 => "DDR4",
        })
    }
}

/// A memory module. What its bytes do not say in a way that is known is `None`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Spd {
    /// Of which memory it is.
    pub generation: Generation,
    /// Its form: `SO-DIMM`.
    pub form: Option<&'static str>,
    /// Its size in bytes.
    pub bytes: Option<u64>,
    /// Its ranks.
    pub ranks: u8,
    /// Data bits of one of its chips.
    pub chip_bits: Option<u8>,
    /// Data bits of all of them, without those for correction.
    pub bus_bits: Option<u8>,
    /// It has bits for the correction of errors.
    pub has_ecc: bool,
    /// The shortest clock period, in picoseconds.
    pub clock_ps: Option<u32>,
    /// Transfers in a second at that clock, in millions, as sold.
    pub megatransfers: Option<u32>,
    /// Whether the sum of the basic description is right.
    pub sum_is_right: bool,
    /// Who made it.
    pub manufacturer: Option<Manufacturer>,
    /// Its part number.
    pub part: Option<String>,
    /// Its serial number.
    pub serial: Option<u32>,
    /// The year and the week in which it was made.
    pub made: Option<(u16, u8)>,
}

/// Why bytes describe no module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpdError {
    /// There are too few.
    #[error("{0} bytes describe no memory module: it takes {SHORTEST} at least")]
    Short(usize),
    /// It is of another generation than are known here, or these are no such bytes.
    #[error("byte 2 is {0:#04x}, and so this is neither DDR3 (0x0b) nor DDR4 (0x0c)")]
    Generation(u8),
}

impl Spd {
    /// Decodes the bytes of a module: all of 256 of a DDR3, 512 of a DDR4, or the first 128 of either.
    ///
    /// # Errors
    /// [`SpdError`] if they are too few, or of another generation.
    pub fn decode(bytes: &[u8]) -> Result<Self, SpdError> {
        let Some(basic) = bytes.first_chunk::<SHORTEST>() else { return Err(SpdError::Short(bytes.len())) };
        match basic[2] {
            0x0b => Ok(ddr3::decode(basic, bytes)),
            0x0c => Ok(ddr4::decode(basic, bytes)),
            other => Err(SpdError::Generation(other)),
        }
    }
}

/// The bytes of a module from its organization: the size of a chip in bits, how wide it is, how wide the bus is, and ranks.
fn size(chip: Option<u64>, chip_bits: Option<u8>, bus_bits: Option<u8>, ranks: u8) -> Option<u64> {
    let (chip, chips) = (chip? / 8, u64::from(bus_bits? / chip_bits?));
    chip.checked_mul(chips)?.checked_mul(ranks.into())
}

/// Millions of transfers at a clock of so many picoseconds: two in a period, and named as sold, in steps of 1066, 1333 and so
/// on.
fn megatransfers(clock_ps: u32) -> Option<u32> {
    let exact = 2_000_000_u32.checked_div(clock_ps)?;
    let sold = [800, 1066, 1333, 1600, 1866, 2133, 2400, 2666, 2933, 3200];
    Some(sold.into_iter().find(|speed| exact.abs_diff(*speed) <= 8).unwrap_or(exact))
}

/// A period of so many medium time units and fine ones, in picoseconds.
fn period(medium: u8, medium_ps: u32, fine: u8, fine_ps: u32) -> Option<u32> {
    let coarse = i64::from(u32::from(medium).checked_mul(medium_ps)?);
    let fine = i64::from(fine.cast_signed()) * i64::from(fine_ps);
    u32::try_from(coarse + fine).ok().filter(|period| *period > 0)
}

/// CRC16 with the polynomial 0x1021 (annex K, "Cyclical Redundancy Code").
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(
            crc ^ u16::from(*byte) << 8,
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A DDR3 SO-DIMM of 8 GiB, as such modules describe themselves.
    fn ddr3() -> Vec<u8> {
        let mut bytes = vec![0; 256];
        bytes[..12]
            .copy_from_slice(&[0x92, 0x11, 0x0b, 0x03, 0x04, 0x21, 0x02, 0x09, 0x03, 0x52, 0x01, 0x08]);
        bytes[12] = 0x0a;
        bytes[117..126].copy_from_slice(&[0x80, 0x2c, 0x01, 0x21, 0x15, 0xde, 0xad, 0x00, 0x01]);
        bytes[128..146].copy_from_slice(b"8KTF1G64HZ-1G6E1  ");
        let sum = crc16(&bytes[..117]);
        bytes[126..128].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    #[test]
    fn a_ddr3_module_is_read() {
        let spd = Spd::decode(&ddr3()).unwrap();
        assert_eq!((spd.generation, spd.form, spd.bytes), (Generation::Ddr3, Some("SO-DIMM"), Some(8 << 30)));
        assert_eq!((spd.ranks, spd.chip_bits, spd.bus_bits, spd.has_ecc), (2, Some(8), Some(64), false));
        assert_eq!((spd.clock_ps, spd.megatransfers, spd.sum_is_right), (Some(1250), Some(1600), true));
        assert_eq!(spd.manufacturer.unwrap().name(), Some("Micron"));
        assert_eq!((spd.part.as_deref(), spd.serial), (Some("8KTF1G64HZ-1G6E1"), Some(0xdead_0001)));
        assert_eq!(spd.made, Some((2021, 15)));
        let mut wrong = ddr3();
        wrong[4] ^= 1;
        assert!(!Spd::decode(&wrong).unwrap().sum_is_right);
    }

    #[test]
    fn a_ddr4_module_is_read() {
        let mut bytes = vec![0; 512];
        bytes[..16]
            .copy_from_slice(&[0x23, 0x11, 0x0c, 0x01, 0x85, 0x21, 0, 8, 0, 0x60, 0, 3, 0x09, 0x0b, 0x80, 0]);
        // A clock of 7 units of 125 ps, less 42 ps: DDR4-2400.
        bytes[18] = 7;
        bytes[125] = (-42_i8).cast_unsigned();
        bytes[320..325].copy_from_slice(&[0x80, 0xce, 0, 0x19, 0x07]);
        bytes[329..349].copy_from_slice(b"M393A2K43BB1-CRC    ");
        let sum = crc16(&bytes[..126]);
        bytes[126..128].copy_from_slice(&sum.to_le_bytes());
        let spd = Spd::decode(&bytes).unwrap();
        assert_eq!((spd.generation, spd.form), (Generation::Ddr4, Some("RDIMM")));
        assert_eq!((spd.bytes, spd.ranks, spd.chip_bits), (Some(16 << 30), 2, Some(8)));
        assert_eq!((spd.has_ecc, spd.clock_ps, spd.megatransfers), (true, Some(833), Some(2400)));
        assert_eq!((spd.part.as_deref(), spd.made), (Some("M393A2K43BB1-CRC"), Some((2019, 7))));
        assert!(spd.sum_is_right);
        let half = Spd::decode(&bytes[..256]).unwrap();
        assert_eq!((half.part, half.manufacturer), (None, None), "that is in the second half");
    }

    #[test]
    fn what_is_no_module_is_told() {
        assert_eq!(Spd::decode(&[0xff; 256]), Err(SpdError::Generation(0xff)));
        assert_eq!(Spd::decode(&[0; 127]), Err(SpdError::Short(127)));
        assert!(SpdError::Generation(0).to_string().contains("DDR4"));
    }

    proptest! {
        #[test]
        fn any_bytes_decode(mut bytes in prop::collection::vec(any::<u8>(), 128..520), generation in 0x0b_u8..0x0d) {
            bytes[2] = generation;
            let spd = Spd::decode(&bytes).unwrap();
            prop_assert!(spd.made.is_none_or(|(year, week)| year >= 2000 && (1..=53).contains(&week)));
            prop_assert!(spd.part.is_none_or(|part| !part.is_empty() && part.len() <= 20));
        }
    }
}
