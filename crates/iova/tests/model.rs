//! Random histories against a plain model: a sorted list of free granules' ranges, searched from the top.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use jitney_iova::{Allocator, Error, Request};
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
        1 => addresses().prop_map(Step::FreeAddress),
    ]
}

/// What is free, found by looking at everything.
struct Model {
    valid: Vec<Range<u64>>,
    live: BTreeMap<u64, u64>,
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
        Self { valid, live: BTreeMap::new() }
    }

    fn free(&self) -> Vec<Range<u64>> {
        let mut free = Vec::new();
        for valid in &self.valid {
            let mut from = valid.start;
            for (&start, &end) in self.live.range(valid.clone()) {
                free.push(from..start);
                from = end;
            }
            free.push(from..valid.end);
        }
        free.retain(|range| !range.is_empty());
        free
    }

    /// The highest address that fits, in 128 bits so that nothing can overflow.
    fn find(&self, request: Request) -> Option<u64> {
        let size = u128::from(request.size).next_multiple_of(GRANULE.into());
        let least = if request.size >= LARGE { LARGE } else { GRANULE };
        let align = u128::from(request.align.max(least));
        self.free()
            .into_iter()
            .filter_map(|free| {
                let end = u128::from(free.end).min(u128::from(request.top) + 1);
                let start = end.checked_sub(size)? / align * align;
                u64::try_from(start).ok().filter(|&start| start >= free.start)
            })
            .max()
    }

    fn overlapping(&self, range: &Range<u64>) -> Option<Range<u64>> {
        let mut live = self.live.iter().map(|(&start, &end)| start..end);
        live.find(|live| live.start < range.end && range.start < live.end)
    }
}

fn check(space: &Allocator, model: &Model) -> Result<(), TestCaseError> {
    let live: Vec<_> = model.live.iter().map(|(&start, &end)| start..end).collect();
    let sum = |ranges: &[Range<u64>]| ranges.iter().map(|range| range.end - range.start).sum::<u64>();
    prop_assert_eq!(space.live().collect::<Vec<_>>(), live.clone());
    prop_assert_eq!(space.free_ranges().collect::<Vec<_>>(), model.free());
    prop_assert_eq!(space.allocated(), sum(&live));
    prop_assert_eq!(space.available(), sum(&model.free()));
    Ok(())
}

fn step(space: &mut Allocator, model: &mut Model, step: Step) -> Result<(), TestCaseError> {
    match step {
        Step::Allocate(request) => match (space.allocate(request), model.find(request)) {
            (Ok(iova), Some(expected)) => {
                prop_assert_eq!(iova, expected);
                let range = iova..iova + request.size.next_multiple_of(GRANULE);
                prop_assert!(iova.is_multiple_of(request.align) && range.end - 1 <= request.top);
                prop_assert_eq!(model.overlapping(&range), None);
                prop_assert_eq!(space.containing(range.end - 1), Some(range.clone()));
                model.live.insert(range.start, range.end);
            }
            (Err(Error::Exhausted { largest, .. }), None) => {
                let size = |range: &Range<u64>| range.end - range.start;
                prop_assert_eq!(largest.as_ref().map(size), model.free().iter().map(size).max());
                prop_assert!(largest.is_none_or(|range| model.free().contains(&range)));
            }
            (result, expected) => prop_assert!(false, "{:x?} instead of {:x?}", result, expected),
        },
        Step::Reserve(range) => {
            let is_free = model.free().iter().any(|free| free.start <= range.start && range.end <= free.end);
            match space.reserve(range.clone()) {
                Ok(()) => {
                    prop_assert!(is_free && !range.is_empty());
                    model.live.insert(range.start, range.end);
                }
                Err(Error::Overlap { allocation, .. }) => {
                    prop_assert_eq!(model.overlapping(&range), Some(allocation));
                }
                Err(Error::Invalid { .. }) => {
                    prop_assert!(!is_free && model.overlapping(&range).is_none());
                }
                Err(Error::NotWhole { .. }) => {
                    prop_assert!(range.is_empty() || !range.end.is_multiple_of(GRANULE));
                }
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
        Step::Free(index) => {
            if let Some(nth) = index.checked_rem(model.live.len())
                && let Some((&start, &end)) = model.live.iter().nth(nth)
            {
                prop_assert_eq!(space.free(start), Ok(end - start));
                model.live.remove(&start);
            }
        }
        Step::FreeAddress(iova) => match space.free(iova) {
            Ok(size) => prop_assert_eq!(model.live.remove(&iova), Some(iova + size)),
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
        prop_assert_eq!(space.free_ranges().collect::<Vec<_>>(), model.valid);
        prop_assert_eq!(space.allocated(), 0);
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
            prop_assert!(space.free(start).is_ok());
            model.live.remove(&start);
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
