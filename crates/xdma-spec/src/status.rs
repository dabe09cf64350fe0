//! Channel status: PG195, "H2C Channel Status (0x40)" and "C2H Channel Status (0x40)".

use std::fmt;

use bitfield_struct::bitfield;

use crate::block::Direction;

/// What a channel is doing and what went wrong. All but BUSY is logged: it stays until it is cleared or RUN rises.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct ChannelStatus {
    /// The engine is working. It goes idle when RUN is cleared.
    pub busy: bool,
    /// A descriptor with STOP ended.
    pub descriptor_stopped: bool,
    /// A descriptor with COMPLETED ended.
    pub descriptor_completed: bool,
    /// Source and destination addresses were not aligned to each other.
    pub align_mismatch: bool,
    /// A descriptor had a bad magic.
    pub magic_stopped: bool,
    /// A length was not a multiple of a stream's data width.
    pub invalid_length: bool,
    /// The engine went idle after RUN was cleared.
    pub idle_stopped: bool,
    #[bits(2)]
    __: u8,
    /// Errors of reading the source. H2C, over PCIe: [`pcie`] bits. C2H, over AXI: [`axi`] bits.
    #[bits(5)]
    pub read_error: u8,
    /// Errors of writing the destination, over AXI: [`axi`] bits. H2C only.
    #[bits(5)]
    pub write_error: u8,
    /// Errors of fetching descriptors, over PCIe: [`pcie`] bits.
    #[bits(5)]
    pub descriptor_error: u8,
    __: u8,
}

/// Bits of an error field whose accesses go over PCIe.
pub mod pcie {
    /// The host does not know the request: what an IOMMU fault looks like.
    pub const UNSUPPORTED_REQUEST: u8 = 1 << 0;
    /// The host gave up.
    pub const COMPLETER_ABORT: u8 = 1 << 1;
    /// Parity error.
    pub const PARITY: u8 = 1 << 2;
    /// The completion was marked as poisoned.
    pub const HEADER_POISONED: u8 = 1 << 3;
    /// A completion that nobody had asked for.
    pub const UNEXPECTED_COMPLETION: u8 = 1 << 4;
}

/// Bits of an error field whose accesses go over AXI.
pub mod axi {
    /// DECERR: nothing at that card address.
    pub const DECODE: u8 = 1 << 0;
    /// SLVERR: what is there refused.
    pub const SLAVE: u8 = 1 << 1;
}

const PCIE_ERRORS: [&str; 5] =
    ["unsupported request", "completer abort", "parity error", "poisoned header", "unexpected completion"];
const AXI_ERRORS: [&str; 2] = ["decode error", "slave error"];

/// The names of the bits of each error field, lowest first; read, write, descriptor fetch.
const fn error_names(direction: Direction) -> [&'static [&'static str]; 3] {
    match direction {
        Direction::HostToCard => [&PCIE_ERRORS, &AXI_ERRORS, &PCIE_ERRORS],
        Direction::CardToHost => [&AXI_ERRORS, &[], &PCIE_ERRORS],
    }
}

impl ChannelStatus {
    /// The bits that mean no error on any channel: what it is doing and what came to its end.
    pub const FLAGS: Self = Self::new()
        .with_busy(true)
        .with_descriptor_stopped(true)
        .with_descriptor_completed(true)
        .with_idle_stopped(true);

    /// The bits that mean an error on a channel of `direction`.
    #[must_use]
    pub const fn error_mask(direction: Direction) -> Self {
        let [read, write, descriptor] = error_names(direction);
        Self::new()
            .with_align_mismatch(true)
            .with_magic_stopped(true)
            .with_invalid_length(true)
            .with_read_error(low_bits(read.len()))
            .with_write_error(low_bits(write.len()))
            .with_descriptor_error(low_bits(descriptor.len()))
    }

    /// The error bits that are set; nothing else.
    #[must_use]
    pub const fn errors(self, direction: Direction) -> Self {
        Self::from_bits(self.into_bits() & Self::error_mask(direction).into_bits())
    }

    /// Whether any error bit is set.
    #[must_use]
    pub const fn has_errors(self, direction: Direction) -> bool {
        self.errors(direction).into_bits() != 0
    }

    /// What the set bits mean, in words: `descriptor fetch: unsupported request; bad magic`.
    #[must_use]
    pub const fn describe(self, direction: Direction) -> Description {
        Description { status: self, direction }
    }
}

const fn low_bits(count: usize) -> u8 {
    (1u8 << count) - 1
}

/// A [`ChannelStatus`] in words; `idle` if no bit is set.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    status: ChannelStatus,
    direction: Direction,
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status;
        let [read, write, descriptor] = error_names(self.direction);
        let mut parts = Vec::new();
        for (place, bits, names) in [
            ("descriptor fetch", status.descriptor_error(), descriptor),
            ("read", status.read_error(), read),
            ("write", status.write_error(), write),
        ] {
            let set: Vec<_> = names
                .iter()
                .enumerate()
                .filter(|(bit, _)| bits >> bit & 1 == 1)
                .map(|(_, name)| *name)
                .collect();
            if !set.is_empty() {
                parts.push(format!("{place}: {}", set.join(", ")));
            }
        }
        for (set, name) in [
            (status.magic_stopped(), "bad magic"),
            (status.align_mismatch(), "addresses not aligned to each other"),
            (status.invalid_length(), "invalid length"),
            (status.descriptor_stopped(), "stop descriptor ended"),
            (status.descriptor_completed(), "descriptor completed"),
            (status.idle_stopped(), "idle after stop"),
            (status.busy(), "busy"),
        ] {
            if set {
                parts.push(name.to_owned());
            }
        }
        let named = ChannelStatus::error_mask(self.direction).into_bits() | ChannelStatus::FLAGS.into_bits();
        let reserved = status.into_bits() & !named;
        if reserved != 0 {
            parts.push(format!("reserved bits {reserved:#x}"));
        }
        f.pad(&if parts.is_empty() { "idle".to_owned() } else { parts.join("; ") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::*;

    fn words(status: u32, direction: Direction) -> String {
        ChannelStatus::from(status).describe(direction).to_string()
    }

    #[test]
    fn a_blocked_descriptor_fetch_reads_as_it_does_on_a_card() {
        assert_eq!(words(0x80010, HostToCard), "descriptor fetch: unsupported request; bad magic");
        let built =
            ChannelStatus::new().with_descriptor_error(pcie::UNSUPPORTED_REQUEST).with_magic_stopped(true);
        assert_eq!(u32::from(built), 0x80010);
    }

    #[test]
    fn the_same_bit_means_what_its_direction_makes_of_it() {
        assert_eq!(words(1 << 9, HostToCard), "read: unsupported request");
        assert_eq!(words(1 << 9, CardToHost), "read: decode error");
        assert_eq!(words(3 << 14, HostToCard), "write: decode error, slave error");
        assert_eq!(words(1 << 14, CardToHost), "reserved bits 0x4000");
    }

    #[test]
    fn flags_and_reserved_bits_are_named_too() {
        assert_eq!(words(0, HostToCard), "idle");
        assert_eq!(words(1, CardToHost), "busy");
        assert_eq!(words(6, CardToHost), "stop descriptor ended; descriptor completed");
        assert!(words(u32::MAX, HostToCard).ends_with("reserved bits 0xff070180"));
    }

    #[test]
    fn the_error_masks_leave_out_flags_and_the_other_directions_bits() {
        assert_eq!(u32::from(ChannelStatus::error_mask(HostToCard)), 0x00f8_fe38);
        assert_eq!(u32::from(ChannelStatus::error_mask(CardToHost)), 0x00f8_0638);
        assert!(!ChannelStatus::from(0x47).has_errors(HostToCard));
        assert!(!ChannelStatus::from(1 << 14).has_errors(CardToHost));
        assert_eq!(u32::from(ChannelStatus::from(0x80011).errors(CardToHost)), 0x80010);
    }

    #[test]
    fn error_bits_are_those_of_pg195() {
        let bits = |status: ChannelStatus| u32::from(status);
        assert_eq!(bits(ChannelStatus::new().with_read_error(pcie::UNEXPECTED_COMPLETION)), 1 << 13);
        assert_eq!(bits(ChannelStatus::new().with_read_error(axi::SLAVE)), 1 << 10);
        assert_eq!(bits(ChannelStatus::new().with_write_error(axi::DECODE)), 1 << 14);
        assert_eq!(bits(ChannelStatus::new().with_descriptor_error(pcie::HEADER_POISONED)), 1 << 22);
        assert_eq!(bits(ChannelStatus::new().with_descriptor_error(pcie::PARITY)), 1 << 21);
        assert_eq!(bits(ChannelStatus::new().with_descriptor_error(pcie::COMPLETER_ABORT)), 1 << 20);
    }
}
