//! What the machine does when a card is wanted back, because it is being unplugged or taken from vfio-pci, and when one has
//! failed.
//!
//! The kernel takes a card away when nobody has it open any more, and says every 10 seconds again that it waits. So from the
//! first time on nobody new gets the card, those who have it are told, and when the last of them has left the broker
//! closes it, too. It stays in the list, so that indexes go on meaning what they did. Other cards go on as before.
//!
//! A card that has reported an error is left to its users, who are told, and may be opened: whether it has recovered shows
//! only when somebody tries.

use super::{ClientId, Effect, Machine, Task, Work};
use crate::protocol::Request;
use jitney_vfio::{Error, ErrorKind, Notice};

/// Whether a card can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Here,
    /// It is wanted back, and somebody still has it.
    Leaving,
    /// Closed, or about to be.
    Gone,
}

impl Machine {
    pub(super) fn noticed(&mut self, card: usize, notice: Notice, effects: &mut Vec<Effect>) {
        let Some(state) = self.cards.get_mut(card) else { return };
        let identity = &state.description.identity;
        let first = match (notice, state.presence) {
            (_, Presence::Gone) => return,
            (Notice::Leaving, Presence::Leaving) => false,
            (Notice::Leaving, Presence::Here) => {
                state.presence = Presence::Leaving;
                true
            }
            (Notice::Failed, _) => {
                tracing::warn!("card {identity} has reported an error that it may not recover from");
                true
            }
        };
        let users: Vec<ClientId> = state.users.keys().copied().collect();
        if notice == Notice::Leaving && !users.is_empty() {
            let card = &self.cards[card].description.identity;
            let names: Vec<String> = users.iter().map(|user| self.name_of(*user)).collect();
            let again = if first { "" } else { " still" };
            tracing::warn!(
                "card {card} is being unplugged or taken from vfio-pci, which{again} waits for {}",
                names.join(", ")
            );
        }
        if first {
            let tell = |client| Effect::Tell { client, card, notice };
            effects.extend(users.into_iter().filter(|user| self.is_present(*user)).map(tell));
        }
        self.let_go(card, effects);
    }

    /// Closes a card that is wanted back, if nobody uses it any more.
    pub(super) fn let_go(&mut self, card: usize, effects: &mut Vec<Effect>) {
        let state = &mut self.cards[card];
        if state.presence == Presence::Leaving && state.users.is_empty() && !state.resetting {
            state.presence = Presence::Gone;
            self.start(Task::Close { card }, Work::Close { card }, effects);
        }
    }

    /// Refuses what would keep a card here that is wanted back. What gives something back goes on.
    pub(super) fn check_presence(&self, request: &Request) -> Result<(), Error> {
        let keeps = matches!(
            request,
            Request::Open { .. } | Request::Lease { .. } | Request::Wire { .. } | Request::Reset { .. }
        );
        let card = request.card().filter(|_| keeps).and_then(|card| self.cards.get(card));
        let Some(card) = card else { return Ok(()) };
        let (what, remedy) = match card.presence {
            Presence::Here => return Ok(()),
            Presence::Leaving => ("is being unplugged or taken from vfio-pci", "let go of it"),
            Presence::Gone => (
                "is gone: it was unplugged or taken from vfio-pci",
                "when it is back, bind it (jitney bind) and start the broker again",
            ),
        };
        let what = format!("card {} {what}", card.description.identity);
        Err(Error::new(ErrorKind::LinkDown, what).with_remedy(remedy))
    }
}
