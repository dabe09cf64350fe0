//! The ledger of one IOVA space: what is valid, what is allocated, what is free.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use crate::error::Error;
use crate::free::{ALIGNMENTS, Fit, FreeRanges};

/// The largest alignment that can be asked for: 1 GiB, the largest page of any IOMMU in use.
pub const MAX_ALIGN: u64 = 1 << 30;

/// No IOMMU has smaller pages, and the bookkeeping per free range grows with their number.
const MIN_GRANULE: u64 = MAX_ALIGN >> (ALIGNMENTS - 1);

/// The page size below 1 GiB that makes mapping cheap; allocations of this size and more are aligned to it.
const LARGE_PAGE: u64 = 2 << 20;

/// What an allocation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Bytes; rounded up to the granule.
    pub size: u64,
    /// A power of two from 1 to [`MAX_ALIGN`], in bytes. The granule is the least that is given, and 2 MiB is for
    /// 2 MiB and more.
    pub align: u64,
    /// The highest address that the card can use, inclusive: `0xffff_ffff` for one with 32 address bits.
    pub top: u64,
}

impl Request {
    /// Asks for `size` bytes, without a wish for the alignment, for a card with 64 address bits.
    pub const fn new(size: u64) -> Self {
        Self { size, align: 1, top: u64::MAX }
    }
}

/// The ledger of one IOVA space.
///
/// [`allocate`](Self::allocate), [`reserve`](Self::reserve), [`free`](Self::free) and
/// [`containing`](Self::containing) take O(log n) in the number of ranges. Ownership is the caller's: the first address
/// of an allocation is a key for as long as it lives.
#[derive(Debug, Clone)]
pub struct Allocator {
    granule: u64,
    /// In order and not adjacent to each other.
    valid: Vec<Range<u64>>,
    /// Start to end (exclusive).
    live: BTreeMap<u64, u64>,
    /// What is valid and not live. No two are adjacent to each other.
    free: FreeRanges,
    allocated: u64,
}

impl Allocator {
    /// A space in which all of `valid` is free.
    ///
    /// `granule` is the smallest IOMMU page in bytes: a power of two from 4 KiB to 1 GiB. The ranges come in any order,
    /// with inclusive ends. Ends that are not multiples of the granule are trimmed inwards, and so is the last granule
    /// of the 64-bit space; ranges that touch become one.
    ///
    /// # Errors
    ///
    /// [`Error::Granule`], [`Error::Reversed`], [`Error::ValidOverlap`], and [`Error::NoValidRange`] if the list is
    /// empty or nothing is left of it after trimming.
    pub fn new(valid: impl IntoIterator<Item = RangeInclusive<u64>>, granule: u64) -> Result<Self, Error> {
        if !granule.is_power_of_two() || !(MIN_GRANULE..=MAX_ALIGN).contains(&granule) {
            return Err(Error::Granule { granule });
        }
        let valid = merge_valid(valid.into_iter().collect(), granule)?;
        let mut free = FreeRanges::new(granule);
        for range in &valid {
            free.release(range.clone());
        }
        Ok(Self { granule, valid, live: BTreeMap::new(), free, allocated: 0 })
    }

    /// Takes the highest free range that satisfies `request` and returns its first address.
    ///
    /// [The front page](crate#which-address-is-chosen) says why the highest.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroSize`], [`Error::Alignment`], and [`Error::Exhausted`] if there is no free range that fits.
    pub fn allocate(&mut self, request: Request) -> Result<u64, Error> {
        let Request { size, align, top } = request;
        if size == 0 {
            return Err(Error::ZeroSize);
        }
        if !align.is_power_of_two() || align > MAX_ALIGN {
            return Err(Error::Alignment { align });
        }
        let align = align.max(self.granule).max(if size >= LARGE_PAGE { LARGE_PAGE } else { 1 });
        let (range, free) = size
            .checked_next_multiple_of(self.granule)
            .and_then(|size| {
                let (iova, free) = self.free.highest(Fit { size, align, limit: top.saturating_add(1) })?;
                Some((iova..iova + size, free))
            })
            .ok_or_else(|| Error::Exhausted { size, align, top, largest: self.free.largest() })?;
        let iova = range.start;
        self.take(range, free);
        Ok(iova)
    }

    /// Takes exactly `range`, for a mapping at a fixed address.
    ///
    /// # Errors
    ///
    /// [`Error::NotWhole`] if the range is empty or not made of whole granules, [`Error::Overlap`] if an allocation has
    /// some of it already, [`Error::Invalid`] if it leaves the valid ranges.
    pub fn reserve(&mut self, range: Range<u64>) -> Result<(), Error> {
        let whole = |address: u64| address.is_multiple_of(self.granule);
        if range.is_empty() || !whole(range.start) || !whole(range.end) {
            return Err(Error::NotWhole { range, granule: self.granule });
        }
        let above = || self.live.range(range.clone()).next().map(|(&start, &end)| start..end);
        if let Some(allocation) = self.containing(range.start).or_else(above) {
            return Err(Error::Overlap { range, allocation });
        }
        match self.free.at_or_below(range.start) {
            Some(free) if range.end <= free.end => {
                self.take(range, free);
                Ok(())
            }
            // Neither allocated nor free.
            _ => Err(Error::Invalid { range, valid: self.valid.clone() }),
        }
    }

    /// Gives back the allocation (or reservation) that starts at `iova` and returns its size in bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Inside`] if `iova` is in an allocation but not its start, [`Error::NotAllocated`] if it is in none. Both
    /// leave everything as it was.
    pub fn free(&mut self, iova: u64) -> Result<u64, Error> {
        let Some(end) = self.live.remove(&iova) else {
            return Err(match self.containing(iova) {
                Some(allocation) => Error::Inside { iova, allocation },
                None => Error::NotAllocated { iova },
            });
        };
        self.allocated -= end - iova;

        self.free.release(iova..end);
        Ok(end - iova)
    }

    /// The allocation that `address` is in.
    pub fn containing(&self, address: u64) -> Option<Range<u64>> {
        let (&start, &end) = self.live.range(..=address).next_back()?;
        (address < end).then_some(start..end)
    }

    /// All allocations and reservations, from the lowest up.
    pub fn live(&self) -> impl Iterator<Item = Range<u64>> {
        self.live.iter().map(|(&start, &end)| start..end)
    }

    /// All free ranges, from the lowest up; none is adjacent to another.
    pub fn free_ranges(&self) -> impl Iterator<Item = Range<u64>> {
        self.free.iter()
    }

    /// The valid ranges, trimmed to the granule, from the lowest up.
    pub fn valid(&self) -> &[Range<u64>] {
        &self.valid
    }

    /// The granule in bytes.
    pub fn granule(&self) -> u64 {
        self.granule
    }

    /// Bytes in allocations and reservations.
    pub fn allocated(&self) -> u64 {
        self.allocated
    }

    /// Bytes that are free, in however many pieces.
    pub fn available(&self) -> u64 {
        self.valid.iter().map(|range| range.end - range.start).sum::<u64>() - self.allocated
    }

    /// Moves `range` out of the free range around it.
    fn take(&mut self, range: Range<u64>, free: Range<u64>) {
        self.free.take(range.clone(), free.start);
        self.allocated += range.end - range.start;
        self.live.insert(range.start, range.end);
    }
}

/// Checks, trims, sorts and joins the valid ranges.
fn merge_valid(mut given: Vec<RangeInclusive<u64>>, granule: u64) -> Result<Vec<Range<u64>>, Error> {
    if let Some(range) = given.iter().find(|range| range.start() > range.end()) {
        return Err(Error::Reversed { range: range.clone() });
    }
    given.sort_unstable_by_key(|range| *range.start());
    for pair in given.windows(2) {
        if pair[1].start() <= pair[0].end() {
            return Err(Error::ValidOverlap { first: pair[0].clone(), second: pair[1].clone() });
        }
    }
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in given {
        let Some(start) = range.start().checked_next_multiple_of(granule) else { continue };
        // Saturating leaves out the last granule of the 64-bit space.
        let end = range.end().saturating_add(1) & !(granule - 1);
        match merged.last_mut() {
            _ if start >= end => {}
            Some(last) if last.end == start => last.end = end,
            _ => merged.push(start..end),
        }
    }
    if merged.is_empty() { Err(Error::NoValidRange { granule }) } else { Ok(merged) }
}
