//! The broker's state machine: events in, effects out, no I/O.
//!
//! It decides everything that a broker decides: who gets which IOVA, which lease, which card, and what happens in which
//! order when a client is gone. The server feeds it events and carries out its effects. Work that takes time is an
//! [`Effect::Work`] with a [`TaskId`], answered some time later with [`Event::Finished`], in any order.

mod access;
mod buffers;
mod cards;
mod departure;
mod events;
mod finished;
mod leases;
mod leaving;
mod limits;
mod offers;
mod on_demand;
mod quarantine;
mod requests;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod testing;
#[cfg(test)]
mod tests;
mod usage;
mod waiting;
mod who_waits;

use crate::policy::Policy;
use crate::protocol::{CardId, Notice, Request};
use buffers::Buffer;
use cards::Card;
use departure::Departure;
pub use events::{
    CardDescription, ClientId, Effect, Event, Failure, Outcome, Peer, Place, Reminder, Sighting, Space, Task,
    TaskId, Way, Work,
};
use jitney_iova::Allocator;
use jitney_vfio::{BarInfo, Error, ErrorKind};
pub use limits::Limits;
use offers::Offer;
use on_demand::OnDemand;
use quarantine::{Quarantined, Since, Traces};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The state of a broker.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Machine {
    broker_pid: u32,
    /// The user as whom the broker runs, for the policy.
    owner: u32,
    policy: Policy,
    limits: Limits,
    /// Of all address spaces: no two buffers have an IOVA in common, so that one can be in every space.
    iovas: Allocator,
    cards: BTreeMap<CardId, Card>,
    clients: BTreeMap<ClientId, Client>,
    /// By their IOVA.
    buffers: BTreeMap<u64, Buffer>,
    /// Those that their makers offer to others, by their IOVA.
    offers: BTreeMap<u64, Offer>,
    quarantined: Vec<Quarantined>,
    tasks: BTreeMap<TaskId, Task>,
    /// Those that unmap memory which never was a buffer: it lay where something else was.
    strays: BTreeSet<TaskId>,
    next_task: u64,
    next_lease: u64,
    stopping: bool,
    /// It takes cards when somebody asks for them; else it has all of them as long as it lives.
    on_demand: Option<OnDemand>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Client {
    peer: Peer,
    /// `None` until it has said hello.
    program: Option<String>,
    /// The DMA buffers that it has, with others or alone.
    buffers: BTreeSet<u64>,
    /// The bytes of all of them.
    bytes: u64,
    /// How many leases it has, on all cards.
    leases: usize,
    /// Pieces of work that belong to it and are not finished.
    pending: BTreeSet<TaskId>,
    /// The cards that it may have told of its memory: it has opened them, and they were not reset since it closed them.
    /// `None` while it has one open.
    reached: BTreeMap<CardId, Option<Since>>,
    /// Those whose engines did not stop when a will of it was carried out.
    stuck: Traces,
    departure: Option<Departure>,
    /// It has a page to count in.
    counts: bool,
}

impl Machine {
    /// A broker, process `broker_pid`, of these cards, handing out `iovas`.
    #[must_use]
    pub fn new(broker_pid: u32, cards: Vec<CardDescription>, iovas: Allocator, limits: Limits) -> Self {
        Self {
            broker_pid,
            owner: 0,
            policy: Policy::default(),
            limits,
            iovas,
            cards: cards.into_iter().map(|card| (card.id, Card::new(card))).collect(),
            clients: BTreeMap::new(),
            buffers: BTreeMap::new(),
            offers: BTreeMap::new(),
            quarantined: Vec::new(),
            tasks: BTreeMap::new(),
            strays: BTreeSet::new(),
            next_task: 0,
            next_lease: 0,
            stopping: false,
            on_demand: None,
        }
    }

    /// Takes in what happened and says what to do.
    pub fn handle(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Joined { client, peer } => self.joined(client, peer, &mut effects),
            Event::Request { client, number, request, descriptor } => {
                self.request(client, number, request, descriptor, &mut effects);
            }
            Event::Unreadable { client, number, error } => {
                self.reply(client, number, Err(error), None, &mut effects);
            }
            Event::Nonsense { client, error } => {
                self.reply(client, 0, Err(error), None, &mut effects);
                self.depart(client, None, &mut effects);
            }
            Event::Finished { task, outcome } => self.finished(task, outcome, &mut effects),
            Event::Reminded { client, of: Reminder::InLine(number) } => {
                self.give_up(client, number, &mut effects);
            }
            Event::Reminded { client, of: Reminder::Lease(lease) } => {
                self.overrun(client, lease, &mut effects);
            }
            Event::Came(description) => self.came(description, &mut effects),
            Event::Noticed { card, notice } => self.noticed(card, notice, &mut effects),
            Event::Left { client } => {
                self.has_hung_up(client);
                self.depart(client, None, &mut effects);
            }
            Event::Stop => self.stop(&mut effects),
        }
        self.give_back(&mut effects);
        effects
    }

    /// The clients that are connected or whose things are still being taken back.
    pub fn clients(&self) -> impl Iterator<Item = ClientId> {
        self.clients.keys().copied()
    }

    /// The work of a task that is not finished.
    #[must_use]
    pub fn work(&self, task: TaskId) -> Option<&Work> {
        self.tasks.get(&task).map(|task| &task.work)
    }

    /// What is not finished, in the order in which it was begun.
    pub fn tasks(&self) -> impl Iterator<Item = (TaskId, &Task)> {
        self.tasks.iter().map(|(id, task)| (*id, task))
    }

    /// The work whose descriptors are kept for those who want to share memory.
    pub fn kept(&self) -> impl Iterator<Item = TaskId> {
        self.offers.values().filter(|offer| offer.token.is_some()).map(|offer| offer.task)
    }

    /// The cards that it knows.
    pub fn cards(&self) -> impl Iterator<Item = &CardDescription> {
        self.cards.values().map(|card| &card.description)
    }

    /// Who is behind a connection.
    #[must_use]
    pub fn peer(&self, client: ClientId) -> Option<&Peer> {
        self.clients.get(&client).map(|client| &client.peer)
    }

    /// The same machine in another process, with other limits.
    #[must_use]
    pub fn resumed(mut self, broker_pid: u32, limits: Limits) -> Self {
        (self.broker_pid, self.limits) = (broker_pid, limits);
        self
    }

    /// Whether it was told to stop.
    #[must_use]
    pub const fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Whether it was told to stop and everything is taken back, or as far as that is possible.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopping && self.clients.is_empty() && self.tasks.is_empty()
    }

    fn joined(&mut self, client: ClientId, peer: Peer, effects: &mut Vec<Effect>) {
        let refusal = match self.stopping {
            true => Err(Error::new(ErrorKind::Disconnected, "the broker is about to end")),
            false => self.check_connections(&peer),
        };
        if let Err(error) = refusal {
            effects.push(Effect::Reply { client, number: 0, reply: Err(error), attach: None });
            effects.push(Effect::Disconnect { client });
            return;
        }
        let state = Client {
            peer,
            program: None,
            buffers: BTreeSet::new(),
            bytes: 0,
            leases: 0,
            pending: BTreeSet::new(),
            reached: BTreeMap::new(),
            stuck: Traces::new(),
            departure: None,
            counts: false,
        };
        self.clients.insert(client, state);
    }

    fn stop(&mut self, effects: &mut Vec<Effect>) {
        self.stopping = true;
        // Who waits for a card goes as well: it is not to be begun with anything for them when others have gone before.
        self.cards.values_mut().for_each(|card| card.deferred.clear());
        for client in self.clients().collect::<Vec<_>>() {
            self.depart(client, None, effects);
        }
        for card in self.cards.keys().copied().collect::<Vec<_>>() {
            self.let_go(card, effects);
        }
    }

    fn is_present(&self, client: ClientId) -> bool {
        self.clients.get(&client).is_some_and(|client| client.departure.is_none())
    }

    /// What is ordered from now on comes after everything that was told to cards so far.
    const fn now(&self) -> Since {
        Since(TaskId(self.next_task))
    }

    /// Starts a piece of work for `client`, which answers its request `answer`, if it does.
    fn start(
        &mut self,
        work: Work,
        client: impl Into<Option<ClientId>>,
        answer: Option<u64>,
        effects: &mut Vec<Effect>,
    ) -> TaskId {
        let (id, client) = (TaskId(self.next_task), client.into());
        self.next_task += 1;
        if let Some(client) = client.and_then(|client| self.clients.get_mut(&client)) {
            client.pending.insert(id);
        }
        let task = Task { work, client, answer };
        self.tasks.insert(id, task.clone());
        effects.push(Effect::Work { id, task });
        id
    }

    /// Tells everybody who is there, and for whom `card` is.
    fn tell_all(&self, card: &Card, notice: &Notice, effects: &mut Vec<Effect>) {
        let there =
            self.clients.iter().filter(|(_, client)| client.program.is_some() && client.departure.is_none());
        let there = there.filter(|(client, _)| self.sees(**client, card));
        effects.extend(there.map(|(&client, _)| Effect::Tell { client, notice: notice.clone() }));
    }

    /// "pid 4211 (jitney test ddr)".
    fn name_of(&self, client: ClientId) -> String {
        let Some(Client { peer, program, .. }) = self.clients.get(&client) else {
            return "a client that is gone".into();
        };
        let process = match peer.pid {
            Some(pid) => format!("pid {pid}"),
            None => format!("a process of another pid namespace, of user {}", peer.uid),
        };
        match program {
            Some(program) => format!("{process} ({program})"),
            None => process,
        }
    }
}

impl Request {
    /// The card that a request is for, if it is for one.
    const fn card(&self) -> Option<CardId> {
        match *self {
            Self::Open { card }
            | Self::Close { card }
            | Self::Lease { card, .. }
            | Self::Release { card, .. }
            | Self::Wire { card, .. }
            | Self::Silence { card, .. }
            | Self::Reset { card } => Some(card),
            Self::Hello { .. }
            | Self::Cards { .. }
            | Self::Allocate { .. }
            | Self::Free { .. }
            | Self::Share { .. }
            | Self::Attach { .. }
            | Self::Unshare { .. }
            | Self::Usage { .. }
            | Self::Withdraw { .. }
            | Self::Tallies
            | Self::Traffic { .. }
            | Self::Goodbye => None,
        }
    }
}

fn invalid(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, what)
}
