//! When an address is used again: as late as possible, and not before its quarantine ends.

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use jitney_iova::{Allocator, Error, MAX_RESTING, Request};

const PAGE: u64 = 4096;

/// A space of so many pages.
fn pages(count: u64) -> Allocator {
    Allocator::new([0..=count * PAGE - 1], PAGE).expect("a valid range")
}

fn page(number: u64) -> Range<u64> {
    number * PAGE..(number + 1) * PAGE
}

/// The pages from `first` to `end` (exclusive).
fn span(first: u64, end: u64) -> Range<u64> {
    first * PAGE..end * PAGE
}

fn take(space: &mut Allocator) -> u64 {
    space.allocate(Request::new(PAGE)).expect("a page").start / PAGE
}

#[test]
fn what_was_freed_is_used_again_last_and_oldest_first() {
    let mut space = pages(16);
    let mut taken: Vec<u64> = (0..4).map(|_| take(&mut space)).collect();
    assert_eq!(taken, [15, 14, 13, 12]);
    for page in [13, 15, 12, 14] {
        space.free(page * PAGE).unwrap();
    }
    taken = (0..16).map(|_| take(&mut space)).collect();
    assert_eq!(taken, [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 13, 15, 12, 14]);
    assert!(matches!(space.allocate(Request::new(PAGE)), Err(Error::Exhausted { largest: None, .. })));
}

#[test]
fn no_more_than_a_number_of_ranges_rests_so_that_the_same_few_are_used_in_turn() {
    let mut space = Allocator::new([0..=0x7f_ffff_ffff], PAGE).unwrap();
    let top = 0x80_0000_0000;
    let mut lowest = top;
    for round in 0..3 * MAX_RESTING as u64 {
        let range = space.allocate(Request::new(PAGE)).unwrap();
        if round <= MAX_RESTING as u64 {
            assert!(range.start < lowest, "{range:x?} was used before");
        }
        lowest = lowest.min(range.start);
        space.free(range.start).unwrap();
    }
    assert_eq!(space.resting().count(), MAX_RESTING);
    assert_eq!(lowest, top - (MAX_RESTING as u64 + 1) * PAGE);
}

#[test]
fn no_more_than_a_quarter_of_the_space_rests_so_that_small_cards_keep_the_low_addresses() {
    let mut space = Allocator::new([0..=(64 << 30) - 1], PAGE).unwrap();
    for _ in 0..1000 {
        let range = space.allocate(Request::new(1 << 30)).unwrap();
        assert!(range.start >= 4 << 30, "{range:x?}");
        space.free(range.start).unwrap();
    }
    assert_eq!(space.resting().count(), 16);
    // What is larger than that rests alone.
    let range = space.allocate(Request::new(20 << 30)).unwrap();
    space.free(range.start).unwrap();
    assert_eq!(space.resting().collect::<Vec<_>>(), [range]);
}

#[test]
fn what_is_in_quarantine_is_the_last_resort_oldest_first() {
    let mut space = pages(8);
    (0..8).for_each(|_| {
        take(&mut space);
    });
    for page in [5, 2] {
        space.quarantine(page * PAGE).unwrap();
    }
    for page in [7, 0] {
        space.free(page * PAGE).unwrap();
    }
    assert_eq!((0..4).map(|_| take(&mut space)).collect::<Vec<_>>(), [7, 0, 5, 2]);
}

#[test]
fn an_absolved_range_rests_and_one_that_was_taken_meanwhile_stays_taken() {
    let mut space = pages(3);
    (0..3).for_each(|_| {
        take(&mut space);
    });
    let first = space.quarantine(PAGE).unwrap();
    let second = space.quarantine(2 * PAGE).unwrap();
    space.absolve(second);
    assert_eq!(space.resting().collect::<Vec<_>>(), [page(2)]);
    assert_eq!((take(&mut space), take(&mut space)), (2, 1));

    // Another stay at the same address is not ended by the number of the first.
    let third = space.quarantine(PAGE).unwrap();
    space.absolve(first);
    assert_eq!(space.quarantined().collect::<Vec<_>>(), [(third, page(1))]);
    space.absolve(third);
    space.absolve(third);
    assert_eq!(space.resting().collect::<Vec<_>>(), [page(1)]);
}

#[test]
fn a_request_that_cannot_be_met_ends_nobodys_quarantine() {
    let mut space = pages(8);
    (0..8).for_each(|_| {
        take(&mut space);
    });
    for page in 4..8 {
        space.quarantine(page * PAGE).unwrap();
    }
    space.free(0).unwrap();
    let before = space.clone();
    for request in [
        Request::new(5 * PAGE),
        Request::new(u64::MAX),
        Request { top: 4 * PAGE - 1, ..Request::new(2 * PAGE) },
        Request { align: 4 * PAGE, top: 7 * PAGE, ..Request::new(4 * PAGE) },
    ] {
        assert!(matches!(space.allocate(request), Err(Error::Exhausted { .. })), "{request:?}");
    }
    assert_eq!(space, before);
    // Nor does one below a limit wake what lies above it, were it by one byte.
    assert_eq!(space.allocate(Request { top: 5 * PAGE - 1, ..Request::new(PAGE) }), Ok(page(0)));
    assert_eq!(space.allocate(Request { top: 5 * PAGE - 1, ..Request::new(PAGE) }), Ok(page(4)));
    assert_eq!(space.quarantined().count(), 3);
}

#[test]
fn what_starts_at_a_limit_is_not_woken_for_who_stays_below() {
    let mut space = pages(8);
    (0..8).for_each(|_| {
        take(&mut space);
    });
    let below = Request { top: 4 * PAGE - 1, ..Request::new(PAGE) };
    space.free(4 * PAGE).unwrap();
    space.free(3 * PAGE).unwrap();
    assert_eq!(space.allocate(below), Ok(page(3)));
    assert!(space.resting().eq([page(4)]));

    space.quarantine(5 * PAGE).unwrap();
    space.quarantine(3 * PAGE).unwrap();
    let below = Request { top: 5 * PAGE - 1, ..Request::new(PAGE) };
    assert_eq!(space.allocate(below), Ok(page(4)));
    assert_eq!(space.allocate(below), Ok(page(3)));
    assert_eq!(space.quarantined().map(|(_, range)| range).collect::<Vec<_>>(), vec![page(5)]);
}

#[test]
fn a_reservation_cuts_out_of_what_rests_and_what_is_in_quarantine() {
    let mut space = pages(16);
    space.reserve(0..4 * PAGE).unwrap();
    space.reserve(4 * PAGE..8 * PAGE).unwrap();
    space.free(0).unwrap();
    let id = space.quarantine(4 * PAGE).unwrap();
    space.reserve(3 * PAGE..5 * PAGE).unwrap();
    space.reserve(6 * PAGE..7 * PAGE).unwrap();
    assert!(space.resting().eq([span(0, 3)]));
    assert_eq!(space.quarantined().collect::<Vec<_>>(), [(id, page(5)), (id, page(7))]);
    space.absolve(id);
    // What rests is all that is left of both: no more than a quarter of the space may.
    assert_eq!(space.resting().collect::<Vec<_>>(), [page(5), page(7)]);
    assert_eq!(space.free_ranges().collect::<Vec<_>>(), [0..3 * PAGE, 8 * PAGE..16 * PAGE]);
}

#[test]
fn what_is_lost_is_never_used_again() {
    let mut space = pages(4);
    let request = Request::new(2 * PAGE);
    assert_eq!(space.allocate(request), Ok(2 * PAGE..4 * PAGE));
    assert_eq!(space.lose(2 * PAGE), Ok(2 * PAGE));
    assert_eq!(space.lose(2 * PAGE), Err(Error::NotAllocated { iova: 2 * PAGE }));
    assert_eq!(space.allocate(request), Ok(0..2 * PAGE));
    let error = space.allocate(Request::new(PAGE)).unwrap_err();
    assert_eq!(error, Error::Exhausted { size: PAGE, align: PAGE, top: u64::MAX, largest: None });
    space.free(0).unwrap();
    assert_eq!(space.available(), 2 * PAGE);
    assert!(space.lost().eq([span(2, 4)]));
    assert_eq!(
        space.reserve(PAGE..3 * PAGE).unwrap_err().to_string(),
        "IOVA range [0x1000, 0x2fff] overlaps [0x2000, 0x3fff], which may still be mapped for a card and is never used \
         again: choose another"
    );
}

#[test]
fn two_spaces_with_the_same_history_are_equal_and_hash_alike() {
    let state = RandomState::new();
    let history = |last: u64| {
        let mut space = pages(64);
        let taken: Vec<u64> = (0..8).map(|_| take(&mut space)).collect();
        space.free(taken[3] * PAGE).unwrap();
        space.quarantine(taken[5] * PAGE).unwrap();
        space.lose(taken[6] * PAGE).unwrap();
        space.free(last * PAGE).unwrap();
        space
    };
    assert_eq!(history(61), history(61));
    assert_eq!(state.hash_one(history(61)), state.hash_one(history(61)));
    assert_ne!(history(61), history(63));
}
