//! The device serial number (PCIe 5.0, section 7.9.3): 64 bits that a card says of itself.

use crate::capability::{self, CapabilityError, SERIAL_NUMBER};
use crate::config::ConfigRead;
use std::fmt;
use std::str::FromStr;

/// A device serial number, written `00-00-00-01-01-00-0a-35` as by `lspci`, the most significant byte first.
///
/// It is as unique as its maker cares for: an FPGA has what its design says, so cards with the same bitstream share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SerialNumber(pub u64);

/// A text that is no serial number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a serial number: write eight bytes in hexadecimal, as in 00-00-00-01-01-00-0a-35")]
pub struct ParseSerialError(String);

impl SerialNumber {
    /// The one in `config`; `None` if the function has none.
    ///
    /// # Errors
    /// [`CapabilityError`] if the list of extended capabilities cannot be read or is malformed.
    pub fn read<C: ConfigRead + ?Sized>(config: &C) -> Result<Option<Self>, CapabilityError<C::Error>> {
        let Some(at) = capability::find_extended(config, SERIAL_NUMBER)? else { return Ok(None) };
        Self::read_at(config, at).map(Some).map_err(CapabilityError::Read)
    }

    /// The one of the capability at `offset`.
    ///
    /// # Errors
    /// Those of the medium.
    pub fn read_at<C: ConfigRead + ?Sized>(config: &C, offset: u16) -> Result<Self, C::Error> {
        // A capability in the last words of the space has no room for a number; what is beyond is as if it were all-ones.
        let low = config.read32(offset.saturating_add(4))?;
        let high = config.read32(offset.saturating_add(8))?;
        Ok(Self(u64::from(high) << 32 | u64::from(low)))
    }
}

impl From<u64> for SerialNumber {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for SerialNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = self.0.to_be_bytes();
        write!(f, "{first:02x}")?;
        rest.iter().try_for_each(|byte| write!(f, "-{byte:02x}"))
    }
}

/// Eight bytes in hexadecimal with `-` or `:` between them, or all sixteen digits in a row.
impl FromStr for SerialNumber {
    type Err = ParseSerialError;

    fn from_str(text: &str) -> Result<Self, ParseSerialError> {
        let wrong = || ParseSerialError(text.to_owned());
        let is_hex = |part: &str, digits| part.len() == digits && part.bytes().all(|b| b.is_ascii_hexdigit());
        let bytes: Vec<&str> = text.split(['-', ':']).collect();
        let right = match bytes[..] {
            [all] => is_hex(all, 16),
            _ => bytes.len() == 8 && bytes.iter().all(|byte| is_hex(byte, 2)),
        };
        if !right {
            return Err(wrong());
        }
        u64::from_str_radix(&bytes.concat(), 16).map(Self).map_err(|_| wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::{EXTENDED_START, ExtendedCapability};
    use proptest::prelude::*;

    fn config(capability: u16, offset: u16) -> Vec<u8> {
        let mut config = vec![0; 4096];
        let header = ExtendedCapability { id: capability, version: 1, offset }.header(0);
        config[usize::from(offset)..][..4].copy_from_slice(&header.to_le_bytes());
        config
    }

    #[test]
    fn the_low_word_is_first() {
        let mut space = config(SERIAL_NUMBER, EXTENDED_START);
        space[0x104..0x10c].copy_from_slice(&[0x35, 0x0a, 0, 1, 1, 0, 0, 0]);
        let found = SerialNumber::read(&space[..]).unwrap().unwrap();
        assert_eq!(found.to_string(), "00-00-00-01-01-00-0a-35");
        assert_eq!(SerialNumber::read(&config(0x0001, EXTENDED_START)[..]), Ok(None));
        assert_eq!(SerialNumber::read(&space[..256]), Ok(None), "no extended space");
    }

    #[test]
    fn a_number_that_would_lie_outside_is_all_ones() {
        assert_eq!(SerialNumber::read_at(&config(0, EXTENDED_START)[..], 0xffc), Ok(SerialNumber(u64::MAX)));
    }

    #[test]
    fn other_texts_are_no_numbers() {
        for text in ["", "1", "00-00-00-01-01-00-0a", "00-00-00-01-01-00-0a-3", "+0000001-01-00-0a-35", "x"] {
            assert!(text.parse::<SerialNumber>().is_err(), "{text}");
        }
        assert!("000000010100 0a35".parse::<SerialNumber>().is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(number: u64, text in "\\PC{0,24}") {
            let serial = SerialNumber(number);
            prop_assert_eq!(serial.to_string().parse(), Ok(serial));
            prop_assert_eq!(format!("{number:016X}").parse(), Ok(serial));
            prop_assert_eq!(serial.to_string().replace('-', ":").parse(), Ok(serial));
            let _ = text.parse::<SerialNumber>();
        }
    }
}
