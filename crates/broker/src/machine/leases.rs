//! Who gets which lease, and when it ends.

use super::cards::Card;
use super::requests::Answer;
use super::waiting::{Verdict, Wanted};
use super::who_waits::WhoWaits;
use super::{ClientId, Effect, Machine, Work, invalid};
use crate::protocol::{CardId, Reply};
use jitney_vfio::{Error, Granted, LeaseId, LeaseRequest, Mode, Part};

impl Machine {
    /// Whether `client` may have such a lease, if nobody else has it.
    pub(super) fn check_lease(
        &self,
        client: ClientId,
        id: CardId,
        request: &LeaseRequest,
    ) -> Result<(), Error> {
        let description = &self.opened(client, id)?.description;
        self.check_leases(client)?;
        request.will.check(&description.bars, &description.identity)
    }

    /// Grants a lease, if those `before` in the card's line leave it to `client`; nothing if it has to wait.
    pub(super) fn lease(
        &mut self,
        client: ClientId,
        id: CardId,
        (wanted, before, waits): (&Wanted, usize, &mut WhoWaits),
        effects: &mut Vec<Effect>,
    ) -> Answer {
        self.check_lease(client, id, &wanted.lease)?;
        match self.verdict(client, id, wanted, before, waits)? {
            Verdict::Now => {}
            Verdict::Later => return Ok(None),
            Verdict::Never(error) => return Err(error),
        }
        let lease = LeaseId(self.next_lease);
        self.next_lease += 1;
        if let Some(card) = self.cards.get_mut(&id)
            && card.leases.grant(lease, client, wanted.lease.clone()).is_err()
        {
            tracing::error!(lease = lease.0, "a lease clashes with one that it does not clash with");
        }
        if let Some(state) = self.clients.get_mut(&client) {
            state.leases += 1;
        }
        self.limit_lease(client, lease, effects);
        Ok(Some(Reply::Leased(lease)))
    }

    /// Ends a lease at once, or after its will was carried out.
    pub(super) fn release(
        &mut self,
        client: ClientId,
        number: u64,
        (id, lease, will): (CardId, LeaseId, bool),
        effects: &mut Vec<Effect>,
    ) -> Answer {
        let card = self.card(id)?;
        let own = card.leases.iter().find(|granted| granted.id == lease && granted.holder == client);
        let Some(own) = own else { return Err(no_lease(lease)) };
        // Its will would be carried out on whoever has it next.
        if self.is_being_released(client, lease) {
            return Err(invalid(format!("lease {} is being released already", lease.0)));
        }
        // Interrupts would go on to somebody who has no right to them any more.
        let of_this = |vector: &u16| own.request.part.overlaps(&Part::interrupt(*vector));
        if let Some(vector) = card.wired_by(client).into_iter().find(of_this) {
            return Err(invalid(format!("vector {vector} has to be silenced before its lease ends")));
        }
        if will && !own.request.will.0.is_empty() {
            if !self.is_shared_with_others(card, own) {
                let wills = vec![(lease, own.request.will.clone())];
                self.start(Work::CarryOut { card: id, wills }, client, Some(number), effects);
                return Ok(None);
            }
            self.leave_at_work(client, id);
        }
        let ended = self.end_lease(client, id, lease, effects)?;
        // Before whoever has waited for it hears that it has it.
        self.reply(client, number, Ok(Reply::Done), None, effects);
        self.reset_if_hung(id, effects);
        if self.is_waited_for(id, &ended) {
            self.retry_deferred(id, effects);
        }
        Ok(None)
    }

    /// Whether the will of this lease is being carried out before it ends, as `client` has asked for.
    pub(super) fn is_being_released(&self, client: ClientId, lease: LeaseId) -> bool {
        let tasks = self.clients.get(&client).into_iter().flat_map(|state| &state.pending);
        tasks.filter_map(|id| self.tasks.get(id)).any(|task| match &task.work {
            Work::CarryOut { wills, .. } => wills.iter().any(|(id, _)| *id == lease),
            _ => false,
        })
    }

    /// Whether others share what `lease` is a right on: its will would stop what they use, and is theirs to be carried out.
    pub(super) fn is_shared_with_others(&self, card: &Card, lease: &Granted<ClientId>) -> bool {
        lease.request.mode == Mode::Shared
            && card.leases.iter().any(|other| {
                other.request.part == lease.request.part
                    && other.holder != lease.holder
                    && self.is_present(other.holder)
            })
    }

    /// A card may go on with what it was told by `client`, whose will is not carried out.
    pub(super) fn leave_at_work(&mut self, client: ClientId, card: CardId) {
        let now = self.now();
        if let Some(state) = self.clients.get_mut(&client) {
            state.stuck.insert(card, now);
        }
    }

    /// Takes a lease out of the books.
    pub(super) fn end_lease(
        &mut self,
        client: ClientId,
        id: CardId,
        lease: LeaseId,
        effects: &mut Vec<Effect>,
    ) -> Result<LeaseRequest, Error> {
        let card = self.cards.get_mut(&id);
        let ended = card.and_then(|card| {
            card.overrun.remove(&lease);
            card.leases.release(lease, &client)
        });
        let ended = ended.ok_or_else(|| no_lease(lease))?;
        self.forget_lease(client, lease, effects);
        if let Some(state) = self.clients.get_mut(&client) {
            state.leases = state.leases.saturating_sub(1);
        }
        Ok(ended.request)
    }
}

fn no_lease(lease: LeaseId) -> Error {
    invalid(format!("this client has no lease {} on that card", lease.0))
}

/// Whether somebody who has been granted `granted` excludes somebody else who asks for `asked`.
pub(super) fn excludes(granted: &LeaseRequest, asked: &LeaseRequest) -> bool {
    granted.part.overlaps(&asked.part) && (granted.mode == Mode::Exclusive || asked.mode == Mode::Exclusive)
}
