//! Who a card is, and what BARs it has.

use crate::error::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Who a card is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Where it was found: a PCI address as `0000:2e:00.0`, or a board's socket as `vfio-user:/run/…`.
    pub address: String,
    /// PCI vendor id.
    pub vendor: u16,
    /// PCI device id.
    pub device: u16,
    /// PCI subsystem vendor id.
    pub subsystem_vendor: u16,
    /// PCI subsystem device id.
    pub subsystem_device: u16,
    /// PCI revision id.
    pub revision: u8,
    /// PCI class code: base class, sub-class and programming interface, as `0x050000`.
    pub class: u32,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:04x}:{:04x})", self.address, self.vendor, self.device)
    }
}

impl Identity {
    /// Whether `selector` means this card: its address, `vendor:device` in hexadecimal, or `*`.
    #[must_use]
    pub fn matches(&self, selector: &str) -> bool {
        selector == "*"
            || selector == self.address
            || self.address.strip_prefix("vfio-user:") == Some(selector)
            || self.address.strip_prefix("0000:") == Some(selector)
            || selector.eq_ignore_ascii_case(&format!("{:04x}:{:04x}", self.vendor, self.device))
    }
}

/// A BAR as the transport describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct BarInfo {
    /// Size in bytes; 0 if it is not there.
    pub size: u64,
    /// Whether all of it can be mapped, so that an access is one instruction.
    pub mappable: bool,
}

/// The BAR at `index` of `bars`, or an error that lists those that are there.
pub(crate) fn existing_bar(bars: &[BarInfo; 6], index: usize, card: &Identity) -> Result<BarInfo> {
    match bars.get(index) {
        Some(bar) if bar.size > 0 => Ok(*bar),
        _ => {
            let there: Vec<String> =
                (0..bars.len()).filter(|&i| bars[i].size > 0).map(|i| i.to_string()).collect();
            Err(Error::new(
                ErrorKind::NotFound,
                format!("card {card} has no BAR {index}; it has BAR {}", there.join(", ")),
            ))
        }
    }
}
