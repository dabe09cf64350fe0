//! What the machine does when a card comes, when one is wanted back, because it is being unplugged or taken from vfio-pci, and
//! when one has failed.
//!
//! The kernel takes a card away when nobody has it open any more, and says every 10 seconds again that it waits. So from the
//! first time on nobody new gets the card, those who have it are told, and when the last of them has left the broker
//! closes it, too, and takes it from its list. Other cards go on as before.
//!
//! A card that has reported an error is left to its users, who are told, and may be opened: whether it has recovered shows
//! only when somebody tries.

use super::cards::{Card, Deferred, Opening};
use super::{CardDescription, ClientId, Effect, Machine, TaskId, Work};
use crate::protocol::{CardEntry, CardId, Notice, Request};
use jitney_vfio::{Error, ErrorKind};
use serde::{Deserialize, Serialize};

/// Whether a card can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Presence {
    Here,
    /// It is known, and not open: it is taken when somebody asks for it.
    Away,
    /// It is wanted back, and somebody still has it.
    Leaving,
    /// It is being closed.
    Closing,
}

impl Machine {
    pub(super) fn came(&mut self, description: CardDescription, effects: &mut Vec<Effect>) {
        let (id, identity) = (description.id, description.identity.clone());
        tracing::info!("card {identity} has come");
        let card = Card::new(description);
        self.tell_all(&card, &Notice::Came { card: CardEntry { id, identity } }, effects);
        self.cards.insert(id, card);
        // A broker that ends closes it like the others.
        self.let_go(id, effects);
    }

    pub(super) fn noticed(&mut self, id: CardId, notice: jitney_vfio::Notice, effects: &mut Vec<Effect>) {
        let Some(card) = self.cards.get_mut(&id) else { return };
        let identity = &card.description.identity;
        let (first, tell) = match (notice, card.presence) {
            (_, Presence::Closing | Presence::Away) => return,
            (jitney_vfio::Notice::Leaving, presence) => {
                card.presence = Presence::Leaving;
                (presence == Presence::Here, Notice::Leaving { card: id })
            }
            (jitney_vfio::Notice::Failed, _) => {
                tracing::warn!("card {identity} {notice}");
                (true, Notice::Failed { card: id })
            }
        };
        // Who has only asked for it is told with the answer.
        let granted = card.users.iter().filter(|(_, opening)| **opening == Opening::Granted);
        let users: Vec<ClientId> = granted.map(|(client, _)| *client).collect();
        if notice == jitney_vfio::Notice::Leaving && !users.is_empty() {
            let names: Vec<String> = users.iter().map(|user| self.name_of(*user)).collect();
            let (again, names) = (if first { "" } else { " still" }, names.join(", "));
            if let Some(Card { description, .. }) = self.cards.get(&id) {
                let card = &description.identity;
                tracing::warn!("card {card} {}: that{again} waits for {names}", jitney_vfio::Notice::Leaving);
            }
        }
        if first {
            let there = users.into_iter().filter(|user| self.is_present(*user));
            effects.extend(there.map(|client| Effect::Tell { client, notice: tell.clone() }));
            // Who stands in line for a part of it has to let go as well.
            self.retry_deferred(id, effects);
        }
        self.let_go(id, effects);
    }

    /// Closes a card that is wanted back, or whose broker is to end, if nobody uses it any more.
    pub(super) fn let_go(&mut self, id: CardId, effects: &mut Vec<Effect>) {
        let Some(card) = self.cards.get_mut(&id) else { return };
        let wanted = match card.presence {
            Presence::Here => self.stopping,
            Presence::Leaving => true,
            Presence::Closing | Presence::Away => false,
        };
        if wanted && card.users.is_empty() && !card.resetting {
            card.presence = Presence::Closing;
            self.start(Work::Close { card: id }, None, None, effects);
        }
    }

    /// Takes in that a card was closed, or could not be.
    pub(super) fn closed(
        &mut self,
        id: CardId,
        task: TaskId,
        outcome: Result<(), Error>,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(card) = self.cards.get(&id).filter(|card| card.presence == Presence::Away) {
            let (identity, space) = (card.description.identity.clone(), card.description.space);
            match outcome {
                Ok(()) => self.is_quiet(id, task, effects),
                Err(error) => tracing::error!(card = %identity, %error, "a card could not be closed"),
            }
            return self.return_if_closed(space, effects);
        }
        let Some(mut closed) = self.cards.remove(&id) else { return };
        let deferred = std::mem::take(&mut closed.deferred);
        let card = &closed.description.identity;
        match outcome {
            Ok(()) => {
                if !self.stopping {
                    tracing::warn!("card {card} is closed and can go");
                }
                self.is_quiet(id, task, effects);
            }
            Err(error) => tracing::error!(%card, %error, "a card could not be closed"),
        }
        self.tell_all(&closed, &Notice::Gone { card: id }, effects);
        effects.extend(deferred.iter().filter_map(Deferred::forgotten));
        for Deferred { client, number, request, .. } in deferred {
            self.request(client, number, request, false, effects);
        }
    }

    /// Refuses what would keep a card here that is wanted back. What gives something back goes on.
    pub(super) fn check_presence(&self, request: &Request) -> Result<(), Error> {
        let keeps = matches!(
            request,
            Request::Open { .. } | Request::Lease { .. } | Request::Wire { .. } | Request::Reset { .. }
        );
        let card = request.card().filter(|_| keeps).and_then(|card| self.cards.get(&card));
        let goes = |card: &&Card| matches!(card.presence, Presence::Leaving | Presence::Closing);
        let Some(card) = card.filter(goes) else { return Ok(()) };
        let what = format!("card {} {}", card.description.identity, jitney_vfio::Notice::Leaving);
        Err(Error::new(ErrorKind::LinkDown, what).with_remedy("let go of it"))
    }
}
