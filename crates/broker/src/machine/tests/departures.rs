//! What happens when a client is gone, and in which order.

use super::*;

#[test]
fn a_killed_client_is_taken_back_one_phase_after_the_other() {
    let mut world = world();
    let client = user(&mut world, 0);
    leased(&mut world, client, "h2c0", 1);
    leased(&mut world, client, "irq0", 0);
    world.ask(client, WIRE);
    buffer(&mut world, client, None);
    world.finish_all();
    killed(&mut world, client);
    assert!(matches!(works(&world)[..], [Work::CarryOut { .. }]));
    world.finish(0, How::Done);
    assert!(matches!(works(&world)[..], [Work::Silence { .. }]));
    world.finish(0, How::Done);
    assert!(matches!(works(&world)[..], [Work::Unmap { .. }]));
    assert_eq!(world.machine.cards[&CARD].leases.iter().count(), 2, "the leases wait");
    world.finish(0, How::Done);
    assert!(
        matches!(works(&world)[..], [Work::Reset { unused: true, .. }]),
        "the last one out resets the card"
    );
    world.finish(0, How::Done);
    assert_eq!(world.machine.iovas.allocated(), 0);
}

/// core.md E1: the order was that of effects; work that takes long could end in any.
#[test]
fn core_e1_all_wills_have_ended_before_anything_is_unmapped() {
    let mut world = world();
    let client = user(&mut world, 0);
    world.ask(client, Request::Open { card: CardId(1) });
    world.finish_all();
    leased(&mut world, client, "h2c0", 1);
    let other = Request::Lease {
        card: CardId(1),
        part: "h2c0".into(),
        mode: Mode::Exclusive,
        will: will(1),
        wait: 0,
    };
    granted(&mut world, client, other);
    buffer(&mut world, client, None);
    killed(&mut world, client);
    assert!(matches!(works(&world)[..], [Work::CarryOut { .. }, Work::CarryOut { .. }]));
    // The second card is quicker.
    world.finish(1, How::Done);
    assert!(matches!(works(&world)[..], [Work::CarryOut { card: CARD, .. }]), "nothing else begins");
    world.finish(0, How::Fails);
    assert!(matches!(works(&world)[..], [Work::Unmap { .. }]));
}

#[test]
fn a_goodbye_carries_out_the_wills_of_leases_that_are_still_held() {
    let mut world = world();
    let client = user(&mut world, 0);
    leased(&mut world, client, "h2c0", 1);
    assert_eq!(world.ask(client, Request::Goodbye), None, "first everything is taken back");
    assert!(matches!(works(&world)[..], [Work::CarryOut { .. }]));
    assert_eq!(world.finish(0, How::Done), Some(Ok(Reply::Done)));
}

#[test]
fn a_goodbye_with_nothing_left_is_answered_at_once() {
    let mut world = world();
    let client = user(&mut world, 0);
    assert_eq!(world.ask(client, Request::Goodbye), Some(Ok(Reply::Done)));
    assert!(world.clients.is_empty());
}

#[test]
fn who_hangs_up_after_a_goodbye_is_not_answered() {
    let mut world = world();
    let client = user(&mut world, 0);
    leased(&mut world, client, "h2c0", 1);
    world.ask(client, Request::Goodbye);
    killed(&mut world, client);
    assert_eq!(world.finish(0, How::Done), None);
    assert!(world.clients.is_empty());
}

/// core.md B5: the map of a client that is gone was finished first, then undone.
#[test]
fn core_b5_maps_of_who_is_gone_are_cancelled() {
    for (mut world, how) in [(world(), How::Done), (world(), How::Fails), (physical(), How::Done)] {
        let client = user(&mut world, 0);
        world.ask(client, allocate(None));
        killed(&mut world, client);
        assert!(world.at_work[0].cancelled);
        world.finish(1, how);
        world.finish_all();
        assert!(world.clients.is_empty());
        assert_eq!(world.machine.iovas.allocated(), 0);
    }
}

#[test]
fn what_a_client_had_asked_for_is_undone_when_it_was_done() {
    let mut world = world();
    let client = user(&mut world, 0);
    leased(&mut world, client, "irq0", 0);
    world.ask(client, WIRE);
    world.ask(client, Request::Open { card: CardId(1) });
    killed(&mut world, client);
    ends(&mut world, |work| matches!(work, Work::Wire { .. }), How::Done);
    assert!(matches!(works(&world)[..], [Work::Grant { .. }]), "everything of it is waited for");
    world.finish(0, How::Done);
    assert!(matches!(works(&world)[..], [Work::Silence { vector: 0, .. }]));
    world.finish(0, How::Done);
    assert!(matches!(works(&world)[..], [Work::Reset { .. }, Work::Reset { .. }]));
}

#[test]
fn a_free_that_is_under_way_is_not_ordered_again() {
    let mut world = world();
    let client = user(&mut world, 0);
    let iova = buffer(&mut world, client, None);
    world.ask(client, Request::Free { iova });
    killed(&mut world, client);
    assert_eq!(works(&world).len(), 1);
    assert_eq!(world.finish(0, How::Done), None);
    assert!(world.clients.is_empty());
}

#[test]
fn a_lease_that_only_a_dead_client_holds_is_waited_for() {
    let mut world = world();
    let (first, second) = (user(&mut world, 0), user(&mut world, 1));
    leased(&mut world, first, "h2c0", 1);
    buffer(&mut world, first, None);
    killed(&mut world, first);
    assert_eq!(world.ask(second, lease("h2c0", 0)), None, "its will is being carried out");
    assert_eq!(world.ask(second, Request::Reset { card: CARD }), None);
    leased(&mut world, second, "c2h0", 0);
    ends(&mut world, is_will, How::Done);
    assert_eq!(world.clients[&second].leases.len(), 1);
    ends(&mut world, is_unmap, How::Done);
    assert_eq!(world.clients[&second].leases.len(), 2, "now it is free");
    assert!(matches!(works(&world)[..], [Work::Reset { unused: false, .. }]));
    world.check_answers();
}

#[test]
fn what_waits_for_a_dead_client_goes_with_who_asked() {
    let mut world = world();
    let (first, second) = (user(&mut world, 0), user(&mut world, 1));
    leased(&mut world, first, "h2c0", 1);
    killed(&mut world, first);
    world.ask(second, lease("h2c0", 0));
    killed(&mut world, second);
    assert!(world.machine.cards[&CARD].deferred.is_empty());
    world.finish_all();
    assert!(world.clients.is_empty());
}

#[test]
fn a_release_under_way_ends_its_lease_with_all_the_others() {
    let mut world = world();
    let (first, second) = (user(&mut world, 0), user(&mut world, 1));
    let id = leased(&mut world, first, "h2c0", 1);
    world.ask(first, Request::Release { card: CARD, lease: id, will: true });
    killed(&mut world, first);
    assert_eq!(works(&world).len(), 2, "the will is carried out again, since it may have come too early");
    assert_eq!(world.ask(second, lease("h2c0", 0)), None);
    world.finish(0, How::Done);
    assert!(world.clients[&second].leases.is_empty(), "it would be stopped by a will of another");
    world.finish_all();
    assert_eq!(world.clients[&second].leases.len(), 1);
}

#[test]
fn who_does_not_say_hello_is_shown_the_door() {
    let mut world = world();
    world.connect(ClientId(77), 0);
    assert!(world.ask(ClientId(77), Request::Cards { after: None }).unwrap().is_err());
    assert!(world.clients.is_empty());
}

#[test]
fn who_sends_a_descriptor_that_nobody_wants_is_shown_the_door() {
    for request in [Request::Usage { after: None }, Request::Hello { program: "again".into() }] {
        let mut world = world();
        let client = user(&mut world, 0);
        let error = world.ask_with(client, request, true).unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(world.clients.is_empty());
    }
}

#[test]
fn who_sends_a_body_that_cannot_be_read_stays() {
    let mut world = world();
    let client = user(&mut world, 0);
    let error = Error::new(ErrorKind::Invalid, "the body of message 7 cannot be read");
    let reply = world.feed(Event::Unreadable { client, number: 7, error: error.clone() });
    assert_eq!(reply, Some(Err(error)));
    leased(&mut world, client, "h2c0", 0);
}

#[test]
fn who_sends_nonsense_is_told_so_and_is_gone() {
    let mut world = world();
    let client = user(&mut world, 0);
    leased(&mut world, client, "h2c0", 1);
    let error = Error::new(ErrorKind::Protocol, "version 1");
    assert_eq!(world.feed(Event::Nonsense { client, error: error.clone() }), Some(Err(error.clone())));
    assert!(matches!(works(&world)[..], [Work::CarryOut { .. }]));
    assert_eq!(world.feed(Event::Nonsense { client, error }), None, "once");
}

#[test]
fn a_broker_that_stops_takes_everything_back_and_closes_its_cards() {
    let mut world = world();
    let client = user(&mut world, 0);
    leased(&mut world, client, "h2c0", 1);
    buffer(&mut world, client, None);
    assert!(!world.machine.is_stopped());
    world.feed(Event::Stop);
    assert!(matches!(works(&world)[..], [Work::CarryOut { .. }, Work::Close { card: CardId(1) }]));
    world.join(1);
    assert_eq!(world.clients.len(), 1, "nobody is let in any more");
    ends(&mut world, is_will, How::Done);
    ends(&mut world, is_unmap, How::Done);
    assert!(matches!(works(&world)[..], [Work::Close { .. }, Work::Close { .. }]), "and no reset");
    assert!(world.clients.is_empty() && !world.machine.is_stopped(), "it waits for its cards");
    world.card_comes();
    assert_eq!(works(&world).len(), 3, "who comes late is closed, too");
    world.finish_all();
    assert!(world.machine.is_stopped());
}
