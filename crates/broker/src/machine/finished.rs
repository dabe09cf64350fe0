//! What the machine does when a piece of work is finished.

use super::{ClientId, Effect, Failure, Machine, Outcome, Task, TaskId, Work};
use crate::protocol::{CardId, Reply};
use crate::seldom::Seldom;
use jitney_vfio::{Error, LeaseId, Will};

impl Machine {
    pub(super) fn finished(
        &mut self,
        id: TaskId,
        outcome: Result<Outcome, Failure>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(Task { work, client, answer }) = self.tasks.remove(&id) else { return };
        if let Some(client) = client.and_then(|client| self.clients.get_mut(&client)) {
            client.pending.remove(&id);
        }
        let done = |outcome: Result<Outcome, Failure>| outcome.map(|_| ()).map_err(|failure| failure.error);
        match (work, client, answer) {
            (Work::Map { iova, .. }, Some(client), Some(number)) => {
                self.mapped(client, number, iova, id, outcome, effects);
            }
            (Work::Place { space, .. }, Some(client), Some(number)) => {
                self.placed(client, number, space, id, outcome, effects);
            }
            (Work::Unmap { iova, .. }, ..) if self.strays.remove(&id) => {
                let failed = format!("memory at {iova:#x} that could not be used could not be unmapped");
                self.settle(client, answer, done(outcome), &failed, effects);
            }
            (Work::Unmap { iova, .. }, ..) => self.unmapped((client, answer), iova, outcome, effects),
            (Work::Share { iova, .. }, Some(client), Some(number)) => {
                self.shared((client, number), iova, id, outcome, effects);
            }
            (Work::Grant { card }, Some(client), Some(number)) => {
                self.granted(client, number, card, id, outcome, effects);
            }
            (Work::Wire { card, vector }, ..) => {
                self.wired((card, vector), true, outcome.is_ok(), true);
                self.settle(client, answer, done(outcome), "a vector could not be wired", effects);
            }
            (Work::Silence { card, vector }, ..) => {
                self.wired((card, vector), false, outcome.is_ok(), answer.is_some());
                self.settle(client, answer, done(outcome), "a vector could not be silenced", effects);
            }
            (Work::CarryOut { card, wills }, Some(client), _) => {
                self.carried_out(client, answer, (card, &wills), done(outcome), effects);
            }
            (Work::Reset { card, unused }, ..) => {
                let succeeded = outcome.is_ok();
                let failed = "a card could not be reset";
                self.settle(client, answer, done(outcome), failed, effects);
                self.was_reset((card, unused), id, succeeded, effects);
            }
            (Work::Close { card }, ..) => self.closed(card, id, done(outcome), effects),
            (Work::Look { .. }, Some(client), Some(number)) => {
                match outcome {
                    Ok(Outcome::Seen(seen)) => self.sees_cards(&seen, effects),
                    Ok(_) => tracing::error!("it was looked for cards, and nobody said what was seen"),
                    Err(failure) => {
                        tracing::warn!(error = %failure.error, "it cannot be seen which cards there are");
                    }
                }
                let list = self.list_cards(client, None);
                self.reply(client, number, Ok(list), None, effects);
            }
            (Work::Take { space, cards }, ..) => self.taken(space, &cards, outcome, effects),
            (Work::Return { space }, ..) => self.returned(space, done(outcome), effects),
            (
                Work::Map { .. }
                | Work::Place { .. }
                | Work::Share { .. }
                | Work::Grant { .. }
                | Work::Look { .. }
                | Work::CarryOut { .. },
                ..,
            ) => {
                tracing::error!(task = id.0, "work that answers nobody");
            }
        }
        if let Some(client) = client {
            self.go_on_departing(client, effects);
        }
    }

    fn carried_out(
        &mut self,
        client: ClientId,
        answer: Option<u64>,
        (card, wills): (CardId, &[(LeaseId, Will)]),
        outcome: Result<(), Error>,
        effects: &mut Vec<Effect>,
    ) {
        if outcome.is_err()
            && let Some(card) = self.cards.get_mut(&card)
        {
            card.hung = true;
        }
        let now = self.now();
        let seen_quiet = outcome.is_ok() && wills.iter().all(|(_, will)| will.waits());
        if let Some(state) = self.clients.get_mut(&client) {
            match (answer, &mut state.departure) {
                // What it drove without a will is not seen; that it left that behind is between it and its card.
                (None, Some(departure)) if seen_quiet && !state.stuck.contains_key(&card) => {
                    departure.unquiet.remove(&card);
                }
                (Some(_), _) if outcome.is_err() => {
                    state.stuck.insert(card, now);
                }
                _ => {}
            }
        }
        // The leases of who is gone end together: until then its wills go on.
        if answer.is_some() && self.is_present(client) {
            for (lease, _) in wills {
                if let Err(error) = self.end_lease(client, card, *lease, effects) {
                    tracing::error!(%error, "a lease ended while its will was carried out");
                }
            }
        }
        self.settle(client.into(), answer, outcome, "a will could not be carried out", effects);
        if answer.is_some() {
            self.reset_if_hung(card, effects);
            self.retry_deferred(card, effects);
        }
    }

    /// Answers the request that asked for this work, or logs a failure if nobody did.
    fn settle(
        &mut self,
        client: Option<ClientId>,
        answer: Option<u64>,
        outcome: Result<(), Error>,
        failure: &str,
        effects: &mut Vec<Effect>,
    ) {
        match (client.zip(answer), outcome) {
            (Some((client, number)), outcome) => {
                self.reply(client, number, outcome.map(|()| Reply::Done), None, effects);
            }
            (None, Err(error)) => {
                static SELDOM: Seldom = Seldom::new();
                if let Some(before) = SELDOM.allows() {
                    tracing::warn!(%error, before, "{failure}");
                }
            }
            (None, Ok(())) => {}
        }
    }
}
