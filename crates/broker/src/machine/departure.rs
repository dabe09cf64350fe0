//! What the machine does when a client goes: its wills, its vectors, its memory, its IOVAs, its leases, its grants,
//! in this order, and the last one out resets the card. Nothing of it is left.

use super::leaving::Presence;
use super::{BufferState, ClientId, Departure, Effect, Machine, Task, Work};
use crate::protocol::Reply;

impl Machine {
    /// Begins to take back what `client` has. With a `goodbye` to answer it goes in peace, and no will is carried out.
    pub(super) fn depart(&mut self, client: ClientId, goodbye: Option<u64>, effects: &mut Vec<Effect>) {
        let Some(state) = self.clients.get_mut(&client) else { return };
        if state.departure.is_some() {
            return;
        }
        state.departure = Some(Departure { goodbye });
        if goodbye.is_none() {
            self.carry_out_wills(client, effects);
        }
        self.silence_vectors(client, effects);
        self.unmap_buffers(client, effects);
        self.finish_departure(client, effects);
    }

    fn carry_out_wills(&mut self, client: ClientId, effects: &mut Vec<Effect>) {
        for card in 0..self.cards.len() {
            let own = self.cards[card].leases.iter().filter(|lease| lease.holder == client);
            let wills: Vec<_> = own.map(|lease| lease.request.will.clone()).collect();
            for will in wills.into_iter().filter(|will| !will.0.is_empty()) {
                self.start(Task::CarryOut { card }, Work::CarryOut { card, will }, effects);
            }
        }
    }

    fn silence_vectors(&mut self, client: ClientId, effects: &mut Vec<Effect>) {
        for card in 0..self.cards.len() {
            let own = self.cards[card].wired.iter().filter(|(_, holder)| **holder == client);
            for vector in own.map(|(vector, _)| *vector).collect::<Vec<_>>() {
                let task = Task::Silence { client, number: None, card, vector };
                self.start(task, Work::Silence { card, vector }, effects);
            }
        }
    }

    fn unmap_buffers(&mut self, client: ClientId, effects: &mut Vec<Effect>) {
        let Some(state) = self.clients.get_mut(&client) else { return };
        // One that is still being mapped is unmapped as soon as it is; one that is being unmapped already is on its way.
        let unmaps: Vec<(u64, Work)> = state
            .buffers
            .iter_mut()
            .filter(|(_, buffer)| buffer.state == BufferState::Live)
            .map(|(iova, buffer)| {
                buffer.state = BufferState::Unmapping;
                (*iova, buffer.unmap(*iova))
            })
            .collect();
        for (iova, unmap) in unmaps {
            self.start(Task::Unmap { client, number: None, iova }, unmap, effects);
        }
    }

    /// Ends a departure once no work of the client is left.
    pub(super) fn finish_departure(&mut self, client: ClientId, effects: &mut Vec<Effect>) {
        let Some(state) = self.clients.get(&client) else { return };
        let Some(departure) = &state.departure else { return };
        if !state.pending.is_empty() {
            return;
        }
        if let Some(number) = departure.goodbye {
            effects.push(Effect::Reply { client, number, reply: Ok(Reply::Done), attach: None });
        }
        for card in 0..self.cards.len() {
            self.cards[card].leases.release_all(&client);
            self.cards[card].deferred.retain(|deferred| deferred.client != client);
            if let Some(opens) = self.cards[card].users.get_mut(&client) {
                *opens = 1;
                self.leave_card(client, card, effects);
            }
        }
        self.clients.remove(&client);
        effects.push(Effect::Disconnect { client });
        for card in 0..self.cards.len() {
            self.retry_deferred(card, effects);
        }
    }

    /// Counts one user's open of a card down; the last one out resets it, or closes one that is wanted back.
    pub(super) fn leave_card(&mut self, client: ClientId, card: usize, effects: &mut Vec<Effect>) {
        let users = &mut self.cards[card].users;
        if let Some(opens) = users.get_mut(&client) {
            *opens -= 1;
            if *opens == 0 {
                users.remove(&client);
            }
            if users.is_empty() && !self.cards[card].resetting {
                match self.cards[card].presence {
                    Presence::Here => self.start_reset(card, None, effects),
                    // The kernel resets it.
                    Presence::Leaving | Presence::Gone => self.let_go(card, effects),
                }
            }
        }
    }
}
