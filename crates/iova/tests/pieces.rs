//! A space in so many pieces that they are kept in three levels, changed page by page: whatever is nobody's is found.

use jitney_iova::{Allocator, Error, Request};
use proptest::collection::vec;
use proptest::prelude::*;
use std::ops::Range;

const PAGE: u64 = 4096;
const PAGES: usize = 2048;

/// The largest run of pages that are nobody's, the highest of several.
fn largest(live: &[bool]) -> Option<Range<u64>> {
    let mut best = 0..0;
    let mut start = 0;
    for page in 0..=live.len() {
        if live.get(page).copied().unwrap_or(true) {
            if page > start && page - start >= best.len() {
                best = start..page;
            }
            start = page + 1;
        }
    }
    (!best.is_empty()).then_some(best.start as u64 * PAGE..best.end as u64 * PAGE)
}

fn page(page: usize) -> Range<u64> {
    page as u64 * PAGE..(page as u64 + 1) * PAGE
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_is_nobodys_is_found_in_many_pieces(toggled in vec(0..PAGES, 0..3000), size in 2..5_u64) {
        let mut space = Allocator::new([0..=PAGES as u64 * PAGE - 1], PAGE).unwrap();
        let mut live = vec![false; PAGES];
        let evens = (0..PAGES).step_by(2);
        for (count, at) in evens.chain(toggled).enumerate() {
            match live[at] {
                true => prop_assert_eq!(space.free(page(at).start), Ok(PAGE)),
                false => prop_assert_eq!(space.reserve(page(at)), Ok(())),
            }
            live[at] = !live[at];
            if count.is_multiple_of(16) {
                let refused = space.allocate(Request::new(1 << 40));
                let Err(Error::Exhausted { largest: found, .. }) = refused else { panic!("{refused:?}") };
                prop_assert_eq!(found, largest(&live));
            }
        }
        for size in [size, 1] {
            while let Ok(range) = space.allocate(Request::new(size * PAGE)) {
                for at in range.step_by(usize::try_from(PAGE).unwrap()) {
                    prop_assert!(!std::mem::replace(&mut live[(at / PAGE) as usize], true));
                }
            }
            let left = largest(&live).map_or(0, |range| range.end - range.start);
            prop_assert!(left < size * PAGE, "{} pages are left, and {} were not found", left / PAGE, size);
        }
        prop_assert_eq!(space.available(), 0);
    }
}
