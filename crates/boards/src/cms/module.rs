//! What a network module says of itself (SFF-8636, "Memory map").

use serde::Serialize;

/// Bytes of a page.
pub const PAGE: usize = 128;

/// A QSFP module: who it is, and what it measures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Module {
    /// Its kind by its number in SFF-8024, "Identifier Values": 0x0d QSFP+, 0x11 QSFP28.
    pub identifier: u8,
    /// Who made it.
    pub vendor: String,
    /// Its part number.
    pub part: String,
    /// Its revision.
    pub revision: String,
    /// Its serial number.
    pub serial: String,
    /// Whether the sums of its identity are right.
    pub sums_are_right: bool,
    /// Its temperature in degrees Celsius.
    pub celsius: f64,
    /// Its supply in volts.
    pub volts: f64,
    /// What its four lanes receive, in milliwatts.
    pub received_milliwatts: [f64; 4],
    /// What its four lanes send, in milliwatts.
    pub sent_milliwatts: [f64; 4],
    /// The bias of its four lasers, in milliamperes.
    pub bias_milliamperes: [f64; 4],
}

impl Module {
    /// Decodes the lower page and upper page 0.
    #[must_use]
    pub fn decode(lower: &[u8; PAGE], upper: &[u8; PAGE]) -> Self {
        // All of these offsets are within a page.
        let word = |at: usize| u16::from_be_bytes([lower[at], lower[at + 1]]);
        let lanes = |at: usize, scale: f64| [0, 1, 2, 3].map(|lane| f64::from(word(at + 2 * lane)) * scale);
        let text = |at: usize, length: usize| {
            let bytes = &upper[at - PAGE..at - PAGE + length];
            let letters =
                bytes.iter().filter(|byte| (0x20..0x7f).contains(*byte)).map(|byte| char::from(*byte));
            letters.collect::<String>().trim().to_owned()
        };
        let sum = |from: usize, to: usize| {
            let bytes = &upper[from - PAGE..to - PAGE];
            bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)) == upper[to - PAGE]
        };
        Self {
            identifier: upper[0],
            vendor: text(148, 16),
            part: text(168, 16),
            revision: text(184, 2),
            serial: text(196, 16),
            sums_are_right: sum(128, 191) && sum(192, 223),
            celsius: f64::from(word(22).cast_signed()) / 256.0,
            volts: f64::from(word(26)) / 10_000.0,
            received_milliwatts: lanes(34, 1e-4),
            sent_milliwatts: lanes(50, 1e-4),
            bias_milliamperes: lanes(42, 2e-3),
        }
    }

    /// Its kind in words.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self.identifier {
            0x03 => "SFP",
            0x0c => "QSFP",
            0x0d => "QSFP+",
            0x11 => "QSFP28",
            0x18 => "QSFP-DD",
            _ => "module of an unknown kind",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_module_is_read() {
        let (mut lower, mut upper) = ([0; PAGE], [0; PAGE]);
        upper[0] = 0x11;
        upper[20..27].copy_from_slice(b"OPTICS ");
        upper[63] = upper[..63].iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        lower[22..24].copy_from_slice(&(-10_i16 * 256).to_be_bytes());
        lower[26..28].copy_from_slice(&33_000_u16.to_be_bytes());
        lower[36..38].copy_from_slice(&10_000_u16.to_be_bytes());
        let module = Module::decode(&lower, &upper);
        assert_eq!(
            (module.kind(), module.vendor.as_str(), module.sums_are_right),
            ("QSFP28", "OPTICS", true)
        );
        assert_eq!((module.celsius, module.volts), (-10.0, 3.3));
        assert!((module.received_milliwatts[1] - 1.0).abs() < 1e-9);
        upper[1] ^= 1;
        assert!(!Module::decode(&lower, &upper).sums_are_right);
    }

    proptest! {
        #[test]
        fn any_pages_decode(lower: [u8; 32], upper: [u8; 32], place in 0_usize..96) {
            let spread = |bytes: [u8; 32]| {
                let mut page = [0; PAGE];
                page[place..place + 32].copy_from_slice(&bytes);
                page
            };
            let module = Module::decode(&spread(lower), &spread(upper));
            prop_assert!(module.vendor.len() <= 16 && module.volts < 6.6);
        }
    }
}
