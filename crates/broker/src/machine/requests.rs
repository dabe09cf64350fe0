//! What the machine does with a request.

use super::{ClientId, Deferred, Effect, MAX_LEASES, MAX_PENDING, Machine, Space, Task, Work, invalid};
use crate::protocol::{ClientUsage, Reply, Request};
use jitney_vfio::{Error, ErrorKind, Granted, LeaseId, LeaseRequest, Mode, Part};

/// The longest name of a program that is kept, in characters.
const MAX_PROGRAM: usize = 120;

/// A request's answer: at once, or when the work that was started is finished.
pub(super) type Answer = Result<Option<Reply>, Error>;

impl Machine {
    pub(super) fn request(
        &mut self,
        client: ClientId,
        number: u64,
        request: Request,
        descriptor: bool,
        effects: &mut Vec<Effect>,
    ) {
        if !self.is_present(client) {
            return;
        }
        if let Some(index) = request.card().filter(|&card| self.has_to_wait(client, card, &request)) {
            let card = &mut self.cards[index];
            if card.deferred.iter().filter(|deferred| deferred.client == client).count() < MAX_PENDING {
                // A descriptor is not kept: only `Wire` has one, and a client with a lease on a vector excludes a reset.
                card.deferred.push(Deferred { client, number, request });
                return;
            }
            let error = too_many("waiting requests", MAX_PENDING);
            effects.push(Effect::Reply { client, number, reply: Err(error), attach: None });
            return;
        }
        if request == Request::Goodbye {
            return self.depart(client, Some(number), effects);
        }
        let introduced = self.clients.get(&client).is_some_and(|client| client.program.is_some());
        if !introduced && !matches!(request, Request::Hello { .. }) {
            let error = Error::new(ErrorKind::Protocol, "the first request has to be a hello");
            effects.push(Effect::Reply { client, number, reply: Err(error), attach: None });
            return self.depart(client, None, effects);
        }
        let reply = match self.answer(client, number, request, descriptor, effects) {
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        effects.push(Effect::Reply { client, number, reply, attach: None });
    }

    fn answer(
        &mut self,
        client: ClientId,
        number: u64,
        request: Request,
        descriptor: bool,
        effects: &mut Vec<Effect>,
    ) -> Answer {
        if self.clients.get(&client).is_some_and(|client| client.pending.len() >= MAX_PENDING) {
            return Err(too_many("requests that are not answered yet", MAX_PENDING));
        }
        self.check_presence(&request)?;
        match request {
            Request::Hello { program } => {
                let broker = self.broker_pid;
                if let Some(client) = self.clients.get_mut(&client) {
                    client.program = Some(presentable(&program));
                }
                Ok(Some(Reply::Welcome { broker }))
            }
            Request::Cards => {
                let identities = self.cards.iter().map(|card| card.description.identity.clone());
                Ok(Some(Reply::Cards(identities.collect())))
            }
            Request::Open { card } => {
                let card = self.card_index(card)?;
                // Counted at once, so that nobody else's departure resets the card meanwhile.
                *self.cards[card].users.entry(client).or_default() += 1;
                self.start(Task::Grant { client, number, card }, Work::Grant { card, client }, effects);
                Ok(None)
            }
            Request::Close { card } => self.close(client, card, effects),
            Request::Allocate { card, size, align, top, page_shift } => {
                let space = match card {
                    None => Space::All,
                    Some(card) => Space::One(self.cards[self.opened(client, card)?].description.space),
                };
                self.allocate(client, number, space, (size, align, top, page_shift), effects)
            }
            Request::Free { iova } => self.free(client, number, iova, effects),
            Request::Lease { card, request } => self.lease(client, card, request),
            Request::Release { card, lease } => self.release(client, card, lease),
            Request::Wire { card, vector } => {
                let card = self.card_index(card)?;
                if !descriptor {
                    return Err(invalid("a vector is wired to an eventfd, and none came with the request"));
                }
                self.has_vector(client, card, vector)?;
                self.cards[card].wired.insert(vector, client);
                self.start(Task::Wire { client, number, card, vector }, Work::Wire { card, vector }, effects);
                Ok(None)
            }
            Request::Silence { card, vector } => {
                let card = self.card_index(card)?;
                if self.cards[card].wired.get(&vector) != Some(&client) {
                    return Err(invalid(format!("this client has not wired vector {vector}")));
                }
                let task = Task::Silence { client, number: Some(number), card, vector };
                self.start(task, Work::Silence { card, vector }, effects);
                Ok(None)
            }
            Request::Reset { card } => self.reset(client, number, card, effects),
            Request::Usage => Ok(Some(Reply::Usage(self.usage()))),
            Request::Goodbye => unreachable!("handled before"),
        }
    }

    /// Whether a request for a card cannot be decided yet: the card is being reset, or whoever stands in the way is gone
    /// and only has to be cleared away, so that "taken by a process that is dead" is never the answer.
    fn has_to_wait(&self, client: ClientId, card: usize, request: &Request) -> bool {
        let Some(card) = self.cards.get(card) else { return false };
        if card.resetting {
            return true;
        }
        let in_the_way = |lease: &&Granted<ClientId>| match request {
            Request::Lease { request, .. } => excludes(&lease.request, request),
            Request::Reset { .. } => lease.holder != client,
            _ => false,
        };
        let mut holders = card.leases.iter().filter(in_the_way).map(|lease| lease.holder).peekable();
        holders.peek().is_some() && !holders.any(|holder| self.is_present(holder))
    }

    fn card_index(&self, card: u32) -> Result<usize, Error> {
        let index = card as usize;
        if index < self.cards.len() {
            return Ok(index);
        }
        Err(Error::new(
            ErrorKind::NotFound,
            format!("there is no card {card}; this broker has {}", self.cards.len()),
        ))
    }

    fn opened(&self, client: ClientId, card: u32) -> Result<usize, Error> {
        let card = self.card_index(card)?;
        match self.cards[card].users.contains_key(&client) {
            true => Ok(card),
            false => Err(invalid(format!(
                "this client has not opened card {}",
                self.cards[card].description.identity
            ))),
        }
    }

    fn close(&mut self, client: ClientId, card: u32, effects: &mut Vec<Effect>) -> Answer {
        let card = self.opened(client, card)?;
        let last = self.cards[card].users.get(&client) == Some(&1);
        if last && let Some(lease) = self.cards[card].leases.iter().find(|lease| lease.holder == client) {
            return Err(invalid(format!(
                "the lease on {} has to end before the card is closed",
                lease.request.part
            )));
        }
        self.leave_card(client, card, effects);
        Ok(Some(Reply::Done))
    }

    fn lease(&mut self, client: ClientId, card: u32, request: LeaseRequest) -> Answer {
        let card = self.opened(client, card)?;
        let held = self.cards[card].leases.iter().filter(|lease| lease.holder == client).count();
        if held >= MAX_LEASES {
            return Err(too_many("leases on one card", MAX_LEASES));
        }
        let description = &self.cards[card].description;
        request.will.check(&description.bars, &description.identity)?;
        let id = self.take_lease(client, card, request)?;
        Ok(Some(Reply::Leased(id)))
    }

    fn release(&mut self, client: ClientId, card: u32, lease: LeaseId) -> Answer {
        let card = self.card_index(card)?;
        let card = &mut self.cards[card];
        let Some(released) = card.leases.release(lease, &client) else {
            return Err(invalid(format!("this client has no lease {} on that card", lease.0)));
        };
        // Interrupts would go on to somebody who has no right to them any more.
        let uncovered = card.wired.iter().find(|(vector, holder)| {
            let part = Part::interrupt(**vector);
            **holder == client
                && released.request.part.overlaps(&part)
                && !card
                    .leases
                    .iter()
                    .any(|other| other.holder == client && other.request.part.overlaps(&part))
        });
        let Some((vector, _)) = uncovered else { return Ok(Some(Reply::Done)) };
        let error = invalid(format!("vector {vector} has to be silenced before its lease ends"));
        // Nobody else can have come in between: what was granted a moment ago can be granted again.
        let _ = card.leases.grant(released.id, released.holder, released.request);
        Err(error)
    }

    fn take_lease(&mut self, client: ClientId, card: usize, request: LeaseRequest) -> Result<LeaseId, Error> {
        let leases = &self.cards[card].leases;
        // Of somebody who is gone nobody has to be told: it is those who are there that stand in the way.
        let clash = leases
            .iter()
            .find(|lease| excludes(&lease.request, &request) && self.is_present(lease.holder))
            .map(|lease| (lease.holder, lease.request.part.clone()));
        let part = request.part.clone();
        let id = LeaseId(self.next_lease);
        let (holder, its_part) = match (clash, self.cards[card].leases.grant(id, client, request)) {
            (_, Ok(())) => {
                self.next_lease += 1;
                return Ok(id);
            }
            (Some(clash), Err(_)) => clash,
            (None, Err(other)) => (other.holder, other.request.part.clone()),
        };
        let (holder, card) = (self.name_of(holder), &self.cards[card].description.identity);
        Err(Error::new(ErrorKind::Held, format!("{part} of card {card}: {its_part} is held by {holder}"))
            .with_errno(rustix::io::Errno::BUSY)
            .with_remedy("wait until it ends, or use another channel or card"))
    }

    fn has_vector(&self, client: ClientId, card: usize, vector: u16) -> Result<(), Error> {
        let part = Part::interrupt(vector);
        let mut leases = self.cards[card].leases.iter();
        match leases.any(|lease| lease.holder == client && lease.request.part.overlaps(&part)) {
            true => Ok(()),
            false => Err(invalid(format!("vector {vector} can be wired after {part} has been leased"))),
        }
    }

    fn reset(&mut self, client: ClientId, number: u64, card: u32, effects: &mut Vec<Effect>) -> Answer {
        let card = self.opened(client, card)?;
        let others = |lease: &&Granted<ClientId>| lease.holder != client && self.is_present(lease.holder);
        if let Some(lease) = self.cards[card].leases.iter().find(others) {
            let (part, holder) = (lease.request.part.clone(), self.name_of(lease.holder));
            let card = &self.cards[card].description.identity;
            return Err(Error::new(
                ErrorKind::Held,
                format!("reset of card {card}: {part} is held by {holder}"),
            )
            .with_errno(rustix::io::Errno::BUSY)
            .with_remedy("wait until it ends"));
        }
        self.start_reset(card, Some((client, number)), effects);
        Ok(None)
    }

    pub(super) fn start_reset(
        &mut self,
        card: usize,
        answer: Option<(ClientId, u64)>,
        effects: &mut Vec<Effect>,
    ) {
        self.cards[card].resetting = true;
        let unused = answer.is_none();
        self.start(Task::Reset { card, answer }, Work::Reset { card, unused }, effects);
    }

    fn usage(&self) -> Vec<ClientUsage> {
        let cards = || (0..).zip(&self.cards);
        let usage = self.clients.iter().map(|(id, client)| ClientUsage {
            pid: client.peer.pid,
            uid: client.peer.uid,
            program: client.program.clone().unwrap_or_default(),
            cards: cards().filter(|(_, card)| card.users.contains_key(id)).map(|(index, _)| index).collect(),
            leases: cards()
                .flat_map(|(index, card)| {
                    let own = card.leases.iter().filter(|lease| lease.holder == *id);
                    own.map(move |lease| (index, lease.request.part.to_string()))
                })
                .collect(),
            buffers: u32::try_from(client.buffers.len()).unwrap_or(u32::MAX),
            buffer_bytes: client.buffers.values().map(|buffer| buffer.size).sum(),
        });
        usage.collect()
    }
}

impl Request {
    /// The card that a request is for, if it is for one.
    pub(super) fn card(&self) -> Option<usize> {
        match *self {
            Self::Open { card }
            | Self::Close { card }
            | Self::Lease { card, .. }
            | Self::Release { card, .. }
            | Self::Wire { card, .. }
            | Self::Silence { card, .. }
            | Self::Reset { card } => Some(card as usize),
            Self::Hello { .. }
            | Self::Cards
            | Self::Allocate { .. }
            | Self::Free { .. }
            | Self::Usage
            | Self::Goodbye => None,
        }
    }
}

/// What a client calls itself, as others may be shown it: not long, and no control characters for their terminals.
fn presentable(program: &str) -> String {
    program.chars().take(MAX_PROGRAM).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Whether somebody who has been granted `granted` excludes somebody else who asks for `asked`.
fn excludes(granted: &LeaseRequest, asked: &LeaseRequest) -> bool {
    granted.part.overlaps(&asked.part) && (granted.mode == Mode::Exclusive || asked.mode == Mode::Exclusive)
}

pub(super) fn too_many(what: &str, most: usize) -> Error {
    Error::new(ErrorKind::Exhausted, format!("a client may have at most {most} {what}"))
}
