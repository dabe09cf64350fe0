//! Lists: which cards there are, and who uses what. Long ones are answered in parts.

use super::cards::Card;
use super::requests::Answer;
use super::{Client, ClientId, Effect, Machine, invalid};
use crate::protocol::{CardEntry, CardId, ClientUsage, Reply, fitting};
use jitney_vfio::{Error, ErrorKind};
use std::ops::Bound;

impl Machine {
    pub(super) fn list_cards(&self, client: ClientId, after: Option<CardId>) -> Reply {
        let rest = self.cards.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
        let seen = rest.filter(|(_, card)| self.sees(client, card));
        let entries = seen.map(|(&id, card)| CardEntry { id, identity: card.description.identity.clone() });
        let (cards, more) = fitting(entries);
        Reply::Cards { cards, more }
    }

    pub(super) fn list_usage(&self, asker: ClientId, after: Option<u64>) -> Reply {
        let after = after.map_or(Bound::Unbounded, |after| Bound::Excluded(ClientId(after)));
        let rest = self.clients.range((after, Bound::Unbounded));
        let (clients, more) = fitting(rest.map(|(id, client)| self.usage_of(asker, *id, client)));
        Reply::Usage { clients, more }
    }

    pub(super) fn give_page(&mut self, client: ClientId, number: u64, effects: &mut Vec<Effect>) -> Answer {
        let Some(state) = self.clients.get_mut(&client) else { return Ok(None) };
        if std::mem::replace(&mut state.counts, true) {
            return Err(invalid("this client has a page to count in already"));
        }
        effects.push(Effect::Tallies { client, number });
        Ok(None)
    }

    /// What a client has moved of the cards that are there for who asks.
    pub(super) fn traffic(
        &self,
        client: ClientId,
        number: u64,
        of: ClientId,
        effects: &mut Vec<Effect>,
    ) -> Answer {
        let state = self.clients.get(&of).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("there is no client of number {}", of.0))
        })?;
        let reached = state.reached.keys().filter_map(|id| Some((*id, self.cards.get(id)?)));
        let cards = reached.filter(|(_, card)| self.sees(client, card)).map(|(id, _)| id).collect();
        effects.push(Effect::Traffic { client, number, of, cards });
        Ok(None)
    }

    /// What a client uses of the cards that are there for who asks.
    fn usage_of(&self, asker: ClientId, id: ClientId, client: &Client) -> ClientUsage {
        let reached = || {
            let cards = client.reached.keys();
            let seen = |card: &&Card| self.sees(asker, card);
            cards.filter_map(move |card| Some((*card, self.cards.get(card).filter(seen)?)))
        };
        ClientUsage {
            client: id.0,
            pid: client.peer.pid,
            uid: client.peer.uid,
            program: client.program.clone().unwrap_or_default(),
            cards: reached().filter(|(_, card)| card.is_opened_by(id)).map(|(card, _)| card).collect(),
            leases: reached()
                .flat_map(|(card, state)| {
                    let own = state.leases.iter().filter(|lease| lease.holder == id);
                    own.map(move |lease| (card, lease.request.part.to_string()))
                })
                .collect(),
            waits: reached()
                .flat_map(|(card, state)| {
                    let line = &state.deferred;
                    line.iter().enumerate().filter(move |(_, waiting)| waiting.client == id).filter_map(
                        move |(index, waiting)| {
                            let part = waiting.wanted.as_ref()?.lease.part.to_string();
                            Some((card, part, Self::place(line, index)))
                        },
                    )
                })
                .collect(),
            buffers: u32::try_from(client.buffers.len()).unwrap_or(u32::MAX),
            buffer_bytes: client.bytes,
        }
    }
}
