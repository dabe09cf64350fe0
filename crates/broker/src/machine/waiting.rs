//! Who stands in line for a lease, who may pass, and who is told.
//!
//! A line is first come, first served: nobody gets a right while somebody who came before waits for one that it excludes. But who
//! waits for a client, even if only because of others between them, never keeps that client from anything: it has to wait
//! until that client is done in any case. And nobody may wait for whom they themselves keep waiting: such a request is refused, as
//! the kernel refuses a lock that would never come.

use super::cards::Deferred;
use super::leases::excludes;
use super::who_waits::WhoWaits;
use super::{ClientId, Effect, Machine};
use crate::protocol::{CardId, Notice, Request};
use jitney_vfio::{Error, ErrorKind, Granted, LeaseRequest};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// From this place on one who waits is told of each step; before, when the way has become half as long.
const NEAR: u32 = 8;

/// Whether a lease can be granted.
#[derive(Debug)]
pub(super) enum Verdict {
    Now,
    /// Not before something ends.
    Later,
    Never(Error),
}

/// What stands between a client and a lease.
#[derive(Debug, Clone, Copy)]
enum Obstacle<'a> {
    Lease(&'a Granted<ClientId>),
    Waiting(ClientId, &'a LeaseRequest),
}

/// A lease that somebody waits for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Wanted {
    pub(super) lease: LeaseRequest,
    /// It came to wait although somebody who is there has it, or would.
    pub(super) wait: bool,
    /// The place that its client knows.
    told: Option<u32>,
}

impl Wanted {
    pub(super) const fn new(lease: LeaseRequest, wait: bool) -> Self {
        Self { lease, wait, told: None }
    }
}

impl Machine {
    /// Whether `client` can have `asked` of a card, if those `before` in its line come first. `waits` was made after the last change.
    pub(super) fn verdict(
        &self,
        client: ClientId,
        id: CardId,
        asked: &Wanted,
        before: usize,
        waits: &mut WhoWaits,
    ) -> Result<Verdict, Error> {
        let card = self.card(id)?;
        if card.resetting {
            return Ok(Verdict::Later);
        }
        let lease = &asked.lease;
        let clashes = || card.leases.iter().filter(|granted| excludes(&granted.request, lease));
        let there = || clashes().filter(|granted| self.is_present(granted.holder));
        if let Some(granted) = there().next() {
            let refusal = |why| Ok(Verdict::Never(self.refusal(id, lease, Obstacle::Lease(granted), why)));
            if !asked.wait {
                return refusal(Why::Held);
            }
            if there().any(|granted| granted.holder == client) {
                return refusal(Why::Own);
            }
            let waiting = waits.behind(client, self);
            if there().any(|granted| waiting.contains(&granted.holder)) {
                return refusal(Why::Deadlock);
            }
            return Ok(Verdict::Later);
        }
        // Of somebody who is gone nobody has to be told: it only has to be cleared away.
        if clashes().next().is_some() {
            return Ok(Verdict::Later);
        }
        let before = card.deferred.iter().take(before);
        let Some((first, wanted)) = self.first_before(client, before, lease, waits) else {
            return Ok(Verdict::Now);
        };
        Ok(match asked.wait {
            true => Verdict::Later,
            false => Verdict::Never(self.refusal(id, lease, Obstacle::Waiting(first, wanted), Why::Held)),
        })
    }

    /// The first of those before `client` in a line who wants what excludes `lease` and does not wait for `client`.
    fn first_before<'a>(
        &self,
        client: ClientId,
        before: impl Iterator<Item = &'a Deferred>,
        lease: &LeaseRequest,
        waits: &mut WhoWaits,
    ) -> Option<(ClientId, &'a LeaseRequest)> {
        before
            .filter(|other| other.client != client)
            .filter_map(|other| Some((other.client, &other.wanted.as_ref()?.lease)))
            .filter(|(_, wanted)| excludes(wanted, lease))
            .find(|(other, _)| !waits.behind(client, self).contains(other))
    }

    fn refusal(&self, id: CardId, lease: &LeaseRequest, obstacle: Obstacle<'_>, why: Why) -> Error {
        let part = &lease.part;
        let card = self.cards.get(&id).map_or_else(String::new, |card| card.description.identity.to_string());
        let error = Error::new(ErrorKind::Held, format!("{part} of card {card}: {}", self.words(obstacle)));
        match why {
            Why::Held => error
                .with_errno(Errno::BUSY)
                .with_remedy("wait until it ends (--wait), or use another channel or card"),
            Why::Own => error
                .with_errno(Errno::DEADLK)
                .with_remedy("that is this program itself: it would wait for itself, so end that lease first"),
            Why::Deadlock => error.with_errno(Errno::DEADLK).with_remedy(
                "who holds it waits for this program in turn, so that neither would go on: end what this program holds first, \
                 or take what is needed in the same order everywhere",
            ),
        }
    }

    /// "h2c0 is held by pid 4211 (jitney test ddr)".
    fn words(&self, obstacle: Obstacle<'_>) -> String {
        match obstacle {
            Obstacle::Lease(granted) => {
                format!("{} is held by {}", granted.request.part, self.name_of(granted.holder))
            }
            Obstacle::Waiting(client, wanted) => {
                format!("{} waits for {} already", self.name_of(client), wanted.part)
            }
        }
    }

    /// What stands in the way of the `index`th in the line of a card.
    fn obstacle(&self, id: CardId, index: usize, waits: &mut WhoWaits) -> Option<String> {
        let card = self.cards.get(&id)?;
        let waiting = card.deferred.get(index)?;
        let lease = &waiting.wanted.as_ref()?.lease;
        let clashes = || card.leases.iter().filter(|granted| excludes(&granted.request, lease));
        let holder = clashes().find(|granted| self.is_present(granted.holder)).or_else(|| clashes().next());
        let obstacle = holder.map(Obstacle::Lease).or_else(|| {
            let before = self.first_before(waiting.client, card.deferred[..index].iter(), lease, waits);
            before.map(|(client, wanted)| Obstacle::Waiting(client, wanted))
        });
        Some(obstacle.map_or_else(|| "the card is being reset".into(), |obstacle| self.words(obstacle)))
    }

    /// Whether the end of a lease changes anything for who waits for a card: otherwise a long line need not be gone through.
    pub(super) fn is_waited_for(&self, id: CardId, ended: &LeaseRequest) -> bool {
        self.cards.get(&id).is_some_and(|card| {
            let mut all = card.deferred.iter().map(|waiting| &waiting.wanted);
            all.any(|wanted| wanted.as_ref().is_none_or(|wanted| excludes(ended, &wanted.lease)))
        })
    }

    /// The place of the `index`th in the line of a card among those who stand in each other's way: 1 is next.
    pub(super) fn place(line: &[Deferred], index: usize) -> u32 {
        let Some(Deferred { client, wanted: Some(own), .. }) = line.get(index) else { return 0 };
        let before = line[..index].iter().filter(|other| {
            let wanted = other.wanted.as_ref();
            other.client != *client && wanted.is_some_and(|wanted| excludes(&wanted.lease, &own.lease))
        });
        u32::try_from(before.count()).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// Tells those who wait for a card's parts how far they have come.
    pub(super) fn tell_places(&mut self, id: CardId, effects: &mut Vec<Effect>) {
        let Some(card) = self.cards.get(&id) else { return };
        let (mut news, mut waits) = (Vec::new(), WhoWaits::default());
        for (index, waiting) in card.deferred.iter().enumerate() {
            let Some(Wanted { wait: true, told, .. }) = &waiting.wanted else { continue };
            let place = Self::place(&card.deferred, index);
            // As many messages as steps would be more than somebody far behind can read.
            let nearer = told.is_none_or(|told| place < told && (place <= NEAR || place <= told / 2));
            if nearer && self.is_present(waiting.client) {
                news.push((index, place, self.obstacle(id, index, &mut waits).unwrap_or_default()));
            }
        }
        let Some(card) = self.cards.get_mut(&id) else { return };
        for (index, place, behind) in news {
            let waiting = &mut card.deferred[index];
            if let Some(wanted) = &mut waiting.wanted {
                wanted.told = Some(place);
            }
            let notice = Notice::InLine { number: waiting.number, place, behind };
            effects.push(Effect::Tell { client: waiting.client, notice });
        }
    }

    /// Takes a request of `client` out of the line that it stands in, and answers it.
    pub(super) fn give_up(&mut self, client: ClientId, number: u64, effects: &mut Vec<Effect>) {
        let standing = self.cards.iter().find_map(|(id, card)| {
            let own = |other: &Deferred| {
                other.client == client
                    && other.number == number
                    && matches!(other.request, Request::Lease { .. })
            };
            card.deferred.iter().position(own).map(|index| (*id, index))
        });
        let Some((id, index)) = standing else { return };
        let behind = self.obstacle(id, index, &mut WhoWaits::default()).unwrap_or_default();
        let Some(given_up) = self.undefer(id, index, effects) else { return };
        let identity =
            self.cards.get(&id).map_or_else(String::new, |card| card.description.identity.to_string());
        let part = given_up.wanted.map(|wanted| wanted.lease.part.to_string()).unwrap_or_default();
        let error = Error::new(ErrorKind::TimedOut, format!("{part} of card {identity}: {behind}"))
            .with_errno(Errno::TIMEDOUT)
            .with_remedy("wait longer, or use another channel or card");
        self.reply(client, number, Err(error), None, effects);
        self.retry_deferred(id, effects);
    }
}

/// Why somebody does not get a lease, nor a place in line.
#[derive(Debug, Clone, Copy)]
enum Why {
    Held,
    Own,
    Deadlock,
}
