//! A device on a bus, and where in it, as it was named.

use crate::size;
use jitney_boards::designs::I2cDevice;
use std::str::FromStr;

/// An address of 7 bits that a device can have: `0x50`, `80`.
pub(crate) fn address(text: &str) -> Result<u8, String> {
    let number = size::parse_word(text)?;
    let address = u8::try_from(number).ok().filter(|address| I2cDevice::is_address(*address));
    address.ok_or_else(|| {
        format!(
            "{text} is no address of a device: they have 7 bits and go from 0x08 to 0x77; the others are reserved. \
             Data sheets that count the bit for reading give the double"
        )
    })
}

/// `0x50`, `0x50:0x10`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) address: u8,
    pub(crate) register: Option<u16>,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (device, register) = match text.split_once(':') {
            Some((device, register)) => (device, Some(register)),
            None => (text, None),
        };
        let register = register.map(|text| {
            let number = size::parse_word(text)?;
            u16::try_from(number)
                .map_err(|_| format!("{text} is no register of a device: they go up to 0xffff"))
        });
        Ok(Self { address: address(device)?, register: register.transpose()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_and_maybe_a_register() {
        let place = |text: &str| text.parse::<Place>();
        assert_eq!(place("0x50"), Ok(Place { address: 0x50, register: None }));
        assert_eq!(place("80:0x10"), Ok(Place { address: 0x50, register: Some(0x10) }));
        for text in ["", "0x78", "0x07", "0xa0", "x", "0x50:", "0x50:x", "0x50:0x10000", "-1"] {
            assert!(place(text).is_err(), "{text}");
        }
    }
}
