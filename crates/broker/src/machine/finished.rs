//! What the machine does when a piece of work is finished.

use super::{ClientId, Effect, Machine, Outcome, Task, TaskId, Work};
use crate::protocol::Reply;
use jitney_vfio::Error;

impl Machine {
    pub(super) fn finished(
        &mut self,
        id: TaskId,
        outcome: Result<Outcome, Error>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(task) = self.tasks.remove(&id) else { return };
        let owner = task.client();
        if let Some(client) = owner.and_then(|client| self.clients.get_mut(&client)) {
            client.pending.remove(&id);
        }
        match task {
            Task::Map { client, number, iova } => self.mapped(client, number, iova, id, outcome, effects),
            Task::Place { client, number, space } => {
                self.placed(client, number, space, id, outcome, effects);
            }
            Task::Discard { client } => {
                self.settle(client, None, outcome, "memory of no use could not be unmapped", effects);
            }
            Task::Unmap { client, number, iova } => self.unmapped(client, number, iova, outcome, effects),
            Task::Grant { client, number, card } => {
                let reply = match outcome {
                    Ok(Outcome::Grant { kind }) => Ok(Reply::Opened { kind }),
                    Ok(_) => Ok(Reply::Opened { kind: 0 }),
                    Err(error) => {
                        self.leave_card(client, card, effects);
                        Err(error)
                    }
                };
                let attach = reply.is_ok().then_some(id);
                self.reply(client, number, reply, attach, effects);
            }
            Task::Wire { client, number, card, vector } => {
                if outcome.is_err() {
                    self.cards[card].wired.remove(&vector);
                } else if !self.is_present(client) {
                    // It left while the wire was being made.
                    let task = Task::Silence { client, number: None, card, vector };
                    self.start(task, Work::Silence { card, vector }, effects);
                }
                self.reply(client, number, outcome.map(|_| Reply::Done), None, effects);
            }
            Task::Silence { client, number, card, vector } => {
                self.cards[card].wired.remove(&vector);
                self.settle(client, number, outcome, "a vector could not be silenced", effects);
            }
            Task::CarryOut { card } => {
                if let Err(error) = outcome {
                    let card = &self.cards[card].description.identity;
                    tracing::warn!(%card, %error, "a will could not be carried out");
                }
            }
            Task::Reset { card, answer } => {
                self.cards[card].resetting = false;
                match answer {
                    Some((client, number)) => {
                        self.reply(client, number, outcome.map(|_| Reply::Done), None, effects);
                    }
                    None => {
                        if let Err(error) = outcome {
                            let card = &self.cards[card].description.identity;
                            tracing::warn!(%card, %error, "the card could not be reset after its last user left");
                        }
                    }
                }
                self.let_go(card, effects);
                self.retry_deferred(card, effects);
            }
            Task::Close { card } => {
                let card = &self.cards[card].description.identity;
                match outcome {
                    Ok(_) => tracing::warn!("card {card} is closed and can go"),
                    Err(error) => tracing::error!(%card, %error, "a card could not be closed"),
                }
            }
        }
        if let Some(client) = owner {
            self.finish_departure(client, effects);
        }
    }

    /// Takes up again the requests that have waited for a card. Those that still have to wait go on waiting.
    pub(super) fn retry_deferred(&mut self, card: usize, effects: &mut Vec<Effect>) {
        for deferred in std::mem::take(&mut self.cards[card].deferred) {
            self.request(deferred.client, deferred.number, deferred.request, false, effects);
        }
    }

    /// Answers the request that asked for this work, or logs a failure if nobody did.
    pub(super) fn settle(
        &mut self,
        client: ClientId,
        number: Option<u64>,
        outcome: Result<Outcome, Error>,
        failure: &str,
        effects: &mut Vec<Effect>,
    ) {
        match (number, outcome) {
            (Some(number), outcome) => {
                self.reply(client, number, outcome.map(|_| Reply::Done), None, effects);
            }
            (None, Err(error)) => tracing::warn!(client = client.0, %error, "{failure}"),
            (None, Ok(_)) => {}
        }
    }

    pub(super) fn reply(
        &self,
        client: ClientId,
        number: u64,
        reply: Result<Reply, Error>,
        attach: Option<TaskId>,
        effects: &mut Vec<Effect>,
    ) {
        if self.is_present(client) {
            effects.push(Effect::Reply { client, number, reply, attach });
        }
    }
}
