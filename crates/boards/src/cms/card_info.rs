//! What a card says of itself (PG348, "CMS_OP_CARD_INFO_REQ"): items of a key, a length and so many bytes.

use serde::Serialize;
use std::fmt;

/// A card as its satellite controller knows it. What it does not say is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CardInfo {
    /// Its name: `ALVEO U200 PQ`.
    pub name: Option<String>,
    /// Its revision.
    pub revision: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
    /// Its Ethernet addresses.
    pub mac_addresses: Vec<MacAddress>,
    /// The version of the satellite controller's firmware.
    pub controller_version: Option<String>,
    /// The power that its slot and cables give it, in watts.
    pub power_watts: Option<u16>,
    /// Whether it has a fan.
    pub has_fan: Option<bool>,
    /// What its network cages are, each by its number from 0.
    pub cages: Vec<Cage>,
}

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacAddress(pub [u8; 6]);

/// Writes `00:0a:35:0e:24:a0`.
impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Serialize for MacAddress {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A network cage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cage {
    /// Which one, from 0.
    pub number: u8,
    /// What fits into it.
    pub kind: CageKind,
}

/// What fits into a cage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CageKind {
    /// A QSFP, QSFP+ or QSFP28.
    Qsfp,
    /// A DSFP.
    Dsfp,
    /// An SFP or SFP+.
    Sfp,
    /// Something that is not known here.
    Unknown,
}

impl CardInfo {
    /// Decodes the payload of an answer. Items that are not known are passed over, and one that is cut off ends it.
    #[must_use]
    pub fn decode(mut bytes: &[u8]) -> Self {
        let mut info = Self::default();
        while let [key, length, rest @ ..] = bytes {
            let Some((value, rest)) = rest.split_at_checked(usize::from(*length)) else { break };
            info.take(*key, value);
            bytes = rest;
        }
        info
    }

    fn take(&mut self, key: u8, value: &[u8]) {
        match key {
            0x21 => self.serial = text(value),
            0x22..=0x25 => {
                let address = text(value).and_then(|text| mac(&text));
                // A card with fewer has all-ones in the rest.
                let real = |own: &MacAddress| own.0 != [0xff; 6] && own.0 != [0; 6];
                self.mac_addresses.extend(address.filter(real));
            }
            0x26 => self.revision = text(value),
            0x27 => self.name = text(value),
            0x28 => self.controller_version = text(value),
            0x29 => {
                self.power_watts = match value {
                    [0] => Some(75),
                    [1] => Some(150),
                    [2] => Some(225),
                    [3] => Some(300),
                    _ => None,
                }
            }
            0x2a => self.has_fan = value.first().map(|letter| *letter == b'P'),
            0x4b => {
                if let [count, _, base @ ..] = value
                    && let Ok(base) = <[u8; 6]>::try_from(base)
                {
                    self.mac_addresses.extend(following(base, *count));
                }
            }
            0x50..=0x53 => {
                let kind = match value {
                    [0] => CageKind::Qsfp,
                    [1] => CageKind::Dsfp,
                    [2] => CageKind::Sfp,
                    _ => CageKind::Unknown,
                };
                self.cages.push(Cage { number: key - 0x50, kind });
            }
            _ => {}
        }
    }
}

/// Printable text up to its end or a zero; nothing if there is none.
fn text(value: &[u8]) -> Option<String> {
    let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
    let text: String =
        text.iter().filter(|byte| (0x20..0x7f).contains(*byte)).map(|byte| char::from(*byte)).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn mac(text: &str) -> Option<MacAddress> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(MacAddress(bytes))
}

/// `count` addresses from `base` on.
fn following(base: [u8; 6], count: u8) -> impl Iterator<Item = MacAddress> {
    let [a, b, c, d, e, f] = base;
    let first = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    (0..u64::from(count)).map(move |index| {
        let [_, _, a, b, c, d, e, f] = first.wrapping_add(index).to_be_bytes();
        MacAddress([a, b, c, d, e, f])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn item(key: u8, value: &[u8]) -> Vec<u8> {
        [&[key, u8::try_from(value.len()).unwrap()], value].concat()
    }

    #[test]
    fn items_are_taken_by_their_keys() {
        let bytes = [
            item(0x27, b"ALVEO U200 PQ\0"),
            item(0x99, b"who knows"),
            item(0x21, b"21290594R00A"),
            item(0x22, b"00:0A:35:0E:24:A0\0"),
            item(0x23, b"FF:FF:FF:FF:FF:FF\0"),
            item(0x29, &[2]),
            item(0x2a, b"P"),
            item(0x51, &[0]),
            item(0x52, &[9]),
        ];
        let info = CardInfo::decode(&bytes.concat());
        assert_eq!(
            (info.name.as_deref(), info.serial.as_deref()),
            (Some("ALVEO U200 PQ"), Some("21290594R00A"))
        );
        assert_eq!(
            info.mac_addresses.iter().map(MacAddress::to_string).collect::<Vec<_>>(),
            ["00:0a:35:0e:24:a0"]
        );
        assert_eq!((info.power_watts, info.has_fan, info.revision), (Some(225), Some(true), None));
        let cages = [(1, CageKind::Qsfp), (2, CageKind::Unknown)].map(|(number, kind)| Cage { number, kind });
        assert_eq!(info.cages, cages);
    }

    #[test]
    fn a_block_of_addresses_is_counted_on() {
        let info = CardInfo::decode(&item(0x4b, &[3, 0, 0x00, 0x0a, 0x35, 0x00, 0x00, 0xff]));
        let written: Vec<String> = info.mac_addresses.iter().map(MacAddress::to_string).collect();
        assert_eq!(written, ["00:0a:35:00:00:ff", "00:0a:35:00:01:00", "00:0a:35:00:01:01"]);
    }

    #[test]
    fn what_is_cut_off_is_not_taken() {
        assert_eq!(CardInfo::decode(&[0x27, 20, b'A']), CardInfo::default());
        assert_eq!(CardInfo::decode(&[0x27]), CardInfo::default());
    }

    proptest! {
        #[test]
        fn any_bytes_decode(bytes: Vec<u8>) {
            let info = CardInfo::decode(&bytes);
            prop_assert!(info.cages.len() * 2 <= bytes.len());
        }
    }
}
