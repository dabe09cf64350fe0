//! What else is in a card's IOMMU group.

use crate::root::Root;
use jitney_pci::Address;
use jitney_vfio::sysfs::{PciFunction, Sysfs};

/// The sysfs of the machine.
pub(crate) fn sysfs(root: &Root) -> Sysfs {
    Sysfs::new(root.path("sys"))
}

/// The functions of `group`, other than the card, whose drivers keep VFIO from using the group.
pub(crate) fn in_the_way(root: &Root, group: u32, card: Address) -> jitney_vfio::Result<Vec<PciFunction>> {
    let mut blockers = sysfs(root).blockers(group)?;
    blockers.retain(|function| function.address != card);
    Ok(blockers)
}

/// A function in a few words, for people: where it sits, what sort of device it is, and its driver.
pub(crate) fn describe(function: &PciFunction) -> String {
    let driver = function.driver.as_ref().map_or("no driver".to_owned(), |driver| format!("driver {driver}"));
    format!("{} ({}, {driver})", function.address, sort(function.class))
}

/// The base classes that a group is likely to have; PCI Code and ID Assignment Specification, section 1.
const fn sort(class: u32) -> &'static str {
    match class >> 16 {
        0x01 => "disk controller",
        0x02 => "network interface",
        0x03 => "graphics",
        0x04 => "audio or video",
        0x05 => "memory controller",
        0x06 => "bridge",
        0x07 => "serial port",
        0x0c => "USB or another bus",
        0x12 => "accelerator",
        _ => "device",
    }
}
