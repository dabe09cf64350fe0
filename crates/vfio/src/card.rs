//! The seam under the drivers: a card as a driver needs it.

use crate::dma::{DmaBuffer, DmaRequest};
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Interrupt;
use crate::lease::{Lease, LeaseRequest};
use crate::region::Region;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A card as a driver needs it: who it is, its BARs, memory to share with it, interrupts, leases and reset.
///
/// Three things implement it: the owner's card ([`OwnedCard`](crate::OwnedCard)), a broker client's card, and the
/// in-process [`FakeCard`](crate::FakeCard). A driver that takes `Arc<dyn Card>` therefore runs alone, under a broker,
/// and in a unit test.
pub trait Card: fmt::Debug + Send + Sync {
    /// Who the card is.
    fn identity(&self) -> &Identity;

    /// Its six BARs in order; one that is not there has size 0, as has the upper half of a 64-bit BAR.
    fn bars(&self) -> &[BarInfo; 6];

    /// Access to BAR `index`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such BAR, with a list of those that are there.
    fn bar(&self, index: usize) -> Result<Region>;

    /// Access to PCI configuration space.
    fn config(&self) -> Result<Region>;

    /// Memory that this process and every card of the address space see.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a size of zero, [`ErrorKind::Exhausted`] when memory, huge pages or IOVA space are
    /// not there.
    fn dma_buffer(&self, request: DmaRequest) -> Result<DmaBuffer>;

    /// A right on a named part of the card, until the lease is dropped or its holder is gone.
    ///
    /// # Errors
    /// [`ErrorKind::Held`] if somebody has a right that excludes this one; the message names who.
    fn lease(&self, request: LeaseRequest) -> Result<Lease>;

    /// Interrupt `vector`, delivered to this process. Takes an exclusive lease on it.
    fn interrupt(&self, vector: u16) -> Result<Interrupt>;

    /// Resets the card. Takes an exclusive lease on the whole card for as long as it lasts, so it is refused while
    /// anybody else uses a part of it.
    fn reset(&self) -> Result<()>;
}

/// Who a card is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
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
