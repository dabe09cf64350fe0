//! What the machine does with a request.

use super::buffers::Wish;
use super::cards::Deferred;
use super::leases::excludes;
use super::{ClientId, Effect, Machine, Space, TaskId, invalid};
use crate::protocol::{CardId, Reply, Request};
use jitney_vfio::{Error, ErrorKind, Granted, LeaseRequest};

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
        let introduced = self.clients.get(&client).is_some_and(|client| client.program.is_some());
        let nonsense = match &request {
            Request::Hello { .. } if !descriptor => None,
            _ if !introduced => Some("the first request has to be a hello"),
            _ if request.takes_descriptor() => None,
            _ if descriptor => Some("a descriptor came with a request that needs none"),
            _ => None,
        };
        if let Some(what) = nonsense {
            let error = Error::new(ErrorKind::Protocol, what);
            self.reply(client, number, Err(error), None, effects);
            return self.depart(client, None, effects);
        }
        if request == Request::Goodbye {
            return self.depart(client, Some(number), effects);
        }
        let reply = match self.check_requests(client) {
            Ok(()) => match self.answer(client, number, request, descriptor, effects) {
                Ok(Some(reply)) => Ok(reply),
                Ok(None) => return,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        self.reply(client, number, reply, None, effects);
    }

    fn answer(
        &mut self,
        client: ClientId,
        number: u64,
        request: Request,
        descriptor: bool,
        effects: &mut Vec<Effect>,
    ) -> Answer {
        self.check_presence(&request)?;
        match request {
            Request::Hello { program } => {
                let broker = self.broker_pid;
                if let Some(client) = self.clients.get_mut(&client) {
                    client.program =
                        Some(jitney_host::presentable(&program).chars().take(MAX_PROGRAM).collect());
                }
                Ok(Some(Reply::Welcome { broker }))
            }
            Request::Cards { after } => Ok(Some(self.list_cards(after))),
            Request::Open { card } => {
                if self.is_only_left(card) {
                    self.defer(client, number, Request::Open { card });
                    return Ok(None);
                }
                self.open(client, number, card, effects)
            }
            Request::Close { card } => self.close(client, card, effects),
            Request::Allocate { card, size, align, top, page_shift } => {
                let space = match card {
                    None => self.all_spaces(),
                    Some(card) => Space::One(self.opened(client, card)?.description.space),
                };
                let wish = Wish { size, align, top, page_shift, tries: 0 };
                self.allocate(client, number, space, wish, effects)
            }
            Request::Free { iova } => self.free(client, number, iova, effects),
            Request::Share { iova, name, writable } => {
                if !descriptor {
                    return Err(invalid("who shares memory sends its descriptor along, and none came"));
                }
                self.share(client, number, (iova, name, writable), effects)
            }
            Request::Attach { offered } => self.attach(client, number, offered, effects),
            Request::Unshare { iova } => self.unshare(client, iova, effects),
            Request::Lease { card, part, mode, will } => {
                let asked = LeaseRequest { part: part.parse()?, mode, will };
                // Before it may have to wait: what waits takes memory.
                self.check_lease(client, card, &asked)?;
                let in_the_way = |lease: &Granted<ClientId>| excludes(&lease.request, &asked);
                if self.has_to_wait(card, in_the_way) {
                    let LeaseRequest { part: _, mode, will } = asked;
                    self.defer(client, number, Request::Lease { card, part, mode, will });
                    return Ok(None);
                }
                self.lease(client, card, asked)
            }
            Request::Release { card, lease, will } => {
                self.release(client, number, (card, lease, will), effects)
            }
            Request::Wire { card, vector } => {
                if !descriptor {
                    return Err(invalid("a vector is wired to an eventfd, and none came with the request"));
                }
                self.wire(client, number, (card, vector), effects)
            }
            Request::Silence { card, vector } => self.silence(client, number, (card, vector), effects),
            Request::Reset { card } => {
                self.opened(client, card)?;
                if self.has_to_wait(card, |lease| lease.holder != client) {
                    self.defer(client, number, Request::Reset { card });
                    return Ok(None);
                }
                self.reset(client, number, card, effects)
            }
            Request::Usage { after } => Ok(Some(self.list_usage(after))),
            Request::Goodbye => Err(invalid("a goodbye that was not heard")),
        }
    }

    /// Whether a request for a card cannot be decided yet: the card is being reset, or whoever stands in the way is gone
    /// and only has to be cleared away, so that "taken by a process that is dead" is never the answer.
    fn has_to_wait(&self, card: CardId, in_the_way: impl Fn(&Granted<ClientId>) -> bool) -> bool {
        let Some(card) = self.cards.get(&card) else { return false };
        if card.resetting {
            return true;
        }
        let mut holders =
            card.leases.iter().filter(|lease| in_the_way(lease)).map(|lease| lease.holder).peekable();
        holders.peek().is_some() && !holders.any(|holder| self.is_present(holder))
    }

    /// Whether a card is open only for clients who are gone: it will be reset, and newcomers get it after that.
    fn is_only_left(&self, card: CardId) -> bool {
        let users = self.cards.get(&card).map(|card| &card.users);
        users.is_some_and(|users| !users.is_empty() && !users.keys().any(|user| self.is_present(*user)))
    }

    fn defer(&mut self, client: ClientId, number: u64, request: Request) {
        let card = request.card().and_then(|card| self.cards.get_mut(&card));
        if let Some(card) = card {
            card.deferred.push(Deferred { client, number, request });
        }
    }

    /// Takes up again the requests that have waited for a card. Those that still have to wait go on waiting.
    pub(super) fn retry_deferred(&mut self, card: CardId, effects: &mut Vec<Effect>) {
        let Some(card) = self.cards.get_mut(&card) else { return };
        let deferred = std::mem::take(&mut card.deferred);
        // Those who want a part of it first: whoever goes on resetting the card would keep it from them for ever.
        let (resets, others): (Vec<_>, Vec<_>) =
            deferred.into_iter().partition(|deferred| matches!(deferred.request, Request::Reset { .. }));
        for deferred in others.into_iter().chain(resets) {
            self.request(deferred.client, deferred.number, deferred.request, false, effects);
        }
    }

    /// Answers a request of somebody who is still there.
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
