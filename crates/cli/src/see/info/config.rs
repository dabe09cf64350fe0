//! Configuration space in words: header, BARs and capabilities, and all of it in hexadecimal.

use super::capabilities::{beyond, ordinary};
use jitney_pci::capability;
use jitney_pci::config::{ConfigRead, EXTENDED_SIZE};
use jitney_pci::{bar, express, header, msi, msix};
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
pub(super) fn read16(config: &[u8], offset: u16) -> u16 {
    let Ok(value) = <[u8] as ConfigRead>::read16(config, offset);
    value
}

pub(super) fn read32(config: &[u8], offset: u16) -> u32 {
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

pub(super) fn named<const N: usize>(bits: [(bool, &'static str); N]) -> Vec<&'static str> {
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
