//! The broker's state machine: events in, effects out, no I/O.
//!
//! It decides everything that a broker decides: who gets which IOVA, which lease, which card, and what happens in which
//! order when a client is gone. The server feeds it events and carries out its effects. Work that takes time is an
//! [`Effect::Work`] with a [`TaskId`], answered some time later with [`Event::Finished`].

mod buffers;
mod departure;
mod events;
mod finished;
mod leaving;
mod requests;
#[cfg(test)]
mod tests;

use crate::protocol::Request;
pub use events::{ClientId, Effect, Event, Outcome, Peer, Space, TaskId, Work};
use jitney_iova::Allocator;
use jitney_vfio::{BarInfo, Error, ErrorKind, Identity, LeaseTable};
use leaving::Presence;
use std::collections::{BTreeMap, BTreeSet};

/// A card as the machine knows it.
#[derive(Debug, Clone)]
pub struct CardDescription {
    /// Who it is.
    pub identity: Identity,
    /// Its BARs, for checking wills.
    pub bars: [BarInfo; 6],
    /// The index of its address space.
    pub space: usize,
    /// Whether it sees memory where that lies in the machine: there is no IOMMU. No IOVA can be chosen then.
    pub physical: bool,
}

/// The most DMA buffers of one client. A type1 container has 65535 maps for all.
pub const MAX_BUFFERS: usize = 4096;
/// The most leases of one client.
pub const MAX_LEASES: usize = 256;
/// The most requests of one client that wait for work to finish.
pub const MAX_PENDING: usize = 64;

/// The state of a broker.
#[derive(Debug)]
pub struct Machine {
    broker_pid: u32,
    /// Of all address spaces: no two buffers have an IOVA in common, so that one can be in every space.
    iovas: Allocator,
    cards: Vec<Card>,
    clients: BTreeMap<ClientId, Client>,
    tasks: BTreeMap<TaskId, Task>,
    next_task: u64,
    next_lease: u64,
}

#[derive(Debug)]
struct Card {
    description: CardDescription,
    leases: LeaseTable<ClientId>,
    /// Who has opened it, and how often.
    users: BTreeMap<ClientId, u32>,
    wired: BTreeMap<u16, ClientId>,
    resetting: bool,
    presence: Presence,
    /// Requests that wait until it has been reset, or until somebody who is gone holds nothing of it any more.
    deferred: Vec<Deferred>,
}

#[derive(Debug)]
struct Deferred {
    client: ClientId,
    number: u64,
    request: Request,
}

#[derive(Debug)]
struct Client {
    peer: Peer,
    /// `None` until it has said hello.
    program: Option<String>,
    buffers: BTreeMap<u64, Buffer>,
    /// Pieces of work that belong to it and are not finished.
    pending: BTreeSet<TaskId>,
    departure: Option<Departure>,
}

#[derive(Debug)]
struct Departure {
    /// The number of the goodbye to answer, if there was one.
    goodbye: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Buffer {
    space: Space,
    size: u64,
    state: BufferState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BufferState {
    Mapping,
    Live,
    Unmapping,
}

/// What to do when a piece of work is finished.
#[derive(Debug)]
enum Task {
    Map { client: ClientId, number: u64, iova: u64 },
    Place { client: ClientId, number: u64, space: Space },
    Discard { client: ClientId },
    Unmap { client: ClientId, number: Option<u64>, iova: u64 },
    Grant { client: ClientId, number: u64, card: usize },
    Wire { client: ClientId, number: u64, card: usize, vector: u16 },
    Silence { client: ClientId, number: Option<u64>, card: usize, vector: u16 },
    CarryOut { card: usize },
    Reset { card: usize, answer: Option<(ClientId, u64)> },
    Close { card: usize },
}

impl Machine {
    /// A broker, process `broker_pid`, of these cards, handing out `iovas`.
    #[must_use]
    pub fn new(broker_pid: u32, cards: Vec<CardDescription>, iovas: Allocator) -> Self {
        let card = |description| Card {
            description,
            leases: LeaseTable::default(),
            users: BTreeMap::new(),
            wired: BTreeMap::new(),
            resetting: false,
            presence: Presence::Here,
            deferred: Vec::new(),
        };
        Self {
            broker_pid,
            iovas,
            cards: cards.into_iter().map(card).collect(),
            clients: BTreeMap::new(),
            tasks: BTreeMap::new(),
            next_task: 0,
            next_lease: 0,
        }
    }

    /// Takes in what happened and says what to do.
    pub fn handle(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Joined { client, peer } => {
                let client_state = Client {
                    peer,
                    program: None,
                    buffers: BTreeMap::new(),
                    pending: BTreeSet::new(),
                    departure: None,
                };
                self.clients.insert(client, client_state);
            }
            Event::Request { client, number, request, descriptor } => {
                self.request(client, number, request, descriptor, &mut effects);
            }
            Event::Nonsense { client, error } => {
                if self.is_present(client) {
                    effects.push(Effect::Reply { client, number: 0, reply: Err(error), attach: None });
                    self.depart(client, None, &mut effects);
                }
            }
            Event::Finished { task, outcome } => self.finished(task, outcome, &mut effects),
            Event::Noticed { card, notice } => self.noticed(card, notice, &mut effects),
            Event::Left { client } => self.depart(client, None, &mut effects),
        }
        effects
    }

    /// The clients that are connected or whose things are still being taken back.
    pub fn clients(&self) -> impl Iterator<Item = ClientId> {
        self.clients.keys().copied()
    }

    fn is_present(&self, client: ClientId) -> bool {
        self.clients.get(&client).is_some_and(|client| client.departure.is_none())
    }

    fn start(&mut self, task: Task, work: Work, effects: &mut Vec<Effect>) -> TaskId {
        let id = TaskId(self.next_task);
        self.next_task += 1;
        if let Some(client) = task.client().and_then(|client| self.clients.get_mut(&client)) {
            client.pending.insert(id);
        }
        self.tasks.insert(id, task);
        effects.push(Effect::Work { task: id, work });
        id
    }

    /// "pid 4211 (jitney test ddr)".
    fn name_of(&self, client: ClientId) -> String {
        match self.clients.get(&client) {
            Some(Client { peer, program: Some(program), .. }) => format!("pid {} ({program})", peer.pid),
            Some(Client { peer, .. }) => format!("pid {}", peer.pid),
            None => "a client that is gone".into(),
        }
    }
}

impl Task {
    /// The client that has to wait for this task before it is gone for good.
    const fn client(&self) -> Option<ClientId> {
        match self {
            Self::Map { client, .. }
            | Self::Place { client, .. }
            | Self::Discard { client }
            | Self::Unmap { client, .. }
            | Self::Grant { client, .. }
            | Self::Wire { client, .. }
            | Self::Silence { client, .. } => Some(*client),
            Self::Reset { answer: Some((client, _)), .. } => Some(*client),
            Self::CarryOut { .. } | Self::Reset { answer: None, .. } | Self::Close { .. } => None,
        }
    }
}

impl Buffer {
    /// What takes it, which is at `iova`, from its cards.
    const fn unmap(&self, iova: u64) -> Work {
        Work::Unmap { space: self.space, iova, size: self.size }
    }
}

fn invalid(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, what)
}
