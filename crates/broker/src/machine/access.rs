//! Who may do what, as the policy says: asked here, and nowhere else.

use super::cards::Card;
use super::{Client, ClientId, Effect, Limits, Machine, Peer, Reminder, Space};
use crate::policy::{Access, Decision, Policy};
use crate::protocol::{CardId, Request};
use jitney_vfio::{Error, ErrorKind, LeaseId, Part};
use rustix::io::Errno;
use std::time::Duration;

impl Machine {
    /// The same with a policy, of a broker that runs as user `owner`.
    #[must_use]
    pub fn with_policy(mut self, owner: u32, policy: Policy) -> Self {
        (self.owner, self.policy) = (owner, policy);
        self
    }

    fn decide(&self, client: ClientId, card: &Card) -> Option<Decision<'_>> {
        let peer = &self.clients.get(&client)?.peer;
        Some(self.policy.decide(self.owner, peer, &card.description.identity))
    }

    /// Whether a card is there for a client.
    pub(super) fn sees(&self, client: ClientId, card: &Card) -> bool {
        self.decide(client, card).is_some_and(|decision| decision.access > Access::None)
    }

    /// Whether `client` may ask for that at all. What it may not open is not there.
    pub(super) fn check_access(&self, client: ClientId, request: &Request) -> Result<(), Error> {
        let id = match request {
            Request::Allocate { card, .. } => *card,
            request => request.card(),
        };
        let Some(id) = id else { return Ok(()) };
        let Some(card) = self.cards.get(&id).filter(|card| self.sees(client, card)) else {
            return Err(self.no_card(client, id));
        };
        let alone = match request {
            Request::Lease { part, .. } if part == Part::whole().name() => "have it alone",
            Request::Reset { .. } => "reset it",
            _ => return Ok(()),
        };
        match self.decide(client, card) {
            Some(decision) if decision.access < Access::Alone => {
                let identity = &card.description.identity;
                let what =
                    format!("card {identity} is shared with this user, who may not {alone}: {decision}");
                let remedy =
                    "lease the parts that are needed, or ask who runs the broker (jitney broker --check)";
                Err(Error::new(ErrorKind::Denied, what).with_errno(Errno::ACCESS).with_remedy(remedy))
            }
            _ => Ok(()),
        }
    }

    fn no_card(&self, client: ClientId, id: CardId) -> Error {
        let seen = self.cards.iter().filter(|(_, card)| self.sees(client, card));
        let ids: Vec<String> = seen.map(|(CardId(id), _)| id.to_string()).collect();
        let there = match ids.len() {
            0 => "there is none for this user".into(),
            1 => format!("this user's only one is {}", ids[0]),
            _ => format!("this user's are {}", ids.join(", ")),
        };
        let what = format!("there is no card of id {}; {there}", id.0);
        let remedy = "ask for the list of cards again: it may have been unplugged";
        Error::new(ErrorKind::NotFound, what).with_remedy(remedy)
    }

    /// How much a client, or the user that it belongs to, may have.
    pub(super) fn limits_of(&self, peer: &Peer) -> Limits {
        self.policy.limits(self.owner, peer, self.limits)
    }

    /// `error`, with the quota that it comes of, if `peer` has one.
    pub(super) fn by_quota(&self, peer: &Peer, error: Error) -> Error {
        match self.policy.quota_in_words(self.owner, peer) {
            Some(quota) => {
                error.with_remedy(format!("the policy says so, {quota}: give something back first"))
            }
            None => error,
        }
    }

    /// The space that memory for all cards of `client` is mapped in.
    pub(super) fn all_spaces(&self, client: ClientId) -> Result<Space, Error> {
        let seen = |card: &&Card| self.sees(client, card);
        let mut spaces = self.cards.values().filter(seen).map(|card| card.description.space);
        match spaces.next() {
            // One worker then does everything in its order.
            Some(first) if spaces.all(|space| space == first) => Ok(Space::One(first)),
            None if !self.cards.is_empty() => {
                Err(Error::new(ErrorKind::NotFound, "memory for all cards: there is no card for this user")
                    .with_remedy("ask who runs the broker (jitney broker --check)"))
            }
            // Nobody's memory goes where others have cards and they have none.
            _ if !self.cards.values().all(|card| self.sees(client, card)) => Err(Error::new(
                ErrorKind::Unsupported,
                "memory for all cards, where this user may use some of them, which have address spaces of their own",
            )
            .with_remedy("name the card that has to reach it")),
            _ => Ok(Space::All),
        }
    }

    fn lease_time(&self, client: ClientId) -> Option<Duration> {
        self.policy.lease_time(self.owner, &self.clients.get(&client)?.peer)
    }

    /// Sees to it that a lease ends some day, if the policy says so.
    pub(super) fn limit_lease(&self, client: ClientId, lease: LeaseId, effects: &mut Vec<Effect>) {
        if let Some(limit) = self.lease_time(client) {
            let after_ms = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
            effects.push(Effect::Remind { client, of: Reminder::Lease(lease), after_ms });
        }
    }

    /// A lease has ended before that.
    pub(super) fn forget_lease(&self, client: ClientId, lease: LeaseId, effects: &mut Vec<Effect>) {
        if self.lease_time(client).is_some() {
            effects.push(Effect::Unremind { client, of: Reminder::Lease(lease) });
        }
    }

    /// A lease was held for as long as the policy allows: from now on it ends when somebody waits for it.
    pub(super) fn overrun(&mut self, client: ClientId, lease: LeaseId, effects: &mut Vec<Effect>) {
        let own =
            |card: &Card| card.leases.iter().any(|granted| granted.id == lease && granted.holder == client);
        let Some((&id, card)) = self.cards.iter_mut().find(|(_, card)| own(card)) else { return };
        card.overrun.insert(lease);
        self.evict(id, effects);
    }

    /// Drops those who have held for too long what others wait for: only with all that it has can a lease be taken from somebody
    /// who has the card's registers.
    pub(super) fn evict(&mut self, id: CardId, effects: &mut Vec<Effect>) {
        let Some(card) = self.cards.get(&id).filter(|card| !card.overrun.is_empty()) else { return };
        let identity = &card.description.identity;
        let mut evicted = Vec::new();
        for granted in card.leases.iter().filter(|granted| card.overrun.contains(&granted.id)) {
            let waits = card.deferred.iter().find(|waiting| {
                let wanted = waiting.wanted.as_ref().filter(|wanted| wanted.wait);
                waiting.client != granted.holder
                    && wanted.is_some_and(|wanted| super::leases::excludes(&granted.request, &wanted.lease))
            });
            let Some(waiting) = waits.filter(|_| self.is_present(granted.holder)) else { continue };
            let quota = self.clients.get(&granted.holder);
            let quota = quota.and_then(|Client { peer, .. }| self.policy.quota_in_words(self.owner, peer));
            let what = format!(
                "{} of card {identity} was held for longer than the policy allows while others wait ({}), and {} waits",
                granted.request.part,
                quota.unwrap_or_default(),
                self.name_of(waiting.client)
            );
            let error = Error::new(ErrorKind::Denied, what).with_errno(Errno::TIMEDOUT);
            evicted.push((granted.holder, error.with_remedy("give leases back when they are not needed")));
        }
        for (client, error) in evicted {
            tracing::warn!(client = client.0, %error, "a client is dropped");
            self.reply(client, 0, Err(error), None, effects);
            self.depart(client, None, effects);
        }
    }
}
