//! Random histories, replayed against what must hold after every step.

mod leaving;

use super::*;
use crate::protocol::Reply;
use jitney_vfio::{DmaPlace, LeaseId, LeaseRequest, Mode, Notice, Part, Will, WillStep};
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

const CARDS: u32 = 2;

/// A machine whose first card, or none, sees memory where it lies.
fn machine(physical: bool) -> Machine {
    let card = |n: u32| CardDescription {
        identity: Identity {
            address: format!("card{n}"),
            vendor: 0x10ee,
            device: 0x7011,
            subsystem_vendor: 0,
            subsystem_device: 0,
            revision: 0,
            class: 0x05_0000,
        },
        bars: [BarInfo { size: 0x1_0000, mappable: false }; 6],
        space: n as usize,
        physical: physical && n == 0,
    };
    let iovas = Allocator::new([0..=0xfedf_ffff, 0xfef0_0000..=0x7f_ffff_ffff], 4096).unwrap();
    Machine::new(1, (0..CARDS).map(card).collect(), iovas)
}

fn pid_of(client: ClientId) -> u32 {
    100 + u32::try_from(client.0).unwrap()
}

fn will() -> Will {
    Will(vec![WillStep::write(2, 0x0c, 1)])
}

/// A machine, and beside it what must be true of it, kept from its effects alone.
struct World {
    machine: Machine,
    next_number: u64,
    /// Requests without a reply: who, which number, and the card that it is for.
    open_requests: HashMap<(ClientId, u64), u32>,
    unfinished: Vec<(TaskId, Work)>,
    /// Mapped, or about to be, until the unmap is finished.
    mapped: Vec<(Space, Range<u64>)>,
    connected: HashSet<ClientId>,
    /// What its replies told each client that it has.
    buffers: Vec<(ClientId, u64)>,
    leases: Vec<(ClientId, u32, LeaseId)>,
    unmaps_failed: u64,
    /// Cards that were closed because they are wanted back.
    closed: HashSet<usize>,
    /// Where the next memory lies that decides that itself.
    next_place: u64,
}

impl World {
    fn new() -> Self {
        Self::with(false)
    }

    fn with(physical: bool) -> Self {
        Self {
            machine: machine(physical),
            next_number: 1,
            open_requests: HashMap::new(),
            unfinished: Vec::new(),
            mapped: Vec::new(),
            connected: HashSet::new(),
            buffers: Vec::new(),
            leases: Vec::new(),
            unmaps_failed: 0,
            closed: HashSet::new(),
            next_place: 0x10_0000,
        }
    }

    fn join(&mut self, client: u64) {
        let client = ClientId(client);
        if self.machine.clients().any(|known| known == client) {
            return;
        }
        self.connected.insert(client);
        self.feed(Event::Joined { client, peer: Peer { pid: pid_of(client), uid: 1000 } });
        self.ask(client, Request::Hello { program: "a test".into() });
    }

    fn ask(&mut self, client: ClientId, request: Request) -> Option<Result<Reply, Error>> {
        if !self.connected.contains(&client) {
            return None;
        }
        let number = self.next_number;
        self.next_number += 1;
        let card = match request {
            Request::Lease { card, .. } => card,
            _ => 0,
        };
        self.open_requests.insert((client, number), card);
        let released = match request {
            Request::Release { lease, .. } => Some(lease),
            _ => None,
        };
        let reply = self.feed(Event::Request { client, number, request, descriptor: true });
        if matches!(reply, Some(Ok(Reply::Done))) {
            self.leases.retain(|(_, _, id)| Some(*id) != released);
        }
        reply
    }

    /// Feeds one event and checks its effects; returns the last reply.
    fn feed(&mut self, event: Event) -> Option<Result<Reply, Error>> {
        let mut last = None;
        for effect in self.machine.handle(event) {
            match effect {
                Effect::Reply { client, number, reply, attach } => {
                    assert!(self.connected.contains(&client), "a reply to somebody who is gone");
                    let card = self.open_requests.remove(&(client, number));
                    assert!(card.is_some() || number == 0, "a reply that nobody waits for: {number}");
                    let carries = matches!(reply, Ok(Reply::Opened { .. } | Reply::Allocated { .. }));
                    assert_eq!(attach.is_some(), carries);
                    if let Ok(Reply::Allocated { iova, .. }) = reply {
                        self.buffers.push((client, iova));
                    }
                    if let (Ok(Reply::Leased(id)), Some(card)) = (&reply, card) {
                        self.leases.push((client, card, *id));
                    }
                    if let Err(error) = &reply
                        && error.kind() == ErrorKind::Held
                    {
                        self.check_holder(&error.to_string());
                    }
                    last = Some(reply);
                }
                Effect::Work { task, work } => {
                    if let Work::Map { space, iova, size, .. } = work {
                        let range = iova..iova + size;
                        for (_, other) in &self.mapped {
                            assert!(range.end <= other.start || other.end <= range.start, "maps overlap");
                        }
                        self.mapped.push((space, range));
                    }
                    if let Work::Unmap { space, iova, size } = work {
                        assert!(self.mapped.contains(&(space, iova..iova + size)), "it is not mapped so");
                    }
                    self.check_card(&work);
                    self.unfinished.push((task, work));
                }
                Effect::Tell { client, card, .. } => {
                    assert!(self.connected.contains(&client), "somebody who is gone is told something");
                    assert!(self.machine.cards[card].users.contains_key(&client), "it is nothing to them");
                }
                Effect::Disconnect { client } => {
                    self.connected.remove(&client);
                    self.open_requests.retain(|(asker, _), _| *asker != client);
                    self.buffers.retain(|(holder, _)| *holder != client);
                    self.leases.retain(|(holder, _, _)| *holder != client);
                    assert!(!self.machine.clients().any(|known| known == client));
                    for card in &self.machine.cards {
                        assert!(!card.leases.iter().any(|lease| lease.holder == client));
                        assert!(!card.users.contains_key(&client));
                        assert!(!card.wired.values().any(|holder| *holder == client));
                    }
                }
            }
        }
        last
    }

    /// Nobody is turned away because of somebody who is gone.
    fn check_holder(&self, error: &str) {
        let present = self.machine.clients().filter(|client| self.machine.is_present(*client));
        let mut names = present.map(|client| format!("held by pid {} (", pid_of(client)));
        assert!(names.any(|name| error.contains(&name)), "{error}");
    }

    fn finish(&mut self, index: usize, fails: bool) {
        if self.unfinished.is_empty() {
            return;
        }
        let (task, work) = self.unfinished.remove(index % self.unfinished.len());
        let gone = match work {
            Work::Map { iova, .. } if fails => Some(iova),
            Work::Unmap { iova, .. } if !fails => Some(iova),
            Work::Unmap { .. } => {
                self.unmaps_failed += 1;
                None
            }
            _ => None,
        };
        if let Some(iova) = gone {
            self.mapped.retain(|(_, range)| range.start != iova);
        }
        if let Work::Unmap { iova, .. } = work {
            self.buffers.retain(|(_, at)| *at != iova);
        }
        let outcome = match (fails, work) {
            (true, _) => Err(Error::new(ErrorKind::System, "the test says no")),
            (false, Work::Place { space, size, .. }) => Ok(Outcome::Placed(self.place(space, size))),
            (false, Work::Grant { .. }) => Ok(Outcome::Grant { kind: 1 }),
            (false, _) => Ok(Outcome::Done),
        };
        self.feed(Event::Finished { task, outcome });
    }

    /// Memory that is mapped where it lies, which is more than was asked for.
    fn place(&mut self, space: Space, size: u64) -> DmaPlace {
        let place = DmaPlace { iova: self.next_place, size: size + 4096 };
        self.next_place += place.size;
        self.mapped.push((space, place.iova..place.iova + place.size));
        place
    }

    fn finish_all(&mut self) {
        while !self.unfinished.is_empty() {
            self.finish(0, false);
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Join(u64),
    Leave(u64),
    Goodbye(u64),
    Nonsense(u64),
    Open(u64, u32),
    Close(u64, u32),
    Allocate(u64, Option<u32>, u64, bool),
    Free(usize),
    FreeForeign(u64, usize),
    Lease(u64, u32, &'static str, Mode),
    Release(usize),
    Wire(u64, u32, u16),
    Silence(u64, u32, u16),
    Reset(u64, u32),
    Notice(usize, Notice),
    Finish(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0u64..3;
    // Mostly the first, so that clients meet.
    let card = prop_oneof![4 => Just(0), 1 => 0u32..CARDS + 1];
    let part = prop::sample::select(vec!["h2c0", "c2h0", "irq0", "irq1", "whole"]);
    let mode = prop::sample::select(vec![Mode::Exclusive, Mode::Shared]);
    prop_oneof![
        3 => client.clone().prop_map(Step::Join),
        2 => client.clone().prop_map(Step::Leave),
        1 => client.clone().prop_map(Step::Goodbye),
        1 => client.clone().prop_map(Step::Nonsense),
        3 => (client.clone(), card.clone()).prop_map(|(c, n)| Step::Open(c, n)),
        1 => (client.clone(), card.clone()).prop_map(|(c, n)| Step::Close(c, n)),
        4 => (client.clone(), prop::option::of(card.clone()), 0u64..0x40_0000, any::<bool>())
            .prop_map(|(c, n, s, b)| Step::Allocate(c, n, s, b)),
        3 => any::<usize>().prop_map(Step::Free),
        1 => (client.clone(), any::<usize>()).prop_map(|(c, n)| Step::FreeForeign(c, n)),
        8 => (client.clone(), card.clone(), part, mode).prop_map(|(c, n, p, m)| Step::Lease(c, n, p, m)),
        2 => any::<usize>().prop_map(Step::Release),
        2 => (client.clone(), card.clone(), 0u16..2).prop_map(|(c, n, v)| Step::Wire(c, n, v)),
        1 => (client.clone(), card.clone(), 0u16..2).prop_map(|(c, n, v)| Step::Silence(c, n, v)),
        1 => (client, card).prop_map(|(c, n)| Step::Reset(c, n)),
        1 => (0usize..3, prop::bool::weighted(0.3)).prop_map(|(card, failed)| {
            Step::Notice(card, if failed { Notice::Failed } else { Notice::Leaving })
        }),
        8 => (any::<usize>(), prop::bool::weighted(0.1)).prop_map(|(n, fails)| Step::Finish(n, fails)),
    ]
}

fn take(world: &mut World, step: Step) {
    match step {
        Step::Join(client) => world.join(client),
        Step::Leave(client) => {
            world.feed(Event::Left { client: ClientId(client) });
        }
        Step::Goodbye(client) => {
            world.ask(ClientId(client), Request::Goodbye);
        }
        Step::Nonsense(client) => {
            let error = Error::new(ErrorKind::Protocol, "nonsense");
            world.feed(Event::Nonsense { client: ClientId(client), error });
        }
        Step::Open(client, card) => {
            world.ask(ClientId(client), Request::Open { card });
        }
        Step::Close(client, card) => {
            world.ask(ClientId(client), Request::Close { card });
        }
        Step::Allocate(client, card, size, low) => {
            let top = if low { 0xffff_ffff } else { u64::MAX };
            world.ask(ClientId(client), Request::Allocate { card, size, align: 1, top, page_shift: 12 });
        }
        Step::Free(index) => {
            if let Some(&(client, iova)) = world.buffers.get(index % world.buffers.len().max(1)) {
                world.ask(client, Request::Free { iova });
            }
        }
        Step::FreeForeign(client, index) => {
            if let Some(&(holder, iova)) = world.buffers.get(index % world.buffers.len().max(1))
                && holder != ClientId(client)
                && let Some(reply) = world.ask(ClientId(client), Request::Free { iova })
            {
                assert!(reply.is_err(), "a client freed the memory of another");
            }
        }
        Step::Lease(client, card, part, mode) => {
            let request = LeaseRequest { part: part.parse().unwrap(), mode, will: will() };
            world.ask(ClientId(client), Request::Lease { card, request });
        }
        Step::Release(index) => {
            if let Some(&(client, card, lease)) = world.leases.get(index % world.leases.len().max(1)) {
                world.ask(client, Request::Release { card, lease });
            }
        }
        Step::Wire(client, card, vector) => {
            world.ask(ClientId(client), Request::Wire { card, vector });
        }
        Step::Silence(client, card, vector) => {
            world.ask(ClientId(client), Request::Silence { card, vector });
        }
        Step::Reset(client, card) => {
            world.ask(ClientId(client), Request::Reset { card });
        }
        Step::Notice(card, notice) => {
            world.feed(Event::Noticed { card, notice });
        }
        Step::Finish(index, fails) => world.finish(index, fails),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Overlaps, foreign frees, replies to nobody and things left behind are checked by `World` at every step.
    #[test]
    fn every_history_leaves_nothing_behind(
        physical: bool,
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        let mut world = World::with(physical);
        for step in steps {
            take(&mut world, step);
        }
        for client in 0..4 {
            world.feed(Event::Left { client: ClientId(client) });
        }
        world.finish_all();
        prop_assert!(world.machine.clients().next().is_none());
        prop_assert!(world.machine.tasks.is_empty());
        prop_assert!(world.open_requests.is_empty());
        prop_assert_eq!(world.machine.iovas.live().count() as u64, world.unmaps_failed);
        for (index, card) in world.machine.cards.iter().enumerate() {
            prop_assert_eq!(card.presence != Presence::Here, world.closed.contains(&index), "who is gone lets go");
            prop_assert_eq!(card.leases.iter().count(), 0);
            prop_assert!(card.users.is_empty() && card.wired.is_empty() && card.deferred.is_empty());
        }
    }

    /// Every request is answered once its work is finished, whoever else comes and goes.
    #[test]
    fn every_request_of_who_stays_is_answered(
        physical: bool,
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        let mut world = World::with(physical);
        for step in steps {
            take(&mut world, step);
        }
        world.finish_all();
        let waiting: Vec<_> = world.open_requests.keys().collect();
        prop_assert!(waiting.is_empty(), "no reply to {:?}", waiting);
    }
}

fn user(world: &mut World, client: u64) -> ClientId {
    world.join(client);
    world.ask(ClientId(client), Request::Open { card: 0 });
    world.finish_all();
    ClientId(client)
}

fn lease_of(part: Part) -> Request {
    Request::Lease { card: 0, request: LeaseRequest::exclusive(part).with_will(will()) }
}

#[test]
fn a_killed_client_is_taken_back_in_order() {
    let mut world = World::new();
    let client = user(&mut world, 0);
    world.ask(client, lease_of("h2c0".parse().unwrap()));
    world.ask(client, Request::Allocate { card: None, size: 4096, align: 1, top: u64::MAX, page_shift: 12 });
    world.finish_all();
    world.feed(Event::Left { client });
    let order: Vec<_> = world.unfinished.iter().map(|(_, work)| work.clone()).collect();
    assert!(matches!(order[..], [Work::CarryOut { .. }, Work::Unmap { .. }]), "{order:?}");
    assert!(
        !world.machine.cards[0].leases.iter().next().unwrap().request.will.0.is_empty(),
        "the lease waits"
    );
    world.finish(0, false);
    world.finish(0, false);
    assert!(
        matches!(world.unfinished[..], [(_, Work::Reset { card: 0, unused: true })]),
        "the last one out resets the card"
    );
    assert_eq!(world.machine.iovas.allocated(), 0);
}

#[test]
fn a_goodbye_carries_out_no_will() {
    let mut world = World::new();
    let client = user(&mut world, 0);
    world.ask(client, lease_of("h2c0".parse().unwrap()));
    let reply = world.ask(client, Request::Goodbye);
    assert_eq!(reply, Some(Ok(Reply::Done)));
    assert!(!world.unfinished.iter().any(|(_, work)| matches!(work, Work::CarryOut { .. })));
}

#[test]
fn memory_of_a_card_is_in_its_space_alone() {
    let mut world = World::new();
    let client = user(&mut world, 0);
    let allocate = |card| Request::Allocate { card, size: 4096, align: 1, top: u64::MAX, page_shift: 12 };
    for card in [1, CARDS] {
        let refused = world.ask(client, allocate(Some(card))).unwrap().unwrap_err();
        assert!(
            refused.to_string().contains(&format!("card {card}")) || refused.to_string().contains("card1")
        );
    }
    world.ask(client, allocate(Some(0)));
    world.ask(client, allocate(None));
    let spaces: Vec<Space> = world.mapped.iter().map(|(space, _)| *space).collect();
    assert_eq!(spaces, [Space::One(0), Space::All]);
}

#[test]
fn a_lease_that_is_held_names_its_holder() {
    let mut world = World::new();
    let first = user(&mut world, 0);
    let second = user(&mut world, 1);
    world.ask(first, lease_of("h2c0".parse().unwrap()));
    let error = world.ask(second, lease_of("h2c0".parse().unwrap())).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Held);
    assert!(error.to_string().contains("pid 100 (a test)"), "{error}");
    assert!(world.ask(second, lease_of("c2h0".parse().unwrap())).unwrap().is_ok());
    assert!(world.ask(second, lease_of(Part::whole())).unwrap().is_err(), "whole overlaps h2c0");
}

#[test]
fn a_request_for_a_card_in_reset_waits_for_it() {
    let mut world = World::new();
    let first = user(&mut world, 0);
    world.feed(Event::Left { client: first });
    world.join(1);
    let second = ClientId(1);
    assert_eq!(world.ask(second, Request::Open { card: 0 }), None);
    world.finish_all();
    assert!(world.ask(second, lease_of("h2c0".parse().unwrap())).unwrap().is_ok());
}

#[test]
fn a_lease_that_only_a_dead_client_holds_is_waited_for() {
    let mut world = World::new();
    let (first, second) = (user(&mut world, 0), user(&mut world, 1));
    world.ask(first, lease_of("h2c0".parse().unwrap()));
    world.ask(first, Request::Allocate { card: None, size: 4096, align: 1, top: u64::MAX, page_shift: 12 });
    world.finish_all();
    world.feed(Event::Left { client: first });
    assert_eq!(world.ask(second, lease_of("h2c0".parse().unwrap())), None, "its memory is still mapped");
    assert_eq!(world.ask(second, Request::Reset { card: 0 }), None);
    world.finish_all();
    assert_eq!(world.leases.len(), 1);
    assert!(world.open_requests.is_empty());
    world.ask(second, lease_of("c2h0".parse().unwrap())).unwrap().unwrap();
}

#[test]
fn a_reset_that_was_asked_for_leaves_the_card_usable() {
    let mut world = World::new();
    let client = user(&mut world, 0);
    world.ask(client, Request::Reset { card: 0 });
    assert!(matches!(world.unfinished[..], [(_, Work::Reset { card: 0, unused: false })]));
}

#[test]
fn a_name_is_kept_short_and_without_control_characters() {
    let mut world = World::new();
    let client = ClientId(0);
    world.connected.insert(client);
    world.feed(Event::Joined { client, peer: Peer { pid: 7, uid: 0 } });
    world.ask(client, Request::Hello { program: "\u{1b}[2J".to_owned() + &"x".repeat(60_000) });
    let Some(Ok(Reply::Usage(usage))) = world.ask(client, Request::Usage) else { panic!("no usage") };
    assert!(usage[0].program.starts_with("\u{fffd}[2Jxxx"));
    assert_eq!(usage[0].program.chars().count(), 120);
}

#[test]
fn a_will_outside_of_the_bar_is_refused() {
    let mut world = World::new();
    let client = user(&mut world, 0);
    for (bar, offset, kind) in [
        (6, 0, ErrorKind::NotFound),
        (2, 2, ErrorKind::Invalid),
        (2, 0x1_0000, ErrorKind::OutOfBounds),
        (2, u64::MAX - 3, ErrorKind::OutOfBounds),
    ] {
        let will = Will(vec![WillStep::write(bar, offset, 0)]);
        let request = LeaseRequest::exclusive("h2c0".parse().unwrap()).with_will(will);
        let error = world.ask(client, Request::Lease { card: 0, request }).unwrap().unwrap_err();
        assert_eq!(error.kind(), kind);
    }
}

#[test]
fn who_does_not_say_hello_is_shown_the_door() {
    let mut world = World::new();
    world.connected.insert(ClientId(0));
    world.feed(Event::Joined { client: ClientId(0), peer: Peer { pid: 7, uid: 0 } });
    assert!(world.ask(ClientId(0), Request::Cards).unwrap().is_err());
    assert!(world.machine.clients().next().is_none());
}

fn allocate(card: Option<u32>) -> Request {
    Request::Allocate { card, size: 8192, align: 4096, top: 0xffff_ffff, page_shift: 12 }
}

#[test]
fn memory_that_decides_where_it_is_is_the_client_s_when_it_is_made() {
    let mut world = World::with(true);
    let client = user(&mut world, 0);
    for (card, space) in [(None, Space::All), (Some(0), Space::One(0))] {
        world.ask(client, allocate(card));
        let [(_, Work::Place { space: asked, size: 8192, align: 4096, top: 0xffff_ffff, page_shift: 12 })] =
            world.unfinished[..]
        else {
            unreachable!("{:?}", world.unfinished)
        };
        assert_eq!(asked, space);
        let iova = world.next_place;
        world.finish(0, false);
        assert_eq!(world.buffers.pop(), Some((client, iova)));
        assert_eq!(world.machine.iovas.containing(iova), Some(iova..iova + 8192 + 4096));
        world.ask(client, Request::Free { iova });
        world.finish(0, false);
        assert_eq!(world.machine.iovas.allocated(), 0);
    }
    // The other card has an IOMMU.
    world.ask(client, Request::Open { card: 1 });
    world.finish_all();
    world.ask(client, allocate(Some(1)));
    assert!(matches!(world.unfinished[..], [(_, Work::Map { space: Space::One(1), .. })]));
}

#[test]
fn memory_that_is_made_for_somebody_who_is_gone_is_unmapped() {
    let mut world = World::with(true);
    let client = user(&mut world, 0);
    world.ask(client, allocate(None));
    world.feed(Event::Left { client });
    let iova = world.next_place;
    world.finish(0, false);
    assert!(matches!(world.unfinished[..], [(_, Work::Unmap { iova: at, size: 12288, .. })] if at == iova));
    world.finish_all();
    assert_eq!(world.machine.iovas.allocated(), 0);
}

#[test]
fn memory_that_is_somebody_s_already_is_not_handed_out_again() {
    let mut world = World::with(true);
    let client = user(&mut world, 0);
    world.ask(client, allocate(None));
    let iova = world.next_place;
    world.finish(0, false);
    world.ask(client, allocate(None));
    world.next_place = iova + 4096;
    let (task, _) = world.unfinished.remove(0);
    let place = world.place(Space::All, 8192);
    let reply = world.feed(Event::Finished { task, outcome: Ok(Outcome::Placed(place)) });
    assert_eq!(reply.unwrap().unwrap_err().kind(), ErrorKind::Invalid);
    assert!(matches!(world.unfinished[..], [(_, Work::Unmap { .. })]), "it goes back");
    world.finish_all();
    assert_eq!(world.machine.iovas.live().count(), 1);
    world.ask(client, Request::Free { iova });
    assert!(matches!(world.unfinished[..], [(_, Work::Unmap { .. })]), "the first is still the client's");
}
