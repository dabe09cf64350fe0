//! Memory that clients share.

use super::*;
use crate::protocol::{Offered, TOKEN_SIZE};

fn share(iova: u64, name: Option<&str>, writable: bool) -> Request {
    Request::Share { iova, name: name.map(str::to_owned), writable }
}

/// Shares a buffer; returns its token.
#[track_caller]
fn shared(world: &mut World, client: ClientId, request: Request) -> [u8; TOKEN_SIZE] {
    assert_eq!(world.ask(client, request), None);
    match ends(world, |work| matches!(work, Work::Share { .. }), How::Done) {
        Some(Ok(Reply::Shared { token })) => token,
        other => panic!("{other:?}"),
    }
}

fn by_token(token: [u8; TOKEN_SIZE]) -> Request {
    Request::Attach { offered: Offered::Token(token) }
}

fn by_name(name: &str) -> Request {
    Request::Attach { offered: Offered::Name(name.into()) }
}

/// Two who have a card open, and a buffer of the first that both have.
fn pair(world: &mut World, writable: bool) -> (ClientId, ClientId, u64) {
    let (first, second) = (user(world, 0), user(world, 1));
    let iova = buffer(world, first, Some(CARD));
    let token = shared(world, first, share(iova, None, writable));
    granted(world, second, by_token(token));
    (first, second, iova)
}

fn bytes(world: &World, client: ClientId) -> u64 {
    world.machine.clients[&client].bytes
}

#[test]
fn whoever_is_last_has_it_unmapped() {
    for first_to_go in [0, 1] {
        let mut world = world();
        let (first, second, iova) = pair(&mut world, false);
        assert_eq!((bytes(&world, first), bytes(&world, second)), (8192, 8192), "it counts for each");
        let order = if first_to_go == 0 { [first, second] } else { [second, first] };
        assert_eq!(granted(&mut world, order[0], Request::Free { iova }), Reply::Done);
        assert!(world.at_work.is_empty(), "the other has it");
        assert_eq!(bytes(&world, order[0]), 0);
        refused(&mut world, order[0], Request::Free { iova }, ErrorKind::Invalid);
        assert_eq!(world.ask(order[1], Request::Free { iova }), None);
        assert!(matches!(works(&world)[..], [Work::Unmap { iova: at, size: 8192, .. }] if *at == iova));
        assert_eq!(world.finish(0, How::Done), Some(Ok(Reply::Done)));
        assert_eq!(world.machine.iovas.allocated(), 0);
    }
}

#[test]
fn who_is_killed_first_lets_go_and_who_is_killed_last_has_it_unmapped() {
    let mut world = world();
    let (first, second, iova) = pair(&mut world, false);
    leased(&mut world, first, "h2c0", 2);
    killed(&mut world, first);
    killed(&mut world, second);
    // The second has no will, and is at its memory before the first.
    assert!(matches!(works(&world)[..], [Work::CarryOut { .. }]), "the other's engine comes first");
    assert_eq!(world.clients.len(), 1, "and it is waited for by who has it");
    ends(&mut world, is_will, How::Done);
    assert!(matches!(works(&world)[..], [Work::Unmap { iova: at, .. }] if *at == iova));
    world.finish_all();
    assert!(world.clients.is_empty());
}

#[test]
fn a_reader_that_dies_stops_nothing_of_the_writer() {
    let mut world = world();
    let (first, second, iova) = pair(&mut world, false);
    let lease = leased(&mut world, first, "c2h0", 2);
    killed(&mut world, second);
    assert!(world.at_work.is_empty(), "no will, no unmap, no reset: {:?}", works(&world));
    assert!(!world.clients.contains_key(&second));
    granted(&mut world, first, Request::Release { card: CARD, lease, will: false });
    world.ask(first, Request::Free { iova });
    world.finish_all();
    // The reader had the card open too, and may have had it write there.
    assert_eq!(world.machine.iovas.quarantined().count(), 1);
    world.ask(first, Request::Reset { card: CARD });
    world.finish_all();
    assert_eq!(world.machine.iovas.quarantined().count(), 0);
}

#[test]
fn cards_of_all_who_had_it_are_waited_for() {
    let mut world = world();
    let (first, second, iova) = pair(&mut world, true);
    let third = user(&mut world, 2);
    world.ask(third, Request::Open { card: CardId(1) });
    world.ask(second, Request::Open { card: CardId(1) });
    world.finish_all();
    killed(&mut world, second);
    world.finish_all();
    killed(&mut world, first);
    world.finish_all();
    assert_eq!(world.kept.len(), 1, "at {iova:#x} nothing is mapped, and two cards may write there");
    for (card, left) in [(CARD, 1), (CardId(1), 0)] {
        world.ask(third, Request::Reset { card });
        world.finish_all();
        assert_eq!(world.machine.iovas.quarantined().count(), left);
    }
}

#[test]
fn memory_without_an_iommu_waits_for_the_cards_of_who_had_it_before_and_no_client_waits_for_that() {
    let mut world = physical();
    let (first, second, iova) = pair(&mut world, false);
    killed(&mut world, second);
    assert_eq!(granted(&mut world, first, Request::Free { iova }), Reply::Done);
    assert!(world.at_work.is_empty(), "a card may still write there");
    world.ask(first, Request::Reset { card: CARD });
    world.finish(0, How::Done);
    assert!(matches!(works(&world)[..], [Work::Unmap { iova: at, .. }] if *at == iova));
    world.finish_all();
    assert_eq!(world.machine.iovas.allocated(), 0);
}

#[test]
fn a_name_is_one_offer_s_and_for_the_same_user() {
    let mut world = world();
    let (first, second, stranger) = (world.join(0), world.join(1), world.join(2));
    let (one, other) = (buffer(&mut world, first, None), buffer(&mut world, second, None));
    refused(&mut world, second, by_name("frames"), ErrorKind::NotFound);
    let token = shared(&mut world, first, share(one, Some("frames"), false));
    let error = refused(&mut world, second, share(other, Some("frames"), false), ErrorKind::Held);
    assert!(error.to_string().contains("held by pid 100 (a test)"), "{error}");
    let error = refused(&mut world, first, share(one, Some("again"), false), ErrorKind::Held);
    assert!(error.to_string().contains("offered already, by pid 100"), "{error}");
    for name in ["", "Frames", "a b", &"x".repeat(33)] {
        let error = refused(&mut world, second, share(other, Some(name), false), ErrorKind::Invalid);
        assert!(error.to_string().contains("cannot name a shared buffer"), "{error}");
        refused(&mut world, second, by_name(name), ErrorKind::Invalid);
    }
    let error = refused(&mut world, stranger, by_name("frames"), ErrorKind::Denied);
    assert!(error.to_string().contains("token"), "{error}");
    granted(&mut world, second, by_name("frames"));
    granted(&mut world, stranger, by_token(token));
    refused(&mut world, stranger, by_token(token), ErrorKind::Invalid);
    // A reader cannot make writers.
    refused(&mut world, stranger, share(one, None, true), ErrorKind::Denied);
}

#[test]
fn a_token_that_is_guessed_is_refused_as_one_whose_time_is_over() {
    let mut world = world();
    let (first, second) = (world.join(0), world.join(1));
    let iova = buffer(&mut world, first, None);
    let token = shared(&mut world, first, share(iova, None, false));
    refused(&mut world, second, Request::Unshare { iova }, ErrorKind::Invalid);
    granted(&mut world, first, Request::Unshare { iova });
    let over = refused(&mut world, second, by_token(token), ErrorKind::NotFound);
    let guessed = refused(&mut world, second, by_token([7; TOKEN_SIZE]), ErrorKind::NotFound);
    assert_eq!(over, guessed);
    let again = shared(&mut world, first, share(iova, None, false));
    assert_ne!(again, token);
    refused(&mut world, second, by_token(token), ErrorKind::NotFound);
    granted(&mut world, second, by_token(again));
}

#[test]
fn an_offer_ends_with_its_maker_and_its_name_is_free_at_once() {
    for how in 0..4 {
        let mut world = world();
        let (first, second, third) = (user(&mut world, 0), user(&mut world, 1), world.join(2));
        let iova = buffer(&mut world, first, None);
        let token = shared(&mut world, first, share(iova, Some("frames"), false));
        granted(&mut world, second, by_token(token));
        // Its will keeps it from being gone for good.
        leased(&mut world, first, "h2c0", 2);
        match how {
            0 => killed(&mut world, first),
            1 => drop(world.ask(first, Request::Goodbye)),
            2 => drop(granted(&mut world, first, Request::Free { iova })),
            _ => drop(granted(&mut world, first, Request::Unshare { iova })),
        }
        refused(&mut world, third, by_token(token), ErrorKind::NotFound);
        let other = buffer(&mut world, third, None);
        shared(&mut world, third, share(other, Some("frames"), false));
        world.finish_all();
    }
}

#[test]
fn an_offer_to_writers_is_the_next_writer_s_when_its_maker_lets_go() {
    for how in 0..3 {
        let mut world = world();
        let [first, second, stranger, third] = [0, 1, 2, 3].map(|seat| user(&mut world, seat));
        let iova = buffer(&mut world, first, None);
        let token = shared(&mut world, first, share(iova, Some("queues"), true));
        // Another user may write to it as well, and does not go on with it under its name.
        for writer in [stranger, second] {
            granted(&mut world, writer, by_token(token));
        }
        match how {
            0 => killed(&mut world, first),
            1 => drop(world.ask(first, Request::Goodbye)),
            _ => drop(granted(&mut world, first, Request::Free { iova })),
        }
        world.finish_all();
        let newcomer = user(&mut world, 0);
        granted(&mut world, newcomer, by_name("queues"));
        refused(&mut world, newcomer, Request::Unshare { iova }, ErrorKind::Invalid);
        granted(&mut world, third, by_token(token));
        killed(&mut world, second);
        world.finish_all();
        let last = user(&mut world, 1);
        granted(&mut world, last, by_name("queues"));
        killed(&mut world, newcomer);
        killed(&mut world, last);
        world.finish_all();
        // Of its user nobody has it any more.
        refused(&mut world, third, by_name("queues"), ErrorKind::NotFound);
        assert!(world.memory.iter().any(|memory| memory.range.start == iova));
    }
}

#[test]
fn what_is_freed_while_it_is_shared_is_shared_with_nobody() {
    let mut world = world();
    let client = world.join(0);
    let iova = buffer(&mut world, client, None);
    assert_eq!(world.ask(client, share(iova, Some("frames"), false)), None);
    assert_eq!(world.ask(client, Request::Free { iova }), None);
    let reply = ends(&mut world, |work| matches!(work, Work::Share { .. }), How::Done);
    assert!(reply.unwrap().unwrap_err().to_string().contains("freed meanwhile"));
    world.finish_all();
    // And what could not be shared is not, and can be tried again.
    let iova = buffer(&mut world, client, None);
    for how in [How::Fails, How::Forgets] {
        world.ask(client, share(iova, Some("frames"), false));
        assert!(world.finish(0, how).unwrap().is_err());
        assert!(world.machine.offers.is_empty());
    }
    shared(&mut world, client, share(iova, Some("frames"), false));
}

#[test]
fn who_shares_sends_the_memory_along() {
    let mut world = world();
    let client = world.join(0);
    let iova = buffer(&mut world, client, None);
    let reply = world.ask_with(client, share(iova, None, false), false).unwrap();
    assert_eq!(reply.unwrap_err().kind(), ErrorKind::Invalid);
    refused(&mut world, client, share(iova + 4096, None, false), ErrorKind::Invalid);
}

#[test]
fn offers_and_what_is_attached_to_are_limited() {
    let mut world = World::new(Setting { narrow: true, ..Setting::default() });
    let (first, second) = (world.join(0), world.join(2));
    let (one, two) = (buffer(&mut world, first, None), buffer(&mut world, first, None));
    let token = shared(&mut world, first, share(one, None, false));
    let error = refused(&mut world, first, share(two, None, false), ErrorKind::Exhausted);
    assert!(error.to_string().contains("at most 1 buffers that it offers"), "{error}");
    granted(&mut world, second, by_token(token));
    buffer(&mut world, second, None);
    let (third, fourth) = (world.join(1), world.join(3));
    buffer(&mut world, fourth, None);
    let error = refused(&mut world, fourth, by_token(token), ErrorKind::Exhausted);
    assert!(error.to_string().contains("user 1001 has 3 DMA buffers"), "{error}");
    let whole = Request::Allocate { card: None, size: 0x40_0000, align: 1, top: u64::MAX, page_shift: 12 };
    world.ask(second, whole);
    assert!(world.at_work.is_empty(), "what it attached to counts among its buffers");
    granted(&mut world, third, by_token(token));
    assert_eq!(bytes(&world, third), 8192);
}
