//! Leases that are waited for: whose turn it is, who may pass, and who would wait for ever.

use super::*;
use crate::machine::leases::excludes;
use crate::machine::testing::Steps;
use crate::machine::who_waits::WhoWaits;
use crate::machine::{Effect, Machine, Reminder};
use crate::protocol::Notice;
use rustix::io::Errno;
use std::collections::BTreeSet;

fn awaits(part: &str) -> Request {
    Request::Lease { card: CARD, part: part.into(), mode: Mode::Exclusive, will: will(0), wait: u32::MAX }
}

/// Asks for a lease that somebody else has to end first; returns the number of the request.
#[track_caller]
fn stands(world: &mut World, client: ClientId, part: &str) -> u64 {
    assert_eq!(world.ask(client, awaits(part)), None, "it was not made to wait");
    *world.clients[&client].asked.keys().next_back().expect("it has asked")
}

fn release(world: &mut World, client: ClientId, lease: LeaseId) {
    granted(world, client, Request::Release { card: CARD, lease, will: false });
}

fn has(world: &World, client: ClientId, part: &str) -> bool {
    world.clients[&client].leases.values().any(|lease| lease.part.name() == part)
}

/// What a client has been told of its place, by an event that is fed to the machine alone.
fn told(world: &mut World, event: Event) -> Vec<(ClientId, u32, String)> {
    let effects = world.machine.handle(event);
    let told = effects.into_iter().filter_map(|effect| match effect {
        Effect::Tell { client, notice: Notice::InLine { place, behind, .. } } => {
            Some((client, place, behind))
        }
        _ => None,
    });
    told.collect()
}

#[test]
fn first_come_is_first_served() {
    let mut world = world();
    let users = [user(&mut world, 0), user(&mut world, 1), user(&mut world, 2)];
    let lease = leased(&mut world, users[0], "h2c0", 0);
    stands(&mut world, users[1], "whole");
    stands(&mut world, users[2], "h2c0");
    release(&mut world, users[0], lease);
    assert!(has(&world, users[1], "whole") && !has(&world, users[2], "h2c0"));
    killed(&mut world, users[1]);
    world.finish_all();
    assert!(has(&world, users[2], "h2c0"));
}

#[test]
fn who_does_not_wait_does_not_pass_those_who_do() {
    let mut world = world();
    let users = [user(&mut world, 0), user(&mut world, 1), user(&mut world, 2)];
    leased(&mut world, users[0], "h2c0", 0);
    stands(&mut world, users[1], "whole");
    let error = refused(&mut world, users[2], lease("c2h0", 0), ErrorKind::Held);
    assert!(error.to_string().contains("pid 101 (a test) waits for whole already"), "{error}");
    stands(&mut world, users[2], "c2h0");
    // Something of the one before it goes on for a while.
    buffer(&mut world, users[1], None);
    killed(&mut world, users[1]);
    assert!(!world.at_work.is_empty() && has(&world, users[2], "c2h0"), "nobody is before it any more");
    world.finish_all();
    assert!(has(&world, users[2], "c2h0"));
}

/// A driver takes its channels one after the other: somebody who waits for the whole card must not make it fail half-way.
#[test]
fn who_is_waited_for_passes() {
    let mut world = world();
    let users = [user(&mut world, 0), user(&mut world, 1), user(&mut world, 2)];
    let lease = leased(&mut world, users[0], "h2c0", 0);
    stands(&mut world, users[1], "whole");
    let second = leased(&mut world, users[0], "c2h0", 0);
    // The third holds nothing, so that the line is for it.
    refused(&mut world, users[2], super::lease("irq0", 0), ErrorKind::Held);
    release(&mut world, users[0], lease);
    assert!(!has(&world, users[1], "whole"));
    release(&mut world, users[0], second);
    assert!(has(&world, users[1], "whole"));
}

#[test]
fn nobody_waits_for_whom_they_keep_waiting() {
    let mut world = world();
    let users = [user(&mut world, 0), user(&mut world, 1), user(&mut world, 2)];
    for (client, part) in users.into_iter().zip(["h2c0", "h2c1", "h2c2"]) {
        leased(&mut world, client, part, 0);
    }
    stands(&mut world, users[0], "h2c1");
    stands(&mut world, users[1], "h2c2");
    let error = refused(&mut world, users[2], awaits("h2c0"), ErrorKind::Held);
    assert_eq!(error.errno(), Some(Errno::DEADLK), "{error}");
    assert!(error.to_string().contains("h2c0 is held by pid 100"), "{error}");
    killed(&mut world, users[2]);
    world.finish_all();
    assert!(has(&world, users[1], "h2c2"));
}

#[test]
fn nobody_waits_for_themselves() {
    let mut world = world();
    let client = user(&mut world, 0);
    leased(&mut world, client, "h2c0", 0);
    let error = refused(&mut world, client, awaits("whole"), ErrorKind::Held);
    assert_eq!(error.errno(), Some(Errno::DEADLK), "{error}");
}

#[test]
fn who_gives_up_is_told_who_has_it_and_lets_others_go_on() {
    let mut world = world();
    let users = [user(&mut world, 0), user(&mut world, 1), user(&mut world, 2)];
    leased(&mut world, users[0], "h2c0", 0);
    let number = stands(&mut world, users[1], "whole");
    stands(&mut world, users[2], "c2h0");
    // Somebody else's request is nobody's to withdraw.
    granted(&mut world, users[2], Request::Withdraw { number });
    assert!(world.clients[&users[1]].asked.contains_key(&number));
    let reply = world.feed(Event::Reminded { client: users[1], of: Reminder::InLine(number) });
    // The last reply is that of who has its turn now.
    assert!(matches!(reply, Some(Ok(Reply::Leased(_)))), "{reply:?}");
    assert!(has(&world, users[2], "c2h0"));

    let number = stands(&mut world, users[1], "h2c0");
    let error =
        world.feed(Event::Reminded { client: users[1], of: Reminder::InLine(number) }).unwrap().unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::TimedOut, Some(Errno::TIMEDOUT)));
    assert!(error.to_string().contains("h2c0 is held by pid 100 (a test)"), "{error}");
}

#[test]
fn a_reminder_is_set_for_who_wants_to_wait_for_some_time() {
    let mut world = world();
    let users = [user(&mut world, 0), user(&mut world, 1)];
    leased(&mut world, users[0], "h2c0", 0);
    for (wait, reminds) in [(0, false), (250, true), (u32::MAX, false)] {
        let request =
            Request::Lease { card: CARD, part: "h2c0".into(), mode: Mode::Exclusive, will: will(0), wait };
        let event = Event::Request { client: users[1], number: 7, request, descriptor: false };
        let effects = world.machine.clone().handle(event);
        let remind = |effect: &Effect| match effect {
            Effect::Remind { client, of: Reminder::InLine(7), after_ms } => {
                *client == users[1] && *after_ms == wait
            }
            _ => false,
        };
        assert_eq!(effects.iter().any(remind), reminds, "{wait}: {effects:?}");
    }
}

#[test]
fn who_waits_is_told_how_far_it_has_come() {
    let mut world = world();
    let users = [user(&mut world, 0), user(&mut world, 1), user(&mut world, 2)];
    leased(&mut world, users[0], "h2c0", 0);
    let ask = |client, number| Event::Request { client, number, request: awaits("h2c0"), descriptor: false };
    let held = "h2c0 is held by pid 100 (a test)".to_owned();
    assert_eq!(told(&mut world, ask(users[1], 71)), [(users[1], 1, held.clone())]);
    assert_eq!(told(&mut world, ask(users[2], 72)), [(users[2], 2, held.clone())]);
    let withdraw = Event::Request {
        client: users[1],
        number: 73,
        request: Request::Withdraw { number: 71 },
        descriptor: false,
    };
    assert_eq!(told(&mut world, withdraw), [(users[2], 1, held)]);
    // Nothing has changed for it.
    let more = ask(users[1], 74);
    assert!(told(&mut world, more).iter().all(|(client, ..)| *client == users[1]));
}

/// Who is far behind could not read a message for each step.
#[test]
fn who_is_far_behind_is_told_seldom() {
    let mut world = World::new(Setting::default());
    let users: Vec<ClientId> = (0..40).map(ClientId).collect();
    for client in &users {
        world.connect(*client, 1000);
        world.ask(*client, Request::Hello { program: "a test".into() });
        world.ask(*client, Request::Open { card: CARD });
    }
    world.finish_all();
    let mut last = 0;
    for (number, client) in users.iter().enumerate() {
        let request = awaits("h2c0");
        let event =
            Event::Request { client: *client, number: 100 + number as u64, request, descriptor: false };
        let places = told(&mut world, event);
        last = places.iter().map(|(_, place, _)| *place).max().unwrap_or(0);
    }
    assert_eq!(last, 39);
    let mut places = Vec::new();
    for client in &users[..39] {
        let mut of_last = told(&mut world, Event::Left { client: *client });
        // What it had goes at once: it has no will and no memory.
        of_last.retain(|(client, ..)| *client == users[39]);
        places.extend(of_last.into_iter().map(|(_, place, _)| place));
    }
    assert_eq!(places, [19, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
}

#[test]
fn a_card_that_is_wanted_back_is_waited_for_by_nobody() {
    let mut world = world();
    let (first, second) = (user(&mut world, 0), user(&mut world, 1));
    leased(&mut world, first, "h2c0", 0);
    stands(&mut world, second, "h2c0");
    let notice = jitney_vfio::Notice::Leaving;
    let error = world.feed(Event::Noticed { card: CARD, notice }).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LinkDown, "{error}");
}

#[test]
fn lines_have_limits() {
    let mut world = World::new(Setting { narrow: true, ..Setting::default() });
    let users = [user(&mut world, 0), user(&mut world, 2)];
    leased(&mut world, users[0], "h2c0", 0);
    leased(&mut world, users[0], "c2h0", 0);
    stands(&mut world, users[1], "h2c0");
    let error = refused(&mut world, users[1], awaits("c2h0"), ErrorKind::Exhausted);
    assert!(error.to_string().contains("at most 1 leases that it waits for"), "{error}");
}

#[test]
fn usage_says_who_waits_for_what() {
    let mut world = world();
    let users = [user(&mut world, 0), user(&mut world, 1), user(&mut world, 2)];
    leased(&mut world, users[0], "h2c0", 0);
    stands(&mut world, users[1], "h2c0");
    stands(&mut world, users[2], "whole");
    let Reply::Usage { clients, .. } = granted(&mut world, users[0], Request::Usage { after: None }) else {
        panic!("no usage")
    };
    let waits: Vec<_> = clients.into_iter().map(|client| client.waits).collect();
    assert_eq!(waits, [vec![], vec![(CARD, "h2c0".into(), 1)], vec![(CARD, "whole".into(), 2)]]);
}

/// Who waits for `client`, or for somebody who does, by looking through all lines for each of them.
fn plainly_behind(machine: &Machine, client: ClientId) -> BTreeSet<ClientId> {
    let mut found = BTreeSet::new();
    let mut open = vec![client];
    while let Some(blocker) = open.pop() {
        for card in machine.cards.values() {
            for (index, waiting) in card.deferred.iter().enumerate() {
                let Some(wanted) = &waiting.wanted else { continue };
                let granted = card.leases.iter().map(|granted| (granted.holder, &granted.request));
                let before = card.deferred[..index].iter();
                let before = before.filter_map(|other| Some((other.client, &other.wanted.as_ref()?.lease)));
                let mut others = granted.chain(before).filter(|(other, _)| *other == blocker);
                let waits =
                    waiting.client != blocker && others.any(|(_, other)| excludes(other, &wanted.lease));
                if waits && found.insert(waiting.client) {
                    open.push(waiting.client);
                }
            }
        }
    }
    found
}

#[test]
fn who_waits_for_whom_is_found_as_by_looking_everywhere() {
    let mut waiting = 0;
    for seed in 0..100 {
        let (mut world, mut random) = (world(), Steps(seed));
        let users = [0, 1, 2].map(|seat| user(&mut world, seat));
        let machine = &mut world.machine;
        let mut below =
            |limit: usize| usize::try_from(random.number() >> 32).map_or(0, |number| number % limit);
        for number in 1000..1060 {
            let client = users[below(3)];
            let own = machine.cards[&CARD].leases.iter().find(|granted| granted.holder == client);
            let request = match own.filter(|_| below(3) == 0) {
                Some(granted) => Request::Release { card: CARD, lease: granted.id, will: false },
                None => {
                    let part = ["h2c0", "h2c0", "h2c1", "c2h0", "whole"][below(5)].into();
                    let mode = if below(3) == 0 { Mode::Shared } else { Mode::Exclusive };
                    Request::Lease { card: CARD, part, mode, will: will(0), wait: u32::MAX }
                }
            };
            machine.handle(Event::Request { client, number, request, descriptor: false });
            let mut waits = WhoWaits::default();
            for client in users {
                let behind = waits.behind(client, machine);
                assert_eq!(*behind, plainly_behind(machine, client), "of {seed}");
                waiting += behind.len();
            }
        }
    }
    assert!(waiting > 1000, "or this has shown little: {waiting}");
}
