//! Leases, wills, and the vectors that hang on them.

use super::*;

#[test]
fn a_lease_that_is_held_names_its_holder() {
    let mut world = world();
    let (first, second) = (user(&mut world, 0), user(&mut world, 1));
    leased(&mut world, first, "h2c0", 0);
    let error = refused(&mut world, second, lease("h2c0", 0), ErrorKind::Held);
    assert!(error.to_string().contains("pid 100 (a test)"), "{error}");
    leased(&mut world, second, "c2h0", 0);
    refused(&mut world, second, lease("whole", 0), ErrorKind::Held);
}

#[test]
fn who_is_there_is_named_before_who_is_gone() {
    let mut world = world();
    let users = [user(&mut world, 0), user(&mut world, 1), user(&mut world, 2)];
    leased(&mut world, users[0], "h2c0", 1);
    leased(&mut world, users[1], "c2h0", 0);
    killed(&mut world, users[0]);
    let error = refused(&mut world, users[2], lease("whole", 0), ErrorKind::Held);
    assert!(error.to_string().contains("c2h0 is held by pid 101"), "{error}");
}

#[test]
fn a_part_can_be_shared() {
    let mut world = world();
    let (first, second) = (user(&mut world, 0), user(&mut world, 1));
    let shared =
        || Request::Lease { card: CARD, part: "control".into(), mode: Mode::Shared, will: will(0), wait: 0 };
    granted(&mut world, first, shared());
    granted(&mut world, second, shared());
    refused(&mut world, second, lease("control", 0), ErrorKind::Held);
}

#[test]
fn an_open_that_is_not_granted_yet_is_no_open() {
    let mut world = world();
    let client = world.join(0);
    world.ask(client, Request::Open { card: CARD });
    refused(&mut world, client, lease("h2c0", 0), ErrorKind::Invalid);
    refused(&mut world, client, Request::Close { card: CARD }, ErrorKind::Invalid);
    refused(&mut world, client, allocate(Some(CARD)), ErrorKind::Invalid);
    refused(&mut world, client, Request::Reset { card: CARD }, ErrorKind::Invalid);
    world.finish_all();
    leased(&mut world, client, "h2c0", 0);
}

#[test]
fn a_lease_ends_once_and_for_its_holder_alone() {
    let mut world = world();
    let (first, second) = (user(&mut world, 0), user(&mut world, 1));
    let id = leased(&mut world, first, "h2c0", 1);
    let release = || Request::Release { card: CARD, lease: id, will: false };
    refused(&mut world, second, release(), ErrorKind::Invalid);
    granted(&mut world, first, release());
    refused(&mut world, first, release(), ErrorKind::Invalid);
    assert!(world.at_work.is_empty(), "its will is forgotten");
    leased(&mut world, second, "h2c0", 0);
}

#[test]
fn a_lease_without_a_will_ends_at_once() {
    let mut world = world();
    let client = user(&mut world, 0);
    let id = leased(&mut world, client, "h2c0", 0);
    granted(&mut world, client, Request::Release { card: CARD, lease: id, will: true });
}

#[test]
fn a_lease_whose_will_is_carried_out_is_not_released_twice() {
    let mut world = world();
    let (first, second) = (user(&mut world, 0), user(&mut world, 1));
    let id = leased(&mut world, first, "h2c0", 1);
    let release = |will| Request::Release { card: CARD, lease: id, will };
    assert_eq!(world.ask(first, release(true)), None);
    refused(&mut world, first, release(true), ErrorKind::Invalid);
    refused(&mut world, first, release(false), ErrorKind::Invalid);
    refused(&mut world, first, Request::Close { card: CARD }, ErrorKind::Invalid);
    refused(&mut world, second, lease("h2c0", 0), ErrorKind::Held);
    assert_eq!(world.finish(0, How::Done), Some(Ok(Reply::Done)));
    leased(&mut world, second, "h2c0", 0);
}

#[test]
fn a_vector_is_not_wired_by_a_lease_that_is_about_to_end() {
    let mut world = world();
    let client = user(&mut world, 0);
    let id = leased(&mut world, client, "irq0", 1);
    world.ask(client, Request::Release { card: CARD, lease: id, will: true });
    refused(&mut world, client, WIRE, ErrorKind::Invalid);
}

/// core.md C1: two clients with shared leases wired the same vector.
#[test]
fn core_c1_a_vector_needs_an_exclusive_lease() {
    let mut world = world();
    let (first, second) = (user(&mut world, 0), user(&mut world, 1));
    for (client, part) in [(first, "irq0"), (second, "irq0"), (second, "irq1")] {
        let request =
            Request::Lease { card: CARD, part: part.into(), mode: Mode::Shared, will: will(0), wait: 0 };
        granted(&mut world, client, request);
        let error = refused(&mut world, client, WIRE, ErrorKind::Invalid);
        assert!(error.to_string().contains("irq0 has been leased, exclusively"), "{error}");
    }
    for part in ["irq1", "whole"] {
        let mut world = super::world();
        let client = user(&mut world, 0);
        leased(&mut world, client, part, 0);
        assert_eq!(world.ask(client, WIRE).is_none(), part == "whole");
    }
}

/// core.md C1: a second wire that failed forgot the first.
#[test]
fn core_c1_a_wire_that_fails_leaves_the_vector_as_it_was() {
    let mut world = world();
    let client = user(&mut world, 0);
    let id = leased(&mut world, client, "irq0", 0);
    world.ask(client, WIRE);
    world.finish(0, How::Done);
    world.ask(client, WIRE);
    assert!(world.finish(0, How::Fails).unwrap().is_err());
    let release = || Request::Release { card: CARD, lease: id, will: false };
    let error = refused(&mut world, client, release(), ErrorKind::Invalid);
    assert!(error.to_string().contains("vector 0 has to be silenced"), "{error}");
    world.ask(client, SILENCE);
    assert!(world.finish(0, How::Fails).unwrap().is_err());
    refused(&mut world, client, release(), ErrorKind::Invalid);
    world.ask(client, SILENCE);
    assert_eq!(world.finish(0, How::Done), Some(Ok(Reply::Done)));
    granted(&mut world, client, release());
}

#[test]
fn a_wire_that_failed_at_first_leaves_nothing_to_silence() {
    let mut world = world();
    let client = user(&mut world, 0);
    let id = leased(&mut world, client, "irq0", 0);
    world.ask(client, WIRE);
    refused(&mut world, client, Request::Release { card: CARD, lease: id, will: false }, ErrorKind::Invalid);
    world.finish(0, How::Fails);
    refused(&mut world, client, SILENCE, ErrorKind::Invalid);
    granted(&mut world, client, Request::Release { card: CARD, lease: id, will: false });
}

#[test]
fn two_wires_and_a_silence_at_once_end_as_they_were_asked_for() {
    let mut world = world();
    let client = user(&mut world, 0);
    let id = leased(&mut world, client, "irq0", 0);
    for request in [WIRE, WIRE, SILENCE] {
        assert_eq!(world.ask(client, request), None);
    }
    world.finish(0, How::Done);
    world.finish(0, How::Done);
    refused(&mut world, client, Request::Release { card: CARD, lease: id, will: false }, ErrorKind::Invalid);
    world.finish(0, How::Done);
    granted(&mut world, client, Request::Release { card: CARD, lease: id, will: false });
}

#[test]
fn only_who_wired_a_vector_silences_it() {
    let mut world = world();
    let (first, second) = (user(&mut world, 0), user(&mut world, 1));
    leased(&mut world, first, "irq0", 0);
    refused(&mut world, first, SILENCE, ErrorKind::Invalid);
    world.ask(first, WIRE);
    refused(&mut world, second, SILENCE, ErrorKind::Invalid);
    let nowhere = Request::Silence { card: CardId(9), vector: 0 };
    refused(&mut world, second, nowhere, ErrorKind::NotFound);
}

#[test]
fn a_wire_needs_an_eventfd() {
    let mut world = world();
    let client = user(&mut world, 0);
    leased(&mut world, client, "irq0", 0);
    let error = world.ask_with(client, WIRE, false).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(world.at_work.is_empty());
}

/// core.md C6: a wire behind a reset lost its descriptor, since it waited in the machine.
#[test]
fn core_c6_a_wire_behind_a_reset_is_ordered_at_once() {
    let mut world = world();
    let client = user(&mut world, 0);
    leased(&mut world, client, "irq0", 0);
    world.ask(client, Request::Reset { card: CARD });
    assert_eq!(world.ask(client, WIRE), None);
    assert!(matches!(works(&world)[..], [Work::Reset { .. }, Work::Wire { .. }]));
    world.check_answers();
    assert_eq!(world.cards[&CARD].wired.get(&0), Some(&client));
}

#[test]
fn a_will_outside_of_the_bar_is_refused() {
    let mut world = world();
    let client = user(&mut world, 0);
    for (bar, offset, kind) in [
        (6, 0, ErrorKind::NotFound),
        (2, 2, ErrorKind::Invalid),
        (2, 0x1_0000, ErrorKind::OutOfBounds),
        (2, u64::MAX - 3, ErrorKind::OutOfBounds),
    ] {
        let will = jitney_vfio::Will(vec![jitney_vfio::WillStep::write(bar, offset, 0)]);
        let request =
            Request::Lease { card: CARD, part: "h2c0".into(), mode: Mode::Exclusive, will, wait: 0 };
        refused(&mut world, client, request, kind);
    }
    refused(&mut world, client, lease("Not A Part", 0), ErrorKind::Invalid);
}

/// core.md D, the seventh: what waited had not been looked at, half a megabyte of will for each request.
#[test]
fn core_d7_what_is_made_to_wait_was_checked_before() {
    let mut world = world();
    let (client, stranger) = (user(&mut world, 0), world.join(1));
    world.ask(client, Request::Reset { card: CARD });
    let long = jitney_vfio::Will(vec![jitney_vfio::WillStep::write(2, 0, 0); 65]);
    let request =
        Request::Lease { card: CARD, part: "h2c0".into(), mode: Mode::Exclusive, will: long, wait: 0 };
    refused(&mut world, client, request, ErrorKind::Invalid);
    refused(&mut world, stranger, lease("h2c0", 0), ErrorKind::Invalid);
    refused(&mut world, stranger, Request::Reset { card: CARD }, ErrorKind::Invalid);
    assert!(world.machine.cards[&CARD].deferred.is_empty());
    assert_eq!(world.ask(client, lease("h2c0", 0)), None);
    assert_eq!(world.machine.cards[&CARD].deferred.len(), 1);
    world.check_answers();
}

/// A shared lease on `part` with a will that waits.
fn common(part: &str) -> Request {
    Request::Lease { card: CARD, part: part.into(), mode: Mode::Shared, will: will(2), wait: 0 }
}

#[test]
fn the_will_of_a_shared_lease_is_carried_out_when_the_last_of_them_goes() {
    let mut world = world();
    let [first, second, third] = [0, 1, 2].map(|seat| user(&mut world, seat));
    for client in [first, second, third] {
        granted(&mut world, client, common("controller"));
    }
    let iova = buffer(&mut world, first, Some(CARD));
    killed(&mut world, first);
    assert!(world.at_work.iter().all(|work| !is_will(&work.task.work)), "others use it");
    world.finish_all();
    assert_eq!(world.machine.iovas.quarantined().count(), 1, "{iova:#x}: nobody has seen the card quiet");
    // A panic of one is not the others' end.
    let lease = *world.clients[&second].leases.keys().next().unwrap();
    granted(&mut world, second, Request::Release { card: CARD, lease, will: true });
    killed(&mut world, third);
    assert!(matches!(works(&world)[..], [Work::CarryOut { .. }]), "it was the last");
    world.finish_all();
}

/// What others go on with may be at work for who is gone, whatever else of it was seen quiet.
#[test]
fn a_will_that_is_left_to_others_has_seen_nothing_quiet() {
    for killed_with_it in [true, false] {
        let mut world = world();
        let [first, second] = [0, 1].map(|seat| user(&mut world, seat));
        granted(&mut world, second, common("controller"));
        let Reply::Leased(shared) = granted(&mut world, first, common("controller")) else { panic!() };
        let iova = buffer(&mut world, first, Some(CARD));
        if killed_with_it {
            leased(&mut world, first, "h2c0", 2);
            killed(&mut world, first);
            ends(&mut world, is_will, How::Done);
        } else {
            granted(&mut world, first, Request::Release { card: CARD, lease: shared, will: true });
            world.ask(first, Request::Free { iova });
        }
        world.finish_all();
        assert_eq!(world.machine.iovas.quarantined().count(), 1, "killed: {killed_with_it}");
    }
}
