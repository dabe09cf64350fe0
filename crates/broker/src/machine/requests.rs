//! What the machine does with a request.

use super::buffers::Wish;
use super::cards::Deferred;
use super::waiting::Wanted;
use super::who_waits::WhoWaits;
use super::{ClientId, Effect, Machine, Reminder, Space, TaskId, invalid};
use crate::protocol::{CardId, Reply, Request};
use crate::seldom::Seldom;
use jitney_vfio::{Error, ErrorKind, LeaseRequest};

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
                Err(error) => {
                    self.note_refusal(client, &error);
                    Err(error)
                }
            },
            Err(error) => Err(error),
        };
        self.reply(client, number, reply, None, effects);
    }

    /// Logs that a client has asked for what it may not have, or for what is not its own. A client can do so as often as it likes.
    fn note_refusal(&self, client: ClientId, error: &Error) {
        static SELDOM: Seldom = Seldom::new();
        if matches!(error.kind(), ErrorKind::Denied | ErrorKind::Invalid)
            && let Some(before) = SELDOM.allows()
        {
            tracing::warn!(before, %error, "{} was refused what it asked for", self.name_of(client));
        }
    }

    fn answer(
        &mut self,
        client: ClientId,
        number: u64,
        request: Request,
        descriptor: bool,
        effects: &mut Vec<Effect>,
    ) -> Answer {
        self.check_access(client, &request)?;
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
            Request::Cards { after: None } if self.look(client, number, effects) => Ok(None),
            Request::Cards { after } => Ok(Some(self.list_cards(client, after))),
            Request::Open { card } => {
                self.check_together(card)?;
                if self.is_only_left(card) || self.is_away(card) {
                    self.defer(client, number, Request::Open { card }, None);
                    self.take(card, effects);
                    return Ok(None);
                }
                self.open(client, number, card, effects)
            }
            Request::Close { card } => self.close(client, card, effects),
            Request::Allocate { card, size, align, top, page_shift } => {
                let space = match card {
                    None if self.is_on_demand() => self.all_open_spaces(client)?,
                    None => self.all_spaces(client)?,
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
            Request::Lease { card, part, mode, will, wait } => {
                let asked = LeaseRequest { part: part.parse()?, mode, will: will.clone(), wait: None };
                let wanted = Wanted::new(asked, wait > 0);
                let before = self.cards.get(&card).map_or(0, |card| card.deferred.len());
                let granted =
                    self.lease(client, card, (&wanted, before, &mut WhoWaits::default()), effects)?;
                if granted.is_none() {
                    self.check_waiting(client, wait > 0)?;
                    let request = Request::Lease { card, part, mode, will, wait };
                    self.defer(client, number, request, Some(wanted));
                    if (1..u32::MAX).contains(&wait) {
                        let of = Reminder::InLine(number);
                        effects.push(Effect::Remind { client, of, after_ms: wait });
                    }
                    self.tell_places(card, effects);
                    self.evict(card, effects);
                }
                Ok(granted)
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
                if self.reset_has_to_wait(client, card) {
                    self.defer(client, number, Request::Reset { card }, None);
                    return Ok(None);
                }
                self.reset(client, number, card, effects)
            }
            Request::Usage { after } => Ok(Some(self.list_usage(client, after))),
            Request::Tallies => self.give_page(client, number, effects),
            Request::Traffic { client: of } => self.traffic(client, number, ClientId(of), effects),
            Request::Withdraw { number } => {
                self.give_up(client, number, effects);
                Ok(Some(Reply::Done))
            }
            Request::Goodbye => Err(invalid("a goodbye that was not heard")),
        }
    }

    /// Whether a reset that `client` asks for cannot be decided yet: one goes on, or whoever stands in the way is gone and
    /// only has to be cleared away, so that "taken by a process that is dead" is never the answer.
    fn reset_has_to_wait(&self, client: ClientId, card: CardId) -> bool {
        let Some(card) = self.cards.get(&card) else { return false };
        let holders = card.leases.iter().map(|lease| lease.holder).filter(|holder| *holder != client);
        let mut holders = holders.peekable();
        card.resetting || (holders.peek().is_some() && !holders.any(|holder| self.is_present(holder)))
    }

    /// Whether a card is open only for clients who are gone: it will be reset, and newcomers get it after that.
    fn is_only_left(&self, card: CardId) -> bool {
        let users = self.cards.get(&card).map(|card| &card.users);
        users.is_some_and(|users| !users.is_empty() && !users.keys().any(|user| self.is_present(*user)))
    }

    fn defer(&mut self, client: ClientId, number: u64, request: Request, wanted: Option<Wanted>) {
        let card = request.card().and_then(|card| self.cards.get_mut(&card));
        if let Some(card) = card {
            card.deferred.push(Deferred { client, number, request, wanted });
        }
    }

    /// Takes up again the requests that have waited for a card, in their order. Those that still have to wait keep their place.
    pub(super) fn retry_deferred(&mut self, id: CardId, effects: &mut Vec<Effect>) {
        let mut resets = Vec::new();
        let mut index = 0;
        let mut waits = WhoWaits::default();
        while let Some(Deferred { client, number, request, wanted }) =
            self.cards.get(&id).and_then(|card| card.deferred.get(index)).cloned()
        {
            let answer = match (&request, &wanted) {
                (Request::Lease { .. }, Some(wanted)) => {
                    let present = self.check_presence(&request);
                    match present.and_then(|()| self.lease(client, id, (wanted, index, &mut waits), effects))
                    {
                        Ok(None) => None,
                        Ok(Some(reply)) => Some(Ok(reply)),
                        Err(error) => Some(Err(error)),
                    }
                }
                (Request::Open { card }, _) if self.is_only_left(*card) || self.is_away(*card) => None,
                // What wants a part comes first: whoever goes on resetting the card would keep it from them for ever.
                (Request::Reset { .. }, _) => {
                    resets.extend(self.undefer(id, index, effects));
                    continue;
                }
                _ => {
                    self.undefer(id, index, effects);
                    self.request(client, number, request, false, effects);
                    waits = WhoWaits::default();
                    continue;
                }
            };
            match answer {
                None => index += 1,
                Some(reply) => {
                    self.undefer(id, index, effects);
                    self.reply(client, number, reply, None, effects);
                    waits = WhoWaits::default();
                }
            }
        }
        for Deferred { client, number, request, .. } in resets {
            self.request(client, number, request, false, effects);
        }
        self.tell_places(id, effects);
    }

    /// Takes a request out of those that wait for a card.
    pub(super) fn undefer(
        &mut self,
        card: CardId,
        index: usize,
        effects: &mut Vec<Effect>,
    ) -> Option<Deferred> {
        let card = self.cards.get_mut(&card).filter(|card| index < card.deferred.len())?;
        let deferred = card.deferred.remove(index);
        effects.extend(deferred.forgotten());
        Some(deferred)
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
