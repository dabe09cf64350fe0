//! Do the card and its port carry data in packets as large as both can, and may the card have many reads under way?
//!
//! A card that is configured anew while the machine runs comes back with the smallest values; the kernel sets them only when it
//! finds a card.

use super::boot_line;
use super::machine::Machine;
use super::report::Check;
use crate::express::{self, Unseen};
use crate::kernel::ThisKernel;
use jitney_pci::express::{
    DEVICE_CAPABILITIES, DEVICE_CONTROL, DeviceCapabilities, DeviceControl, packet_bytes,
};
use jitney_pci::{Address, ConfigRead};

const NAME: &str = "PCIe settings";
const PAYLOAD: &str = "payload";
const READS: &str = "read requests";
const TAGS: &str = "tags";

/// Read requests of this size are what cards have after a reset, and what a fetch of 16 descriptors takes.
const ENOUGH: u32 = 512;

pub(super) fn check(machine: &Machine<'_>, card: Address) -> Vec<Check> {
    let own = match Settings::of(machine, card) {
        Ok(settings) => settings,
        Err(why) => return vec![Check::unknown(NAME, why).of(card)],
    };
    let checks = [payload(machine, card, own), reads(card, own), tags(card, own)];
    checks.map(|check| check.of(card)).into()
}

/// What a function can do and what it was told to.
#[derive(Debug, Clone, Copy)]
struct Settings {
    can: DeviceCapabilities,
    does: DeviceControl,
}

impl Settings {
    /// Those of a card or a port; or why they cannot be seen.
    fn of(machine: &Machine<'_>, function: Address) -> Result<Self, String> {
        let (bytes, at) =
            express::config(&ThisKernel, machine.root, function).map_err(|unseen| match unseen {
                Unseen::OnlyHeader { .. } => format!("{unseen}: sudo jitney doctor {function}"),
                other => other.to_string(),
            })?;
        let config = bytes.as_slice();
        let Ok(can) = config.read32(at + DEVICE_CAPABILITIES);
        let Ok(does) = config.read16(at + DEVICE_CONTROL);
        Ok(Self { can: can.into(), does: does.into() })
    }

    fn payload(self) -> u32 {
        packet_bytes(self.does.max_payload())
    }

    fn largest_payload(self) -> u32 {
        packet_bytes(self.can.max_payload())
    }
}

fn payload(machine: &Machine<'_>, card: Address, own: Settings) -> Check {
    let (now, can) = (own.payload(), own.largest_payload());
    let Some(above) = express::port(machine.root, card) else {
        return Check::good(PAYLOAD, format!("{now} bytes, the card can {can}; there is no port above it"));
    };
    let port = match Settings::of(machine, above) {
        Ok(port) => port,
        Err(why) => {
            return Check::unknown(PAYLOAD, format!("{now} bytes, the card can {can}; of its port: {why}"));
        }
    };
    let theirs = port.payload();
    if now != theirs {
        return Check::missing(
            PAYLOAD,
            format!(
                "{now} bytes, its port {above} has {theirs}: one sends packets that are too large for the other, which drops \
                 them"
            ),
            found_anew(card),
        );
    }
    let both = can.min(port.largest_payload());
    if now < both {
        return Check::warning(
            PAYLOAD,
            format!("{now} bytes, card and port {above} can {both}; transfers are slower than they could be"),
            boot_line::add(machine.root, "pci=pcie_bus_safe"),
        );
    }
    Check::good(PAYLOAD, format!("{now} bytes, all that card and port {above} can"))
}

fn reads(card: Address, own: Settings) -> Check {
    let size = packet_bytes(own.does.max_read_request());
    if size < ENOUGH {
        return Check::warning(
            READS,
            format!("{size} bytes at most; the card reads memory slower than it could"),
            format!("sudo setpci -s {card} CAP_EXP+8.w=2000:7000 (that is {ENOUGH} bytes)"),
        );
    }
    Check::good(READS, format!("{size} bytes at most"))
}

fn tags(card: Address, own: Settings) -> Check {
    match (own.can.extended_tag(), own.does.extended_tag()) {
        (_, true) => Check::good(TAGS, "8 bits, 256 reads under way"),
        (false, false) => Check::good(TAGS, "5 bits, 32 reads under way; the card's design can no more"),
        (true, false) => Check::warning(
            TAGS,
            "5 bits, 32 reads under way; the card can 8 bits, which count on long ways and fast links",
            format!(
                "{}; if that changes nothing, a port on the way has no more, and it stays so",
                found_anew(card)
            ),
        ),
    }
}

/// The commands that have the kernel set up a card once more.
fn found_anew(card: Address) -> String {
    format!(
        "when nobody uses the card: echo 1 | sudo tee /sys/bus/pci/devices/{card}/remove, then: echo 1 | sudo tee \
         /sys/bus/pci/rescan; and bind it again"
    )
}
