//! What the machine knows of a card, and who may do what with it as a whole: open, close, interrupts, reset.

use super::leaving::Presence;
use super::requests::Answer;
use super::waiting::Wanted;
use super::{CardDescription, ClientId, Effect, Failure, Machine, Outcome, Reminder, TaskId, Work, invalid};
use crate::protocol::{CardId, Notice, Reply, Request};
use jitney_vfio::{Error, ErrorKind, Granted, LeaseId, LeaseTable, Mode, Part};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Card {
    pub(super) description: CardDescription,
    pub(super) leases: LeaseTable<ClientId>,
    /// Who has opened it. Those who have only asked count, so that nobody else's departure resets it meanwhile.
    pub(super) users: BTreeMap<ClientId, Opening>,
    pub(super) wired: BTreeMap<u16, Wiring>,
    /// It is being reset for somebody, or because nobody uses it.
    pub(super) resetting: bool,
    /// A will could not stop what its client drove: it is reset as soon as nobody has a lease on it.
    pub(super) hung: bool,
    pub(super) presence: Presence,
    /// Leases that were held for as long as the policy allows while somebody waits.
    pub(super) overrun: BTreeSet<LeaseId>,
    /// Requests that wait, first come first: until it has been reset, until somebody who is gone holds nothing of it any more,
    /// or for a lease that another has.
    pub(super) deferred: Vec<Deferred>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Opening {
    Asked,
    Granted,
}

/// To whom a vector is wired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Wiring {
    pub(super) client: ClientId,
    /// It was wired once with success, and not silenced since.
    live: bool,
    /// Wires and silences that are under way.
    pending: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Deferred {
    pub(super) client: ClientId,
    pub(super) number: u64,
    pub(super) request: Request,
    /// What a request for a lease wants.
    pub(super) wanted: Option<Wanted>,
}

impl Deferred {
    /// Nobody has to be reminded of it any more.
    pub(super) fn forgotten(&self) -> Option<Effect> {
        let limited = matches!(self.request, Request::Lease { wait, .. } if (1..u32::MAX).contains(&wait));
        let (client, of) = (self.client, Reminder::InLine(self.number));
        limited.then_some(Effect::Unremind { client, of })
    }
}

impl Card {
    pub(super) fn new(description: CardDescription) -> Self {
        Self {
            description,
            leases: LeaseTable::default(),
            users: BTreeMap::new(),
            wired: BTreeMap::new(),
            resetting: false,
            hung: false,
            presence: Presence::Here,
            overrun: BTreeSet::new(),
            deferred: Vec::new(),
        }
    }

    pub(super) fn is_opened_by(&self, client: ClientId) -> bool {
        self.users.get(&client) == Some(&Opening::Granted)
    }

    /// The vectors that are wired to `client`.
    pub(super) fn wired_by(&self, client: ClientId) -> Vec<u16> {
        let own = self.wired.iter().filter(|(_, wiring)| wiring.client == client);
        own.map(|(vector, _)| *vector).collect()
    }

    /// The lease by which `client` may have `vector` for itself.
    fn lease_for(&self, client: ClientId, vector: u16) -> Option<LeaseId> {
        let part = Part::interrupt(vector);
        let good = |lease: &&Granted<ClientId>| {
            lease.holder == client
                && lease.request.mode == Mode::Exclusive
                && lease.request.part.overlaps(&part)
        };
        self.leases.iter().find(good).map(|lease| lease.id)
    }
}

impl Machine {
    pub(super) fn card(&self, id: CardId) -> Result<&Card, Error> {
        // Whoever asks has heard already that it is not there.
        self.cards
            .get(&id)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no card of id {}", id.0)))
    }

    /// The card, if `client` has opened it.
    pub(super) fn opened(&self, client: ClientId, id: CardId) -> Result<&Card, Error> {
        let card = self.card(id)?;
        match card.is_opened_by(client) {
            true => Ok(card),
            false => Err(invalid(format!("this client has not opened card {}", card.description.identity))),
        }
    }

    pub(super) fn open(
        &mut self,
        client: ClientId,
        number: u64,
        id: CardId,
        effects: &mut Vec<Effect>,
    ) -> Answer {
        let card = self.card(id)?;
        if card.users.contains_key(&client) {
            let what = format!("this client has opened card {} already", card.description.identity);
            return Err(invalid(what).with_remedy("use the grant that came with that, or close it first"));
        }
        if let Some(card) = self.cards.get_mut(&id) {
            card.users.insert(client, Opening::Asked);
        }
        if let Some(state) = self.clients.get_mut(&client) {
            state.reached.insert(id, None);
        }
        self.start(Work::Grant { card: id }, client, Some(number), effects);
        Ok(None)
    }

    pub(super) fn granted(
        &mut self,
        client: ClientId,
        number: u64,
        id: CardId,
        task: TaskId,
        outcome: Result<Outcome, Failure>,
        effects: &mut Vec<Effect>,
    ) {
        let kind = match outcome {
            Ok(Outcome::Grant { kind }) => Ok(kind),
            Ok(_) => {
                Err(Error::new(ErrorKind::System, "a card was opened, and nobody said how it is reached"))
            }
            Err(failure) => Err(failure.error),
        };
        match kind {
            Ok(kind) => {
                let Some(card) = self.cards.get_mut(&id) else { return };
                card.users.insert(client, Opening::Granted);
                let leaving = card.presence == Presence::Leaving;
                self.reply(client, number, Ok(Reply::Opened { kind }), Some(task), effects);
                if leaving && self.is_present(client) {
                    effects.push(Effect::Tell { client, notice: Notice::Leaving { card: id } });
                }
            }
            Err(error) => {
                self.leave_card(client, id, effects);
                self.reply(client, number, Err(error), None, effects);
            }
        }
    }

    pub(super) fn close(&mut self, client: ClientId, id: CardId, effects: &mut Vec<Effect>) -> Answer {
        let card = self.opened(client, id)?;
        if let Some(lease) = card.leases.iter().find(|lease| lease.holder == client) {
            return Err(invalid(format!(
                "the lease on {} has to end before the card is closed",
                lease.request.part
            )));
        }
        self.leave_card(client, id, effects);
        Ok(Some(Reply::Done))
    }

    /// Forgets a user of a card; the last one out resets it, or closes one that is wanted back.
    pub(super) fn leave_card(&mut self, client: ClientId, id: CardId, effects: &mut Vec<Effect>) {
        let now = self.now();
        let Some(card) = self.cards.get_mut(&id) else { return };
        if card.users.remove(&client).is_none() {
            return;
        }
        if let Some(state) = self.clients.get_mut(&client) {
            state.reached.insert(id, Some(now));
        }
        self.rest_if_unused(id, effects);
    }

    /// Resets a card that nobody uses, so that it does nothing until somebody opens it again, or closes one that is wanted back.
    fn rest_if_unused(&mut self, id: CardId, effects: &mut Vec<Effect>) {
        let Some(card) = self.cards.get(&id) else { return };
        if !card.users.is_empty() || card.resetting {
            return;
        }
        match card.presence {
            // It is given back at the end of what happens here, and closed then.
            Presence::Here if self.is_unused(card.description.space) => {}
            Presence::Here if !self.stopping => self.start_reset(id, true, None, effects),
            Presence::Here | Presence::Leaving => self.let_go(id, effects),
            Presence::Closing | Presence::Away => {}
        }
    }

    pub(super) fn wire(
        &mut self,
        client: ClientId,
        number: u64,
        (id, vector): (CardId, u16),
        effects: &mut Vec<Effect>,
    ) -> Answer {
        let card = self.opened(client, id)?;
        let lease = card.lease_for(client, vector);
        if lease.is_none_or(|lease| self.is_being_released(client, lease)) {
            let part = Part::interrupt(vector);
            return Err(invalid(format!(
                "vector {vector} can be wired after {part} has been leased, exclusively"
            )));
        }
        let Some(card) = self.cards.get_mut(&id) else { return Ok(None) };
        let wiring = card.wired.entry(vector).or_insert(Wiring { client, live: false, pending: 0 });
        // Who had it before is gone, or has silenced it: there is no lease but this client's.
        wiring.client = client;
        wiring.pending += 1;
        self.start(Work::Wire { card: id, vector }, client, Some(number), effects);
        Ok(None)
    }

    pub(super) fn silence(
        &mut self,
        client: ClientId,
        number: u64,
        (id, vector): (CardId, u16),
        effects: &mut Vec<Effect>,
    ) -> Answer {
        self.card(id)?;
        let wiring = self.cards.get_mut(&id).and_then(|card| card.wired.get_mut(&vector));
        match wiring.filter(|wiring| wiring.client == client) {
            Some(wiring) => wiring.pending += 1,
            None => return Err(invalid(format!("this client has not wired vector {vector}"))),
        }
        self.start(Work::Silence { card: id, vector }, client, Some(number), effects);
        Ok(None)
    }

    /// Takes in that a vector was wired (`on`) or silenced, or that this failed: then it is as it was.
    pub(super) fn wired(&mut self, (id, vector): (CardId, u16), on: bool, succeeded: bool, asked: bool) {
        let Some(card) = self.cards.get_mut(&id) else { return };
        let Some(wiring) = card.wired.get_mut(&vector) else { return };
        if asked {
            wiring.pending = wiring.pending.saturating_sub(1);
        }
        if succeeded {
            wiring.live = on;
        }
        if !wiring.live && wiring.pending == 0 {
            card.wired.remove(&vector);
        }
    }

    pub(super) fn reset(
        &mut self,
        client: ClientId,
        number: u64,
        id: CardId,
        effects: &mut Vec<Effect>,
    ) -> Answer {
        let card = self.opened(client, id)?;
        let others = |lease: &&Granted<ClientId>| lease.holder != client && self.is_present(lease.holder);
        if let Some(lease) = card.leases.iter().find(others) {
            let (part, holder) = (&lease.request.part, self.name_of(lease.holder));
            let what = format!("reset of card {}: {part} is held by {holder}", card.description.identity);
            return Err(Error::new(ErrorKind::Held, what)
                .with_errno(rustix::io::Errno::BUSY)
                .with_remedy("wait until it ends"));
        }
        self.start_reset(id, false, Some((client, number)), effects);
        Ok(None)
    }

    /// Resets a card on which something goes on that nobody answers for any more, if nobody has a lease on it.
    pub(super) fn reset_if_hung(&mut self, id: CardId, effects: &mut Vec<Effect>) {
        let Some(card) = self.cards.get(&id) else { return };
        let in_use = card.leases.iter().next().is_some() || card.resetting || card.users.is_empty();
        // A broker that ends closes its cards, and their DMA is off then.
        if card.hung && !in_use && card.presence == Presence::Here && !self.stopping {
            tracing::warn!(
                "card {} is reset: it went on for a client that is gone, and could not be stopped",
                card.description.identity
            );
            self.start_reset(id, false, None, effects);
        }
    }

    fn start_reset(
        &mut self,
        id: CardId,
        unused: bool,
        asked: Option<(ClientId, u64)>,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(card) = self.cards.get_mut(&id) {
            card.resetting = true;
        }
        let (client, answer) = asked.unzip();
        self.start(Work::Reset { card: id, unused }, client, answer, effects);
    }

    /// Takes in that a card was reset, or could not be.
    pub(super) fn was_reset(
        &mut self,
        (id, unused): (CardId, bool),
        task: TaskId,
        succeeded: bool,
        effects: &mut Vec<Effect>,
    ) {
        let Some(card) = self.cards.get_mut(&id) else { return };
        (card.resetting, card.hung) = (false, false);
        if succeeded {
            self.is_quiet(id, task, effects);
        }
        // Who asked for it has closed the card meanwhile.
        if !unused {
            self.rest_if_unused(id, effects);
        }
        self.let_go(id, effects);
        self.retry_deferred(id, effects);
    }
}
