//! Whose addresses, and whose memory, go to nobody for a while.

use super::*;
use crate::machine::quarantine::{Traces, What};
use crate::machine::{Machine, Space};

/// Two users of a card, the first with a buffer; the second keeps the card from being reset.
fn two_users(world: &mut World) -> (ClientId, ClientId, u64) {
    let (first, second) = (user(world, 0), user(world, 1));
    let iova = buffer(world, first, Some(CARD));
    (first, second, iova)
}

fn in_quarantine(world: &World) -> usize {
    world.machine.iovas.quarantined().count()
}

/// core.md A2: the address of a dead client was given to the next one while the dead one's engine still wrote.
#[test]
fn core_a2_addresses_of_a_killed_client_wait_until_its_card_was_reset() {
    let mut world = world();
    let (first, second, _) = two_users(&mut world);
    leased(&mut world, first, "h2c0", 1);
    killed(&mut world, first);
    world.finish_all();
    assert_eq!(in_quarantine(&world), 1);
    world.ask(second, Request::Reset { card: CARD });
    world.finish(0, How::Fails);
    assert_eq!(in_quarantine(&world), 1, "it was not reset");
    world.ask(second, Request::Reset { card: CARD });
    world.finish(0, How::Done);
    assert_eq!(in_quarantine(&world), 0);
    assert!(world.machine.quarantined.is_empty());
}

#[test]
fn every_card_that_was_told_is_waited_for() {
    let mut world = world();
    let (first, second, _) = two_users(&mut world);
    for client in [first, second] {
        world.ask(client, Request::Open { card: CardId(1) });
    }
    world.finish_all();
    killed(&mut world, first);
    world.finish_all();
    for (card, left) in [(CARD, 1), (CardId(1), 0)] {
        world.ask(second, Request::Reset { card });
        world.finish_all();
        assert_eq!(in_quarantine(&world), left);
    }
}

#[test]
fn what_was_seen_quiet_leaves_nothing_in_quarantine() {
    // Which wills, how they end, and whether the address waits.
    for (wills, how, waits) in [
        (&[2][..], How::Done, false),
        (&[2, 2], How::Done, false),
        (&[2, 0], How::Done, false),
        (&[2], How::Fails, true),
        (&[1], How::Done, true),
        (&[2, 1], How::Done, true),
        (&[], How::Done, true),
    ] {
        let mut world = world();
        let (first, second, _) = two_users(&mut world);
        for (part, which) in ["h2c0", "c2h0"].iter().zip(wills) {
            leased(&mut world, first, part, *which);
        }
        // Somebody has a part of the card, so that it is not reset for what hangs.
        leased(&mut world, second, "busy", 0);
        killed(&mut world, first);
        if wills.iter().any(|which| *which != 0) {
            ends(&mut world, is_will, how);
        }
        world.finish_all();
        assert_eq!(in_quarantine(&world), usize::from(waits), "{wills:?} {how:?}");
    }
}

#[test]
fn a_goodbye_leaves_nothing_in_quarantine_if_no_lease_was_held() {
    for (held, left) in [(false, 0), (true, 1)] {
        let mut world = world();
        let (first, _, _) = two_users(&mut world);
        if held {
            leased(&mut world, first, "h2c0", 0);
        }
        world.ask(first, Request::Goodbye);
        world.finish_all();
        assert_eq!(in_quarantine(&world), left);
    }
}

#[test]
fn a_reset_that_was_ordered_before_says_nothing() {
    let mut world = world();
    let (first, second, _) = two_users(&mut world);
    world.ask(second, Request::Reset { card: CARD });
    killed(&mut world, first);
    ends(&mut world, is_unmap, How::Done);
    ends(&mut world, is_reset, How::Done);
    assert_eq!(in_quarantine(&world), 1, "an engine may have been started behind it");
}

#[test]
fn a_card_that_was_reset_since_it_was_closed_is_not_waited_for() {
    let mut world = world();
    let client = user(&mut world, 0);
    buffer(&mut world, client, Some(CARD));
    granted(&mut world, client, Request::Close { card: CARD });
    world.finish(0, How::Fails);
    // The next user's reset is good.
    let next = user(&mut world, 1);
    granted(&mut world, next, Request::Close { card: CARD });
    world.finish_all();
    killed(&mut world, client);
    world.finish_all();
    assert_eq!(in_quarantine(&world), 0);
}

#[test]
fn a_card_that_could_not_be_reset_since_it_was_closed_is_waited_for() {
    let mut world = world();
    let client = user(&mut world, 0);
    buffer(&mut world, client, Some(CARD));
    granted(&mut world, client, Request::Close { card: CARD });
    world.finish(0, How::Fails);
    killed(&mut world, client);
    world.finish_all();
    assert_eq!(in_quarantine(&world), 1);
}

#[test]
fn a_will_that_failed_before_a_release_is_remembered() {
    for (reset, left) in [(false, 1), (true, 0)] {
        let mut world = world();
        let (first, second, iova) = two_users(&mut world);
        let busy = leased(&mut world, second, "busy", 0);
        let stopped = leased(&mut world, first, "h2c0", 2);
        world.ask(first, Request::Release { card: CARD, lease: stopped, will: true });
        assert!(world.finish(0, How::Fails).unwrap().is_err());
        assert!(world.clients[&first].leases.is_empty(), "it has ended all the same");
        if reset {
            granted(&mut world, second, Request::Release { card: CARD, lease: busy, will: false });
            assert!(
                matches!(works(&world)[..], [Work::Reset { unused: false, .. }]),
                "nobody stands in the way"
            );
            world.finish_all();
        }
        world.ask(first, Request::Free { iova });
        world.finish_all();
        assert_eq!(in_quarantine(&world), left);
        // Neither the will of another lease nor a goodbye makes it good.
        buffer(&mut world, first, Some(CARD));
        leased(&mut world, first, "c2h0", 2);
        killed(&mut world, first);
        world.finish_all();
        assert_eq!(in_quarantine(&world), 2 * left);
    }
}

#[test]
fn a_will_that_was_carried_out_before_a_release_leaves_nothing_behind() {
    let mut world = world();
    let (first, second, iova) = two_users(&mut world);
    leased(&mut world, second, "busy", 0);
    let id = leased(&mut world, first, "h2c0", 2);
    world.ask(first, Request::Release { card: CARD, lease: id, will: true });
    world.finish(0, How::Done);
    world.ask(first, Request::Free { iova });
    world.finish_all();
    assert_eq!(in_quarantine(&world), 0);
}

#[test]
fn a_goodbye_does_not_make_good_what_did_not_stop() {
    let mut world = world();
    let (first, second, _) = two_users(&mut world);
    leased(&mut world, second, "busy", 0);
    let id = leased(&mut world, first, "h2c0", 2);
    world.ask(first, Request::Release { card: CARD, lease: id, will: true });
    world.finish(0, How::Fails);
    world.ask(first, Request::Goodbye);
    world.finish_all();
    assert_eq!(in_quarantine(&world), 1);
}

#[test]
fn memory_that_a_card_sees_where_it_lies_stays_until_the_card_was_reset() {
    let mut world = physical();
    let (first, second, iova) = two_users(&mut world);
    killed(&mut world, first);
    assert!(world.at_work.is_empty() && world.clients.len() == 1, "it is gone, and its memory is not");
    world.ask(second, Request::Reset { card: CARD });
    world.finish(0, How::Done);
    assert!(matches!(works(&world)[..], [Work::Unmap { space: Space::One(0), iova: at, .. }] if *at == iova));
    world.finish(0, How::Done);
    assert_eq!(world.machine.iovas.allocated(), 0);
}

#[test]
fn memory_stays_if_its_card_could_not_be_closed() {
    let mut world = physical();
    let client = user(&mut world, 0);
    buffer(&mut world, client, Some(CARD));
    granted(&mut world, client, Request::Close { card: CARD });
    world.feed(Event::Noticed { card: CARD, notice: jitney_vfio::Notice::Leaving });
    world.finish(0, How::Fails);
    ends(&mut world, |work| matches!(work, Work::Close { .. }), How::Fails);
    assert!(!world.machine.cards.contains_key(&CARD));
    killed(&mut world, client);
    assert!(world.at_work.is_empty(), "nothing says that the card does not write any more");
    assert_eq!(world.memory.len(), 1);
}

#[test]
fn memory_of_an_engine_that_did_not_stop_is_not_freed_where_nothing_keeps_the_card_from_it() {
    let mut world = physical();
    let client = user(&mut world, 0);
    let iova = buffer(&mut world, client, Some(CARD));
    let id = leased(&mut world, client, "h2c0", 2);
    world.ask(client, Request::Release { card: CARD, lease: id, will: true });
    world.finish(0, How::Fails);
    let error = refused(&mut world, client, Request::Free { iova }, ErrorKind::Held);
    assert!(error.to_string().contains("reset the card first"), "{error}");
    world.ask(client, Request::Reset { card: CARD });
    world.finish(0, How::Done);
    world.ask(client, Request::Free { iova });
    assert_eq!(world.finish(0, How::Done), Some(Ok(Reply::Done)));
}

/// Somebody who dies again and again would have the books grow for ever.
#[test]
fn of_too_many_addresses_a_users_own_oldest_are_let_go_of() {
    const MOST: usize = 16384;
    let mut world = world();
    let (own, other) = (user(&mut world, 0), user(&mut world, 2));
    // Past the account, which would look at all of them after each.
    let machine = &mut world.machine;
    let kept = |machine: &Machine, uid| machine.quarantined.iter().filter(|entry| entry.uid == uid).count();
    let add = |machine: &mut Machine, client, count| {
        for _ in 0..count {
            let range = machine.iovas.allocate(jitney_iova::Request::new(4096)).expect("there are more");
            machine.quarantine_address(client, range.start, Traces::new());
        }
    };
    machine.quarantine(own, What::Memory { iova: 0, space: Space::All, size: 4096 }, Traces::new());
    add(machine, other, 100);
    add(machine, own, MOST);
    assert_eq!((kept(machine, 1000), kept(machine, 1001)), (MOST + 1, 100), "that many may be there");

    let before: Vec<_> = machine.iovas.quarantined().map(|(id, _)| id).collect();
    add(machine, own, 1);
    assert_eq!((kept(machine, 1000), kept(machine, 1001)), (MOST + 2 - MOST / 16, 100));
    let after: Vec<_> = machine.iovas.quarantined().map(|(id, _)| id).collect();
    assert_eq!(after[..100], before[..100], "nobody else's, although they are older");
    assert_eq!(after[100..after.len() - 1], before[100 + MOST / 16..], "the oldest");
    let is_memory = |what: &What| matches!(what, What::Memory { .. });
    assert!(is_memory(&machine.quarantined[0].what), "memory is there until it is unmapped");
}
