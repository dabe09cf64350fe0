//! What can go wrong, with the ranges concerned and what to do.

use std::ops::{Range, RangeInclusive};

/// Why a space could not be made, or a range in it not taken or given back.
///
/// Fields are in bytes. Messages show ranges with inclusive ends, as the kernel does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The granule is not the size of an IOMMU page.
    #[error(
        "IOVA granule {granule:#x} is not a power of two from 0x1000 to 0x40000000: pass the IOMMU's smallest page size"
    )]
    Granule {
        /// What was passed as the granule.
        granule: u64,
    },

    /// A valid range ends before it starts.
    #[error("valid IOVA range [{:#x}, {:#x}] ends before it starts: pass inclusive ends", range.start(), range.end())]
    Reversed {
        /// The range as passed.
        range: RangeInclusive<u64>,
    },

    /// Two valid ranges share addresses.
    #[error(
        "valid IOVA ranges {} and {} overlap: pass each address once",
        inclusive(first),
        inclusive(second)
    )]
    ValidOverlap {
        /// The lower of the two.
        first: RangeInclusive<u64>,
        /// The other.
        second: RangeInclusive<u64>,
    },

    /// The list of valid ranges is empty, or holds no whole granule.
    #[error(
        "no valid IOVA range holds a whole granule of {granule:#x} bytes: pass the ranges that the IOMMU reports"
    )]
    NoValidRange {
        /// The granule.
        granule: u64,
    },

    /// Zero bytes were asked for.
    #[error("an IOVA range of 0 bytes was asked for: ask for one byte or more")]
    ZeroSize,

    /// The alignment is no power of two, or above [`MAX_ALIGN`](crate::MAX_ALIGN).
    #[error(
        "IOVA alignment {align:#x} is not a power of two from 0x1 to 0x40000000: choose one (0x1 means no wish)"
    )]
    Alignment {
        /// What was asked for.
        align: u64,
    },

    /// No free range fits.
    #[error(
        "no free IOVA range for {size:#x} bytes aligned to {align:#x} up to address {top:#x}; {}: free buffers, or ask for \
         smaller ones, a smaller alignment or a higher top address",
        largest_free(largest)
    )]
    Exhausted {
        /// The size asked for, before it was rounded up to the granule.
        size: u64,
        /// The alignment that was needed: at least the granule, at least 2 MiB for 2 MiB and more.
        align: u64,
        /// The highest address allowed.
        top: u64,
        /// The largest range of the whole space that is nobody's, above or below `top`; `None` if the space is full. Those
        /// of 2^32 granules and more count as equal, and the highest is named.
        largest: Option<Range<u64>>,
    },

    /// The address to be freed is in no allocation.
    #[error("IOVA {iova:#x} is not allocated: it was freed before, or never handed out")]
    NotAllocated {
        /// The address.
        iova: u64,
    },

    /// The address to be freed is inside an allocation, not its start.
    #[error(
        "IOVA {iova:#x} is inside the allocation {}: free that by its first address",
        half_open(allocation)
    )]
    Inside {
        /// The address.
        iova: u64,
        /// The allocation that contains it.
        allocation: Range<u64>,
    },

    /// The range to be reserved is empty, reversed, or not made of whole granules.
    #[error("IOVA range {:#x} to {:#x} (exclusive) is not one or more whole granules of {granule:#x} bytes: align both ends", range.start, range.end)]
    NotWhole {
        /// The range as passed.
        range: Range<u64>,
        /// The granule.
        granule: u64,
    },

    /// The range to be reserved is not inside one valid range.
    #[error(
        "IOVA range {} leaves the valid ranges {}: choose one inside them",
        half_open(range),
        list(valid)
    )]
    Invalid {
        /// The range as passed.
        range: Range<u64>,
        /// The valid ranges, as trimmed to the granule.
        valid: Vec<Range<u64>>,
    },

    /// The range to be reserved overlaps an allocation.
    #[error(
        "IOVA range {} overlaps the allocation {}: free that first, or choose another",
        half_open(range),
        half_open(allocation)
    )]
    Overlap {
        /// The range as passed.
        range: Range<u64>,
        /// The lowest allocation that it overlaps.
        allocation: Range<u64>,
    },

    /// The range to be reserved overlaps one that was lost.
    #[error(
        "IOVA range {} overlaps {}, which may still be mapped for a card and is never used again: choose another",
        half_open(range),
        half_open(lost)
    )]
    Lost {
        /// The range as passed.
        range: Range<u64>,
        /// The lowest lost range that it overlaps.
        lost: Range<u64>,
    },
}

fn inclusive(range: &RangeInclusive<u64>) -> String {
    format!("[{:#x}, {:#x}]", range.start(), range.end())
}

/// For ranges that are not empty.
fn half_open(range: &Range<u64>) -> String {
    inclusive(&(range.start..=range.end - 1))
}

fn list(ranges: &[Range<u64>]) -> String {
    ranges.iter().map(half_open).collect::<Vec<_>>().join(", ")
}

fn largest_free(largest: &Option<Range<u64>>) -> String {
    match largest {
        None => "nothing is free".to_owned(),
        Some(range) => {
            format!("the largest free range is {} ({:#x} bytes)", half_open(range), range.end - range.start)
        }
    }
}
