//! What the capabilities in configuration space say, in words.

use super::config::{Capability, named, read16, read32};
use jitney_pci::capability::{self, ExtendedCapability};
use jitney_pci::{SerialNumber, express, msi, msix, power};

/// A capability of the first 256 bytes.
pub(super) fn ordinary(config: &[u8], own: capability::Capability) -> Capability {
    let at = own.offset;
    let (name, says) = match own.id {
        capability::POWER => ("power management", power_says(config, at)),
        capability::MSI => ("MSI", msi_says(config, at)),
        capability::MSIX => ("MSI-X", msix_says(config, at)),
        capability::EXPRESS => ("PCI Express", express_says(config, at)),
        0x03 => ("vital product data", Vec::new()),
        0x09 => ("vendor specific", Vec::new()),
        _ => ("unknown", Vec::new()),
    };
    Capability { offset: at, id: own.id.into(), is_extended: false, name, says }
}

fn power_says(config: &[u8], at: u16) -> Vec<String> {
    let control = power::PowerControl::from(read16(config, at + power::CONTROL));
    let mut says = vec![format!("in D{}", control.state())];
    if control.no_soft_reset() {
        says.push("keeps its state from D3hot to D0".to_owned());
    }
    says
}

fn msi_says(config: &[u8], at: u16) -> Vec<String> {
    let control = msi::MsiControl::from(read16(config, at + msi::CONTROL));
    let on = if control.enable() { "enabled" } else { "disabled" };
    let width = if control.wide() { "64" } else { "32" };
    let mut says = vec![
        on.to_owned(),
        format!("{} of {} messages", 1 << control.enabled_log2().min(5), 1 << control.capable_log2().min(5)),
        format!("addresses of {width} bits"),
    ];
    if control.maskable() {
        says.push("each can be masked".to_owned());
    }
    says
}

fn msix_says(config: &[u8], at: u16) -> Vec<String> {
    let control = msix::MsixControl::from(read16(config, at + msix::CONTROL));
    let place = |offset| {
        let own = msix::MsixPointer::from(read32(config, at + offset));
        format!("BAR {} at {:#x}", own.bar(), own.offset())
    };
    let on = if control.enable() { "enabled" } else { "disabled" };
    let mut says = vec![
        on.to_owned(),
        format!("{} vectors", control.vectors()),
        format!("table in {}", place(msix::TABLE)),
        format!("pending bits in {}", place(msix::PENDING)),
    ];
    if control.function_mask() {
        says.push("all masked".to_owned());
    }
    says
}

fn express_says(config: &[u8], at: u16) -> Vec<String> {
    let own = express::ExpressCapabilities::from(read16(config, at + express::CAPABILITIES));
    let can = express::DeviceCapabilities::from(read32(config, at + express::DEVICE_CAPABILITIES));
    let control = express::DeviceControl::from(read16(config, at + express::DEVICE_CONTROL));
    let status = express::DeviceStatus::from(read16(config, at + express::DEVICE_STATUS));
    let best = express::LinkCapabilities::from(read32(config, at + express::LINK_CAPABILITIES)).link();
    let now = express::LinkStatus::from(read16(config, at + express::LINK_STATUS)).link();
    let bytes = |code: u8| 128_u32 << code.min(5);
    let mut says = vec![
        format!("version {}", own.version()),
        format!("link {now} of {best}"),
        format!("payload {} of {} bytes", bytes(control.max_payload()), bytes(can.max_payload())),
        format!("read requests of {} bytes", bytes(control.max_read_request())),
    ];
    let errors = named([
        (status.correctable(), "correctable error seen"),
        (status.non_fatal(), "non-fatal error seen"),
        (status.fatal(), "fatal error seen"),
        (status.unsupported(), "unsupported request seen"),
        (status.transactions_pending(), "transactions pending"),
        (can.function_level_reset(), "function-level reset"),
    ]);
    says.extend(errors.into_iter().map(str::to_owned));
    says
}

/// A capability behind the first 256 bytes.
pub(super) fn beyond(config: &[u8], own: ExtendedCapability) -> Capability {
    let name = match own.id {
        0x0001 => "advanced error reporting",
        0x0002 => "virtual channel",
        capability::SERIAL_NUMBER => "device serial number",
        0x0004 => "power budgeting",
        0x000b => "vendor specific",
        0x000d => "access control services",
        0x000e => "alternative routing",
        0x000f => "address translation services",
        0x0010 => "single root I/O virtualization",
        0x0015 => "resizable BAR",
        0x0017 => "transaction hints",
        0x0018 => "latency tolerance",
        0x0019 => "secondary PCI Express",
        0x001e => "L1 substates",
        0x0025 => "data link features",
        0x0026 => "16 GT/s",
        0x0027 => "lane margining",
        _ => "unknown",
    };
    let says = if own.id == capability::SERIAL_NUMBER {
        let Ok(number) = SerialNumber::read_at(config, own.offset);
        vec![number.to_string()]
    } else {
        Vec::new()
    };
    Capability { offset: own.offset, id: own.id, is_extended: true, name, says }
}
