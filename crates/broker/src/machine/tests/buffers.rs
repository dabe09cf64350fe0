//! DMA buffers from the request to the end.

use super::*;
use crate::machine::Space;

#[test]
fn memory_of_a_card_is_in_its_space_alone() {
    let mut world = world();
    let client = user(&mut world, 0);
    refused(&mut world, client, allocate(Some(CardId(1))), ErrorKind::Invalid);
    refused(&mut world, client, allocate(Some(CardId(2))), ErrorKind::NotFound);
    buffer(&mut world, client, Some(CARD));
    buffer(&mut world, client, None);
    let spaces: Vec<Space> = world.memory.iter().map(|memory| memory.space).collect();
    assert_eq!(spaces, [Space::One(0), Space::All]);
}

#[test]
fn memory_for_all_cards_is_in_one_space_if_there_is_one() {
    let mut world = World::new(Setting { one_space: true, ..Setting::default() });
    let client = world.join(0);
    buffer(&mut world, client, None);
    assert_eq!(world.memory[0].space, Space::One(0));
}

#[test]
fn what_cannot_be_a_buffer_is_refused() {
    let mut world = world();
    let client = world.join(0);
    let request =
        |size, align, page_shift| Request::Allocate { card: None, size, align, top: u64::MAX, page_shift };
    for (size, align, page_shift) in [
        (4096, 1, 13),
        (0, 1, 12),
        (1 << 63, 1, 12),
        ((1 << 63) - 1, 1, 12),
        (u64::MAX, 1, 21),
        (4096, 3, 12),
    ] {
        let error = refused(&mut world, client, request(size, align, page_shift), ErrorKind::Invalid);
        assert!(world.at_work.is_empty(), "{error}");
    }
    let nothing = refused(&mut world, client, request(0, 1, 12), ErrorKind::Invalid);
    assert!(nothing.to_string().contains("cannot have 0 bytes"), "{nothing}");
    let top = Request::Allocate { card: None, size: 8192, align: 1, top: 4095, page_shift: 12 };
    let error = refused(&mut world, client, top, ErrorKind::Exhausted);
    assert!(error.to_string().contains("a DMA buffer of 0x2000 bytes"), "{error}");
    for (page_shift, aligned) in [(12, 1 << 12), (21, 1 << 21), (30, 1 << 30)] {
        assert_eq!(world.ask(client, request(1, 1, page_shift)), None);
        let Some(Work::Map { iova, size, .. }) = works(&world).pop() else { panic!() };
        assert!(iova.is_multiple_of(aligned) && *size == aligned, "{iova:#x} {size:#x}");
        world.finish_all();
    }
}

#[test]
fn a_buffer_is_freed_once_and_by_its_owner() {
    let mut world = world();
    let (client, other) = (world.join(0), world.join(1));
    world.ask(client, allocate(None));
    let iova = world.memory[0].range.start;
    refused(&mut world, client, Request::Free { iova }, ErrorKind::Invalid);
    world.finish_all();
    let error = refused(&mut world, other, Request::Free { iova }, ErrorKind::Invalid);
    assert!(error.to_string().contains(&format!("no DMA buffer at IOVA {iova:#x}")), "{error}");
    refused(&mut world, client, Request::Free { iova: iova + 4096 }, ErrorKind::Invalid);
    assert_eq!(world.ask(client, Request::Free { iova }), None);
    refused(&mut world, client, Request::Free { iova }, ErrorKind::Invalid);
    assert_eq!(world.finish(0, How::Done), Some(Ok(Reply::Done)));
    refused(&mut world, client, Request::Free { iova }, ErrorKind::Invalid);
    assert_eq!(world.machine.iovas.allocated(), 0);
    assert_eq!(world.machine.clients[&client].bytes, 0);
}

#[test]
fn an_address_that_could_not_be_unmapped_is_never_used_again() {
    let mut world = world();
    let client = world.join(0);
    let iova = buffer(&mut world, client, None);
    world.ask(client, Request::Free { iova });
    assert!(world.finish(0, How::Fails).unwrap().is_err());
    assert_eq!(world.machine.iovas.lost().count(), 1);
    assert_ne!(buffer(&mut world, client, None), iova);
}

#[test]
fn a_map_that_fails_leaves_nothing() {
    for (how, lost) in [(How::Fails, 0), (How::Loses, 1)] {
        let mut world = world();
        let client = world.join(0);
        world.ask(client, allocate(None));
        assert_eq!(world.finish(0, how).unwrap().unwrap_err().kind(), ErrorKind::System);
        assert_eq!((world.machine.iovas.allocated(), world.machine.iovas.lost().count()), (0, lost));
        assert_eq!(world.machine.clients[&client].bytes, 0);
    }
}

/// core.md C14: the machine rounded to the page and the allocator to the granule, and no buffer could be had.
#[test]
fn core_c14_a_buffer_is_whole_pages_of_the_iommu() {
    const PAGE: u64 = 0x1_0000;
    let mut world = World::new(Setting { coarse: true, ..Setting::default() });
    let client = world.join(0);
    let request = |size| Request::Allocate { card: None, size, align: 1, top: u64::MAX, page_shift: 12 };
    for (asked, expected) in [(1, PAGE), (4096, PAGE), (PAGE, PAGE), (PAGE + 1, 2 * PAGE)] {
        assert_eq!(world.ask(client, request(asked)), None);
        let [Work::Map { iova, size, page_shift: 12, .. }] = *works(&world) else { panic!("{asked:#x}") };
        let (iova, size) = (*iova, *size);
        assert!(iova.is_multiple_of(PAGE) && size == expected, "{asked:#x}: {size:#x} at {iova:#x}");
        assert_eq!(world.finish(0, How::Done), Some(Ok(Reply::Allocated { iova, size })));
        assert_eq!(world.machine.clients[&client].bytes, expected);
        world.ask(client, Request::Free { iova });
        assert!(
            matches!(*works(&world), [Work::Unmap { size, .. }] if *size == expected),
            "as it was mapped"
        );
        assert_eq!(world.finish(0, How::Done), Some(Ok(Reply::Done)));
    }
    assert_eq!((world.machine.iovas.allocated(), world.machine.clients[&client].bytes), (0, 0));
}

/// core.md B4: a client that maps something itself made all others fail for as long as it lived.
#[test]
fn core_b4_where_something_else_is_mapped_the_next_address_is_tried() {
    let mut world = world();
    let client = world.join(0);
    world.ask(client, allocate(None));
    for lost in 1..4 {
        assert_eq!(world.finish(0, How::Meets), None, "it is tried again");
        assert_eq!((world.at_work.len(), world.machine.iovas.lost().count()), (1, lost));
    }
    let error = world.finish(0, How::Meets).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Held, "four times");
    assert_eq!(world.machine.iovas.lost().count(), 4);
    world.ask(client, allocate(None));
    world.finish(0, How::Meets);
    assert!(matches!(world.finish(0, How::Done), Some(Ok(Reply::Allocated { .. }))));
    // For who is gone nothing is tried.
    world.ask(client, allocate(None));
    killed(&mut world, client);
    ends(&mut world, |work| matches!(work, Work::Map { .. }), How::Meets);
    assert!(works(&world).iter().all(|work| is_unmap(work)));
}

#[test]
fn where_all_addresses_are_another_owners_no_others_are_tried() {
    let mut world = world();
    let client = world.join(0);
    world.ask(client, allocate(None));
    assert_eq!(world.finish(0, How::Foreign).unwrap().unwrap_err().kind(), ErrorKind::Held);
    assert!(world.at_work.is_empty());
}

#[test]
fn memory_that_decides_where_it_is_is_the_client_s_when_it_is_made() {
    let mut world = physical();
    let client = user(&mut world, 0);
    for (card, space) in [(None, Space::All), (Some(CARD), Space::One(0))] {
        world.ask(client, allocate(card));
        let [Work::Place { space: asked, size: 8192, align: 4096, top: 0xffff_ffff, page_shift: 12 }] =
            works(&world)[..]
        else {
            panic!("{:?}", works(&world))
        };
        assert_eq!(*asked, space);
        let Some(Ok(Reply::Allocated { iova, size })) = world.finish(0, How::Done) else { panic!() };
        assert_eq!(size, 8192 + 4096, "all of it");
        assert_eq!(world.machine.iovas.containing(iova), Some(iova..iova + size));
        world.ask(client, Request::Free { iova });
        world.finish(0, How::Done);
        assert_eq!(world.machine.iovas.allocated(), 0);
    }
    // The other card has an IOMMU.
    world.ask(client, Request::Open { card: CardId(1) });
    world.finish_all();
    world.ask(client, allocate(Some(CardId(1))));
    assert!(matches!(works(&world)[..], [Work::Map { space: Space::One(1), .. }]));
}

#[test]
fn memory_of_which_nobody_says_where_it_lies_is_none() {
    for how in [How::Forgets, How::Fails, How::Meets] {
        let mut world = physical();
        let client = world.join(0);
        world.ask(client, allocate(None));
        assert!(world.finish(0, how).unwrap().is_err());
        assert!(world.at_work.is_empty());
    }
}

/// The client has a buffer at the very address at which memory was made that cannot be used: that one stays.
#[test]
fn memory_that_lies_where_something_is_goes_back_and_what_was_there_stays() {
    for how in [How::Done, How::Fails] {
        let mut world = physical();
        let client = user(&mut world, 0);
        world.ask(client, Request::Open { card: CardId(1) });
        world.finish_all();
        let iova = buffer(&mut world, client, Some(CardId(1)));
        world.ask(client, allocate(Some(CARD)));
        assert!(world.finish(0, How::Done).unwrap().is_err());
        assert!(
            matches!(works(&world)[..], [Work::Unmap { space: Space::One(0), iova: at, size: 8192 }] if *at == iova)
        );
        assert_eq!(world.finish(0, how), None);
        assert_eq!(world.machine.iovas.live().count(), 1);
        assert_eq!(world.machine.iovas.lost().count(), 0);
        world.ask(client, Request::Free { iova });
        assert!(
            matches!(works(&world)[..], [Work::Unmap { space: Space::One(1), .. }]),
            "it is still the client's"
        );
    }
}
