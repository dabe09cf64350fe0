//! PCI ids: those of a card, and patterns of them as `lspci` writes them, with a wildcard.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What configuration space says a card is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CardIds {
    /// The vendor id.
    pub vendor: u16,
    /// The device id.
    pub device: u16,
    /// The subsystem's vendor id.
    pub subsystem_vendor: u16,
    /// The subsystem's device id.
    pub subsystem_device: u16,
    /// The revision id.
    pub revision: u8,
}

/// A vendor id with a device id or with any: `10ee:7011`, `10ee:*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdPattern {
    /// The vendor id.
    pub vendor: u16,
    /// The device id; `None` stands for any.
    pub device: Option<u16>,
}

impl IdPattern {
    /// Whether a card with these ids is meant.
    #[must_use]
    pub fn matches(self, vendor: u16, device: u16) -> bool {
        self.vendor == vendor && self.device.is_none_or(|own| own == device)
    }

    /// Whether some card is meant by both.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        let same_device = match (self.device, other.device) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        self.vendor == other.vendor && same_device
    }
}

impl fmt::Display for IdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.device {
            Some(device) => write!(f, "{:04x}:{device:04x}", self.vendor),
            None => write!(f, "{:04x}:*", self.vendor),
        }
    }
}

impl FromStr for IdPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (vendor, device) = text.split_once(':')?;
            let device = if device == "*" { None } else { Some(hex16(device)?) };
            Some(Self { vendor: hex16(vendor)?, device })
        };
        parse().ok_or_else(|| {
            format!("{text:?} is no pair of ids; write four hexadecimal digits each, as \"10ee:7011\" or \"10ee:*\"")
        })
    }
}

/// Exactly four hexadecimal digits: `0x10ee` and `10` are more likely slips than ids.
fn hex16(text: &str) -> Option<u16> {
    let digits = text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u16::from_str_radix(text, 16).ok()).flatten()
}

impl TryFrom<String> for IdPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<IdPattern> for String {
    fn from(ids: IdPattern) -> Self {
        ids.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_lspci_writes_them() {
        let exact: IdPattern = "10EE:7011".parse().unwrap();
        assert_eq!(exact, IdPattern { vendor: 0x10ee, device: Some(0x7011) });
        assert_eq!(exact.to_string(), "10ee:7011");
        let any: IdPattern = "10ee:*".parse().unwrap();
        assert!(any.matches(0x10ee, 0x7024) && !any.matches(0x10ef, 0x7024));
        assert!(any.overlaps(exact) && exact.overlaps(any));
        assert!(!exact.overlaps("10ee:7024".parse().unwrap()));
        assert!(!any.overlaps("10ef:*".parse().unwrap()));
    }

    #[test]
    fn slips_are_refused() {
        for slip in
            ["", ":", "10ee", "10ee:", "*:7011", "0x10ee:7011", "10ee:70112", "+0ee:7011", "10ee:7011:0"]
        {
            assert!(slip.parse::<IdPattern>().is_err(), "{slip:?}");
        }
    }
}
