//! Who made a module, and which one it is.

use serde::Serialize;

/// A manufacturer by its number (JEP-106): how many continuation codes, and the last byte, each without its parity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Manufacturer {
    /// Continuation codes before it.
    pub bank: u8,
    /// Its code in that bank.
    pub code: u8,
}

impl Manufacturer {
    /// From the two bytes of a module; `None` if they say nothing.
    pub(super) fn decode(bytes: [u8; 2]) -> Option<Self> {
        let [bank, code] = bytes.map(|byte| byte & 0x7f);
        (code != 0 && bytes != [0xff; 2]).then_some(Self { bank, code })
    }

    /// Its name, if it is one of those that make most modules.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match (self.bank, self.code) {
            (0, 0x2c) => "Micron",
            (0, 0x2d) => "SK hynix",
            (0, 0x4e) => "Samsung",
            (1, 0x18) => "Kingston",
            (2, 0x7e) => "Elpida",
            (3, 0x0b) => "Nanya",
            (3, 0x3a) => "PNY",
            (4, 0x4b) => "A-DATA",
            (4, 0x4d) => "G.Skill",
            (5, 0x1b) => "Crucial",
            _ => return None,
        })
    }
}

/// A part number: printable letters without blanks at its ends.
pub(super) fn part(bytes: &[u8]) -> Option<String> {
    let letters = bytes.iter().filter(|byte| (0x20..0x7f).contains(*byte)).map(|byte| char::from(*byte));
    let text: String = letters.collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Year and week, two decimal digits each.
pub(super) fn made([year, week]: [u8; 2]) -> Option<(u16, u8)> {
    let (year, week) = (decimal(year)?, decimal(week)?);
    (1..=53).contains(&week).then_some((2000 + u16::from(year), week))
}

fn decimal(byte: u8) -> Option<u8> {
    let (tens, ones) = (byte >> 4, byte & 0xf);
    (tens < 10 && ones < 10).then_some(10 * tens + ones)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parities_do_not_count() {
        assert_eq!(Manufacturer::decode([0x80, 0xce]).unwrap().name(), Some("Samsung"));
        assert_eq!(Manufacturer::decode([0x01, 0x98]).unwrap().name(), Some("Kingston"));
        assert_eq!(Manufacturer::decode([0x85, 0x9b]).unwrap().name(), Some("Crucial"));
        assert_eq!((Manufacturer::decode([0, 0]), Manufacturer::decode([0xff, 0xff])), (None, None));
    }

    #[test]
    fn dates_are_decimal() {
        assert_eq!(
            (made([0x21, 0x15]), made([0x21, 0x54]), made([0x1a, 0x15])),
            (Some((2021, 15)), None, None)
        );
    }
}
