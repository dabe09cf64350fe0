//! Which device a path names. Pure.

use std::ffi::CStr;
use std::fmt;

/// Where the devices are.
const FOLDER: &[u8] = b"/dev/";
/// How the name of each begins.
const PREFIX: &[u8] = b"xdma";
/// An XDMA has as many channels of a direction.
pub(crate) const CHANNELS: u8 = 4;
/// And as many interrupts of the design's own.
pub(crate) const EVENTS: u8 = 16;

/// A device: which card's, and what of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    /// The number behind `xdma`.
    pub(crate) card: u8,
    /// What of the card.
    pub(crate) kind: Kind,
}

/// What of a card a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// The BAR of the design's own registers.
    User,
    /// The XDMA's registers.
    Control,
    /// The BAR that goes past the DMA.
    Bypass,
    /// A channel to the card.
    H2c(u8),
    /// A channel from the card.
    C2h(u8),
    /// An interrupt of the design's own.
    Events(u8),
}

impl Kind {
    /// All that a card can have.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let channels = (0..CHANNELS).flat_map(|channel| [Self::H2c(channel), Self::C2h(channel)]);
        let events = (0..EVENTS).map(Self::Events);
        [Self::User, Self::Control, Self::Bypass].into_iter().chain(channels).chain(events)
    }

    /// A number for it, which is that of the device's minor number for the first card.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::User => 0,
            Self::Control => 1,
            Self::Events(line) => 10 + line,
            Self::H2c(channel) => 32 + channel,
            Self::C2h(channel) => 36 + channel,
            Self::Bypass => 100,
        }
    }

    /// The kind with this number.
    pub(crate) fn of_number(number: u8) -> Option<Self> {
        Self::all().find(|kind| kind.number() == number)
    }

    fn of_name(name: &[u8]) -> Option<Self> {
        let (word, number) = match name.iter().rposition(|byte| *byte == b'_') {
            Some(at) => (name.get(..at)?, Some(decimal(name.get(at + 1..)?)?)),
            None => (name, None),
        };
        match (word, number) {
            (b"user", None) => Some(Self::User),
            (b"control", None) => Some(Self::Control),
            (b"bypass", None) => Some(Self::Bypass),
            (b"h2c", Some(channel)) if channel < CHANNELS => Some(Self::H2c(channel)),
            (b"c2h", Some(channel)) if channel < CHANNELS => Some(Self::C2h(channel)),
            (b"events", Some(line)) if line < EVENTS => Some(Self::Events(line)),
            _ => None,
        }
    }
}

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// None of a device of the driver's.
    Other,
    /// That of a device which no XDMA can have, as `/dev/xdma0_h2c_9`: it is not there.
    Nothing,
    /// That of a device, which need not be there.
    Node(Node),
}

impl Named {
    /// What an absolute path names, or one that is relative to `/dev` if that is what `from_dev` says.
    pub(crate) fn of(path: &CStr, from_dev: bool) -> Self {
        let path = path.to_bytes();
        let mut rest = path;
        if path.first() == Some(&b'/') {
            // A path may have slashes more than it needs, and single dots.
            for part in FOLDER.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
                rest = match skip_slashes(rest).strip_prefix(part) {
                    Some(rest) if rest.first() == Some(&b'/') => rest,
                    _ => return Self::Other,
                };
            }
        } else if !from_dev {
            return Self::Other;
        }
        let name = skip_slashes(rest);
        match name.strip_prefix(PREFIX) {
            Some(name) if !name.contains(&b'/') => Self::of_name(name),
            _ => Self::Other,
        }
    }

    /// Whether a relative path could name a device, if its folder is the right one.
    pub(crate) fn could_be(path: &CStr) -> bool {
        let path = path.to_bytes();
        path.first() != Some(&b'/') && skip_slashes(path).starts_with(PREFIX)
    }

    /// What is named by what stands behind `xdma`.
    fn of_name(name: &[u8]) -> Self {
        let digits = name.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) = name.split_at(digits);
        let Some(kind) = rest.strip_prefix(b"_").filter(|_| digits > 0) else { return Self::Other };
        match (decimal(number), Kind::of_name(kind)) {
            (Some(card), Some(kind)) => Self::Node(Node { card, kind }),
            _ => Self::Nothing,
        }
    }
}

/// Without slashes, and without `./`, in front.
fn skip_slashes(mut path: &[u8]) -> &[u8] {
    loop {
        path = match path {
            [b'/', rest @ ..] | [b'.', b'/', rest @ ..] => rest,
            _ => return path,
        };
    }
}

/// A number as file names have it: no sign, no zero in front.
fn decimal(digits: &[u8]) -> Option<u8> {
    let plain = digits.len() == 1 || digits.first() != Some(&b'0');
    std::str::from_utf8(digits)
        .ok()
        .filter(|text| plain && text.bytes().all(|byte| byte.is_ascii_digit()))?
        .parse()
        .ok()
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let card = self.card;
        match self.kind {
            Kind::User => write!(f, "/dev/xdma{card}_user"),
            Kind::Control => write!(f, "/dev/xdma{card}_control"),
            Kind::Bypass => write!(f, "/dev/xdma{card}_bypass"),
            Kind::H2c(channel) => write!(f, "/dev/xdma{card}_h2c_{channel}"),
            Kind::C2h(channel) => write!(f, "/dev/xdma{card}_c2h_{channel}"),
            Kind::Events(line) => write!(f, "/dev/xdma{card}_events_{line}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    fn named(path: &str) -> Named {
        Named::of(&CString::new(path).unwrap(), false)
    }

    #[test]
    fn every_device_has_a_path_and_a_number_of_its_own() {
        for kind in Kind::all() {
            let node = Node { card: 12, kind };
            assert_eq!(named(&node.to_string()), Named::Node(node));
            assert_eq!(Kind::of_number(kind.number()), Some(kind));
        }
        assert_eq!(Kind::all().count(), 27);
        assert_eq!(Kind::of_number(9), None);
    }

    #[test]
    fn a_path_is_known_however_it_is_written() {
        let node = Named::Node(Node { card: 0, kind: Kind::H2c(1) });
        for path in ["/dev/xdma0_h2c_1", "//dev///xdma0_h2c_1", "/./dev/./xdma0_h2c_1"] {
            assert_eq!(named(path), node, "{path}");
        }
        let relative = CString::new("xdma0_h2c_1").unwrap();
        assert_eq!(Named::of(&relative, true), node);
        assert_eq!(Named::of(&relative, false), Named::Other);
        assert!(Named::could_be(&relative) && !Named::could_be(&CString::new("/dev/xdma0_user").unwrap()));
    }

    #[test]
    fn what_no_xdma_has_is_not_there_and_what_is_not_an_xdmas_is_left_alone() {
        for path in [
            "/dev/xdma0_h2c_4",
            "/dev/xdma0_h2c_01",
            "/dev/xdma0_events_16",
            "/dev/xdma300_user",
            "/dev/xdma0_xvc",
            "/dev/xdma0_",
        ] {
            assert_eq!(named(path), Named::Nothing, "{path}");
        }
        for path in [
            "/dev/null",
            "/dev/xdma",
            "/dev/xdma0",
            "/dev/xdmax_user",
            "/tmp/xdma0_user",
            "xdma0_user",
            "/dev/xdma0_user/x",
            "",
            "/",
            "/devxdma0_user",
        ] {
            assert_eq!(named(path), Named::Other, "{path}");
        }
    }
}
