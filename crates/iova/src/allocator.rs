//! The ledger of one IOVA space: what is valid, what is allocated, what is free, and what is not free yet.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use crate::error::Error;
use crate::free::{ALIGNMENTS, Fit, FreeRanges};
use crate::waiting::{QuarantineId, Waiting};
use serde::{Deserialize, Serialize};

/// The largest alignment that can be asked for: 1 GiB, the largest page of any IOMMU in use.
pub const MAX_ALIGN: u64 = 1 << 30;

/// No IOMMU has smaller pages, and the bookkeeping per free range grows with their number.
const MIN_GRANULE: u64 = MAX_ALIGN >> (ALIGNMENTS - 1);

/// The page size below 1 GiB that makes mapping cheap; allocations of this size and more are aligned to it.
const LARGE_PAGE: u64 = 2 << 20;

/// The most ranges that rest at a time. Without a bound a program that frees and allocates for ever would go through the
/// whole space, and the IOMMU's page tables would come to describe all of it.
pub const MAX_RESTING: usize = 4096;

/// No more than this part of the space rests, so that cards with few address bits do not lose the low addresses to
/// requests that find everything above asleep.
const RESTING_PART: u64 = 4;

/// What an allocation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
/// [`containing`](Self::containing) take O(log n) in the number of ranges, except that a reservation of what is not free
/// yet looks at all that is not. Ownership is the caller's: the first address of an allocation is a key for as long as
/// it lives.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Allocator {
    granule: u64,
    /// In order and not adjacent to each other.
    valid: Vec<Range<u64>>,
    /// Bytes in `valid`.
    size: u64,
    /// Start to end (exclusive).
    live: BTreeMap<u64, u64>,
    /// Start to end (exclusive) of what is never handed out again.
    lost: BTreeMap<u64, u64>,
    /// What is valid, neither live nor lost, and not in `waiting`. No two are adjacent to each other.
    free: FreeRanges,
    /// What is valid and neither live nor lost: `free` and `waiting` together.
    idle: FreeRanges,
    waiting: Waiting,
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
        Ok(Self {
            granule,
            size: valid.iter().map(|range| range.end - range.start).sum(),
            valid,
            live: BTreeMap::new(),
            lost: BTreeMap::new(),
            idle: free.clone(),
            free,
            waiting: Waiting::default(),
            allocated: 0,
        })
    }

    /// Takes the highest free range that satisfies `request` and returns it: `size` bytes, rounded up to the granule.
    ///
    /// [The front page](crate#which-address-is-chosen) says why the highest. If nothing that is free fits, what rests is
    /// woken, oldest first, until something does; after that what is in quarantine is, oldest first. A request for
    /// which all of that is not enough wakes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroSize`], [`Error::Alignment`], and [`Error::Exhausted`] if nothing fits.
    pub fn allocate(&mut self, request: Request) -> Result<Range<u64>, Error> {
        let Request { size, align, top } = request;
        if size == 0 {
            return Err(Error::ZeroSize);
        }
        if !align.is_power_of_two() || align > MAX_ALIGN {
            return Err(Error::Alignment { align });
        }
        let align = align.max(self.granule).max(if size >= LARGE_PAGE { LARGE_PAGE } else { 1 });
        let fit = size.checked_next_multiple_of(self.granule).map(|size| Fit {
            size,
            align,
            limit: top.saturating_add(1),
        });
        let Some((range, free)) = fit.and_then(|fit| self.find(fit)) else {
            return Err(Error::Exhausted { size, align, top, largest: self.idle.largest() });
        };
        self.take(range.clone(), free.start);
        Ok(range)
    }

    /// The highest free range that fits, and the free range that it is in.
    fn find(&mut self, fit: Fit) -> Option<(Range<u64>, Range<u64>)> {
        let found = |(iova, free)| (iova..iova + fit.size, free);
        if let Some(place) = self.free.highest(fit) {
            return Some(found(place));
        }
        // Asked before anything is woken: whoever asks for too much does not end another's quarantine.
        self.idle.highest(fit)?;
        loop {
            let woken = self.waiting.oldest(fit.limit)?;
            self.free.release(woken);
            if let Some(place) = self.free.highest(fit) {
                return Some(found(place));
            }
        }
    }

    /// Takes exactly `range`, for a mapping at a fixed address. What of it rests or is in quarantine is taken, too.
    ///
    /// # Errors
    ///
    /// [`Error::NotWhole`] if the range is empty or not made of whole granules, [`Error::Overlap`] if an allocation has
    /// some of it already, [`Error::Lost`] if some of it is lost, [`Error::Invalid`] if it leaves the valid ranges.
    pub fn reserve(&mut self, range: Range<u64>) -> Result<(), Error> {
        let whole = |address: u64| address.is_multiple_of(self.granule);
        if range.is_empty() || !whole(range.start) || !whole(range.end) {
            return Err(Error::NotWhole { range, granule: self.granule });
        }
        if let Some(allocation) = lowest_overlapping(&self.live, &range) {
            return Err(Error::Overlap { range, allocation });
        }
        if let Some(lost) = lowest_overlapping(&self.lost, &range) {
            return Err(Error::Lost { range, lost });
        }
        let contains = |around: &Range<u64>| range.end <= around.end;
        if !self.idle.at_or_below(range.start).is_some_and(|around| contains(&around)) {
            return Err(Error::Invalid { range, valid: self.valid.clone() });
        }
        if !self.free.at_or_below(range.start).is_some_and(|around| contains(&around)) {
            self.waiting.cut(&range).into_iter().for_each(|part| self.free.release(part));
        }
        if let Some(free) = self.free.at_or_below(range.start) {
            self.take(range, free.start);
        }
        Ok(())
    }

    /// Gives back the allocation (or reservation) that starts at `iova` and returns its size in bytes. It rests before
    /// it is handed out again: until more than [`MAX_RESTING`] others, or more than a quarter of the space, were given
    /// back after it, or there is nothing else left.
    ///
    /// # Errors
    ///
    /// [`Error::Inside`] if `iova` is in an allocation but not its start, [`Error::NotAllocated`] if it is in none. Both
    /// leave everything as it was.
    pub fn free(&mut self, iova: u64) -> Result<u64, Error> {
        let range = self.end(iova)?;
        let size = range.end - range.start;
        if self.is_valid(&range) {
            self.idle.release(range.clone());
            self.rest(range);
        } else {
            self.lost.insert(range.start, range.end);
        }
        Ok(size)
    }

    /// Gives back the allocation that starts at `iova`, to which a card may still write: nobody gets it before
    /// [`absolve`](Self::absolve) is called, unless there is nothing else left.
    ///
    /// # Errors
    ///
    /// As [`free`](Self::free).
    pub fn quarantine(&mut self, iova: u64) -> Result<QuarantineId, Error> {
        let range = self.end(iova)?;
        if !self.is_valid(&range) {
            self.lost.insert(range.start, range.end);
            return Ok(self.waiting.empty_stay());
        }
        self.idle.release(range.clone());
        Ok(self.waiting.quarantine(range))
    }

    /// Ends a quarantine: no card writes there any more. From now on it rests. One that was handed out meanwhile, because
    /// there was nothing else left, stays with whoever has it.
    pub fn absolve(&mut self, id: QuarantineId) {
        while let Some(range) = self.waiting.absolve(id) {
            self.rest(range);
        }
    }

    /// Strikes the allocation that starts at `iova` off for good and returns its size in bytes: it could not be unmapped,
    /// or somebody else maps memory there.
    ///
    /// # Errors
    ///
    /// As [`free`](Self::free).
    pub fn lose(&mut self, iova: u64) -> Result<u64, Error> {
        let range = self.end(iova)?;
        self.lost.insert(range.start, range.end);
        Ok(range.end - range.start)
    }

    /// From now on hands out nothing but what is in `ranges`, too, as when a card comes that can use fewer addresses. What is allocated
    /// elsewhere stays so, and is lost when it is given back.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new); [`Error::NoValidRange`] if nothing would be left. Then everything is as it was.
    pub fn restrict(&mut self, ranges: impl IntoIterator<Item = RangeInclusive<u64>>) -> Result<(), Error> {
        let ranges = merge_valid(ranges.into_iter().collect(), self.granule)?;
        let common = |one: &Range<u64>, other: &Range<u64>| {
            let range = one.start.max(other.start)..one.end.min(other.end);
            (!range.is_empty()).then_some(range)
        };
        let valid: Vec<Range<u64>> =
            self.valid.iter().flat_map(|one| ranges.iter().filter_map(|other| common(one, other))).collect();
        if valid.is_empty() {
            return Err(Error::NoValidRange { granule: self.granule });
        }
        let mut gaps = Vec::new();
        let mut end = 0;
        for range in &valid {
            gaps.push(end..range.start);
            end = range.end;
        }
        gaps.push(end..u64::MAX);
        let parts: Vec<Range<u64>> =
            self.idle.iter().flat_map(|idle| gaps.iter().filter_map(move |gap| common(&idle, gap))).collect();
        for part in parts {
            self.waiting.cut(&part).into_iter().for_each(|piece| self.free.release(piece));
            for free in [&mut self.free, &mut self.idle] {
                if let Some(around) = free.at_or_below(part.start) {
                    free.take(part.clone(), around.start);
                }
            }
            self.lost.insert(part.start, part.end);
        }
        self.valid = valid;
        Ok(())
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

    /// What rests, oldest first.
    pub fn resting(&self) -> impl Iterator<Item = Range<u64>> {
        self.waiting.resting()
    }

    /// What is in quarantine, oldest first.
    pub fn quarantined(&self) -> impl Iterator<Item = (QuarantineId, Range<u64>)> {
        self.waiting.quarantined()
    }

    /// What was lost, from the lowest up.
    pub fn lost(&self) -> impl Iterator<Item = Range<u64>> {
        self.lost.iter().map(|(&start, &end)| start..end)
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

    /// Bytes that are nobody's and not lost, in however many pieces: free, resting or in quarantine.
    pub fn available(&self) -> u64 {
        let lost: u64 = self.lost().map(|range| range.end - range.start).sum();
        self.size - self.allocated - lost
    }

    /// Moves `range` out of the free range around it, which starts at `free`.
    fn take(&mut self, range: Range<u64>, free: u64) {
        self.free.take(range.clone(), free);
        if let Some(idle) = self.idle.at_or_below(range.start) {
            self.idle.take(range.clone(), idle.start);
        }
        self.allocated += range.end - range.start;
        self.live.insert(range.start, range.end);
    }

    /// Ends the allocation that starts at `iova`; what becomes of its range is the caller's to say.
    fn end(&mut self, iova: u64) -> Result<Range<u64>, Error> {
        let Some(end) = self.live.remove(&iova) else {
            return Err(match self.containing(iova) {
                Some(allocation) => Error::Inside { iova, allocation },
                None => Error::NotAllocated { iova },
            });
        };
        self.allocated -= end - iova;
        Ok(iova..end)
    }

    /// Whether all of `range` may be handed out again.
    fn is_valid(&self, range: &Range<u64>) -> bool {
        self.valid.iter().any(|valid| valid.start <= range.start && range.end <= valid.end)
    }

    fn rest(&mut self, range: Range<u64>) {
        self.waiting.rest(range);
        while let Some(rested) = self.waiting.rested(MAX_RESTING, self.size / RESTING_PART) {
            self.free.release(rested);
        }
    }
}

/// The lowest of `ranges` (start to end, disjoint) that overlaps `range`.
fn lowest_overlapping(ranges: &BTreeMap<u64, u64>, range: &Range<u64>) -> Option<Range<u64>> {
    let below = ranges.range(..=range.start).next_back().filter(|(_, end)| range.start < **end);
    let (&start, &end) = below.or_else(|| ranges.range(range.clone()).next())?;
    Some(start..end)
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
