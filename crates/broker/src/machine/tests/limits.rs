//! What a client and a user may have, what is listed of them, and what they call themselves.

use super::*;
use crate::machine::testing::Known;
use crate::machine::{Effect, Limits};

fn narrow() -> World {
    World::new(Setting { narrow: true, ..Setting::default() })
}

#[track_caller]
fn says(world: &mut World, client: ClientId, request: Request, what: &str) {
    let error = refused(world, client, request, ErrorKind::Exhausted);
    assert!(error.to_string().contains(what), "{error}");
}

#[test]
fn the_limits_are_what_the_protocol_promises() {
    let limits = Limits::default();
    assert_eq!((limits.connections_of_user, limits.requests_of_client), (256, 64));
    assert_eq!(
        (limits.buffers_of_client, limits.buffers_of_user, limits.bytes_of_user),
        (4096, 16384, u64::MAX)
    );
    assert_eq!((limits.leases_of_client, limits.leases_of_user), (256, 4096));
}

#[test]
fn a_user_has_so_many_connections_and_others_theirs() {
    let mut world = narrow();
    world.join(0);
    world.join(1);
    world.connect(ClientId(50), 1000);
    let clients: Vec<&Known> = world.clients.values().collect();
    assert_eq!(clients.len(), 2, "the third was turned away");
    let other = world.join(2);
    granted(&mut world, other, Request::Cards { after: None });
}

#[test]
fn a_client_has_so_many_requests_under_way() {
    let mut world = narrow();
    let (first, second) = (user(&mut world, 0), user(&mut world, 2));
    world.ask(first, Request::Reset { card: CARD });
    world.ask(second, lease("h2c0", 0));
    world.ask(second, Request::Open { card: CardId(1) });
    world.ask(second, allocate(None));
    let what = "a client may have at most 3 requests that are not answered yet";
    says(&mut world, second, Request::Cards { after: None }, what);
    assert_eq!(world.ask(first, allocate(None)), None, "that is nothing to others");
    world.check_answers();
    granted(&mut world, second, Request::Cards { after: None });
}

#[test]
fn a_client_has_so_many_buffers_and_a_user_with_all_clients() {
    for physical in [false, true] {
        let mut world = World::new(Setting { narrow: true, physical, ..Setting::default() });
        let (first, second, other) = (world.join(0), world.join(1), world.join(2));
        world.ask(first, allocate(None));
        world.ask(first, allocate(None));
        says(&mut world, first, allocate(None), "a client may have at most 2 DMA buffers");
        world.finish_all();
        says(&mut world, first, allocate(None), "a client may have at most 2 DMA buffers");
        world.ask(second, allocate(None));
        says(&mut world, second, allocate(None), "user 1000 has 3 DMA buffers, and may have at most 3");
        assert_eq!(world.ask(other, allocate(None)), None);
    }
}

#[test]
fn memory_in_quarantine_counts_for_its_user_and_addresses_do_not() {
    for physical in [false, true] {
        let mut world = World::new(Setting { narrow: true, physical, ..Setting::default() });
        // Somebody else keeps the card from being reset.
        let other = user(&mut world, 2);
        for _ in 0..3 {
            let client = user(&mut world, 0);
            buffer(&mut world, client, Some(CARD));
            killed(&mut world, client);
            world.finish_all();
        }
        let client = user(&mut world, 0);
        if !physical {
            // Whoever dies often is not shut out by that.
            buffer(&mut world, client, Some(CARD));
            continue;
        }
        says(&mut world, client, allocate(Some(CARD)), "user 1000 has 3 DMA buffers, and may have at most 3");
        world.ask(other, Request::Reset { card: CARD });
        world.finish_all();
        buffer(&mut world, client, Some(CARD));
    }
}

/// A page of memory is a page of the IOMMU: that is what is pinned.
#[test]
fn memory_counts_as_large_as_it_is_mapped() {
    let mut world = World::new(Setting { narrow: true, coarse: true, ..Setting::default() });
    world.machine.limits.bytes_of_user = 0x1_8000;
    let client = world.join(0);
    let page = Request::Allocate { card: None, size: 4096, align: 1, top: u64::MAX, page_shift: 12 };
    assert_eq!(world.ask(client, page.clone()), None);
    says(&mut world, client, page, "user 1000 has 0x10000 bytes in buffers already, and may have 0x18000");
}

/// What nobody waits for any more is there until it is unmapped.
#[test]
fn memory_counts_until_it_is_unmapped() {
    let mut world = World::new(Setting { narrow: true, physical: true, ..Setting::default() });
    let other = user(&mut world, 2);
    let client = user(&mut world, 0);
    buffer(&mut world, client, Some(CARD));
    killed(&mut world, client);
    world.finish_all();
    world.ask(other, Request::Reset { card: CARD });
    world.finish(0, How::Done);
    let unmaps = |world: &World| {
        let mut works = world.at_work.iter().map(|at_work| &at_work.task.work);
        works.any(|work| matches!(work, crate::machine::Work::Unmap { .. }))
    };
    assert!(unmaps(&world), "it was reset");
    let (first, second) = (world.join(0), world.join(1));
    world.ask(first, allocate(None));
    world.ask(second, allocate(None));
    assert!(unmaps(&world));
    says(&mut world, first, allocate(None), "user 1000 has 3 DMA buffers, and may have at most 3");
    world.finish_all();
}

#[test]
fn a_user_has_so_many_bytes() {
    for physical in [false, true] {
        let mut world = World::new(Setting { narrow: true, physical, ..Setting::default() });
        let (first, second) = (world.join(0), world.join(1));
        let much = |size| Request::Allocate { card: None, size, align: 1, top: u64::MAX, page_shift: 12 };
        world.ask(first, much(0x40_0000));
        says(
            &mut world,
            second,
            much(0x20_1000),
            "user 1000 has 0x400000 bytes in buffers already, and may have 0x600000",
        );
        assert_eq!(world.ask(second, much(0x20_0000)), None, "exactly so many");
    }
}

/// Sums of what was asked for do not overflow: nothing was made yet.
#[test]
fn more_memory_than_there_are_addresses_is_counted() {
    let mut world = physical();
    let client = world.join(0);
    for _ in 0..6 {
        let much = Request::Allocate { card: None, size: 1 << 62, align: 1, top: u64::MAX, page_shift: 12 };
        assert_eq!(world.ask(client, much), None);
    }
}

#[test]
fn a_client_has_so_many_leases_and_a_user_with_all_clients() {
    let mut world = narrow();
    let (first, second, other) = (user(&mut world, 0), user(&mut world, 1), user(&mut world, 2));
    leased(&mut world, first, "h2c0", 0);
    let id = leased(&mut world, first, "h2c1", 0);
    says(&mut world, first, lease("h2c2", 0), "a client may have at most 2 leases");
    leased(&mut world, second, "h2c2", 0);
    says(&mut world, second, lease("h2c3", 0), "user 1000 has 3 leases, and may have at most 3");
    leased(&mut world, other, "c2h0", 0);
    granted(&mut world, first, Request::Release { card: CARD, lease: id, will: false });
    leased(&mut world, second, "h2c3", 0);
}

fn usage(
    world: &mut World,
    client: ClientId,
    after: Option<u64>,
) -> (Vec<crate::protocol::ClientUsage>, bool) {
    match granted(world, client, Request::Usage { after }) {
        Reply::Usage { clients, more } => (clients, more),
        other => panic!("{other:?}"),
    }
}

#[test]
fn usage_says_who_has_what() {
    let mut world = world();
    let (first, second) = (user(&mut world, 0), user(&mut world, 1));
    leased(&mut world, first, "h2c0", 0);
    leased(&mut world, second, "c2h0", 0);
    buffer(&mut world, first, None);
    world.ask(first, Request::Open { card: CardId(1) });
    let (clients, more) = usage(&mut world, second, None);
    assert!(!more && clients.len() == 2);
    let ours = &clients[0];
    assert_eq!((ours.client, ours.pid, ours.uid), (first.0, Some(100), 1000));
    assert_eq!(ours.program, "a test");
    assert_eq!(ours.cards, [CARD], "what was granted");
    assert_eq!(ours.leases, [(CARD, "h2c0".to_owned())]);
    assert_eq!((ours.buffers, ours.buffer_bytes), (1, 8192));
    assert_eq!(usage(&mut world, second, Some(first.0)).0, clients[1..]);
}

/// core.md C3: eight clients with 256 leases, and nobody could be told who has what.
#[test]
fn core_c3_who_has_what_comes_in_parts() {
    let mut world = World::new(Setting::default());
    let clients: Vec<ClientId> = (0..8).map(|id| ClientId(1000 + id)).collect();
    for client in &clients {
        world.connect(*client, 1000);
        world.ask(*client, Request::Hello { program: "x".repeat(200) });
        world.ask(*client, Request::Open { card: CARD });
        world.finish_all();
        for part in 0..256 {
            let part = format!("a-part-with-quite-a-long-name{part}");
            let request = Request::Lease { card: CARD, part, mode: Mode::Shared, will: will(0), wait: 0 };
            // Past the account, to which so many leases are too many.
            let effects = world.machine.handle(Event::Request {
                client: *client,
                number: 1,
                request,
                descriptor: false,
            });
            assert!(matches!(effects[..], [Effect::Reply { reply: Ok(_), .. }]), "{effects:?}");
        }
    }
    let (mut seen, mut parts) = (Vec::new(), 0);
    loop {
        let (some, more) = usage(&mut world, clients[0], seen.last().copied());
        assert!(some.iter().all(|client| client.leases.len() == 256));
        seen.extend(some.iter().map(|client| client.client));
        parts += 1;
        if !more {
            break;
        }
    }
    assert!(seen.iter().copied().eq(1000..1008) && parts > 1, "{seen:?} in {parts}");
}

#[test]
fn core_c3_cards_come_in_parts() {
    let mut world = world();
    let client = world.join(0);
    for card in 2..4002 {
        world.machine.handle(Event::Came(Setting::default().card(card)));
    }
    let (mut after, mut cards, mut parts) = (None, Vec::new(), 0);
    loop {
        let reply = granted(&mut world, client, Request::Cards { after });
        let Reply::Cards { cards: some, more } = reply else { panic!("{reply:?}") };
        cards.extend(some.into_iter().map(|card| card.id.0));
        after = cards.last().copied().map(CardId);
        parts += 1;
        if !more {
            break;
        }
    }
    assert!(cards.iter().copied().eq(0..4002) && parts > 1, "{parts} parts");
}

#[test]
fn a_name_is_kept_short_and_without_control_characters() {
    let mut world = world();
    let client = ClientId(50);
    world.connect(client, 1000);
    world.ask(client, Request::Hello { program: "\u{1b}[2J".to_owned() + &"x".repeat(60_000) });
    let (clients, _) = usage(&mut world, client, None);
    assert!(clients[0].program.starts_with("\u{fffd}[2Jxxx"));
    assert_eq!(clients[0].program.chars().count(), 120);
}
