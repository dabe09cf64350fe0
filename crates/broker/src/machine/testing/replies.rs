//! What clients hear, and what must be true after every event.

use super::account::{Known, Lease, Memory, State};
use super::steps::SAYS_NO;
use super::world::World;
use crate::machine::{ClientId, Reminder, TaskId, Work};
use crate::protocol::{CardId, Notice, Reply, Request};
use jitney_vfio::{Error, ErrorKind, Granted, LeaseId, LeaseRequest, LeaseTable, Mode};
use std::collections::BTreeMap;

impl World {
    /// Exactly one answer, to somebody who is there, and a descriptor only with what needs one.
    pub(super) fn replied(
        &mut self,
        client: ClientId,
        number: u64,
        reply: &Result<Reply, Error>,
        attach: Option<TaskId>,
    ) {
        let needs = matches!(reply, Ok(Reply::Opened { .. } | Reply::Allocated { .. }));
        if let Ok(Reply::Attached { offer, .. }) = reply {
            assert_eq!(attach, Some(TaskId(*offer)), "the descriptor is that which was kept");
            assert!(self.kept_descriptors().contains(&TaskId(*offer)), "a descriptor that is not kept");
        } else {
            assert_eq!(
                attach,
                self.event.finished.filter(|_| needs),
                "the descriptor is that of the work that ended"
            );
        }
        let known = self.clients.get_mut(&client).expect("a reply to somebody who is cleared away");
        if number == 0 && known.gone.is_none() && !known.greeted {
            assert!(reply.is_err(), "who is turned away is told why");
            self.event.turned_away = Some(client);
            return;
        }
        if let Some(last) = self.event.last_word.take_if(|last| *last == (client, number)) {
            assert!(reply.is_err(), "{last:?} was nonsense");
            return;
        }
        if let Some(gone) = &mut known.gone {
            assert_eq!(gone.goodbye.take(), Some(number), "a reply to somebody who is gone");
            assert_eq!(*reply, Ok(Reply::Done), "a goodbye is always heard");
            known.asked.remove(&number);
            return;
        }
        let request = known.asked.remove(&number).expect("a reply that nobody waits for");
        let arrived = self.arrivals.remove(&(client, number)).unwrap_or(u64::MAX);
        match reply {
            Ok(reply) => {
                self.check_turn(client, arrived, &request);
                self.granted(client, &request, reply);
            }
            Err(error) => self.refused((client, number), &request, error),
        }
    }

    fn granted(&mut self, client: ClientId, request: &Request, reply: &Reply) {
        let began = self.event.began;
        let Some(known) = self.clients.get_mut(&client) else { return };
        match (request, reply) {
            (Request::Hello { .. }, Reply::Welcome { broker: 1 })
            | (Request::Cards { .. }, Reply::Cards { .. })
            | (Request::Usage { .. }, Reply::Usage { .. })
            | (Request::Tallies, Reply::Tallies)
            | (Request::Traffic { .. }, Reply::Traffic(_))
            | (Request::Reset { .. }, Reply::Done) => {}
            (Request::Open { card }, Reply::Opened { .. }) => drop(known.opened.insert(*card, true)),
            (Request::Close { card }, Reply::Done) => {
                assert_eq!(known.opened.remove(card), Some(true), "it was not opened");
                assert!(known.leases.values().all(|lease| lease.card != *card), "a lease on a closed card");
                known.reached.insert(*card, Some(began));
            }
            (Request::Allocate { size, align, top, .. }, Reply::Allocated { iova, size: got }) => {
                let new = |memory: &&mut Memory| {
                    memory.range == (*iova..iova + got) && memory.state == State::Live(false) && !memory.stray
                };
                let memory = self.memory.iter_mut().find(new).expect("memory that is not mapped");
                assert!(memory.holders.contains(&client) && got >= size);
                assert!(memory.placed || (iova.is_multiple_of(*align) && iova + got - 1 <= *top));
                memory.state = State::Live(true);
            }
            (Request::Free { iova }, Reply::Done) => {
                // What could not be used may lie there in another space, on its way back.
                let freed = |memory: &&mut Memory| {
                    memory.holders.contains(&client) && !memory.stray && memory.range.start == *iova
                };
                if let Some(memory) = self.memory.iter_mut().find(freed) {
                    memory.end_hold(client, known);
                    let kept = memory.placed && !memory.waits_for.is_empty();
                    assert!(kept || !memory.holders.is_empty(), "freed, and still there");
                }
            }
            (Request::Share { iova, name, writable }, Reply::Shared { token }) => {
                self.is_shared(client, *iova, (name.clone(), *writable, *token));
            }
            (Request::Attach { offered }, Reply::Attached { iova, size, writable, offer }) => {
                self.has_attached(client, offered, (*iova, *size, *writable, *offer));
            }
            (Request::Unshare { iova }, Reply::Done) => {
                let mut offers = self.offers.iter();
                assert!(
                    offers.all(|offer| offer.iova != *iova || offer.maker != client),
                    "it is still offered"
                );
            }
            (Request::Lease { card, part, mode, will, wait: _ }, Reply::Leased(id)) => {
                assert_eq!(known.opened.get(card), Some(&true), "a lease on a card that was not opened");
                let part = part.parse().expect("a part that was leased has a name");
                let lease = Lease { card: *card, part, mode: *mode, will: will.clone() };
                known.leases.insert(*id, lease);
                self.check_lease(client, *card, *id);
            }
            (Request::Release { card, lease, will }, Reply::Done) => {
                let ended = known.leases.remove(lease);
                if let Some(ended) = ended.filter(|ended| *will && !ended.will.0.is_empty()) {
                    assert!(self.others_share(client, &ended), "a will that was not carried out");
                    let now = self.event.began;
                    self.clients.get_mut(&client).expect("it was answered").stuck.insert(*card, now);
                }
                let wired = self.cards[card].wired.iter();
                let own = wired.filter(|(_, holder)| **holder == client).map(|(vector, _)| *vector);
                for vector in own.collect::<Vec<_>>() {
                    assert!(
                        self.has_vector(client, *card, vector),
                        "vector {vector} is wired without a lease"
                    );
                }
            }
            (Request::Wire { card, vector }, Reply::Done) => {
                assert_eq!(self.cards[card].wired.get(vector), Some(&client));
            }
            (Request::Withdraw { number }, Reply::Done) => {
                assert!(
                    !matches!(known.asked.get(number), Some(Request::Lease { .. })),
                    "it still stands in line"
                );
            }
            (Request::Silence { card, vector }, Reply::Done) => {
                assert_ne!(self.cards[card].wired.get(vector), Some(&client));
            }
            _ => panic!("{reply:?} to {request:?}"),
        }
    }

    /// Nobody is turned away because of somebody who is gone, or for what it may have.
    fn refused(&self, (client, number): (ClientId, u64), request: &Request, error: &Error) {
        match request {
            Request::Lease { .. } if error.kind() == ErrorKind::TimedOut => {
                assert_eq!(self.event.given_up, Some((client, number)), "{error}");
            }
            Request::Lease { .. } | Request::Reset { .. } if error.kind() == ErrorKind::Held => {
                let present = self.clients.iter().filter(|(_, known)| known.gone.is_none());
                let mut names = present.map(|(client, _)| format!("pid {} (", client.0 + 100));
                let what = error.to_string();
                assert!(what.starts_with(SAYS_NO) || names.any(|name| what.contains(&name)), "{what}");
            }
            Request::Silence { card, vector } if error.kind() == ErrorKind::Invalid => {
                let wired = self.cards.get(card).and_then(|card| card.wired.get(vector));
                assert_ne!(wired, Some(&client), "{error}");
            }
            Request::Attach { offered } => self.check_not_attached(client, offered, error),
            Request::Hello { .. } | Request::Usage { .. } => {
                assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}");
            }
            _ => {}
        }
    }

    /// Nobody gets a lease before somebody who has waited for longer, but for who is waited for.
    fn check_turn(&self, client: ClientId, arrived: u64, request: &Request) {
        let Request::Lease { card, part, mode, .. } = request else { return };
        let Some(known) = self.clients.get(&client) else { return };
        let involved = !known.leases.is_empty() || !known.asked.is_empty();
        for (other, theirs) in self.clients.iter().filter(|(other, _)| **other != client && !involved) {
            for (number, waiting) in &theirs.asked {
                let before = self.arrivals.get(&(*other, *number)).is_some_and(|before| *before < arrived);
                let Request::Lease { card: on, part: wanted, mode: how, wait: 1.., .. } = waiting else {
                    continue;
                };
                let parts =
                    part.parse::<jitney_vfio::Part>().ok().zip(wanted.parse::<jitney_vfio::Part>().ok());
                let meets = on == card && parts.is_some_and(|(one, another)| one.overlaps(&another));
                let shared = (*mode, *how) == (Mode::Shared, Mode::Shared);
                assert!(shared || !(before && meets), "{part} for {client:?} before {wanted} for {other:?}");
            }
        }
    }

    /// Nobody waits for what is free.
    fn check_lines_move(&self) {
        for card in self.machine.cards.values().filter(|card| !card.resetting) {
            for (index, waiting) in card.deferred.iter().enumerate() {
                let Some(wanted) = &waiting.wanted else { continue };
                assert!(self.is_present(waiting.client), "somebody who is gone stands in line");
                let clashes = |other: &LeaseRequest| {
                    let shared = (other.mode, wanted.lease.mode) == (Mode::Shared, Mode::Shared);
                    other.part.overlaps(&wanted.lease.part) && !shared
                };
                let mut before = card.deferred[..index].iter().filter(|other| other.client != waiting.client);
                let held = card.leases.iter().any(|granted| clashes(&granted.request));
                let after =
                    before.any(|other| other.wanted.as_ref().is_some_and(|other| clashes(&other.lease)));
                assert!(held || after, "{:?} waits for {}, which is free", waiting.client, wanted.lease.part);
            }
        }
    }

    /// No two leases exclude each other, and no will of another that had the part before is still being carried out.
    fn check_lease(&self, client: ClientId, card: CardId, id: LeaseId) {
        let mut table = LeaseTable::default();
        for (holder, known) in &self.clients {
            for (id, lease) in known.leases.iter().filter(|(_, lease)| lease.card == card) {
                let request = LeaseRequest {
                    mode: lease.mode,
                    will: lease.will.clone(),
                    ..LeaseRequest::exclusive(lease.part.clone())
                };
                let clash = table.grant(*id, *holder, request).err().map(|Granted { id, .. }| *id);
                assert_eq!(clash, None, "lease {id:?} clashes");
            }
        }
        let lease = &self.clients[&client].leases[&id];
        for at_work in self.at_work.iter().filter(|at_work| at_work.task.client != Some(client)) {
            let Work::CarryOut { wills, .. } = &at_work.task.work else { continue };
            let known = at_work.task.client.and_then(|client| self.clients.get(&client));
            let leases = wills.iter().filter_map(|(id, _)| known?.leases.get(id));
            let meets = |other: &Lease| {
                let shared = other.mode == Mode::Shared && lease.mode == Mode::Shared;
                other.card == card && other.part.overlaps(&lease.part) && !shared
            };
            assert!(!leases.into_iter().any(meets), "a will of another stops what this client starts");
        }
    }

    /// Notices go to those whom they concern.
    pub(super) fn told(&mut self, client: ClientId, notice: &Notice) {
        let known = self.clients.get(&client).expect("somebody who is cleared away is told something");
        assert!(known.gone.is_none() && known.greeted, "somebody who is gone is told something");
        match notice {
            Notice::Leaving { card } | Notice::Failed { card } => {
                assert_eq!(known.opened.get(card), Some(&true), "it is nothing to them");
            }
            Notice::InLine { number, place, behind } => {
                let waits = matches!(known.asked.get(number), Some(Request::Lease { wait: 1.., .. }));
                assert!(
                    waits && *place > 0 && !behind.is_empty(),
                    "{notice:?} to somebody who does not wait"
                );
            }
            Notice::Gone { card } => assert!(!self.cards.contains_key(card), "it is still there"),
            Notice::Came { card } => {
                assert!(self.setting.on_demand || self.cards.contains_key(&card.id));
            }
            Notice::OfferEnded { offer } => {
                let ended = self.event.withdrawn.iter_mut().find(|(ended, _)| ended.id.0 == *offer);
                let (_, to_tell) = ended.expect("an offer that has not ended");
                assert!(to_tell.remove(&client), "it is nothing to them, or they were told before");
            }
        }
    }

    /// A client is cleared away: nothing is left of it but what has to wait for a card.
    pub(super) fn disconnected(&mut self, client: ClientId) {
        let known = self.clients.remove(&client).expect("it was connected");
        self.reminders.retain(|(reminded, _)| *reminded != client);
        if self.event.turned_away == Some(client) {
            return;
        }
        let gone = known.gone.as_ref().expect("somebody who is there is hung up on");
        assert_eq!(gone.goodbye, None, "a goodbye was not answered");
        assert!(gone.wills.is_empty(), "wills that were not carried out: {:?}", gone.wills);
        assert!(
            self.at_work.iter().all(|at_work| at_work.task.client != Some(client)),
            "something is not done"
        );
        for (id, card) in &mut self.cards {
            let left = card
                .wired
                .iter()
                .find(|(vector, holder)| **holder == client && !card.unsilenced.contains(vector));
            assert_eq!(left, None, "a vector of card {id:?} is wired to somebody who is gone");
            // From here on it is nobody's, who may come again.
            card.wired.retain(|_, holder| *holder != client);
        }
        for memory in self.memory.iter_mut().filter(|memory| memory.holders.contains(&client)) {
            memory.end_hold(client, &known);
            let kept = memory.placed && !memory.waits_for.is_empty();
            assert!(kept || !memory.holders.is_empty(), "memory is left: {memory:x?}");
        }
    }

    /// What is true after every event.
    pub(super) fn check_all(&mut self) {
        self.check_lines_move();
        for (client, of) in &self.reminders {
            let Reminder::InLine(number) = of else { continue };
            let known = self.clients.get(client).filter(|known| known.gone.is_none());
            let goes_on = known.is_none_or(|known| known.asked.contains_key(number));
            assert!(goes_on, "{client:?} is reminded of {number}, which is over");
        }
        for card in std::mem::take(&mut self.event.put_away) {
            // Who asks at the same moment gets it afterwards: that nothing was at work before is checked when it is ordered.
            let user = self.clients.iter().find(|(_, known)| known.opened.get(&card) == Some(&true));
            assert!(user.is_none(), "{card:?} is put away under {user:?}");
        }
        for (card, client) in std::mem::take(&mut self.event.resets) {
            let others = self.clients.iter().filter(|(id, _)| Some(**id) != client);
            let mut leases = others.flat_map(|(_, known)| known.leases.values());
            assert!(leases.all(|lease| lease.card != card), "a reset under somebody's lease");
        }
        assert!(self.machine.clients().eq(self.clients.keys().copied()), "who is there?");
        for at_work in self.at_work.iter().filter(|at_work| !at_work.cancelled) {
            let client = at_work.task.client.and_then(|client| self.clients.get(&client));
            let of_the_dead = client.is_some_and(|known| known.gone.is_some());
            let maps = matches!(at_work.task.work, Work::Map { .. } | Work::Place { .. });
            assert!(!(of_the_dead && maps), "a map for somebody who is gone goes on");
        }
        for memory in &self.memory {
            let waits = !memory.holders.is_empty() || !memory.waits_for.is_empty();
            assert!(waits || memory.state == State::Unmapping, "memory is kept for nothing: {memory:x?}");
        }
        for (id, card) in &self.cards {
            let wired = card.wired.iter().filter(|(vector, _)| !card.unsilenced.contains(vector));
            for (vector, holder) in wired {
                assert!(self.has_vector(*holder, *id, *vector), "vector {vector} without a lease");
            }
            let used = self.clients.values().any(|known| known.opened.contains_key(id));
            let idle = self.at_work.is_empty() && !used;
            assert!(!(idle && card.bus_master && !card.reset_failed), "{id:?} may start DMA for nobody");
        }
        self.check_books();
        self.check_offers();
        self.check_limits();
    }

    /// Who is there has just what it holds, and it counts.
    fn check_books(&self) {
        assert!(self.machine.buffers.values().all(|buffer| !buffer.holders.is_empty()), "it is nobody's");
        for (client, _) in self.clients.iter().filter(|(_, known)| known.gone.is_none()) {
            let own = self.memory.iter().filter(|memory| !memory.stray && memory.holders.contains(client));
            let own: BTreeMap<u64, u64> =
                own.map(|memory| (memory.range.start, memory.range.end - memory.range.start)).collect();
            let books = &self.machine.clients[client];
            assert!(books.buffers.iter().eq(own.keys()), "{client:?}: {:x?}, not {own:x?}", books.buffers);
            assert_eq!(books.bytes, own.values().sum::<u64>(), "{client:?}");
        }
    }

    fn check_limits(&self) {
        let limits = &self.limits;
        // That a hold of somebody who is gone has ended is not seen until somebody else's has.
        let has = |memory: &Memory, client| {
            memory.holders.contains(&client) && (memory.holders.len() == 1 || !self.hold_has_ended(client))
        };
        let of = |client: ClientId| {
            let making = self.at_work.iter().filter(|at_work| {
                at_work.task.client == Some(client) && matches!(at_work.task.work, Work::Place { .. })
            });
            making.count() + self.memory.iter().filter(|memory| !memory.stray && has(memory, client)).count()
        };
        for (client, known) in &self.clients {
            assert!(known.asked.len() <= limits.requests_of_client, "too many requests");
            assert!(known.leases.len() <= limits.leases_of_client, "too many leases");
            assert!(of(*client) <= limits.buffers_of_client, "too many buffers");
            let own = || self.clients.iter().filter(|(_, other)| other.uid == known.uid);
            let leases: usize = own().map(|(_, known)| known.leases.len()).sum();
            assert!(leases <= limits.leases_of_user, "too many leases of a user");
            let left = self.memory.iter();
            let left = left.filter(|memory| memory.holders.is_empty() && memory.uid == Some(known.uid));
            let buffers = own().map(|(client, _)| of(*client)).sum::<usize>() + left.count();
            assert!(buffers <= limits.buffers_of_user, "too many buffers of a user");
            assert!(own().count() <= limits.connections_of_user, "too many connections");
        }
    }

    /// Everybody is gone and all work has ended: nothing is left but what could not be undone.
    pub(super) fn check_empty(&self) {
        let left: Vec<(&ClientId, &Known)> = self.clients.iter().collect();
        assert!(left.is_empty() && self.at_work.is_empty(), "{left:?}");
        assert!(self.memory.iter().all(|memory| memory.holders.is_empty() && !memory.waits_for.is_empty()));
        let machine = &self.machine;
        assert!(machine.tasks.is_empty() && machine.strays.is_empty());
        assert!(self.cards.is_empty() || !self.setting.on_demand, "cards that nobody uses are open");
        assert!(machine.buffers.is_empty() && machine.offers.is_empty() && self.offers.is_empty());
        assert_eq!(machine.iovas.live().count(), self.memory.len(), "addresses that nobody has");
        assert_eq!(machine.iovas.lost().count(), self.lost.len(), "addresses that are lost for nothing");
        assert_eq!(machine.iovas.quarantined().count(), self.kept.len(), "addresses that wait for nothing");
        assert_eq!(machine.quarantined.len(), self.kept.len() + self.memory.len());
        for card in machine.cards.values() {
            let idle = card.users.is_empty() && card.wired.is_empty() && card.deferred.is_empty();
            assert!(idle && !card.resetting && card.leases.iter().count() == 0, "{card:?}");
        }
    }
}
