//! Fewer addresses than before: a card has come that cannot use them all.

use jitney_iova::{Allocator, Error, Request};
use proptest::collection::vec;
use proptest::prelude::*;

const PAGE: u64 = 4096;

#[test]
fn what_a_card_that_came_later_cannot_use_is_not_handed_out_any_more() {
    let mut space = Allocator::new([0..=0xffff_ffff_ffff], PAGE).unwrap();
    let high = space.allocate(Request::new(PAGE)).unwrap();
    let rests = space.allocate(Request::new(PAGE)).unwrap();
    let waits = space.allocate(Request::new(PAGE)).unwrap();
    space.free(rests.start).unwrap();
    space.quarantine(waits.start).unwrap();
    space.restrict([0..=0xfedf_ffff, 0xfef0_0000..=0x7f_ffff_ffff]).unwrap();
    assert_eq!(space.valid(), [0..0xfee0_0000, 0xfef0_0000..0x80_0000_0000]);
    assert_eq!(space.live().collect::<Vec<_>>(), std::slice::from_ref(&high));
    assert_eq!((space.resting().count(), space.quarantined().count()), (0, 0));
    assert_eq!(space.allocate(Request::new(PAGE)).unwrap().end, 0x80_0000_0000);
    // It was allocated before, and is nobody's again.
    let stay = space.quarantine(high.start).unwrap();
    space.absolve(stay);
    assert!(space.free_ranges().all(|range| range.end <= 0x80_0000_0000));
    assert!(space.lost().any(|range| range == high));
}

#[test]
fn nothing_changes_if_nothing_would_be_left() {
    let mut space = Allocator::new([0..=0xffff_ffff], PAGE).unwrap();
    let before = space.clone();
    let error = space.restrict([0x1_0000_0000..=0x1_ffff_ffff]).unwrap_err();
    assert!(matches!(error, Error::NoValidRange { .. }), "{error}");
    assert_eq!(space, before);
    space.restrict([0..=u64::MAX]).unwrap();
    assert_eq!(space, before);
}

proptest! {
    /// Whatever was taken and given back before and after: nothing is handed out that is not in both, and all of the rest is.
    #[test]
    fn what_is_handed_out_is_in_all_ranges(
        before in vec((1u64..20, any::<prop::sample::Index>(), 0u8..3), 0..40),
        (start, length) in (0u64..100, 1u64..100),
    ) {
        let mut space = Allocator::new([0..=128 * PAGE - 1], PAGE).unwrap();
        let mut live = Vec::new();
        for (pages, which, how) in before {
            if let Ok(range) = space.allocate(Request::new(pages * PAGE)) {
                live.push(range.start);
            }
            if how > 0 && !live.is_empty() {
                let iova = live.swap_remove(which.index(live.len()));
                match how {
                    1 => drop(space.free(iova).unwrap()),
                    _ => drop(space.quarantine(iova).unwrap()),
                }
            }
        }
        let end = (start + length).min(128);
        prop_assume!(start < end);
        space.restrict([start * PAGE..=end * PAGE - 1]).unwrap();
        for iova in live {
            space.free(iova).unwrap();
        }
        let mut pages = Vec::new();
        while let Ok(range) = space.allocate(Request::new(PAGE)) {
            pages.push(range.start / PAGE);
        }
        pages.sort_unstable();
        // What was allocated across an end is lost as a whole.
        prop_assert!(pages.iter().all(|page| (start..end).contains(page)));
        prop_assert!(pages.windows(2).all(|pair| pair[0] < pair[1]));
        let lost: u64 = space.lost().map(|range| range.end - range.start).sum();
        prop_assert_eq!(pages.len() as u64 * PAGE + lost, 128 * PAGE);
        prop_assert_eq!(space.available(), 0);
    }
}
