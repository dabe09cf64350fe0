//! Random histories against a plain model: lists of what is live, lost, resting and in quarantine. What is free is what is
//! in none of them, and is searched from the top.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use jitney_iova::{Allocator, Error, MAX_RESTING, QuarantineId, Request};
use proptest::collection::vec;
use proptest::prelude::*;

const GRANULE: u64 = 4096;
const LARGE: u64 = 2 << 20;

#[derive(Debug, Clone)]
enum Step {
    Allocate(Request),
    Reserve(Range<u64>),
    /// Of the live allocations, by index modulo their number.
    Free(usize),
    /// An address that may be anywhere.
    FreeAddress(u64),
    /// Of the live allocations, as with [`Step::Free`].
    Quarantine(usize),
    /// Of all stays in quarantine that there ever were.
    Absolve(usize),
    /// Of the live allocations.
    Lose(usize),
}

/// Small enough to be exhausted, with the kernel's hole, unaligned ends, pieces below and above 4 GiB.
fn spaces() -> impl Strategy<Value = Vec<RangeInclusive<u64>>> {
    prop_oneof![
        Just(vec![0..=0x7f_ffff]),
        Just(vec![0xfe80_0000..=0xfedf_ffff, 0xfef0_0000..=0x1_0080_0fff]),
        Just(vec![0x1_0040_0000..=0x1_00bf_ffff, 0x800..=0x20_17ff]),
        Just(vec![0..=0xfff, 0xffff_ffff_ff00_0000..=u64::MAX]),
        Just(vec![0..=0xfedf_ffff, 0xfef0_0000..=0x7f_ffff_ffff]),
    ]
}

fn addresses() -> impl Strategy<Value = u64> {
    prop_oneof![
        0u64..0x80_0000,
        0xfe80_0000u64..0x1_0080_0000,
        0x1_0040_0000u64..0x1_00c0_0000,
        0xffff_ffff_ff00_0000u64..=u64::MAX,
    ]
}

fn sizes() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 1u64..0x4_0000, 3 => 1u64..0x50_0000, 1 => any::<u64>()]
}

fn tops() -> impl Strategy<Value = u64> {
    prop_oneof![Just(u64::MAX), Just(0xffff_ffff), Just(0xfff_ffff), addresses()]
}

fn steps() -> impl Strategy<Value = Step> {
    let request = (sizes(), 0u32..=30, tops()).prop_map(|(size, bits, top)| Request {
        size,
        align: 1 << (bits.saturating_sub(8)),
        top,
    });
    let range = (addresses(), 0u64..64).prop_map(|(address, granules)| {
        let start = address & !(GRANULE - 1);
        start..start.saturating_add(granules * GRANULE)
    });
    prop_oneof![
        8 => request.prop_map(Step::Allocate),
        2 => range.prop_map(Step::Reserve),
        5 => any::<usize>().prop_map(Step::Free),
        3 => any::<usize>().prop_map(Step::Quarantine),
        2 => any::<usize>().prop_map(Step::Absolve),
        1 => any::<usize>().prop_map(Step::Lose),
        1 => addresses().prop_map(Step::FreeAddress),
    ]
}

/// What is free, found by looking at everything.
struct Model {
    valid: Vec<Range<u64>>,
    live: BTreeMap<u64, u64>,
    lost: BTreeMap<u64, u64>,
    /// Oldest first.
    resting: Vec<Range<u64>>,
    /// Oldest first.
    quarantined: Vec<(QuarantineId, Range<u64>)>,
    /// All that there ever were.
    stays: Vec<QuarantineId>,
}

fn size(range: &Range<u64>) -> u64 {
    range.end - range.start
}

fn sum(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(size).sum()
}

impl Model {
    fn new(valid: &[RangeInclusive<u64>]) -> Self {
        let mut valid: Vec<_> = valid
            .iter()
            .map(|range| {
                let end = range.end().checked_add(1).unwrap_or(u64::MAX);
                range.start().next_multiple_of(GRANULE)..end / GRANULE * GRANULE
            })
            .collect();
        valid.sort_by_key(|range| range.start);
        Self {
            valid,
            live: BTreeMap::new(),
            lost: BTreeMap::new(),
            resting: Vec::new(),
            quarantined: Vec::new(),
            stays: Vec::new(),
        }
    }

    /// What is neither live nor lost.
    fn idle(&self) -> Vec<Range<u64>> {
        self.without(self.live.iter().chain(&self.lost).map(|(&start, &end)| (start, end)))
    }

    fn free(&self) -> Vec<Range<u64>> {
        let waiting = self.resting.iter().chain(self.quarantined.iter().map(|(_, range)| range));
        let taken = self.live.iter().chain(&self.lost).map(|(&start, &end)| (start, end));
        self.without(taken.chain(waiting.map(|range| (range.start, range.end))))
    }

    fn without(&self, taken: impl Iterator<Item = (u64, u64)>) -> Vec<Range<u64>> {
        let taken: BTreeMap<u64, u64> = taken.collect();
        let mut free = Vec::new();
        for valid in &self.valid {
            let mut from = valid.start;
            for (&start, &end) in taken.range(valid.clone()) {
                assert!(from <= start, "two have {start:#x}");
                free.push(from..start);
                from = end;
            }
            free.push(from..valid.end);
        }
        free.retain(|range| !range.is_empty());
        free
    }

    /// As [`highest`](Self::highest), after waking as much as that takes.
    fn find(&mut self, request: Request) -> Option<u64> {
        let below = |range: &Range<u64>| range.start <= request.top;
        Self::highest(self.idle(), request)?;
        loop {
            if let Some(iova) = Self::highest(self.free(), request) {
                return Some(iova);
            }
            if let Some(place) = self.resting.iter().position(below) {
                self.resting.remove(place);
            } else {
                self.quarantined.remove(self.quarantined.iter().position(|(_, range)| below(range))?);
            }
        }
    }

    fn rest(&mut self, range: Range<u64>) {
        self.resting.push(range);
        let most = sum(&self.valid) / 4;
        while self.resting.len() > MAX_RESTING || self.resting.len() > 1 && sum(&self.resting) > most {
            self.resting.remove(0);
        }
    }

    /// The nth of the live allocations, if there are any.
    fn nth(&self, index: usize) -> Option<Range<u64>> {
        let (&start, &end) = self.live.iter().nth(index.checked_rem(self.live.len())?)?;
        Some(start..end)
    }

    /// The highest address that fits, in 128 bits so that nothing can overflow.
    fn highest(free: Vec<Range<u64>>, request: Request) -> Option<u64> {
        let size = u128::from(request.size).next_multiple_of(GRANULE.into());
        let least = if request.size >= LARGE { LARGE } else { GRANULE };
        let align = u128::from(request.align.max(least));
        free.into_iter()
            .filter_map(|free| {
                let end = u128::from(free.end).min(u128::from(request.top) + 1);
                let start = end.checked_sub(size)? / align * align;
                u64::try_from(start).ok().filter(|&start| start >= free.start)
            })
            .max()
    }

    fn overlapping(&self, range: &Range<u64>) -> Option<Range<u64>> {
        overlapping(&self.live, range)
    }
}

fn overlapping(ranges: &BTreeMap<u64, u64>, range: &Range<u64>) -> Option<Range<u64>> {
    let mut ranges = ranges.iter().map(|(&start, &end)| start..end);
    ranges.find(|other| other.start < range.end && range.start < other.end)
}

/// What is left of `range` when `cut` is taken out of it.
fn outside(range: &Range<u64>, cut: &Range<u64>) -> Vec<Range<u64>> {
    let granules = (range.start..range.end).step_by(4096).filter(|address| !cut.contains(address));
    let mut left: Vec<Range<u64>> = Vec::new();
    for address in granules {
        match left.last_mut() {
            Some(last) if last.end == address => last.end += GRANULE,
            _ => left.push(address..address + GRANULE),
        }
    }
    left
}

fn check(space: &Allocator, model: &Model) -> Result<(), TestCaseError> {
    let live: Vec<_> = model.live.iter().map(|(&start, &end)| start..end).collect();
    prop_assert_eq!(space.live().collect::<Vec<_>>(), live.clone());
    prop_assert_eq!(space.free_ranges().collect::<Vec<_>>(), model.free());
    prop_assert_eq!(space.allocated(), sum(&live));
    prop_assert_eq!(space.available(), sum(&model.idle()));
    prop_assert_eq!(space.resting().collect::<Vec<_>>(), model.resting.clone());
    prop_assert_eq!(space.quarantined().collect::<Vec<_>>(), model.quarantined.clone());
    let lost = model.lost.iter().map(|(&start, &end)| start..end);
    prop_assert_eq!(space.lost().collect::<Vec<_>>(), lost.collect::<Vec<_>>());
    Ok(())
}

fn step(space: &mut Allocator, model: &mut Model, step: Step) -> Result<(), TestCaseError> {
    match step {
        Step::Allocate(request) => match (space.allocate(request), model.find(request)) {
            (Ok(range), Some(iova)) => {
                prop_assert_eq!(range.clone(), iova..iova + request.size.next_multiple_of(GRANULE));
                prop_assert!(iova.is_multiple_of(request.align) && range.end - 1 <= request.top);
                prop_assert_eq!(model.overlapping(&range), None);
                prop_assert_eq!(space.containing(range.end - 1), Some(range.clone()));
                model.live.insert(range.start, range.end);
            }
            (Err(Error::Exhausted { largest, .. }), None) => {
                prop_assert_eq!(largest.as_ref().map(size), model.idle().iter().map(size).max());
                prop_assert!(largest.is_none_or(|range| model.idle().contains(&range)));
            }
            (result, expected) => prop_assert!(false, "{:x?} instead of {:x?}", result, expected),
        },
        Step::Reserve(range) => {
            let is_idle = model.idle().iter().any(|free| free.start <= range.start && range.end <= free.end);
            match space.reserve(range.clone()) {
                Ok(()) => {
                    prop_assert!(is_idle && !range.is_empty());
                    model.resting = model.resting.iter().flat_map(|other| outside(other, &range)).collect();
                    let stays = model.quarantined.iter();
                    model.quarantined = stays
                        .flat_map(|(id, other)| outside(other, &range).into_iter().map(|left| (*id, left)))
                        .collect();
                    model.live.insert(range.start, range.end);
                }
                Err(Error::Overlap { allocation, .. }) => {
                    prop_assert_eq!(model.overlapping(&range), Some(allocation));
                }
                Err(Error::Lost { lost, .. }) => {
                    prop_assert_eq!(model.overlapping(&range), None);
                    prop_assert_eq!(overlapping(&model.lost, &range), Some(lost));
                }
                Err(Error::Invalid { .. }) => {
                    prop_assert!(!is_idle && model.overlapping(&range).is_none());
                    prop_assert_eq!(overlapping(&model.lost, &range), None);
                }
                Err(Error::NotWhole { .. }) => {
                    prop_assert!(range.is_empty() || !range.end.is_multiple_of(GRANULE));
                }
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
        Step::Free(index) => {
            if let Some(range) = model.nth(index) {
                prop_assert_eq!(space.free(range.start), Ok(size(&range)));
                model.live.remove(&range.start);
                model.rest(range);
            }
        }
        Step::Quarantine(index) => {
            if let Some(range) = model.nth(index) {
                let id = space.quarantine(range.start).expect("it is live");
                prop_assert!(!model.stays.contains(&id));
                model.live.remove(&range.start);
                model.stays.push(id);
                model.quarantined.push((id, range));
            }
        }
        Step::Absolve(index) => {
            if let Some(index) = index.checked_rem(model.stays.len()) {
                let id = model.stays[index];
                space.absolve(id);
                let (absolved, kept) =
                    std::mem::take(&mut model.quarantined).into_iter().partition(|(of, _)| *of == id);
                model.quarantined = kept;
                let absolved: Vec<_> = absolved;
                absolved.into_iter().for_each(|(_, range)| model.rest(range));
            }
        }
        Step::Lose(index) => {
            if let Some(range) = model.nth(index) {
                prop_assert_eq!(space.lose(range.start), Ok(size(&range)));
                model.live.remove(&range.start);
                model.lost.insert(range.start, range.end);
            }
        }
        Step::FreeAddress(iova) => match space.free(iova) {
            Ok(size) => {
                prop_assert_eq!(model.live.remove(&iova), Some(iova + size));
                model.rest(iova..iova + size);
            }
            Err(Error::Inside { allocation, .. }) => {
                prop_assert!(allocation.start < iova && iova < allocation.end);
                prop_assert_eq!(model.live.get(&allocation.start), Some(&allocation.end));
            }
            Err(Error::NotAllocated { .. }) => {
                prop_assert_eq!(model.overlapping(&(iova..iova.saturating_add(1))), None);
            }
            Err(error) => prop_assert!(false, "{}", error),
        },
    }
    check(space, model)
}

proptest! {
    #[test]
    fn agrees_with_the_plain_model(valid in spaces(), history in vec(steps(), 0..300)) {
        let mut space = Allocator::new(valid.clone(), GRANULE).unwrap();
        let mut model = Model::new(&valid);
        prop_assert_eq!(space.valid(), &model.valid[..]);
        for next in history {
            step(&mut space, &mut model, next)?;
        }
        for start in model.live.keys() {
            prop_assert!(space.free(*start).is_ok());
        }
        prop_assert_eq!(space.allocated(), 0);
        prop_assert_eq!(space.available() + sum(&space.lost().collect::<Vec<_>>()), sum(&model.valid));
    }

    /// Enough ranges for a tree of three levels, taken apart in a random order.
    #[test]
    fn agrees_when_fragmented(order in Just((0..3000u64).collect::<Vec<_>>()).prop_shuffle(), top in 0u64..0x180_0000) {
        let mut space = Allocator::new([0..=0x177_0fff], GRANULE).unwrap();
        let mut model = Model::new(&[0..=0x177_0fff]);
        for index in 0..3000 {
            let range = index * 2 * GRANULE..(index * 2 + 1 + index % 2) * GRANULE;
            prop_assert_eq!(space.reserve(range.clone()), Ok(()));
            model.live.insert(range.start, range.end);
        }
        for (count, index) in order.into_iter().enumerate() {
            let start = index * 2 * GRANULE;
            // Some were handed out again since, under a larger range.
            prop_assert_eq!(space.free(start).is_ok(), model.live.contains_key(&start));
            if let Some(end) = model.live.remove(&start) {
                model.rest(start..end);
            }
            if count % 500 == 0 {
                let request = Request { size: GRANULE * (1 + index % 8), align: GRANULE << (index % 6), top };
                step(&mut space, &mut model, Step::Allocate(request))?;
                if let Some(start) = model.live.keys().find(|&start| start % (2 * GRANULE) != 0).copied() {
                    step(&mut space, &mut model, Step::FreeAddress(start))?;
                }
            }
        }
    }
}
