//! Cards that come, are unplugged, or fail.

use super::*;
use crate::machine::Effect;
use crate::protocol::Notice as Said;
use jitney_vfio::Notice;

fn noticed(world: &mut World, notice: Notice) {
    world.feed(Event::Noticed { card: CARD, notice });
}

/// Whom an event has something said to, and what.
fn told(world: &mut World, event: Event) -> Vec<(ClientId, Said)> {
    let effects = world.machine.handle(event);
    let told = effects.into_iter().map(|effect| match effect {
        Effect::Tell { client, notice } => (client, notice),
        other => panic!("{other:?}"),
    });
    told.collect()
}

fn leaving() -> Event {
    Event::Noticed { card: CARD, notice: Notice::Leaving }
}

fn cards_of(world: &mut World, client: ClientId) -> Vec<CardId> {
    match granted(world, client, Request::Cards { after: None }) {
        Reply::Cards { cards, more: false } => cards.into_iter().map(|card| card.id).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_card_that_nobody_has_is_closed_at_once_and_leaves_the_list() {
    let mut world = world();
    let client = world.join(0);
    noticed(&mut world, Notice::Leaving);
    assert!(matches!(works(&world)[..], [Work::Close { card: CARD }]));
    noticed(&mut world, Notice::Leaving);
    noticed(&mut world, Notice::Failed);
    assert_eq!(works(&world).len(), 1, "once");
    let error = refused(&mut world, client, Request::Open { card: CARD }, ErrorKind::LinkDown);
    assert!(error.to_string().contains("is being unplugged"), "{error}");
    world.finish_all();
    assert_eq!(cards_of(&mut world, client), [CardId(1)]);
    refused(&mut world, client, Request::Open { card: CARD }, ErrorKind::NotFound);
    assert_eq!(world.ask(client, Request::Open { card: CardId(1) }), None, "the other card goes on");
}

#[test]
fn a_card_that_could_not_be_closed_leaves_the_list_too() {
    let mut world = world();
    let client = world.join(0);
    noticed(&mut world, Notice::Leaving);
    let task = world.at_work.pop().unwrap().id;
    let failure = Error::new(ErrorKind::System, "bus mastering cannot be switched off");
    let told = told(&mut world, Event::Finished { task, outcome: Err(failure.into()) });
    assert_eq!(told, [(client, Said::Gone { card: CARD })], "everybody is told");
}

#[test]
fn a_card_in_use_is_closed_when_the_last_of_its_users_has_left() {
    let mut world = world();
    let (first, second) = (user(&mut world, 0), user(&mut world, 1));
    world.join(2);
    leased(&mut world, first, "h2c0", 1);
    leased(&mut world, second, "irq0", 0);
    let is_told = told(&mut world, leaving());
    let notice = Said::Leaving { card: CARD };
    assert_eq!(is_told, [(first, notice.clone()), (second, notice)], "those who have it");
    assert!(told(&mut world, leaving()).is_empty(), "they know");
    for request in [lease("c2h0", 0), Request::Reset { card: CARD }, WIRE] {
        let error = refused(&mut world, second, request, ErrorKind::LinkDown);
        assert!(error.to_string().contains("is being unplugged"), "{error}");
    }
    world.ask(first, Request::Goodbye);
    ends(&mut world, is_will, How::Done);
    assert!(world.at_work.is_empty(), "somebody still has it");
    // Killed in the middle of something.
    world.ask(second, allocate(Some(CARD)));
    killed(&mut world, second);
    while !works(&world).iter().any(|work| matches!(work, Work::Close { .. })) {
        world.finish(0, How::Done);
    }
    assert!(world.memory.is_empty(), "first its memory is taken back");
    assert_eq!(world.at_work.len(), 1, "and there is no reset: the kernel makes one");
}

#[test]
fn a_card_that_is_being_reset_is_closed_afterwards() {
    let mut world = world();
    let (first, second) = (user(&mut world, 0), user(&mut world, 1));
    world.ask(first, Request::Reset { card: CARD });
    assert_eq!(world.ask(second, lease("h2c0", 0)), None);
    noticed(&mut world, Notice::Leaving);
    killed(&mut world, first);
    granted(&mut world, second, Request::Close { card: CARD });
    assert!(matches!(works(&world)[..], [Work::Reset { .. }]));
    world.finish(0, How::Done);
    assert!(matches!(works(&world)[..], [Work::Close { .. }]));
    world.check_answers();
}

#[test]
fn a_card_that_rests_is_closed_after_its_reset() {
    let mut world = world();
    let client = user(&mut world, 0);
    killed(&mut world, client);
    noticed(&mut world, Notice::Leaving);
    assert!(matches!(works(&world)[..], [Work::Reset { unused: true, .. }]));
    world.finish(0, How::Done);
    assert!(matches!(works(&world)[..], [Work::Close { .. }]));
}

#[test]
fn a_card_that_failed_is_told_of_and_may_be_opened() {
    let mut world = world();
    let (client, other) = (user(&mut world, 0), world.join(1));
    let failed = || Event::Noticed { card: CARD, notice: Notice::Failed };
    assert_eq!(told(&mut world, failed()), [(client, Said::Failed { card: CARD })]);
    assert_eq!(told(&mut world, failed()), [(client, Said::Failed { card: CARD })], "every time");
    assert_eq!(world.ask(other, Request::Open { card: CARD }), None);
    world.check_answers();
}

#[test]
fn who_is_gone_is_told_nothing() {
    let mut world = world();
    let client = user(&mut world, 0);
    leased(&mut world, client, "h2c0", 1);
    killed(&mut world, client);
    assert!(told(&mut world, leaving()).is_empty());
    world.feed(Event::Came(Setting::default().card(2)));
}

#[test]
fn a_card_that_comes_is_told_to_everybody_and_can_be_opened() {
    let mut world = world();
    let client = world.join(0);
    world.connect(ClientId(50), 1000);
    let description = Setting::default().card(2);
    let identity = description.identity.clone();
    let said = told(&mut world, Event::Came(description.clone()));
    let card = crate::protocol::CardEntry { id: CardId(2), identity };
    assert_eq!(said, [(client, Said::Came { card })], "everybody who has said hello");
    assert_eq!(cards_of(&mut world, client), [CARD, CardId(1), CardId(2)]);
}

/// core.md G1: an open counted at once; its grant failed after a lease and a wire, and the card was closed under them.
#[test]
fn core_g1_a_grant_that_fails_takes_nothing_back_that_was_given_before_it() {
    let mut world = world();
    let client = world.join(2);
    world.ask(client, Request::Open { card: CARD });
    refused(&mut world, client, lease("irq1", 1), ErrorKind::Invalid);
    refused(&mut world, client, Request::Wire { card: CARD, vector: 1 }, ErrorKind::Invalid);
    noticed(&mut world, Notice::Leaving);
    ends(&mut world, any, How::Fails);
    assert!(matches!(works(&world)[..], [Work::Close { .. }]));
    killed(&mut world, client);
    world.finish_all();
    assert!(world.clients.is_empty());
}

/// core.md G1, the second history: a request that waited for a card that was closed was never answered.
#[test]
fn core_g1_whoever_asks_while_a_card_goes_is_answered() {
    let mut world = world();
    let client = world.join(1);
    world.ask(client, Request::Open { card: CARD });
    refused(&mut world, client, lease("h2c0", 1), ErrorKind::Invalid);
    noticed(&mut world, Notice::Leaving);
    let told = world.finish(0, How::Done);
    assert_eq!(told, Some(Ok(Reply::Opened { kind: 1 })), "what was asked for before is granted");
    world.join(0);
    world.check_answers();
}

#[test]
fn who_gets_a_card_that_leaves_is_told_with_it() {
    let mut world = world();
    let client = world.join(1);
    world.ask(client, Request::Open { card: CARD });
    noticed(&mut world, Notice::Leaving);
    let task = world.at_work[0].id;
    let outcome = Ok(crate::machine::Outcome::Grant { kind: 1 });
    let effects = world.machine.handle(Event::Finished { task, outcome });
    let [Effect::Reply { .. }, Effect::Tell { client: told, notice }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((*told, notice), (client, &Said::Leaving { card: CARD }));
}

/// Whoever is gone had only asked for it, and has something else under way that takes longer than the card takes to go.
#[test]
fn who_waits_for_a_card_that_goes_is_answered() {
    let mut world = world();
    let (gone, waiting) = (world.join(0), world.join(1));
    world.ask(gone, allocate(None));
    world.ask(gone, Request::Open { card: CARD });
    killed(&mut world, gone);
    assert_eq!(world.ask(waiting, Request::Open { card: CARD }), None);
    noticed(&mut world, Notice::Leaving);
    ends(&mut world, |work| matches!(work, Work::Grant { .. }), How::Fails);
    let reply = ends(&mut world, |work| matches!(work, Work::Close { .. }), How::Done);
    assert_eq!(reply.unwrap().unwrap_err().kind(), ErrorKind::NotFound);
    world.check_answers();
}
