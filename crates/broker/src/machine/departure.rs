//! What happens when a client is gone, in phases: each begins when the one before has ended, in whatever order work finishes.
//!
//! Wills first, since an engine has to stop before its memory goes. A phase waits for everything of the client that is under
//! way, also for what it had asked for itself: a wire that is still being made has to be silenced, a map undone.

use super::quarantine::Traces;
use super::{ClientId, Effect, Machine, Work};
use crate::protocol::{CardId, Reply};
use serde::{Deserialize, Serialize};

/// A client that is going.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Departure {
    /// The number of the goodbye to answer, if there was one.
    pub(super) goodbye: Option<u64>,
    pub(super) phase: Phase,
    /// The cards that may still be at work for it although nobody looks after that.
    pub(super) unquiet: Traces,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) enum Phase {
    /// What stops its engines.
    Wills,
    /// No interrupt goes to it any more.
    Silence,
    /// Its memory.
    Unmap,
}

impl Machine {
    /// Begins to take back what `client` has. Who says `goodbye` and has no lease any more leaves nothing at work.
    pub(super) fn depart(&mut self, client: ClientId, goodbye: Option<u64>, effects: &mut Vec<Effect>) {
        let now = self.now();
        let Some(state) = self.clients.get_mut(&client) else { return };
        if state.departure.is_some() {
            return;
        }
        let unquiet = match goodbye.is_none() || state.leases > 0 {
            true => state.reached.iter().map(|(card, since)| (*card, since.unwrap_or(now))).collect(),
            false => state.stuck.clone(),
        };
        state.departure = Some(Departure { goodbye, phase: Phase::Wills, unquiet });
        self.pass_on_all(client, effects);
        let Some(state) = self.clients.get(&client) else { return };
        let maps = state.pending.iter().filter(|id| {
            matches!(self.tasks.get(id).map(|task| &task.work), Some(Work::Map { .. } | Work::Place { .. }))
        });
        effects.extend(maps.map(|&id| Effect::Cancel { id }));
        let mut shorter = Vec::new();
        for (id, card) in &mut self.cards {
            let before = card.deferred.len();
            card.deferred.retain(|deferred| deferred.client != client);
            if card.deferred.len() < before {
                shorter.push(*id);
            }
        }
        self.carry_out_wills(client, effects);
        for id in shorter {
            self.retry_deferred(id, effects);
        }
        self.go_on_departing(client, effects);
    }

    /// Who hangs up after a goodbye does not wait for its answer.
    pub(super) fn has_hung_up(&mut self, client: ClientId) {
        if let Some(departure) = self.clients.get_mut(&client).and_then(|state| state.departure.as_mut()) {
            departure.goodbye = None;
        }
    }

    fn carry_out_wills(&mut self, client: ClientId, effects: &mut Vec<Effect>) {
        for id in self.reached_by(client) {
            let Some(card) = self.cards.get(&id) else { continue };
            let own = card.leases.iter().filter(|lease| lease.holder == client);
            let (others, last): (Vec<_>, Vec<_>) = own
                .filter(|lease| !lease.request.will.0.is_empty())
                .partition(|lease| self.is_shared_with_others(card, lease));
            let wills: Vec<_> = last.iter().map(|lease| (lease.id, lease.request.will.clone())).collect();
            if !others.is_empty() {
                self.leave_at_work(client, id);
            }
            if !wills.is_empty() {
                self.start(Work::CarryOut { card: id, wills }, client, None, effects);
            }
        }
    }

    /// Begins the next phases, as far as nothing of the client is under way.
    pub(super) fn go_on_departing(&mut self, client: ClientId, effects: &mut Vec<Effect>) {
        loop {
            let Some(state) = self.clients.get_mut(&client) else { return };
            let Some(departure) = &mut state.departure else { return };
            if !state.pending.is_empty() {
                return;
            }
            match departure.phase {
                Phase::Wills => {
                    departure.phase = Phase::Silence;
                    self.silence_vectors(client, effects);
                }
                Phase::Silence => {
                    departure.phase = Phase::Unmap;
                    self.unmap_buffers(client, effects);
                }
                Phase::Unmap => return self.leave(client, effects),
            }
        }
    }

    fn silence_vectors(&mut self, client: ClientId, effects: &mut Vec<Effect>) {
        for id in self.reached_by(client) {
            let Some(card) = self.cards.get_mut(&id) else { continue };
            for vector in card.wired_by(client) {
                self.start(Work::Silence { card: id, vector }, client, None, effects);
            }
        }
    }

    /// Ends a departure: nothing of the client is left but its leases and its cards.
    fn leave(&mut self, client: ClientId, effects: &mut Vec<Effect>) {
        let reached = self.reached_by(client);
        let Some(state) = self.clients.remove(&client) else { return };
        if let Some(number) = state.departure.and_then(|departure| departure.goodbye) {
            effects.push(Effect::Reply { client, number, reply: Ok(Reply::Done), attach: None });
        }
        effects.push(Effect::Disconnect { client });
        for &id in &reached {
            if let Some(card) = self.cards.get_mut(&id) {
                for granted in card.leases.release_all(&client) {
                    card.overrun.remove(&granted.id);
                }
                card.wired.retain(|_, wiring| wiring.client != client);
            }
            self.leave_card(client, id, effects);
        }
        for id in reached {
            self.reset_if_hung(id, effects);
            self.retry_deferred(id, effects);
        }
    }

    fn reached_by(&self, client: ClientId) -> Vec<CardId> {
        self.clients.get(&client).map(|state| state.reached.keys().copied().collect()).unwrap_or_default()
    }
}
