//! Opens, closes and resets.

use super::*;

#[test]
fn a_card_is_opened_once_by_each_client() {
    let mut world = world();
    let client = world.join(0);
    let open = || Request::Open { card: CARD };
    assert_eq!(world.ask(client, open()), None);
    refused(&mut world, client, open(), ErrorKind::Invalid);
    assert_eq!(world.finish(0, How::Done), Some(Ok(Reply::Opened { kind: 1 })));
    refused(&mut world, client, open(), ErrorKind::Invalid);
    granted(&mut world, client, Request::Close { card: CARD });
    assert_eq!(world.ask(client, open()), None, "and again after it was closed");
    world.check_answers();
}

#[test]
fn a_card_that_is_not_there_is_not_found() {
    let mut world = world();
    let client = world.join(0);
    let error = refused(&mut world, client, Request::Open { card: CardId(7) }, ErrorKind::NotFound);
    assert!(error.to_string().contains("no card of id 7; this user's are 0, 1"), "{error}");
}

#[test]
fn a_grant_that_fails_leaves_the_card_unused() {
    for how in [How::Fails, How::Forgets] {
        let mut world = world();
        let client = world.join(0);
        world.ask(client, Request::Open { card: CARD });
        assert!(world.finish(0, how).unwrap().is_err());
        assert!(matches!(works(&world)[..], [Work::Reset { unused: true, .. }]));
        refused(&mut world, client, lease("h2c0", 0), ErrorKind::Invalid);
    }
}

#[test]
fn a_card_is_closed_without_leases_and_reset_when_nobody_has_it() {
    let mut world = world();
    let (first, second) = (user(&mut world, 0), user(&mut world, 1));
    let id = leased(&mut world, first, "h2c0", 0);
    refused(&mut world, first, Request::Close { card: CARD }, ErrorKind::Invalid);
    granted(&mut world, first, Request::Release { card: CARD, lease: id, will: false });
    granted(&mut world, first, Request::Close { card: CARD });
    assert!(world.at_work.is_empty(), "somebody has it");
    granted(&mut world, second, Request::Close { card: CARD });
    assert!(matches!(works(&world)[..], [Work::Reset { unused: true, .. }]));
    world.finish_all();
    assert!(!world.cards[&CARD].bus_master);
}

#[test]
fn a_card_that_was_closed_while_it_was_reset_is_put_to_rest_afterwards() {
    let mut world = world();
    let client = user(&mut world, 0);
    world.ask(client, Request::Reset { card: CARD });
    granted(&mut world, client, Request::Close { card: CARD });
    assert_eq!(works(&world).len(), 1);
    assert_eq!(world.finish(0, How::Done), Some(Ok(Reply::Done)));
    assert!(
        matches!(works(&world)[..], [Work::Reset { unused: true, .. }]),
        "that one left it able to start DMA"
    );
    world.finish_all();
    assert!(!world.cards[&CARD].bus_master);
}

#[test]
fn a_reset_that_was_asked_for_leaves_the_card_usable() {
    let mut world = world();
    let client = user(&mut world, 0);
    leased(&mut world, client, "h2c0", 0);
    world.ask(client, Request::Reset { card: CARD });
    assert!(matches!(works(&world)[..], [Work::Reset { unused: false, .. }]));
    assert_eq!(world.finish(0, How::Done), Some(Ok(Reply::Done)));
    assert!(world.at_work.is_empty() && world.cards[&CARD].bus_master);
}

#[test]
fn a_card_is_not_reset_under_somebody_s_lease() {
    let mut world = world();
    let (first, second) = (user(&mut world, 0), user(&mut world, 1));
    leased(&mut world, first, "h2c0", 0);
    let error = refused(&mut world, second, Request::Reset { card: CARD }, ErrorKind::Held);
    assert!(error.to_string().contains("h2c0 is held by pid 100"), "{error}");
    assert_eq!(world.ask(first, Request::Reset { card: CARD }), None, "its own does not matter");
}

#[test]
fn what_needs_a_card_in_reset_waits_for_it() {
    let mut world = world();
    let (first, second) = (user(&mut world, 0), user(&mut world, 1));
    world.ask(first, Request::Reset { card: CARD });
    assert_eq!(world.ask(second, Request::Reset { card: CARD }), None);
    assert_eq!(world.ask(second, lease("h2c0", 0)), None);
    assert_eq!(works(&world).len(), 1);
    world.finish(0, How::Fails);
    assert_eq!(world.clients[&second].leases.len(), 1, "whether it was reset or not");
    assert!(
        matches!(works(&world)[..], [Work::Reset { unused: false, .. }]),
        "its own lease is not in the way"
    );
    world.check_answers();
}

#[test]
fn who_wants_a_part_of_a_card_comes_before_who_goes_on_resetting_it() {
    let mut world = world();
    let (first, second) = (user(&mut world, 0), user(&mut world, 1));
    world.ask(first, Request::Reset { card: CARD });
    assert_eq!(world.ask(first, Request::Reset { card: CARD }), None);
    assert_eq!(world.ask(second, lease("h2c0", 0)), None);
    world.finish(0, How::Done);
    assert_eq!(world.clients[&second].leases.len(), 1);
    assert!(world.at_work.is_empty(), "the second reset was refused: somebody has a lease");
    world.check_answers();
}

#[test]
fn a_card_that_could_not_be_stopped_is_reset_when_nobody_has_a_lease_on_it() {
    let mut world = world();
    let (first, second) = (user(&mut world, 0), user(&mut world, 1));
    let id = leased(&mut world, second, "c2h0", 0);
    leased(&mut world, first, "h2c0", 2);
    killed(&mut world, first);
    world.finish(0, How::Fails);
    assert!(world.at_work.is_empty(), "not under the other's lease");
    granted(&mut world, second, Request::Release { card: CARD, lease: id, will: false });
    assert!(matches!(works(&world)[..], [Work::Reset { unused: false, .. }]));
    world.finish(0, How::Fails);
    assert!(world.at_work.is_empty(), "it is tried once");
}

#[test]
fn a_card_that_only_the_dead_have_is_opened_after_its_reset() {
    let mut world = world();
    let (first, second) = (user(&mut world, 0), world.join(1));
    leased(&mut world, first, "h2c0", 1);
    killed(&mut world, first);
    assert_eq!(world.ask(second, Request::Open { card: CARD }), None);
    assert!(matches!(works(&world)[..], [Work::CarryOut { .. }]));
    world.finish(0, How::Done);
    assert!(matches!(works(&world)[..], [Work::Reset { unused: true, .. }, Work::Grant { .. }]));
    world.check_answers();
    assert_eq!(world.clients[&second].opened.get(&CARD), Some(&true));
}

#[test]
fn a_card_in_reset_can_be_opened() {
    let mut world = world();
    let first = user(&mut world, 0);
    killed(&mut world, first);
    let second = world.join(1);
    assert_eq!(world.ask(second, Request::Open { card: CARD }), None);
    assert!(matches!(works(&world)[..], [Work::Reset { unused: true, .. }, Work::Grant { .. }]));
    world.finish_all();
    leased(&mut world, second, "h2c0", 0);
    assert!(world.cards[&CARD].bus_master);
}
