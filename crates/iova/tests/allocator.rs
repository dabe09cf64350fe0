//! The rules one by one: which address, which error, which words.

use jitney_iova::{Allocator, Error, MAX_ALIGN, Request};

const PAGE: u64 = 4096;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const FOUR_GIB: u64 = 4 * GIB;

fn intel() -> Allocator {
    Allocator::new([0..=0xfedf_ffff, 0xfef0_0000..=0x7f_ffff_ffff], PAGE).expect("two valid ranges")
}

fn limited(size: u64, top: u64) -> Request {
    Request { top, ..Request::new(size) }
}

fn first(space: &mut Allocator, request: Request) -> Result<u64, Error> {
    let range = space.allocate(request)?;
    assert_eq!(range.end - range.start, request.size.next_multiple_of(space.granule()));
    Ok(range.start)
}

#[test]
fn requests_without_a_limit_stay_above_4_gib_and_large_ones_are_aligned_after_a_small_one() {
    let mut space = intel();
    for (size, align) in [(PAGE, PAGE), (2 * MIB, 2 * MIB), (1, PAGE), (64 * MIB, 2 * MIB), (GIB, 2 * MIB)] {
        let iova = first(&mut space, Request::new(size)).unwrap();
        assert!(iova >= FOUR_GIB && iova.is_multiple_of(align), "{iova:#x}");
    }
    let iova = first(&mut space, Request { align: GIB, ..Request::new(PAGE) }).unwrap();
    assert!(iova >= FOUR_GIB && iova.is_multiple_of(GIB));
}

#[test]
fn requests_without_a_limit_go_below_4_gib_only_when_nothing_above_is_left() {
    let mut space = Allocator::new([0..=0xfedf_ffff, FOUR_GIB..=FOUR_GIB + 2 * PAGE - 1], PAGE).unwrap();
    assert_eq!(first(&mut space, Request::new(PAGE)), Ok(FOUR_GIB + PAGE));
    assert_eq!(first(&mut space, Request::new(PAGE)), Ok(FOUR_GIB));
    assert_eq!(first(&mut space, Request::new(PAGE)), Ok(0xfedf_f000));
}

#[test]
fn cards_with_fewer_bits_get_addresses_they_can_use() {
    let mut space = intel();
    assert_eq!(first(&mut space, limited(PAGE, 0xffff_ffff)), Ok(0xffff_f000));
    assert_eq!(first(&mut space, limited(PAGE, 0xfff_ffff)), Ok(0xfff_f000));
    assert_eq!(first(&mut space, limited(PAGE, 0xfff_fffe)), Ok(0xfff_e000));
    assert_eq!(first(&mut space, limited(4 * MIB, 0xffff_ffff)), Ok(0xffa0_0000));
    let request = limited(PAGE, PAGE - 2);
    assert!(matches!(first(&mut space, request), Err(Error::Exhausted { .. })));
}

#[test]
fn address_zero_is_the_last_to_go() {
    let mut space = Allocator::new([0..=4 * PAGE - 1], PAGE).unwrap();
    let order: Vec<_> = (0..4).map(|_| first(&mut space, Request::new(PAGE)).unwrap() / PAGE).collect();
    assert_eq!(order, [3, 2, 1, 0]);
    assert_eq!(space.free(0), Ok(PAGE));
}

#[test]
fn a_space_may_end_at_the_last_address() {
    let mut space = Allocator::new([0..=u64::MAX], PAGE).unwrap();
    assert_eq!(space.available(), u64::MAX - (PAGE - 1));

    let iova = first(&mut space, Request::new(PAGE)).unwrap();
    assert_eq!(iova.checked_add(PAGE), Some(u64::MAX - (PAGE - 1)));
    let large = first(&mut space, Request { align: MAX_ALIGN, ..Request::new(GIB) }).unwrap();
    assert!(large.is_multiple_of(GIB) && large.checked_add(GIB).is_some());
    assert_eq!(first(&mut space, Request::new(1 << 63)), Ok(0x7fff_ffff_8000_0000));
    for size in [u64::MAX, u64::MAX - PAGE, 1 << 63] {
        assert!(matches!(first(&mut space, Request::new(size)), Err(Error::Exhausted { .. })));
    }
    let live: Vec<_> = space.live().map(|range| range.start).collect();
    for iova in live {
        space.free(iova).unwrap();
    }
    assert_eq!(space.available(), u64::MAX - (PAGE - 1));
    assert_eq!(space.allocate(limited(u64::MAX - (PAGE - 1), u64::MAX)), Ok(0..u64::MAX - (PAGE - 1)));
}

#[test]
fn ranges_of_many_tebibytes_are_told_apart() {
    const TIB: u64 = 1 << 40;
    let mut space = Allocator::new([0..=64 * TIB - 1, 128 * TIB..=160 * TIB - 1], PAGE).unwrap();
    assert_eq!(first(&mut space, Request::new(48 * TIB)), Ok(16 * TIB));
    assert_eq!(first(&mut space, Request::new(32 * TIB)), Ok(128 * TIB));
    assert_eq!(first(&mut space, Request::new(16 * TIB)), Ok(0));
    assert_eq!(space.available(), 0);
}

#[test]
fn valid_ranges_are_trimmed_inwards_sorted_and_joined() {
    let space = Allocator::new([0x8000..=0x9fff, 0x1001..=0x3ffe, 0xa000..=0xa7ff, 0xb000..=0xbfff], PAGE);
    assert_eq!(space.unwrap().valid(), [0x2000..0x3000, 0x8000..0xa000, 0xb000..0xc000]);
    let space = Allocator::new([0x1000..=0x1fff, 0x2000..=0x2fff], PAGE);
    assert!(space.as_ref().is_ok_and(|space| space.valid().len() == 1));
    assert_eq!(space.unwrap().allocate(Request::new(2 * PAGE)), Ok(0x1000..0x3000));
}

#[test]
#[expect(clippy::reversed_empty_ranges, reason = "that is what is tested")]
fn bad_spaces_are_refused() {
    let new = |ranges: &[std::ops::RangeInclusive<u64>], granule| {
        Allocator::new(ranges.iter().cloned(), granule).unwrap_err()
    };
    assert_eq!(new(&[], PAGE), Error::NoValidRange { granule: PAGE });
    assert_eq!(new(&[1..=0x1ffe], PAGE), Error::NoValidRange { granule: PAGE });
    assert_eq!(new(&[u64::MAX - 4095..=u64::MAX], PAGE), Error::NoValidRange { granule: PAGE });
    assert_eq!(new(&[0x2000..=0x2000], PAGE), Error::NoValidRange { granule: PAGE });
    assert_eq!(new(&[0x2000..=0x1fff], PAGE), Error::Reversed { range: 0x2000..=0x1fff });
    let overlap = Error::ValidOverlap { first: 0..=0x2000, second: 0x2000..=0x4000 };
    assert_eq!(new(&[0x2000..=0x4000, 0..=0x2000], PAGE), overlap);
    for granule in [0, 1, 2048, 4097, 2 * GIB] {
        assert_eq!(new(&[0..=u64::MAX], granule), Error::Granule { granule });
    }
}

#[test]
fn the_granule_may_be_large() {
    let mut space = Allocator::new([0..=u64::MAX], GIB).unwrap();
    let iova = first(&mut space, Request::new(1)).unwrap();
    assert!(iova.is_multiple_of(GIB));
    assert_eq!(space.free(iova), Ok(GIB));
}

#[test]
fn bad_requests_are_refused_and_change_nothing() {
    let mut space = intel();
    assert_eq!(first(&mut space, Request::new(0)), Err(Error::ZeroSize));
    for align in [0, 3, 2 * GIB, u64::MAX] {
        assert_eq!(first(&mut space, Request { align, ..Request::new(1) }), Err(Error::Alignment { align }));
    }
    let range = 0x1000..0x1000;
    assert_eq!(space.reserve(range.clone()), Err(Error::NotWhole { range, granule: PAGE }));
    for range in [0x1800..0x3000, 0x1000..0x2800] {
        assert_eq!(space.reserve(range.clone()), Err(Error::NotWhole { range, granule: PAGE }));
    }
    let across = 0xfedf_f000..0xfef0_1000;
    assert!(matches!(space.reserve(across), Err(Error::Invalid { .. })));
    assert_eq!(space.allocated(), 0);
    assert_eq!(space.free_ranges().count(), 2);
}

#[test]
fn frees_are_exact() {
    let mut space = intel();
    space.reserve(0x10_0000..0x10_4000).unwrap();
    let inside = Error::Inside { iova: 0x10_1000, allocation: 0x10_0000..0x10_4000 };
    assert_eq!(space.free(0x10_1000), Err(inside));
    assert_eq!(space.free(0x10_4000), Err(Error::NotAllocated { iova: 0x10_4000 }));
    let range = 0xf_f000..0x10_1000;
    let overlap = Error::Overlap { range: range.clone(), allocation: 0x10_0000..0x10_4000 };
    assert_eq!(space.reserve(range), Err(overlap));
    assert_eq!(space.free(0x10_0000), Ok(0x4000));
    assert_eq!(space.free(0x10_0000), Err(Error::NotAllocated { iova: 0x10_0000 }));
}

#[test]
fn errors_name_the_ranges() {
    let mut space = Allocator::new([0..=0xf_ffff], PAGE).unwrap();
    space.reserve(0x4000..0x8000).unwrap();
    let message = |error: Error| error.to_string();
    let request = Request { align: 1, ..limited(2 * MIB, 0xffff_ffff) };
    assert_eq!(
        message(first(&mut space, request).unwrap_err()),
        "no free IOVA range for 0x200000 bytes aligned to 0x200000 up to address 0xffffffff; the largest free range is \
         [0x8000, 0xfffff] (0xf8000 bytes): free buffers, or ask for smaller ones, a smaller alignment or a higher top \
         address"
    );
    assert_eq!(
        message(space.reserve(0x7000..0x9000).unwrap_err()),
        "IOVA range [0x7000, 0x8fff] overlaps the allocation [0x4000, 0x7fff]: free that first, or choose another"
    );
    assert_eq!(
        message(space.free(0x5000).unwrap_err()),
        "IOVA 0x5000 is inside the allocation [0x4000, 0x7fff]: free that by its first address"
    );
    assert_eq!(
        message(space.reserve(0xf_f000..0x10_1000).unwrap_err()),
        "IOVA range [0xff000, 0x100fff] leaves the valid ranges [0x0, 0xfffff]: choose one inside them"
    );
}

/// So many free ranges that they are kept in several levels, all of which go, and come again.
#[test]
fn a_space_in_many_pieces_can_be_used_up_and_given_back() {
    const PAGES: u64 = 400;
    let mut space = Allocator::new([0..=PAGES * PAGE - 1], PAGE).unwrap();
    for page in (0..PAGES).step_by(2).chain((1..PAGES).step_by(2)) {
        space.reserve(page * PAGE..(page + 1) * PAGE).unwrap();
    }
    assert_eq!((space.free_ranges().count(), space.available()), (0, 0));
    assert!(matches!(space.allocate(Request::new(1)), Err(Error::Exhausted { largest: None, .. })));
    for page in 0..PAGES {
        space.free(page * PAGE).unwrap();
    }
    assert_eq!(space.allocate(Request::new(PAGES * PAGE)), Ok(0..PAGES * PAGE));
}
