//! Cards that are unplugged.

use super::*;

impl World {
    /// A card is closed when nobody has it, once, and nothing is done to it afterwards.
    pub(super) fn check_card(&mut self, work: &Work) {
        let card = match *work {
            Work::Grant { card, .. }
            | Work::Wire { card, .. }
            | Work::Silence { card, .. }
            | Work::CarryOut { card, .. }
            | Work::Reset { card, .. }
            | Work::Close { card } => card,
            Work::Map { .. } | Work::Place { .. } | Work::Unmap { .. } => return,
        };
        assert!(!self.closed.contains(&card), "{work:?} after the card was closed");
        if let Work::Close { card } = work {
            assert!(self.machine.cards[*card].users.is_empty());
            self.closed.insert(*card);
        }
    }

    fn works(&self) -> Vec<&Work> {
        self.unfinished.iter().map(|(_, work)| work).collect()
    }

    fn leave(&mut self, card: usize) -> Vec<Effect> {
        self.machine.handle(Event::Noticed { card, notice: Notice::Leaving })
    }
}

#[test]
fn a_card_that_nobody_has_is_closed_at_once_and_stays_in_the_list() {
    let mut world = World::new();
    world.feed(Event::Noticed { card: 0, notice: Notice::Leaving });
    assert!(matches!(world.works()[..], [Work::Close { card: 0 }]));
    world.feed(Event::Noticed { card: 0, notice: Notice::Leaving });
    world.finish_all();
    world.join(0);
    let client = ClientId(0);
    let Some(Ok(Reply::Cards(cards))) = world.ask(client, Request::Cards) else { panic!("no cards") };
    assert_eq!(cards.len(), CARDS as usize);
    let error = world.ask(client, Request::Open { card: 0 }).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LinkDown);
    assert!(error.to_string().contains("card card0 (10ee:7011) is gone"), "{error}");
    assert_eq!(world.ask(client, Request::Open { card: 1 }), None, "the other card goes on");
}

#[test]
fn a_card_in_use_is_closed_when_the_last_of_its_users_has_left() {
    let mut world = World::new();
    let (first, second) = (user(&mut world, 0), user(&mut world, 1));
    world.ask(first, lease_of("h2c0".parse().unwrap()));
    let told = world.leave(0);
    let told: Vec<ClientId> = told
        .iter()
        .map(|effect| if let Effect::Tell { client, .. } = effect { *client } else { panic!() })
        .collect();
    assert_eq!(told, [first, second]);
    assert!(world.leave(0).is_empty(), "they know");

    let anew = [Request::Open { card: 0 }, lease_of("c2h0".parse().unwrap()), Request::Reset { card: 0 }];
    for request in anew {
        let error = world.ask(second, request).unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LinkDown);
        assert!(error.to_string().contains("is being unplugged"), "{error}");
    }
    world.ask(first, Request::Goodbye);
    assert!(world.unfinished.is_empty(), "somebody still has it");
    // Killed in the middle of something.
    world.ask(
        second,
        Request::Allocate { card: Some(0), size: 4096, align: 1, top: u64::MAX, page_shift: 12 },
    );
    world.feed(Event::Left { client: second });
    while !world.works().iter().any(|work| matches!(work, Work::Close { .. })) {
        world.finish(0, false);
    }
    assert!(world.mapped.is_empty(), "first its memory is taken back");
    assert_eq!(world.unfinished.len(), 1, "and there is no reset: the kernel makes one");
}

#[test]
fn a_card_that_is_being_reset_is_closed_afterwards() {
    let mut world = World::new();
    let first = user(&mut world, 0);
    world.feed(Event::Left { client: first });
    assert!(matches!(world.works()[..], [Work::Reset { .. }]));
    world.join(1);
    assert_eq!(world.ask(ClientId(1), Request::Open { card: 0 }), None);
    assert!(world.leave(0).is_empty());
    world.finish(0, false);
    assert!(matches!(world.works()[..], [Work::Close { .. }]));
    assert!(world.open_requests.is_empty(), "who had waited was refused");
}

#[test]
fn a_card_that_failed_is_told_of_and_may_be_opened() {
    let mut world = World::new();
    let client = user(&mut world, 0);
    let told = world.machine.handle(Event::Noticed { card: 0, notice: Notice::Failed });
    assert!(
        matches!(told[..], [Effect::Tell { client: told, notice: Notice::Failed, .. }] if told == client)
    );
    assert_eq!(world.ask(client, Request::Open { card: 0 }), None);
    world.finish_all();
    assert!(world.open_requests.is_empty());
}
