//! From a transfer to descriptors: how it is divided. Pure.

use jitney_xdma_spec::Alignments;
use jitney_xdma_spec::descriptor::MAX_LENGTH;
use std::fmt;

/// Bytes between one end and the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// IOVA of the first byte in host memory.
    pub host: u64,
    /// Card address of the first byte; without a meaning for a stream.
    pub card: u64,
    /// How many bytes.
    pub length: u64,
}

/// What one descriptor does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// IOVA of its first byte in host memory.
    pub host: u64,
    /// Card address of its first byte.
    pub card: u64,
    /// How many bytes, 1 to 0x0fff_ffff.
    pub length: u32,
}

/// What a channel's descriptors may be, and what its user wants them to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    address_alignment: u64,
    length_granularity: u64,
    top: u64,
    align: u64,
    longest: u32,
    one_address: bool,
}

impl Limits {
    /// Any address of 64 bits, any length, descriptors as long as the IP takes them.
    pub const ANY: Self = Self {
        address_alignment: 1,
        length_granularity: 1,
        top: u64::MAX,
        align: 1,
        longest: MAX_LENGTH,
        one_address: false,
    };

    /// What a channel's alignment register says (PG195, "Channel Alignments (0x4C)"). A field that reads 0 sets no limit.
    #[must_use]
    pub const fn of(alignments: Alignments) -> Self {
        const fn at_least_one(field: u8) -> u64 {
            if field == 0 { 1 } else { field as u64 }
        }
        let top = match alignments.address_bits() {
            bits @ 1..=63 => (1 << bits) - 1,
            _ => u64::MAX,
        };
        Self {
            address_alignment: at_least_one(alignments.address_alignment()),
            length_granularity: at_least_one(alignments.length_granularity()),
            top,
            ..Self::ANY
        }
    }

    /// The same with every descriptor but the last a multiple of `align` bytes, a power of two: a transfer that starts
    /// at such an address then crosses from one descriptor to the next at one too.
    #[must_use]
    pub const fn aligned(mut self, align: u64) -> Self {
        self.align = align;
        self
    }

    /// The same with descriptors of at most `bytes` each; more than 0x0fff_ffff has no effect.
    #[must_use]
    pub const fn at_most(mut self, bytes: u32) -> Self {
        self.longest = if bytes < MAX_LENGTH { bytes } else { MAX_LENGTH };
        self
    }

    /// The same with all bytes going to, or coming from, the card address of the first: every descriptor names it.
    #[must_use]
    pub const fn at_one_address(mut self) -> Self {
        self.one_address = true;
        self
    }

    /// The highest address that the channel reaches, on either side.
    #[must_use]
    pub const fn top(&self) -> u64 {
        self.top
    }

    /// The length of every descriptor but the last: the longest that all limits allow.
    fn whole(&self) -> Result<u32, PlanError> {
        let mut step = 1;
        for multiple in [self.address_alignment, self.length_granularity, self.align] {
            if !multiple.is_power_of_two() {
                return Err(PlanError::Multiple { multiple });
            }
            step = step.max(multiple);
        }
        let longest = self.longest;
        match u32::try_from(step) {
            Ok(step) if step <= longest => Ok(longest / step * step),
            _ => Err(PlanError::Longest { step, longest }),
        }
    }
}

/// The two ends of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Host memory, by IOVA.
    Host,
    /// The card's memory.
    Card,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "IOVA",
            Self::Card => "card address",
        })
    }
}

/// Why a transfer cannot be described.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The length is zero.
    #[error("there is nothing to transfer: the length is zero")]
    Empty,
    /// One end lies outside of what the channel can address.
    #[error(
        "{length:#x} bytes from {side} {address:#x} on end beyond {top:#x}, the channel's highest address"
    )]
    Beyond {
        /// Which end.
        side: Side,
        /// Its first address.
        address: u64,
        /// Length of the transfer in bytes.
        length: u64,
        /// The highest address.
        top: u64,
    },
    /// One end does not start where the channel can start.
    #[error("{side} {address:#x} is no multiple of {multiple}, which the channel asks for; {:#x} is", address - address % multiple)]
    Address {
        /// Which end.
        side: Side,
        /// Its first address.
        address: u64,
        /// What it has to be a multiple of, in bytes.
        multiple: u64,
    },
    /// The channel cannot move this many bytes.
    #[error("{length:#x} bytes are no multiple of {multiple}, which the channel asks for; {:#x} bytes would fit", length.saturating_add(multiple - length % multiple))]
    Length {
        /// Length of the transfer in bytes.
        length: u64,
        /// What it has to be a multiple of, in bytes.
        multiple: u64,
    },
    /// An alignment is no power of two.
    #[error("an alignment of {multiple} is not possible; use a power of two")]
    Multiple {
        /// The alignment, in bytes.
        multiple: u64,
    },
    /// A stream is received into one descriptor, and it cannot be as long.
    #[error(
        "{length:#x} bytes are more than a descriptor of this channel has, {longest:#x}; use several, or descriptors_of_at_most"
    )]
    Receipt {
        /// How many bytes there is room for.
        length: u64,
        /// The longest descriptor, in bytes.
        longest: u32,
    },
    /// No descriptor can be as long as the alignment.
    #[error("descriptors of multiples of {step:#x} bytes are not possible; {longest:#x} is the longest")]
    Longest {
        /// What the length of a descriptor has to be a multiple of.
        step: u64,
        /// The longest descriptor.
        longest: u32,
    },
}

/// Divides `transfer` into descriptors: as few as `limits` allow, in order, without gaps.
///
/// ```
/// use jitney_xdma::{Limits, Transfer, plan};
///
/// let transfer = Transfer { host: 0, card: 0, length: 1 << 30 };
/// let sizes: Vec<u32> = plan(transfer, &Limits::ANY.aligned(4096))?.map(|chunk| chunk.length).collect();
/// assert_eq!(sizes, [0x0fff_f000, 0x0fff_f000, 0x0fff_f000, 0x0fff_f000, 0x4000]);
/// # Ok::<(), jitney_xdma::PlanError>(())
/// ```
///
/// # Errors
/// A transfer of nothing, one that an end cannot hold or the alignments forbid, or limits that forbid everything.
pub fn plan(transfer: Transfer, limits: &Limits) -> Result<Plan, PlanError> {
    let whole = limits.whole()?;
    let Transfer { host, card, length } = transfer;
    let Some(last) = length.checked_sub(1) else { return Err(PlanError::Empty) };
    for (side, address) in [(Side::Host, host), (Side::Card, card)] {
        let last = if side == Side::Card && limits.one_address { 0 } else { last };
        if address.checked_add(last).is_none_or(|end| end > limits.top) {
            return Err(PlanError::Beyond { side, address, length, top: limits.top });
        }
        let multiple = limits.address_alignment;
        if !address.is_multiple_of(multiple) {
            return Err(PlanError::Address { side, address, multiple });
        }
    }
    let multiple = limits.length_granularity;
    if !length.is_multiple_of(multiple) {
        return Err(PlanError::Length { length, multiple });
    }
    Ok(Plan { transfer, done: 0, whole, one_address: limits.one_address })
}

/// The descriptors of a transfer that are still to come, first one first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    transfer: Transfer,
    done: u64,
    whole: u32,
    one_address: bool,
}

impl Plan {
    /// How many descriptors are still to come.
    #[must_use]
    pub const fn descriptors(&self) -> u64 {
        (self.transfer.length - self.done).div_ceil(self.whole as u64)
    }

    /// Bytes of every descriptor but the last.
    pub(crate) const fn whole(&self) -> u32 {
        self.whole
    }

    /// How many descriptors the whole transfer takes.
    pub(crate) const fn all_descriptors(&self) -> u64 {
        self.transfer.length.div_ceil(self.whole as u64)
    }

    /// The same plan with those behind its first `descriptors` still to come.
    pub(crate) fn go_back_to(&mut self, descriptors: u64) {
        self.done = self.bytes_of_first(descriptors);
    }

    /// Bytes of the whole transfer.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.transfer.length
    }

    /// Bytes that the first `descriptors` of the whole transfer move.
    pub(crate) fn bytes_of_first(&self, descriptors: u64) -> u64 {
        descriptors.saturating_mul(self.whole.into()).min(self.transfer.length)
    }
}

impl Iterator for Plan {
    type Item = Chunk;

    fn next(&mut self) -> Option<Chunk> {
        let left = self.transfer.length - self.done;
        if left == 0 {
            return None;
        }
        // A rest that does not fit 32 bits is longer than a whole chunk.
        let length = u32::try_from(left).unwrap_or(self.whole).min(self.whole);
        // Neither sum overflows: both ends hold the whole transfer.
        let host = self.transfer.host + self.done;
        let card = self.transfer.card + if self.one_address { 0 } else { self.done };
        let chunk = Chunk { host, card, length };
        self.done += u64::from(length);
        Some(chunk)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match usize::try_from(self.descriptors()) {
            Ok(exact) => (exact, Some(exact)),
            Err(_) => (usize::MAX, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_stays_the_same() {
        let limits = Limits::ANY.at_most(0x1000).at_one_address();
        let transfer = Transfer { host: 0x1_0000, card: u64::MAX - 7, length: 0x2800 };
        let chunks: Vec<_> = plan(transfer, &limits).unwrap().collect();
        let expected = [(0x1_0000, 0x1000), (0x1_1000, 0x1000), (0x1_2000, 0x800)];
        assert_eq!(chunks, expected.map(|(host, length)| Chunk { host, card: u64::MAX - 7, length }));
        assert!(plan(transfer, &Limits::ANY).is_err());
    }
    use proptest::prelude::*;

    const GIB: u64 = 1 << 30;

    fn sizes(length: u64, limits: Limits) -> Vec<u32> {
        plan(Transfer { host: 0x1_0000, card: 0, length }, &limits)
            .unwrap()
            .map(|chunk| chunk.length)
            .collect()
    }

    fn refused(host: u64, card: u64, length: u64, limits: Limits) -> PlanError {
        plan(Transfer { host, card, length }, &limits).unwrap_err()
    }

    #[test]
    fn a_gibibyte_is_four_of_the_longest_and_a_rest() {
        assert_eq!(sizes(GIB, Limits::ANY), [MAX_LENGTH, MAX_LENGTH, MAX_LENGTH, MAX_LENGTH, 4]);
        let aligned = Limits::ANY.aligned(4096);
        assert_eq!(sizes(GIB, aligned), [0x0fff_f000, 0x0fff_f000, 0x0fff_f000, 0x0fff_f000, 0x4000]);
        assert_eq!(sizes(1, Limits::ANY), [1]);
        assert_eq!(sizes(MAX_LENGTH.into(), Limits::ANY), [MAX_LENGTH]);
        assert_eq!(sizes(0x1000_0000, Limits::ANY), [MAX_LENGTH, 1]);
    }

    #[test]
    fn what_the_ends_cannot_hold_is_refused() {
        assert_eq!(refused(0, 0, 0, Limits::ANY), PlanError::Empty);
        let beyond = refused(0, u64::MAX, 2, Limits::ANY);
        assert!(matches!(beyond, PlanError::Beyond { side: Side::Card, .. }), "{beyond}");
        let short = Limits::of(Alignments::ANY.with_address_bits(32));
        let beyond = refused(0xffff_f000, 0, 0x1001, short);
        assert!(matches!(beyond, PlanError::Beyond { side: Side::Host, top: 0xffff_ffff, .. }), "{beyond}");
        assert_eq!(plan(Transfer { host: 0xffff_f000, card: 0, length: 0x1000 }, &short).unwrap().count(), 1);
        assert_eq!(
            plan(Transfer { host: u64::MAX, card: u64::MAX, length: 1 }, &Limits::ANY).unwrap().count(),
            1
        );
    }

    #[test]
    fn what_the_alignment_register_forbids_is_refused_with_what_would_fit() {
        let limits = Limits::of(Alignments::ANY.with_address_alignment(64).with_length_granularity(4));
        assert_eq!(
            refused(0x1000, 0x1043, 64, limits).to_string(),
            "card address 0x1043 is no multiple of 64, which the channel asks for; 0x1040 is"
        );
        assert_eq!(
            refused(0x1000, 0x1040, 0x41, limits).to_string(),
            "0x41 bytes are no multiple of 4, which the channel asks for; 0x44 bytes would fit"
        );
        assert_eq!(sizes(GIB, limits)[0], 0x0fff_ffc0, "the next descriptor has to start aligned too");
        assert_eq!(Limits::of(Alignments::new()), Limits::ANY, "zeros set no limit");
    }

    #[test]
    fn limits_that_forbid_everything_are_refused() {
        assert_eq!(refused(0, 0, 1, Limits::ANY.aligned(0)), PlanError::Multiple { multiple: 0 });
        assert_eq!(refused(0, 0, 1, Limits::ANY.aligned(3000)), PlanError::Multiple { multiple: 3000 });
        let step = 1 << 28;
        assert_eq!(
            refused(0, 0, 1, Limits::ANY.aligned(step)),
            PlanError::Longest { step, longest: MAX_LENGTH }
        );
        assert_eq!(refused(0, 0, 1, Limits::ANY.at_most(0)), PlanError::Longest { step: 1, longest: 0 });
        assert_eq!(refused(0, 0, 1, Limits::ANY.aligned(1 << 40)).to_string(), {
            "descriptors of multiples of 0x10000000000 bytes are not possible; 0xfffffff is the longest"
        });
        let odd = Limits::of(Alignments::ANY.with_length_granularity(3));
        assert_eq!(refused(0, 0, 3, odd), PlanError::Multiple { multiple: 3 });
    }

    prop_compose! {
        fn any_limits()(
            address in 0..8_u32, granularity in 0..8_u32, bits in 32..=64_u8, align in 0..28_u32, longest in 1..=u32::MAX
        ) -> Limits {
            let alignments = Alignments::new()
                .with_address_alignment(1 << address)
                .with_length_granularity(1 << granularity)
                .with_address_bits(bits);
            Limits::of(alignments).aligned(1 << align).at_most(longest)
        }
    }

    proptest! {
        #[test]
        fn chunks_cover_the_transfer_once_and_in_order(
            limits in any_limits(),
            host in prop_oneof![0..=u64::MAX, (0..=u64::MAX >> 16).prop_map(|page| page << 12)],
            card in prop_oneof![Just(0), 0..=u64::MAX],
            length in prop_oneof![0..64_u64, 0..GIB * 8, Just(u64::MAX)],
        ) {
            let transfer = Transfer { host, card, length };
            // A plan may have very many chunks; the first are as the others, and the last follows from the count.
            if let Ok(plan) = plan(transfer, &limits) {
                prop_assert_eq!(plan.bytes(), length);
                prop_assert!(host.checked_add(length - 1).is_some_and(|end| end <= limits.top()));
                prop_assert!(card.checked_add(length - 1).is_some_and(|end| end <= limits.top()));
                let count = plan.descriptors();
                let mut done = 0;
                for (index, chunk) in (1..=count).zip(plan.clone()).take(1000) {
                    prop_assert_eq!((chunk.host, chunk.card), (host + done, card + done));
                    prop_assert!(chunk.length > 0 && chunk.length <= MAX_LENGTH.min(limits.longest));
                    prop_assert!(chunk.host.is_multiple_of(limits.address_alignment));
                    prop_assert!(chunk.card.is_multiple_of(limits.address_alignment));
                    prop_assert!(u64::from(chunk.length).is_multiple_of(limits.length_granularity));
                    prop_assert!(index == count || u64::from(chunk.length).is_multiple_of(limits.align));
                    done += u64::from(chunk.length);
                    prop_assert_eq!(plan.bytes_of_first(index), done);
                }
                prop_assert!(count > 1000 || done == length);
                prop_assert_eq!(plan.bytes_of_first(count), length);
                prop_assert!(plan.bytes_of_first(count - 1) < length, "no descriptor too many");
            }
        }
    }
}
