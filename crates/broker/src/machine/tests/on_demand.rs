//! Cards that are taken when somebody asks for them, and given back when the last has gone.

use super::*;
use jitney_vfio::Notice;

fn on_demand() -> World {
    World::new(Setting { on_demand: true, ..Setting::default() })
}

/// Two cards that the IOMMU cannot tell apart.
fn one_group() -> World {
    World::new(Setting { on_demand: true, one_space: true, ..Setting::default() })
}

fn open(card: u32) -> Request {
    Request::Open { card: CardId(card) }
}

fn is_take(work: &Work) -> bool {
    matches!(work, Work::Take { .. })
}

fn is_return(work: &Work) -> bool {
    matches!(work, Work::Return { .. })
}

fn list(world: &mut World, client: ClientId) -> Vec<CardId> {
    assert_eq!(world.ask(client, Request::Cards { after: None }), None, "nobody has looked");
    match ends(world, |work| matches!(work, Work::Look { .. }), How::Done) {
        Some(Ok(Reply::Cards { cards, .. })) => cards.into_iter().map(|card| card.id).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_card_is_taken_for_the_first_and_given_back_by_the_last() {
    let mut world = on_demand();
    let (one, other) = (world.join(0), world.join(1));
    assert_eq!(list(&mut world, one), [CardId(0), CardId(1)]);
    assert!(world.cards.is_empty(), "it has touched a card that nobody asked for");
    world.ask(one, open(0));
    world.ask(other, open(0));
    assert_eq!(works(&world).iter().filter(|work| is_take(work)).count(), 1, "{:?}", works(&world));
    world.finish_all();
    assert!(world.machine.has_open(CardId(0)) && !world.machine.has_open(CardId(1)));
    killed(&mut world, one);
    world.finish_all();
    assert!(world.machine.has_open(CardId(0)), "another has it");
    granted(&mut world, other, Request::Close { card: CardId(0) });
    // It is reset by being closed, and not before.
    assert!(works(&world).iter().all(|work| matches!(work, Work::Close { .. })), "{:?}", works(&world));
    world.finish_all();
    assert!(!world.machine.has_open(CardId(0)) && !world.machine.has_space(0));
    // It is the same card when it is taken again.
    world.ask(other, open(0));
    world.finish_all();
    assert!(world.machine.has_open(CardId(0)));
}

#[test]
fn cards_are_opened_side_by_side() {
    let mut world = on_demand();
    let (one, other) = (world.join(0), world.join(1));
    world.ask(one, open(0));
    world.ask(other, open(1));
    assert_eq!(works(&world).iter().filter(|work| is_take(work)).count(), 2);
    // The second is there first.
    let second = |work: &Work| matches!(work, Work::Take { space: 1, .. });
    ends(&mut world, second, How::Done);
    assert!(world.machine.has_open(CardId(1)) && !world.machine.has_open(CardId(0)));
}

#[test]
fn who_asks_while_it_is_given_back_waits_and_gets_it() {
    let mut world = on_demand();
    let client = user(&mut world, 0);
    granted(&mut world, client, Request::Close { card: CARD });
    ends(&mut world, |work| matches!(work, Work::Close { .. }), How::Done);
    let other = world.join(1);
    assert_eq!(world.ask(other, open(0)), None);
    assert!(works(&world).iter().all(|work| is_return(work)), "{:?}", works(&world));
    ends(&mut world, is_return, How::Done);
    ends(&mut world, is_take, How::Done);
    world.finish_all();
    assert!(world.machine.has_open(CARD));
    world.check_answers();
}

#[test]
fn everybody_who_waits_hears_why_it_cannot_be_taken() {
    let mut world = on_demand();
    let clients = [world.join(0), world.join(1)];
    for client in clients {
        assert_eq!(world.ask(client, open(0)), None);
    }
    let reply = ends(&mut world, is_take, How::Fails);
    assert_eq!(reply.unwrap().unwrap_err().kind(), ErrorKind::System);
    world.check_answers();
    // It is still known, and may be had the next time.
    assert_eq!(list(&mut world, clients[0]).len(), 2);
    world.ask(clients[0], open(0));
    world.finish_all();
    assert!(world.machine.has_open(CARD));
    // Where another card is now it is not known any more.
    world.ask(clients[1], open(1));
    ends(&mut world, is_take, How::Meets);
    refused(&mut world, clients[1], open(1), ErrorKind::NotFound);
}

#[test]
fn cards_that_come_and_go_are_followed_by_id() {
    let mut world = on_demand();
    let client = world.join(0);
    world.card_comes();
    assert_eq!(list(&mut world, client), [CardId(0), CardId(1), CardId(2)]);
    world.card_says(CardId(1), Notice::Leaving);
    assert_eq!(list(&mut world, client), [CardId(0), CardId(2)]);
    // One that is wanted back while it is open.
    world.ask(client, open(2));
    world.finish_all();
    world.card_says(CardId(2), Notice::Leaving);
    granted(&mut world, client, Request::Close { card: CardId(2) });
    world.finish_all();
    assert_eq!(list(&mut world, client), [CardId(0)]);
    // The same place, and another number: who had the old one has nothing of the new one.
    let again = world.setting.sighting(2);
    world.visible.push(again);
    assert_eq!(list(&mut world, client), [CardId(0), CardId(3)]);
    world.ask(client, open(3));
    world.finish_all();
    assert!(world.machine.has_open(CardId(3)));
}

/// One that looks the same, and was started in the place of the one that was seen.
#[test]
fn a_card_in_the_place_of_another_has_a_number_of_its_own() {
    let mut world = on_demand();
    let client = world.join(0);
    assert_eq!(list(&mut world, client), [CardId(0), CardId(1)]);
    world.ask(client, open(1));
    world.finish_all();
    world.visible.iter_mut().for_each(|sighting| sighting.is_new = true);
    // The one that is open is what it is.
    assert_eq!(list(&mut world, client), [CardId(1), CardId(2)]);
    refused(&mut world, client, open(0), ErrorKind::NotFound);
    assert!(world.machine.has_open(CardId(1)));
}

#[test]
fn cards_of_one_group_are_taken_and_given_back_together() {
    let mut world = one_group();
    let client = world.join(0);
    world.ask(client, open(1));
    world.finish_all();
    assert!(world.machine.has_open(CardId(0)) && world.machine.has_open(CardId(1)));
    world.card_comes();
    list(&mut world, client);
    let error = refused(&mut world, client, open(2), ErrorKind::Held);
    assert!(error.to_string().contains("unit 0"), "{error}");
    granted(&mut world, client, Request::Close { card: CardId(1) });
    world.finish_all();
    world.ask(client, open(2));
    world.finish_all();
    assert!(world.machine.has_open(CardId(2)));
}

#[test]
fn memory_that_somebody_has_keeps_its_card() {
    let mut world = on_demand();
    let client = user(&mut world, 0);
    let iova = buffer(&mut world, client, Some(CARD));
    granted(&mut world, client, Request::Close { card: CARD });
    world.finish_all();
    assert!(world.machine.has_open(CARD));
    world.ask(client, Request::Free { iova });
    world.finish_all();
    assert!(!world.machine.has_open(CARD));
}

#[test]
fn memory_for_all_cards_is_for_those_that_are_open() {
    let mut world = on_demand();
    let client = world.join(0);
    refused(&mut world, client, allocate(None), ErrorKind::NotFound);
    world.ask(client, open(0));
    world.ask(client, open(1));
    world.finish_all();
    let iova = buffer(&mut world, client, None);
    // It holds no card: it is for whoever has one.
    granted(&mut world, client, Request::Close { card: CardId(1) });
    world.finish_all();
    assert!(!world.machine.has_open(CardId(1)));
    world.ask(client, Request::Free { iova });
    world.finish_all();
    world.check_answers();
}

#[test]
fn a_broker_that_ends_closes_what_it_was_just_taking() {
    let mut world = on_demand();
    let client = world.join(0);
    world.ask(client, open(0));
    world.feed(Event::Stop);
    world.finish_all();
    assert!(world.machine.is_stopped() && world.cards.is_empty());
}
