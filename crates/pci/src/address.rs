//! Names of PCI functions: where one sits and what it is.

use std::fmt;
use std::str::FromStr;

/// A text that names no function.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// It is no [`Address`].
    #[error(
        "{0:?} is not a PCI address: write domain:bus:device.function in hexadecimal, as in 0000:2e:00.0"
    )]
    Address(String),
    /// It is no [`Id`].
    #[error("{0:?} is not a PCI id: write vendor:device with four hexadecimal digits each, as in 10ee:7011")]
    Id(String),
}

/// Where a function sits, written `0000:2e:00.0`: domain, bus, device, function.
///
/// Parsing accepts the short form without a domain, `2e:00.0`, for domain 0. Domains beyond 16 bits are real: Linux
/// gives them to the buses behind an Intel VMD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

impl Address {
    /// The address of a function; `None` if `device` does not fit five bits or `function` three.
    #[must_use]
    pub const fn new(domain: u32, bus: u8, device: u8, function: u8) -> Option<Self> {
        if device < 32 && function < 8 { Some(Self { domain, bus, device, function }) } else { None }
    }

    /// Its domain ("segment" in ACPI).
    #[must_use]
    pub const fn domain(self) -> u32 {
        self.domain
    }

    /// Its bus.
    #[must_use]
    pub const fn bus(self) -> u8 {
        self.bus
    }

    /// Its device, below 32.
    #[must_use]
    pub const fn device(self) -> u8 {
        self.device
    }

    /// Its function, below 8.
    #[must_use]
    pub const fn function(self) -> u8 {
        self.function
    }

    fn parse(text: &str) -> Option<Self> {
        let (place, function) = text.rsplit_once('.')?;
        let (bus, device) = place.rsplit_once(':')?;
        let (domain, bus) = bus.split_once(':').unwrap_or(("0", bus));
        Self::new(
            hex(domain, 8)?,
            hex(bus, 2)?.try_into().ok()?,
            hex(device, 2)?.try_into().ok()?,
            hex(function, 1)?.try_into().ok()?,
        )
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{}", self.domain, self.bus, self.device, self.function)
    }
}

impl FromStr for Address {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text).ok_or_else(|| ParseError::Address(text.to_owned()))
    }
}

/// What a function is, written `10ee:7011`: vendor and device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Vendor, as the PCI-SIG gave it out.
    pub vendor: u16,
    /// Device, as the vendor chose it.
    pub device: u16,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.device)
    }
}

impl FromStr for Id {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let word = |text: &str| if text.len() == 4 { hex(text, 4)?.try_into().ok() } else { None };
        text.split_once(':')
            .and_then(|(vendor, device)| Some(Self { vendor: word(vendor)?, device: word(device)? }))
            .ok_or_else(|| ParseError::Id(text.to_owned()))
    }
}

/// A hexadecimal number of one to `digits` digits and nothing else: `from_str_radix` alone would accept a sign.
fn hex(text: &str, digits: usize) -> Option<u32> {
    let only_digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if only_digits && text.len() <= digits { u32::from_str_radix(text, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_in_every_form() {
        let address = Address::new(0, 0x2e, 0, 0);
        assert_eq!("0000:2e:00.0".parse().ok(), address);
        assert_eq!("2e:00.0".parse().ok(), address);
        assert_eq!("2E:0.0".parse().ok(), address);
        assert_eq!("10000:e1:1f.7".parse().ok(), Address::new(0x10000, 0xe1, 31, 7));
    }

    #[test]
    fn texts_that_name_no_function() {
        for text in [
            "",
            ".",
            "2e",
            "2e:00",
            "00.0",
            "0000:2e:20.0",
            "0000:2e:00.8",
            "0000:2e:00.0 ",
            "0000:+2e:00.0",
            "0000:12e:00.0",
            "0000:0000:2e:00.0",
            "123456789:2e:00.0",
            "0000:2e:00.00",
            ":2e:00.0",
        ] {
            assert_eq!(text.parse::<Address>(), Err(ParseError::Address(text.to_owned())), "{text:?}");
        }
        for text in
            ["", ":", "10ee", "10ee:", "10ee:701", "10ee:70111", "10ee:+701", "10ee:7011:0", "xyzw:0000"]
        {
            assert_eq!(text.parse::<Id>(), Err(ParseError::Id(text.to_owned())), "{text:?}");
        }
    }

    #[test]
    fn the_error_shows_how_to_write_it() {
        let error = "nonsense".parse::<Address>().unwrap_err().to_string();
        assert!(error.contains("\"nonsense\"") && error.contains("0000:2e:00.0"), "{error}");
    }

    proptest! {
        #[test]
        fn an_address_survives_the_round_trip(domain: u32, bus: u8, device in 0u8..32, function in 0u8..8) {
            let address = Address::new(domain, bus, device, function).unwrap();
            prop_assert_eq!(address.to_string().parse(), Ok(address));
        }

        #[test]
        fn an_id_survives_the_round_trip(vendor: u16, device: u16) {
            let id = Id { vendor, device };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn no_text_panics(text in "[0-9a-f:.+ é]{0,16}") {
            let _ = text.parse::<Address>();
            let _ = text.parse::<Id>();
        }
    }
}
