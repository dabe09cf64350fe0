//! A history of a broker with two cards and a few clients: no two live maps overlap, every reply answers a request of
//! somebody who is there, and when all clients are gone nothing of them is left.

#![no_main]

use std::collections::{HashMap, HashSet};

use jitney_broker::machine::{
    CardDescription, ClientId, Effect, Event, Machine, Outcome, Peer, TaskId, Work,
};
use jitney_broker::protocol::{Reply, Request};
use jitney_iova::Allocator;
use jitney_vfio::{
    BarInfo, DmaPlace, Error, ErrorKind, Identity, LeaseId, LeaseRequest, Mode, Notice, Will, WillStep,
};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

const CARDS: usize = 2;
const CLIENTS: u8 = 4;

#[derive(Debug, Arbitrary)]
enum Step {
    Join(u8),
    Leave(u8),
    Nonsense(u8),
    Ask(u8, Question, bool),
    Notice { card: u8, failed: bool },
    Finish { which: u8, fails: bool },
}

/// A request, less what it would take the fuzzer long to hit.
#[derive(Debug, Arbitrary)]
enum Question {
    Hello,
    Cards,
    Open(u32),
    Close(u32),
    Allocate { card: Option<u32>, size: u64, align: u64, top: u64, page_shift: u8 },
    Page,
    Free(u64),
    FreeLive(u8),
    Lease { card: u32, part: u8, shared: bool, will: Vec<(u8, u64, u32)> },
    Release(u32, u64),
    Wire(u32, u16),
    Silence(u32, u16),
    Reset(u32),
    Usage,
    Goodbye,
}

fuzz_target!(|input: (bool, Vec<Step>)| {
    let (physical, steps) = input;
    let mut world = World::new(physical);
    for step in steps {
        world.take(step);
    }
    for client in 0..CLIENTS {
        world.feed(Event::Left { client: ClientId(client.into()) });
    }
    while !world.unfinished.is_empty() {
        world.finish(0, false);
    }
    assert_eq!(world.machine.clients().count(), 0, "somebody who is gone is still there");
    assert!(world.asked.is_empty(), "requests without a reply: {:?}", world.asked);
});

/// A machine, and what its effects say must be true of it.
struct World {
    machine: Machine,
    next_number: u64,
    connected: HashSet<ClientId>,
    /// Requests without a reply.
    asked: HashSet<(ClientId, u64)>,
    unfinished: Vec<(TaskId, Work)>,
    /// Start and size of what is mapped, or about to be, until its unmap is finished.
    mapped: HashMap<u64, u64>,
    /// Where the next memory lies that decides that itself.
    next_place: u64,
}

impl World {
    /// The first card, or none, sees memory where it lies.
    fn new(physical: bool) -> Self {
        let card = |number: usize| CardDescription {
            identity: Identity {
                address: format!("card{number}"),
                vendor: 0x10ee,
                device: 0x7011,
                subsystem_vendor: 0,
                subsystem_device: 0,
                revision: 0,
                class: 0x05_0000,
            },
            bars: [BarInfo { size: 0x1_0000, mappable: false }; 6],
            space: number,
            physical: physical && number == 0,
        };
        let space = Allocator::new([0..=0xfedf_ffff, 0xfef0_0000..=0x7f_ffff_ffff], 4096).unwrap();
        Self {
            machine: Machine::new(1, (0..CARDS).map(card).collect(), space),
            next_number: 1,
            connected: HashSet::new(),
            asked: HashSet::new(),
            unfinished: Vec::new(),
            mapped: HashMap::new(),
            next_place: 0x10_0000,
        }
    }

    fn take(&mut self, step: Step) {
        let id = |client: u8| ClientId((client % CLIENTS).into());
        match step {
            Step::Join(client) => {
                let client = id(client);
                if self.machine.clients().all(|known| known != client) {
                    self.connected.insert(client);
                    self.feed(Event::Joined { client, peer: Peer { pid: 100, uid: 1000 } });
                }
            }
            Step::Leave(client) => self.feed(Event::Left { client: id(client) }),
            Step::Nonsense(client) => {
                let error = Error::new(ErrorKind::Protocol, "nonsense");
                self.feed(Event::Nonsense { client: id(client), error });
            }
            Step::Ask(client, question, descriptor) => self.ask(id(client), question, descriptor),
            Step::Notice { card, failed } => {
                let notice = if failed { Notice::Failed } else { Notice::Leaving };
                self.feed(Event::Noticed { card: card.into(), notice });
            }
            Step::Finish { which, fails } => self.finish(which.into(), fails),
        }
    }

    fn ask(&mut self, client: ClientId, question: Question, descriptor: bool) {
        // A server hears nothing from somebody who is not connected.
        if !self.connected.contains(&client) {
            return;
        }
        let number = self.next_number;
        self.next_number += 1;
        self.asked.insert((client, number));
        let request = self.request(question);
        self.feed(Event::Request { client, number, request, descriptor });
    }

    fn request(&self, question: Question) -> Request {
        match question {
            Question::Hello => Request::Hello { program: "fuzz".into() },
            Question::Cards => Request::Cards,
            Question::Open(card) => Request::Open { card },
            Question::Close(card) => Request::Close { card },
            Question::Allocate { card, size, align, top, page_shift } => {
                Request::Allocate { card, size, align, top, page_shift }
            }
            Question::Page => {
                Request::Allocate { card: None, size: 4096, align: 1, top: u64::MAX, page_shift: 12 }
            }
            Question::Free(iova) => Request::Free { iova },
            Question::FreeLive(which) => {
                let mut live: Vec<_> = self.mapped.keys().copied().collect();
                live.sort_unstable();
                Request::Free { iova: live.get(usize::from(which) % live.len().max(1)).copied().unwrap_or(0) }
            }
            Question::Lease { card, part, shared, will } => {
                let part = ["h2c0", "c2h0", "irq0", "irq1", "whole"][usize::from(part % 5)].parse().unwrap();
                let mode = if shared { Mode::Shared } else { Mode::Exclusive };
                let write = |(bar, offset, value)| WillStep::write(bar, offset, value);
                let will = Will(will.into_iter().map(write).collect());
                Request::Lease { card, request: LeaseRequest { part, mode, will } }
            }
            Question::Release(card, lease) => Request::Release { card, lease: LeaseId(lease) },
            Question::Wire(card, vector) => Request::Wire { card, vector },
            Question::Silence(card, vector) => Request::Silence { card, vector },
            Question::Reset(card) => Request::Reset { card },
            Question::Usage => Request::Usage,
            Question::Goodbye => Request::Goodbye,
        }
    }

    fn feed(&mut self, event: Event) {
        for effect in self.machine.handle(event) {
            match effect {
                Effect::Reply { client, number, reply, attach } => {
                    assert!(self.connected.contains(&client), "a reply to somebody who is gone");
                    let answers = number == 0 || self.asked.remove(&(client, number));
                    assert!(answers, "a reply that nobody waits for");
                    let carries = matches!(reply, Ok(Reply::Opened { .. } | Reply::Allocated { .. }));
                    assert_eq!(attach.is_some(), carries);
                }
                Effect::Work { task, work } => {
                    if let Work::Map { iova, size, .. } = work {
                        self.map(iova, size);
                    }
                    self.unfinished.push((task, work));
                }
                Effect::Tell { client, .. } => {
                    assert!(self.connected.contains(&client), "somebody who is gone is told something");
                }
                Effect::Disconnect { client } => {
                    assert!(self.machine.clients().all(|known| known != client));
                    self.connected.remove(&client);
                    self.asked.retain(|(asker, _)| *asker != client);
                }
            }
        }
    }

    fn map(&mut self, iova: u64, size: u64) {
        let end = iova.checked_add(size).expect("a map has an end");
        assert!(size > 0 && end <= 1 << 39, "a map outside of what is valid");
        let apart = self.mapped.iter().all(|(&start, &size)| end <= start || start + size <= iova);
        assert!(apart, "maps overlap");
        self.mapped.insert(iova, size);
    }

    fn finish(&mut self, which: usize, fails: bool) {
        if self.unfinished.is_empty() {
            return;
        }
        let (task, work) = self.unfinished.remove(which % self.unfinished.len());
        match work {
            Work::Map { iova, .. } if fails => drop(self.mapped.remove(&iova)),
            Work::Unmap { iova, .. } if !fails => drop(self.mapped.remove(&iova)),
            _ => {}
        }
        let outcome = match (fails, work) {
            (true, _) => Err(Error::new(ErrorKind::System, "the fuzzer says no")),
            (false, Work::Place { size, .. }) => {
                let place = DmaPlace { iova: self.next_place, size: size.min(1 << 20) };
                self.next_place += place.size;
                self.map(place.iova, place.size);
                Ok(Outcome::Placed(place))
            }
            (false, Work::Grant { .. }) => Ok(Outcome::Grant { kind: 1 }),
            (false, _) => Ok(Outcome::Done),
        };
        self.feed(Event::Finished { task, outcome });
    }
}
