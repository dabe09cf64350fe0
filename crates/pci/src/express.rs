//! The PCI Express capability of an endpoint, and of the port above it (PCIe 5.0, section 7.5.3).

use crate::capability;
use crate::config::ConfigRead;
use bitfield_struct::bitfield;
use std::fmt;
use std::str::FromStr;

/// [`ExpressCapabilities`], 16 bits.
pub const CAPABILITIES: u16 = 0x02;
/// [`DeviceCapabilities`], 32 bits.
pub const DEVICE_CAPABILITIES: u16 = 0x04;
/// [`DeviceControl`], 16 bits.
pub const DEVICE_CONTROL: u16 = 0x08;
/// [`DeviceStatus`], 16 bits.
pub const DEVICE_STATUS: u16 = 0x0a;
/// [`LinkCapabilities`], 32 bits.
pub const LINK_CAPABILITIES: u16 = 0x0c;
/// [`LinkControl`], 16 bits.
pub const LINK_CONTROL: u16 = 0x10;
/// [`LinkStatus`], 16 bits.
pub const LINK_STATUS: u16 = 0x12;
/// Device capabilities 2, 32 bits.
pub const DEVICE_CAPABILITIES_2: u16 = 0x24;
/// Device control 2, 16 bits.
pub const DEVICE_CONTROL_2: u16 = 0x28;
/// [`LinkCapabilities2`], 32 bits.
pub const LINK_CAPABILITIES_2: u16 = 0x2c;
/// [`LinkControl2`], 16 bits.
pub const LINK_CONTROL_2: u16 = 0x30;
/// Link status 2, 16 bits.
pub const LINK_STATUS_2: u16 = 0x32;
/// Bytes of the capability, version 2.
pub const SIZE: u16 = 0x3c;

/// A port of the root complex, by [`ExpressCapabilities::port_type`].
pub const ROOT_PORT: u8 = 4;
/// A port of a switch that cards are below.
pub const DOWNSTREAM_PORT: u8 = 6;

/// "PCI Express Capabilities Register".
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct ExpressCapabilities {
    /// Version of the layout: 2 since PCIe 2.0.
    #[bits(4)]
    pub version: u8,
    /// Kind of device or port: 0 for an endpoint, [`ROOT_PORT`], [`DOWNSTREAM_PORT`].
    #[bits(4)]
    pub port_type: u8,
    /// The port has a slot; ports only.
    pub slot: bool,
    /// The vector of the capability's own interrupt.
    #[bits(5)]
    pub interrupt_message: u8,
    #[bits(2)]
    __: u8,
}

/// "Device Capabilities Register".
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct DeviceCapabilities {
    /// Largest payload: 0 for 128 bytes, up to 5 for 4096.
    #[bits(3)]
    pub max_payload: u8,
    #[bits(2)]
    __: u8,
    /// Tags of 8 bits can be used.
    pub extended_tag: bool,
    #[bits(9)]
    __: u16,
    /// Error reporting as of PCIe 1.1; always set since.
    pub role_based_error_reporting: bool,
    #[bits(12)]
    __: u16,
    /// The function can be reset by [`DeviceControl::initiate_function_level_reset`].
    pub function_level_reset: bool,
    #[bits(3)]
    __: u8,
}

/// "Device Control Register".
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct DeviceControl {
    /// Report correctable errors.
    pub report_correctable: bool,
    /// Report non-fatal errors.
    pub report_non_fatal: bool,
    /// Report fatal errors.
    pub report_fatal: bool,
    /// Report unsupported requests.
    pub report_unsupported: bool,
    /// Requests may be marked for relaxed ordering.
    pub relaxed_ordering: bool,
    /// Payload in use, coded as in [`DeviceCapabilities::max_payload`].
    #[bits(3)]
    pub max_payload: u8,
    /// Tags of 8 bits may be used.
    pub extended_tag: bool,
    #[bits(2)]
    __: u8,
    /// Requests may be marked as needing no snoop.
    pub no_snoop: bool,
    /// Largest read request in use, coded as in [`DeviceCapabilities::max_payload`].
    #[bits(3)]
    pub max_read_request: u8,
    /// A written 1 resets the function, which takes up to 100 ms; reads as 0.
    pub initiate_function_level_reset: bool,
}

/// "Device Status Register". A written 1 clears the four error bits.
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct DeviceStatus {
    /// A correctable error was seen.
    pub correctable: bool,
    /// A non-fatal error was seen.
    pub non_fatal: bool,
    /// A fatal error was seen.
    pub fatal: bool,
    /// An unsupported request was seen.
    pub unsupported: bool,
    __: bool,
    /// The function has requests that were not completed yet.
    pub transactions_pending: bool,
    #[bits(10)]
    __: u16,
}

/// "Link Capabilities Register".
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct LinkCapabilities {
    /// Highest speed, see [`LinkSpeed`].
    #[bits(4)]
    pub speed: u8,
    /// Lanes.
    #[bits(6)]
    pub width: u8,
    #[bits(14)]
    __: u16,
    /// Port number.
    pub port: u8,
}

impl LinkCapabilities {
    /// The best link that the function can have.
    #[must_use]
    pub const fn link(self) -> Link {
        Link { speed: LinkSpeed(self.speed()), width: self.width() }
    }
}

/// "Link Control Register".
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct LinkControl {
    #[bits(5)]
    __: u8,
    /// A written 1 has a port train its link anew; reads as 0.
    pub retrain: bool,
    #[bits(10)]
    __: u16,
}

/// "Link Capabilities 2 Register".
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct LinkCapabilities2 {
    __: bool,
    /// Speeds that are possible, bit 0 for 2.5 GT/s; nothing where the register is older than it.
    #[bits(7)]
    pub speeds: u8,
    #[bits(24)]
    __: u32,
}

/// "Link Control 2 Register".
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct LinkControl2 {
    /// The speed that a port trains its link to at most, see [`LinkSpeed`].
    #[bits(4)]
    pub target: u8,
    #[bits(12)]
    __: u16,
}

/// "Link Status Register".
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct LinkStatus {
    /// Speed now, see [`LinkSpeed`].
    #[bits(4)]
    pub speed: u8,
    /// Lanes in use.
    #[bits(6)]
    pub width: u8,
    __: bool,
    /// A port trains its link; always 0 on a card.
    pub training: bool,
    /// Both ends use the slot's clock.
    pub slot_clock: bool,
    #[bits(3)]
    __: u8,
}

impl LinkStatus {
    /// The link that the function has now. Less than [`LinkCapabilities::link`] is worth a warning.
    #[must_use]
    pub const fn link(self) -> Link {
        Link { speed: LinkSpeed(self.speed()), width: self.width() }
    }
}

/// Speed of a link as the registers code it: 1 for 2.5 GT/s, 2 for 5, 3 for 8, 4 for 16, 5 for 32, 6 for 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkSpeed(pub u8);

impl fmt::Display for LinkSpeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("2.5 GT/s"),
            2 => f.write_str("5 GT/s"),
            3 => f.write_str("8 GT/s"),
            4 => f.write_str("16 GT/s"),
            5 => f.write_str("32 GT/s"),
            6 => f.write_str("64 GT/s"),
            code => write!(f, "unknown speed {code}"),
        }
    }
}

/// As `sysfs` writes it, `8.0 GT/s PCIe`; as generations are called, `gen3`; or as this prints it.
impl FromStr for LinkSpeed {
    type Err = UnknownSpeed;

    fn from_str(text: &str) -> Result<Self, UnknownSpeed> {
        let codes = 1..=6;
        if let Some(generation) = text.strip_prefix("gen") {
            let code = generation.parse().ok().filter(|code| codes.contains(code));
            return code.map(Self).ok_or(UnknownSpeed);
        }
        let number = text.strip_suffix(" PCIe").unwrap_or(text).strip_suffix(" GT/s").ok_or(UnknownSpeed)?;
        let number = number.strip_suffix(".0").unwrap_or(number);
        let is_it = |speed: &Self| speed.to_string().strip_suffix(" GT/s") == Some(number);
        codes.map(Self).find(is_it).ok_or(UnknownSpeed)
    }
}

/// A text that is no speed of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownSpeed;

impl fmt::Display for UnknownSpeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("speeds are gen1 (2.5 GT/s), gen2 (5), gen3 (8), gen4 (16), gen5 (32) and gen6 (64)")
    }
}

impl std::error::Error for UnknownSpeed {}

/// What one end of a link says of it and of the packets that it sends: a card, or the port above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkEnd {
    /// What kind of function it is, by [`ExpressCapabilities::port_type`].
    pub port_type: u8,
    /// What the link runs at.
    pub now: Link,
    /// The best that this end can.
    pub best: Link,
    /// The speeds that it can, bit 0 for 2.5 GT/s.
    speeds: u8,
    /// The speed that a port trains the link to at most.
    pub target: LinkSpeed,
    /// Bytes of data that its packets have at most.
    pub payload: u32,
    /// Bytes of data that they could have.
    pub largest_payload: u32,
    /// Bytes that a read request of it asks for at most.
    pub read_request: u32,
}

impl LinkEnd {
    /// What is at `at` in a copy of configuration space, where the capability is.
    #[must_use]
    pub fn at(config: &[u8], at: u16) -> Self {
        let read16 = |offset| {
            let Ok(value) = config.read16(at.saturating_add(offset));
            value
        };
        let read32 = |offset| {
            let Ok(value) = config.read32(at.saturating_add(offset));
            value
        };
        let own = ExpressCapabilities::from(read16(CAPABILITIES));
        let best = LinkCapabilities::from(read32(LINK_CAPABILITIES)).link();
        // Before version 2 of the layout these registers were not there.
        let (vector, target) = match own.version() {
            ..2 => (0, best.speed.0),
            _ => (
                LinkCapabilities2::from(read32(LINK_CAPABILITIES_2)).speeds(),
                LinkControl2::from(read16(LINK_CONTROL_2)).target(),
            ),
        };
        let control = DeviceControl::from(read16(DEVICE_CONTROL));
        let can = DeviceCapabilities::from(read32(DEVICE_CAPABILITIES));
        Self {
            port_type: own.port_type(),
            now: LinkStatus::from(read16(LINK_STATUS)).link(),
            best,
            speeds: match vector {
                0 => (1 << best.speed.0.min(7)) - 1,
                vector => vector,
            },
            target: LinkSpeed(target),
            payload: packet_bytes(control.max_payload()),
            largest_payload: packet_bytes(can.max_payload()),
            read_request: packet_bytes(control.max_read_request()),
        }
    }

    /// That of a copy of configuration space; nothing if it has no such capability, or no list of them that can be followed.
    #[must_use]
    pub fn of(config: &[u8]) -> Option<Self> {
        let at = capability::find(config, capability::EXPRESS).ok()??;
        Some(Self::at(config, at))
    }

    /// The speeds that it can have its link at, ascending.
    pub fn speeds(&self) -> impl Iterator<Item = LinkSpeed> {
        let speeds = self.speeds;
        (1..=7).filter(move |code| speeds >> (code - 1) & 1 != 0).map(LinkSpeed)
    }
}

/// A size of packets as the registers code it.
#[must_use]
pub const fn packet_bytes(code: u8) -> u32 {
    let code = if code > 5 { 5 } else { code };
    128 << code
}

/// Speed and width of a link, written `5 GT/s x4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Link {
    /// Speed of a lane.
    pub speed: LinkSpeed,
    /// Lanes.
    pub width: u8,
}

impl Link {
    /// Bytes that it carries a second each way, headers and all: its lanes' bits less their coding, 8b/10b up to 5 GT/s and
    /// 128b/130b from 8 GT/s on. Nothing for a speed that is not known.
    #[must_use]
    pub const fn bytes_per_second(self) -> Option<u64> {
        let lane = match self.speed.0 {
            1 => 250_000_000,
            2 => 500_000_000,
            3 => 984_615_384,
            4 => 1_969_230_769,
            5 => 3_938_461_538,
            _ => return None,
        };
        Some(lane * self.width as u64)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x{}", self.speed, self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_in_words() {
        let best = LinkCapabilities::new().with_speed(2).with_width(4).link();
        assert_eq!((best.to_string().as_str(), best.bytes_per_second()), ("5 GT/s x4", Some(2_000_000_000)));
        assert_eq!(LinkStatus::from(0x1041).link().to_string(), "2.5 GT/s x4");
        assert_eq!(Link { speed: LinkSpeed(9), width: 0 }.to_string(), "unknown speed 9 x0");
        assert!(LinkStatus::from(0x1041).link().speed < best.speed);
    }

    #[test]
    fn speeds_by_all_their_names() {
        for (text, code) in [
            ("gen1", 1),
            ("gen5", 5),
            ("2.5 GT/s PCIe", 1),
            ("8.0 GT/s PCIe", 3),
            ("16 GT/s", 4),
            ("32.0 GT/s PCIe", 5),
        ] {
            assert_eq!(text.parse(), Ok(LinkSpeed(code)), "{text}");
        }
        for text in ["gen0", "gen7", "gen", "gen-1", "Unknown", "7 GT/s", "", "GT/s"] {
            assert_eq!(text.parse::<LinkSpeed>(), Err(UnknownSpeed), "{text}");
        }
    }

    #[test]
    fn an_end_of_a_link() {
        let mut config = [0; 256];
        config[0x06] = 0x10;
        config[0x34] = 0x70;
        config[0x70] = 0x10;
        assert_eq!(LinkEnd::of(&config[..64]), None, "a list that leads to nowhere");
        let mut put = |offset: u16, bytes: &[u8]| {
            let at = usize::from(0x70 + offset);
            config[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(CAPABILITIES, &0x0041_u16.to_le_bytes());
        put(DEVICE_CAPABILITIES, &[2]);
        put(DEVICE_CONTROL, &0x2020_u16.to_le_bytes());
        put(LINK_CAPABILITIES, &[0x43]);
        put(LINK_STATUS, &[0x41]);
        let end = LinkEnd::of(&config).unwrap();
        assert_eq!((end.now.to_string(), end.best.to_string()), ("2.5 GT/s x4".into(), "8 GT/s x4".into()));
        assert_eq!((end.payload, end.largest_payload, end.read_request), (256, 512, 512));
        assert_eq!((end.port_type, end.target), (ROOT_PORT, LinkSpeed(3)), "version 1 has no target");
        assert_eq!(end.speeds().collect::<Vec<_>>(), [LinkSpeed(1), LinkSpeed(2), LinkSpeed(3)]);
        config[0x72] = 0x42;
        config[0x70 + usize::from(LINK_CAPABILITIES_2)] = 0b1010;
        config[0x70 + usize::from(LINK_CONTROL_2)] = 0x01;
        let end = LinkEnd::of(&config).unwrap();
        assert_eq!(end.speeds().collect::<Vec<_>>(), [LinkSpeed(1), LinkSpeed(3)]);
        assert_eq!(end.target, LinkSpeed(1));
    }

    #[test]
    fn bits_are_where_the_specification_puts_them() {
        assert_eq!(u32::from(DeviceCapabilities::new().with_function_level_reset(true)), 1 << 28);
        assert_eq!(u32::from(DeviceCapabilities::new().with_role_based_error_reporting(true)), 1 << 15);
        assert_eq!(u32::from(DeviceCapabilities::new().with_extended_tag(true).with_max_payload(2)), 0x22);
        assert_eq!(u16::from(DeviceControl::new().with_initiate_function_level_reset(true)), 1 << 15);
        assert_eq!(u16::from(DeviceControl::new().with_max_read_request(2).with_max_payload(1)), 0x2020);
        assert_eq!(u16::from(DeviceControl::new().with_no_snoop(true).with_relaxed_ordering(true)), 0x0810);
        assert_eq!(u16::from(DeviceControl::new().with_extended_tag(true)), 0x0100);
        assert_eq!(u16::from(DeviceStatus::new().with_transactions_pending(true)), 1 << 5);
        assert_eq!(u32::from(LinkCapabilities::new().with_port(1).with_width(4).with_speed(2)), 0x0100_0042);
        assert_eq!(u16::from(LinkControl::new().with_retrain(true)), 1 << 5);
        assert_eq!(u16::from(LinkStatus::new().with_slot_clock(true)), 1 << 12);
        assert_eq!(u16::from(LinkStatus::new().with_training(true)), 1 << 11);
        assert_eq!(u32::from(LinkCapabilities2::new().with_speeds(0x7f)), 0xfe);
        assert_eq!(u16::from(LinkControl2::new().with_target(5)), 5);
        assert_eq!(u16::from(ExpressCapabilities::new().with_version(2).with_interrupt_message(1)), 0x0202);
    }
}
