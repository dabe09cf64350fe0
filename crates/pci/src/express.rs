//! The PCI Express capability of an endpoint (PCIe 5.0, section 7.5.3).

use std::fmt;

use bitfield_struct::bitfield;

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
/// Link control, 16 bits.
pub const LINK_CONTROL: u16 = 0x10;
/// [`LinkStatus`], 16 bits.
pub const LINK_STATUS: u16 = 0x12;
/// Device capabilities 2, 32 bits.
pub const DEVICE_CAPABILITIES_2: u16 = 0x24;
/// Device control 2, 16 bits.
pub const DEVICE_CONTROL_2: u16 = 0x28;
/// Link capabilities 2, 32 bits.
pub const LINK_CAPABILITIES_2: u16 = 0x2c;
/// Link control 2, 16 bits.
pub const LINK_CONTROL_2: u16 = 0x30;
/// Link status 2, 16 bits.
pub const LINK_STATUS_2: u16 = 0x32;
/// Bytes of the capability, version 2.
pub const SIZE: u16 = 0x3c;

/// "PCI Express Capabilities Register".
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct ExpressCapabilities {
    /// Version of the layout: 2 since PCIe 2.0.
    #[bits(4)]
    pub version: u8,
    /// Kind of device or port: 0 for an endpoint.
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
    #[bits(2)]
    __: u8,
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
        assert_eq!(u16::from(LinkStatus::new().with_slot_clock(true)), 1 << 12);
        assert_eq!(u16::from(ExpressCapabilities::new().with_version(2).with_interrupt_message(1)), 0x0202);
    }
}
