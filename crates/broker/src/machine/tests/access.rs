//! What a policy lets clients see and do.

use super::*;
use crate::machine::{Effect, Peer, Reminder, Way};
use crate::policy::Policy;
use crate::policy::tests::Known;
use crate::protocol::Notice;

const OTHER: CardId = CardId(1);

/// A world of clients of user 1000 (seats 0, 1) and 1001 (2, 3), with a policy.
fn with(policy: &str) -> World {
    let mut world = world();
    let policy = Policy::parse(policy, &Known).expect("a policy");
    world.machine = world.machine.with_policy(4711, policy);
    world
}

/// User 1000 may have all, user 1001 shares the first card and has nothing of the other.
const SHARED: &str = r#"
[[rule]]
who = ["user:alice"]
access = "alone"
[[rule]]
who = ["user:bob"]
cards = ["vfio-user:/card0"]
access = "shared"
"#;

#[test]
fn what_a_client_may_not_open_is_not_there() {
    let mut world = with(SHARED);
    let (alice, bob) = (user(&mut world, 0), user(&mut world, 2));
    let cards = |world: &mut World, client| match granted(world, client, Request::Cards { after: None }) {
        Reply::Cards { cards, .. } => cards.into_iter().map(|card| card.id).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(cards(&mut world, alice), [CARD, OTHER]);
    assert_eq!(cards(&mut world, bob), [CARD]);
    // In the same words as what there never was.
    let words = |world: &mut World, card| {
        let error = refused(world, bob, Request::Open { card }, ErrorKind::NotFound).to_string();
        error.replace(&format!("id {}", card.0), "id N")
    };
    assert_eq!(words(&mut world, OTHER), words(&mut world, CardId(77)));
    assert!(words(&mut world, OTHER).contains("this user's only one is 0"));
    for request in [
        Request::Close { card: OTHER },
        Request::Wire { card: OTHER, vector: 0 },
        Request::Silence { card: OTHER, vector: 0 },
        Request::Reset { card: OTHER },
        Request::Lease { card: OTHER, part: "x".into(), mode: Mode::Shared, will: will(0), wait: 0 },
        Request::Release { card: OTHER, lease: LeaseId(0), will: false },
        allocate(Some(OTHER)),
    ] {
        let error = world.ask(bob, request.clone()).expect("no answer").expect_err("it was granted");
        assert!(matches!(error.kind(), ErrorKind::NotFound), "{request:?}: {error}");
    }
}

#[test]
fn who_shares_a_card_does_not_have_it_alone() {
    let mut world = with(SHARED);
    let (alice, bob) = (user(&mut world, 0), user(&mut world, 2));
    let error = refused(&mut world, bob, lease("whole", 0), ErrorKind::Denied);
    let rule = "who may not have it alone: rule 2 (who user:bob, cards vfio-user:/card0, access shared)";
    assert!(error.to_string().contains(rule), "{error}");
    let error = refused(&mut world, bob, Request::Reset { card: CARD }, ErrorKind::Denied);
    assert!(error.to_string().contains("who may not reset it: rule 2"), "{error}");
    leased(&mut world, bob, "h2c0", 0);
    leased(&mut world, alice, "c2h0", 0);
    killed(&mut world, bob);
    world.finish_all();
    leased(&mut world, alice, "h2c0", 0);
}

#[test]
fn who_comes_and_goes_and_what_is_used_is_told_to_those_who_may_see_it() {
    let mut world = with(SHARED);
    let (alice, bob) = (user(&mut world, 0), user(&mut world, 2));
    world.ask(alice, Request::Open { card: OTHER });
    world.finish_all();
    let request =
        Request::Lease { card: OTHER, part: "h2c0".into(), mode: Mode::Exclusive, will: will(0), wait: 0 };
    granted(&mut world, alice, request);
    let Reply::Usage { clients, .. } = granted(&mut world, bob, Request::Usage { after: None }) else {
        panic!()
    };
    assert_eq!(clients[0].cards, [CARD]);
    assert_eq!(clients[0].leases, []);
    let Reply::Usage { clients, .. } = granted(&mut world, alice, Request::Usage { after: None }) else {
        panic!()
    };
    assert_eq!((clients[0].cards.len(), clients[0].leases.len()), (2, 1));
    // Of a card that comes, whom nobody but alice may see.
    let description = Setting::default().card(9);
    let effects = world.machine.handle(Event::Came(description));
    let told = effects.iter().filter_map(|effect| match effect {
        Effect::Tell { client, notice: Notice::Came { .. } } => Some(*client),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [alice]);
}

#[test]
fn memory_goes_where_its_owner_may_go() {
    let mut world = with(SHARED);
    let (alice, bob) = (user(&mut world, 0), user(&mut world, 2));
    assert_eq!(world.ask(alice, allocate(None)), None);
    assert_eq!(world.ask(bob, allocate(None)), None);
    let spaces: Vec<_> = works(&world)
        .into_iter()
        .filter_map(|work| match work {
            Work::Map { space, .. } => Some(*space),
            _ => None,
        })
        .collect();
    assert_eq!(spaces, [crate::machine::Space::All, crate::machine::Space::One(0)]);
    // One who may use two of three, which have no space in common, has to say which.
    let mut world = World::new(Setting::default());
    let policy = "[[rule]]\nwho = [\"everybody\"]\ncards = [\"vfio-user:/card0\", \"vfio-user:/card1\"]\naccess = \"shared\"";
    world.machine = world.machine.with_policy(4711, Policy::parse(policy, &Known).expect("a policy"));
    let client = user(&mut world, 0);
    world.machine.handle(Event::Came(Setting::default().card(2)));
    let effects = world.machine.handle(Event::Request {
        client,
        number: 77,
        request: allocate(None),
        descriptor: false,
    });
    let [Effect::Reply { reply: Err(error), .. }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

#[test]
fn quotas_are_limits_of_those_whom_they_name() {
    let policy = "[[quota]]\nwho = [\"user:bob\"]\nleases = 1\nbuffers = 1\nmemory = \"8K\"\nconnections = 2";
    let mut world = with(policy);
    let (alice, bob) = (user(&mut world, 0), user(&mut world, 2));
    for part in ["h2c0", "c2h0"] {
        leased(&mut world, alice, part, 0);
    }
    leased(&mut world, bob, "h2c1", 0);
    let error = refused(&mut world, bob, lease("c2h1", 0), ErrorKind::Exhausted);
    assert!(error.to_string().contains("at most 1 leases"), "{error}");
    assert!(error.to_string().contains("quota 1 (who user:bob"), "{error}");
    buffer(&mut world, bob, None);
    refused(&mut world, bob, allocate(None), ErrorKind::Exhausted);
    buffer(&mut world, alice, None);
    buffer(&mut world, alice, None);
    let peer = |uid| Peer { pid: None, uid, gid: uid, groups: Vec::new(), way: Way::Listener };
    let joins = |machine: &mut crate::machine::Machine, client, uid| {
        machine.handle(Event::Joined { client: ClientId(client), peer: peer(uid) }).is_empty()
    };
    assert!(joins(&mut world.machine, 91, 1001) && !joins(&mut world.machine, 92, 1001));
    assert!(joins(&mut world.machine, 93, 1000) && joins(&mut world.machine, 94, 1000));
}

/// Who has the card's registers cannot be kept from its channel otherwise than by taking all of it.
#[test]
fn who_has_held_for_too_long_what_others_wait_for_is_dropped() {
    let mut world = with("[[quota]]\nwho = [\"user:bob\"]\nlease-time = \"30m\"");
    let (alice, bob) = (user(&mut world, 0), user(&mut world, 2));
    let ask = |client, number, request| Event::Request { client, number, request, descriptor: false };
    let machine = &mut world.machine;
    let effects = machine.handle(ask(bob, 70, lease("h2c0", 2)));
    let of = match effects[..] {
        [
            Effect::Remind { client, of, after_ms: 1_800_000 },
            Effect::Reply { reply: Ok(Reply::Leased(_)), .. },
        ] => {
            assert_eq!(client, bob);
            of
        }
        _ => panic!("{effects:?}"),
    };
    assert!(!matches!(machine.handle(ask(alice, 70, lease("c2h0", 0)))[..], [Effect::Remind { .. }, ..]));
    // Nobody waits: it may go on.
    assert!(machine.handle(Event::Reminded { client: bob, of }).is_empty());
    let wait = |part: &str| Request::Lease {
        card: CARD,
        part: part.into(),
        mode: Mode::Exclusive,
        will: will(0),
        wait: 9,
    };
    let effects = machine.handle(ask(alice, 71, wait("h2c0")));
    let dropped = effects.iter().find_map(|effect| match effect {
        Effect::Reply { client, number: 0, reply: Err(error), .. } if *client == bob => {
            Some(error.to_string())
        }
        _ => None,
    });
    let dropped = dropped.unwrap_or_else(|| panic!("{effects:?}"));
    assert!(
        dropped.contains("quota 1 (who user:bob, lease-time 30m)), and pid 100 (a test) waits"),
        "{dropped}"
    );
    // Its will first, and then it is alice's.
    let will = effects.iter().find_map(|effect| match effect {
        Effect::Work { id, task } if matches!(task.work, Work::CarryOut { .. }) => Some(*id),
        _ => None,
    });
    let task = will.unwrap_or_else(|| panic!("{effects:?}"));
    let effects = machine.handle(Event::Finished { task, outcome: Ok(crate::machine::Outcome::Done) });
    let has = |effect: &Effect| matches!(effect, Effect::Reply { client, number: 71, reply: Ok(Reply::Leased(_)), .. } if *client == alice);
    assert!(effects.iter().any(has), "{effects:?}");
}

#[test]
fn a_lease_that_ended_in_time_is_forgotten() {
    let mut world = with("[[quota]]\nwho = [\"user:bob\"]\nlease-time = \"1s\"");
    let bob = user(&mut world, 2);
    let ask = |number, request| Event::Request { client: bob, number, request, descriptor: false };
    let effects = world.machine.handle(ask(70, lease("h2c0", 0)));
    let Some(Effect::Remind { of: of @ Reminder::Lease(id), .. }) = effects.first() else {
        panic!("{effects:?}")
    };
    let release = Request::Release { card: CARD, lease: *id, will: false };
    let effects = world.machine.handle(ask(71, release));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Unremind { of: other, .. } if other == of)));
    // And if it comes all the same, nothing happens.
    assert!(world.machine.handle(Event::Reminded { client: bob, of: *of }).is_empty());
}
