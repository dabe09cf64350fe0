//! Configuration space in words: header, BARs and capabilities, and all of it in hexadecimal.

use jitney_pci::capability::{self, ExtendedCapability};
use jitney_pci::config::{ConfigRead, EXTENDED_SIZE};
use jitney_pci::{bar, express, header, msi, msix, power};
use jitney_vfio::Region;
use schemars::JsonSchema;
use serde::Serialize;
use std::convert::Infallible;

/// Configuration space.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ConfigFacts {
    /// How many bytes of it there are.
    pub(super) size: usize,
    /// The bits of the command register that are set.
    pub(super) command: Vec<&'static str>,
    /// The bits of the status register that are set.
    pub(super) status: Vec<&'static str>,
    /// Which pin interrupts: 0 for none, 1 to 4 for INTA to INTD.
    pub(super) interrupt_pin: u8,
    pub(super) bars: Vec<ConfigBar>,
    pub(super) capabilities: Vec<Capability>,
    /// Why the list of capabilities ends early, if it does.
    pub(super) malformed: Option<String>,
    /// All of its bytes.
    pub(super) bytes: Vec<u8>,
}

/// A BAR as configuration space has it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ConfigBar {
    pub(super) index: usize,
    /// `io`, or `memory`.
    pub(super) kind: &'static str,
    pub(super) is_64bit: bool,
    pub(super) prefetchable: bool,
    pub(super) address: u64,
}

/// A capability.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Capability {
    pub(super) offset: u16,
    pub(super) id: u16,
    pub(super) is_extended: bool,
    pub(super) name: &'static str,
    /// What it says, each a few words.
    pub(super) says: Vec<String>,
}

/// What a card says of its link and of its interrupts.
#[derive(Debug, Default)]
pub(super) struct Essentials {
    /// What the link runs at, and what it could.
    pub(super) link: Option<[express::Link; 2]>,
    pub(super) msix: Option<u16>,
    pub(super) msi: Option<u16>,
    pub(super) line: bool,
    /// How it interrupts now.
    pub(super) enabled: Option<&'static str>,
}

/// All that there is of `region`, in words of 32 bits.
pub(super) fn read(region: &Region) -> jitney_vfio::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // No more than PCIe has, whoever says so.
    let size = region.size().min(EXTENDED_SIZE.into()) / 4 * 4;
    for offset in (0..size).step_by(4) {
        bytes.extend(region.read32(offset)?.to_le_bytes());
    }
    Ok(bytes)
}

/// A value of what is in memory already.
fn read16(config: &[u8], offset: u16) -> u16 {
    let Ok(value) = <[u8] as ConfigRead>::read16(config, offset);
    value
}

fn read32(config: &[u8], offset: u16) -> u32 {
    let Ok(value) = <[u8] as ConfigRead>::read32(config, offset);
    value
}

fn read8(config: &[u8], offset: u16) -> u8 {
    let Ok(value) = <[u8] as ConfigRead>::read8(config, offset);
    value
}

impl Essentials {
    pub(super) fn decode(config: &[u8]) -> Self {
        let mut found = Self { line: read8(config, header::INTERRUPT_PIN) != 0, ..Self::default() };
        let command = header::Command::from(read16(config, header::COMMAND));
        if found.line && !command.interrupt_disable() {
            found.enabled = Some("line");
        }
        // A list that is malformed is told where configuration space is asked for.
        for own in capability::list(config).unwrap_or_default() {
            match own.id {
                capability::MSI => {
                    let control = msi::MsiControl::from(read16(config, own.offset + msi::CONTROL));
                    found.msi = Some(1 << control.capable_log2().min(5));
                    found.enabled = if control.enable() { Some("msi") } else { found.enabled };
                }
                capability::MSIX => {
                    let control = msix::MsixControl::from(read16(config, own.offset + msix::CONTROL));
                    found.msix = Some(control.vectors());
                    found.enabled = if control.enable() { Some("msi-x") } else { found.enabled };
                }
                capability::EXPRESS => {
                    let best = express::LinkCapabilities::from(read32(
                        config,
                        own.offset + express::LINK_CAPABILITIES,
                    ));
                    let now = express::LinkStatus::from(read16(config, own.offset + express::LINK_STATUS));
                    found.link = Some([now.link(), best.link()]);
                }
                _ => {}
            }
        }
        found
    }
}

impl ConfigFacts {
    pub(super) fn decode(bytes: Vec<u8>) -> Self {
        let config = &bytes[..];
        let (list, malformed) = match capability::list(config) {
            Ok(list) => (list, None),
            Err(error) => (Vec::new(), Some(words(error))),
        };
        let (extended, malformed_extended) = match capability::list_extended(config) {
            Ok(list) if bytes.len() > usize::from(capability::EXTENDED_START) => (list, None),
            Ok(_) => (Vec::new(), None),
            Err(error) => (Vec::new(), Some(words(error))),
        };
        let list = list.into_iter().map(|own| ordinary(config, own));
        let extended = extended.into_iter().map(|own| beyond(config, own));
        let mut words = [0; bar::COUNT];
        for (index, word) in (0..).zip(&mut words) {
            *word = read32(config, bar::offset(index));
        }
        let bars = bar::decode(&words).into_iter().filter(|own| words[own.index] != 0).map(|own| {
            let (kind, is_64bit, prefetchable) = match own.kind {
                bar::BarKind::Io => ("io", false, false),
                bar::BarKind::Memory { wide, prefetchable } => ("memory", wide, prefetchable),
            };
            ConfigBar { index: own.index, kind, is_64bit, prefetchable, address: own.address }
        });
        Self {
            size: bytes.len(),
            command: command(header::Command::from(read16(config, header::COMMAND))),
            status: status(header::Status::from(read16(config, header::STATUS))),
            interrupt_pin: read8(config, header::INTERRUPT_PIN),
            bars: bars.collect(),
            capabilities: list.chain(extended).collect(),
            malformed: malformed.or(malformed_extended),
            bytes,
        }
    }

    /// It in lines, each below what it belongs to.
    pub(super) fn lines(&self) -> Vec<String> {
        let some = |words: &[&str]| if words.is_empty() { "nothing".to_owned() } else { words.join(", ") };
        let mut lines = vec![
            format!("configuration space, {} bytes:", self.size),
            format!("  command: {}", some(&self.command)),
            format!("  status: {}", some(&self.status)),
        ];
        for own in &self.bars {
            let width = if own.is_64bit { "64" } else { "32" };
            let how = if own.prefetchable { ", prefetchable" } else { "" };
            lines.push(format!(
                "  BAR {}: {} of {width} bits at {:#x}{how}",
                own.index, own.kind, own.address
            ));
        }
        for own in &self.capabilities {
            let says = if own.says.is_empty() { String::new() } else { format!(": {}", own.says.join(", ")) };
            lines.push(format!("  {:#05x} {} (id {:#04x}){says}", own.offset, own.name, own.id));
        }
        lines.extend(self.malformed.as_ref().map(|why| format!("  {why}")));
        lines.extend(hex(&self.bytes));
        lines
    }
}

fn words(error: capability::CapabilityError<Infallible>) -> String {
    error.to_string()
}

fn named<const N: usize>(bits: [(bool, &'static str); N]) -> Vec<&'static str> {
    bits.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect()
}

fn command(own: header::Command) -> Vec<&'static str> {
    named([
        (own.io_space(), "io space"),
        (own.memory_space(), "memory space"),
        (own.bus_master(), "bus master"),
        (own.parity_error_response(), "parity error response"),
        (own.serr(), "error reporting"),
        (own.interrupt_disable(), "interrupt line disabled"),
    ])
}

fn status(own: header::Status) -> Vec<&'static str> {
    named([
        (own.interrupt(), "interrupt"),
        (own.capabilities_list(), "capabilities"),
        (own.master_data_parity_error(), "master data parity error"),
        (own.signaled_target_abort(), "signaled target abort"),
        (own.received_target_abort(), "received target abort"),
        (own.received_master_abort(), "received master abort"),
        (own.signaled_system_error(), "signaled system error"),
        (own.detected_parity_error(), "detected parity error"),
    ])
}

/// A capability of the first 256 bytes.
fn ordinary(config: &[u8], own: capability::Capability) -> Capability {
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
fn beyond(config: &[u8], own: ExtendedCapability) -> Capability {
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
        let (low, high) = (read32(config, own.offset + 4), read32(config, own.offset + 8));
        let [a, b, c, d] = high.to_be_bytes();
        let [e, f, g, h] = low.to_be_bytes();
        let bytes = [a, b, c, d, e, f, g, h].map(|byte| format!("{byte:02x}"));
        vec![bytes.join("-")]
    } else {
        Vec::new()
    };
    Capability { offset: own.offset, id: own.id, is_extended: true, name, says }
}

/// As `lspci -xxxx` prints it, but for lines of zeros, of which the first of several stands for all.
fn hex(bytes: &[u8]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut zeros = 0;
    for (offset, line) in (0..).step_by(16).zip(bytes.chunks(16)) {
        zeros = if line.iter().all(|byte| *byte == 0) { zeros + 1 } else { 0 };
        match zeros {
            0 | 1 => {
                let words: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
                lines.push(format!("  {offset:03x}: {}", words.join(" ")));
            }
            2 => lines.push("  *".to_owned()),
            _ => {}
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_not_repeated() {
        let mut bytes = vec![0; 128];
        bytes[0] = 0xee;
        bytes[127] = 1;
        let lines = hex(&bytes);
        assert_eq!(lines.len(), 4);
        assert!(lines[0].starts_with("  000: ee 00") && lines[2] == "  *" && lines[3].starts_with("  070: "));
    }

    #[test]
    fn a_card_that_has_gone_is_no_panic() {
        let facts = ConfigFacts::decode(vec![0xff; 4096]);
        assert!(facts.malformed.unwrap().contains("all-ones"));
        assert!(Essentials::decode(&[0xff; 256]).link.is_none());
        assert!(ConfigFacts::decode(Vec::new()).capabilities.is_empty());
    }
}
