//! What must be true of a piece of work when it is ordered, since it may begin at once.

use super::account::{Memory, State, add_traces};
use super::world::World;
use crate::machine::{ClientId, Space, Task, TaskId, Work};
use crate::protocol::{CardId, Request};
use jitney_vfio::{LeaseId, Mode, Part, Will};
use std::collections::BTreeMap;
use std::ops::Range;

impl World {
    pub(super) fn check_order(&mut self, task: &Task) {
        let Task { work, client, answer } = task;
        if let Some(client) = client {
            self.check_whose(*client, *answer, work);
        }
        self.check_card(work);
        match *work {
            Work::Map { space, iova, size, .. } => {
                let range = iova..iova.checked_add(size).expect("a map ends in the address space");
                self.check_free(&range);
                if let (true, Space::One(space)) = (self.setting.on_demand, space) {
                    assert!(self.is_open(space), "memory where nothing is open");
                }
                self.note_memory(
                    space,
                    range,
                    client.expect("somebody has asked for a map"),
                    State::Mapping,
                    false,
                );
            }
            Work::Place { .. } => assert!(answer.is_some(), "memory that nobody asked for"),
            Work::Unmap { space, iova, size } => {
                self.check_unmap(*client, *answer, space, &(iova..iova + size))
            }
            Work::Share { space, iova, .. } => {
                let client = client.expect("somebody has asked for it");
                let shared =
                    |memory: &&Memory| memory.space == space && memory.range.start == iova && !memory.stray;
                let memory = self.memory.iter().find(shared).expect("memory that is not there is shared");
                assert!(memory.state == State::Live(true) && memory.holders.contains(&client));
                assert!(!memory.readers.contains(&client), "a reader shares what it may not write to");
            }
            Work::Wire { card, vector } => {
                assert!(
                    client.is_some_and(|client| self.has_vector(client, card, vector)),
                    "no lease for {vector}"
                );
            }
            Work::Silence { card, vector } if answer.is_none() => {
                let owner = self.cards[&card].wired.get(&vector);
                // A reset has silenced it already.
                assert!(
                    owner.is_none() || owner == client.as_ref(),
                    "it is {owner:?}'s vector, not {client:?}'s"
                );
            }
            Work::CarryOut { card, ref wills } => self.check_wills(*client, *answer, card, wills),
            Work::Reset { card, unused } => {
                let hung = self.cards.get(&card).is_some_and(|account| account.hung);
                assert!(!(unused && client.is_some()), "a card that is unused is reset for nobody");
                assert!(unused || client.is_some() || hung, "who has asked for this reset?");
                self.event.resets.extend((!unused).then_some((card, *client)));
            }
            Work::Grant { card } => {
                let known =
                    client.and_then(|client| self.clients.get_mut(&client)).expect("who has asked for it?");
                assert_eq!(known.opened.insert(card, false), None, "it is opened twice");
                known.reached.insert(card, None);
            }
            Work::Take { space, ref cards } => {
                assert!(!cards.is_empty() && !self.is_open(space), "it is open already");
                let mut at_work = self.at_work.iter().map(|at_work| at_work.task.work.place());
                assert!(at_work.all(|place| place != work.place()), "it is taken twice");
            }
            Work::Return { space } => {
                assert!(!self.is_open(space), "it is returned with an open card");
                let memory = self.memory.iter().find(|memory| memory.space == Space::One(space));
                assert!(memory.is_none(), "it is returned with {memory:x?}");
                let mut at_work = self.at_work.iter().map(|at_work| at_work.task.work.place());
                assert!(at_work.all(|place| place != work.place()), "it is returned while it is at work");
            }
            Work::Silence { .. } | Work::Close { .. } | Work::Look { .. } => {}
        }
    }

    /// Whether a card of this address space is open.
    fn is_open(&self, space: usize) -> bool {
        let of = |card: &CardId| self.machine.cards.get(card).map(|card| card.description.space);
        self.cards.keys().any(|card| of(card) == Some(space))
    }

    /// The work is for a request that waits, or it is the turn of that kind in the client's departure.
    fn check_whose(&self, client: ClientId, answer: Option<u64>, work: &Work) {
        let known = self.clients.get(&client).expect("work for somebody who is cleared away");
        let mut own = self.at_work.iter().filter(|at_work| at_work.task.client == Some(client));
        if let Some(number) = answer {
            let request = known.asked.get(&number).expect("work for a request that does not wait");
            assert!(asks_for(request, work), "{work:?} for {request:?}");
            assert!(own.all(|at_work| at_work.task.answer != answer), "two pieces of work for one request");
            return;
        }
        match work {
            Work::CarryOut { .. } => {
                let first = own.all(|at_work| {
                    let beside = matches!(at_work.task.work, Work::CarryOut { .. })
                        || self.is_stray(&at_work.task.work);
                    at_work.task.answer.is_some() || beside
                });
                assert!(known.gone.is_some() && first, "a will after other things");
            }
            Work::Silence { .. } => {
                let wills_ended = own.all(|at_work| matches!(at_work.task.work, Work::Silence { .. }));
                assert!(known.gone.is_some() && wills_ended, "silence before the wills have ended");
            }
            // Memory that could not be used, while everything else goes on.
            Work::Unmap { .. } if self.is_stray(work) => {}
            Work::Unmap { .. } => {
                let others_ended = own.all(|at_work| matches!(at_work.task.work, Work::Unmap { .. }));
                assert!(known.gone.is_some() && others_ended, "an unmap before wills and vectors have ended");
            }
            _ => panic!("{work:?} for {client:?} answers nobody"),
        }
    }

    /// A card is put away once, when nobody has it, and nothing is done to it afterwards.
    fn check_card(&mut self, work: &Work) {
        let crate::machine::Place::Card(card) = work.place() else { return };
        let account = self.cards.get_mut(&card).expect("work at a card that is gone");
        assert!(!account.closing, "{work:?} after the card was closed");
        if let Work::Close { .. } = work {
            account.closing = true;
        }
        if matches!(work, Work::Close { .. } | Work::Reset { unused: true, .. }) {
            assert!(
                self.at_work.iter().all(|at_work| at_work.task.work.place() != work.place()),
                "it is at work"
            );
            self.event.put_away.push(card);
        }
    }

    /// Nobody else has this, and no card that works for somebody who is gone writes there.
    fn check_free(&self, range: &Range<u64>) {
        let overlaps = |other: &Range<u64>| other.start < range.end && range.start < other.end;
        assert!(
            !range.is_empty() && range.end <= 1 << 39 && !overlaps(&(0xfee0_0000..0xfef0_0000)),
            "{range:x?}"
        );
        let memory = self.memory.iter().find(|memory| !memory.stray && overlaps(&memory.range));
        assert!(memory.is_none(), "a map at {range:x?}, where there is {memory:x?}");
        let kept = self.kept.iter().find(|(kept, _)| overlaps(kept));
        assert!(kept.is_none(), "a map at {range:x?}, where a card may still write: {kept:x?}");
        assert!(!self.lost.iter().any(overlaps), "a map at {range:x?}, which is lost");
    }

    pub(super) fn note_memory(
        &mut self,
        space: Space,
        range: Range<u64>,
        owner: ClientId,
        state: State,
        placed: bool,
    ) {
        let uid = self.clients.get(&owner).map(|known| known.uid);
        self.memory.push(Memory {
            space,
            range,
            holders: [owner].into(),
            readers: Default::default(),
            uid,
            state,
            placed,
            stray: false,
            waits_for: Default::default(),
        });
    }

    /// Whether what is left of a client cannot be a hold of memory that others have: it is gone, its wills are carried out and its
    /// vectors silent.
    pub(super) fn hold_has_ended(&self, client: ClientId) -> bool {
        let Some(known) = self.clients.get(&client) else { return true };
        let mut own = self.at_work.iter().filter(|at_work| at_work.task.client == Some(client));
        known.gone.as_ref().is_some_and(|gone| gone.wills.is_empty())
            && own.all(|at_work| matches!(at_work.task.work, Work::Unmap { .. }))
    }

    fn is_stray(&self, work: &Work) -> bool {
        let Work::Unmap { space, iova, .. } = *work else { return false };
        self.memory.iter().any(|memory| memory.stray && memory.space == space && memory.range.start == iova)
    }

    fn check_unmap(
        &mut self,
        client: Option<ClientId>,
        answer: Option<u64>,
        space: Space,
        range: &Range<u64>,
    ) {
        // What could not be used may have come twice to the same place, and each goes once.
        let fits = |memory: &Memory| {
            memory.space == space && memory.range == *range && matches!(memory.state, State::Live(_))
        };
        let index = self.memory.iter().position(fits);
        let index = index.expect("an unmap of what is not mapped so, or not any more");
        // What was kept for a card may go before everything else of who had it is cleared away.
        let others = self.memory[index].holders.iter().filter(|holder| Some(**holder) != client);
        for other in others.copied().collect::<Vec<_>>() {
            assert!(self.hold_has_ended(other), "unmapped for {client:?}, and {other:?} has it");
            self.memory[index].end_hold(other, &self.clients[&other]);
        }
        let known = client.and_then(|client| self.clients.get(&client));
        let memory = &mut self.memory[index];
        assert!(memory.holders.iter().eq(client.iter()), "it is {:?}'s, and {client:?}'s", memory.holders);
        if memory.placed && !memory.stray {
            let mut waits_for = memory.waits_for.clone();
            add_traces(&mut waits_for, known.map_or(&BTreeMap::new(), |known| known.unquiet()));
            assert!(waits_for.is_empty(), "memory that {waits_for:?} may still write to goes back");
        }
        assert!(answer.is_some() || known.is_none_or(|known| memory.stray || known.gone.is_some()));
        memory.state = State::Unmapping;
    }

    /// Wills are those of leases that the client has, as it wrote them.
    fn check_wills(
        &self,
        client: Option<ClientId>,
        answer: Option<u64>,
        card: CardId,
        wills: &[(LeaseId, Will)],
    ) {
        let known = client.and_then(|client| self.clients.get(&client)).expect("whose wills are these?");
        for (id, will) in wills {
            let lease = known.leases.get(id).expect("a will of a lease that has ended");
            assert!(lease.card == card && lease.will == *will && !will.0.is_empty());
        }
        assert!(answer.is_none() || wills.len() == 1, "a release carries out one will");
        let mut same = self.at_work.iter().filter(|at_work| at_work.task.client == client);
        let twice = same.any(|at_work| match &at_work.task.work {
            Work::CarryOut { wills: others, .. } => {
                at_work.task.answer.is_some() == answer.is_some()
                    && others.iter().any(|other| wills.contains(other))
            }
            _ => false,
        });
        assert!(!twice, "a will is carried out twice");
    }

    /// Whether `client` alone has a right on the vector.
    pub(super) fn has_vector(&self, client: ClientId, card: CardId, vector: u16) -> bool {
        let part = Part::interrupt(vector);
        let known = self.clients.get(&client);
        let mut leases = known.into_iter().flat_map(|known| known.leases.values());
        leases.any(|lease| lease.card == card && lease.mode == Mode::Exclusive && lease.part.overlaps(&part))
    }

    /// Nobody waits for it any more.
    pub(super) fn cancelled(&mut self, id: TaskId) {
        let work = self.at_work.iter_mut().find(|work| work.id == id).expect("what is cancelled is at work");
        assert!(matches!(work.task.work, Work::Map { .. } | Work::Place { .. }), "only maps are cancelled");
        let client = work.task.client.and_then(|client| self.clients.get(&client));
        assert!(client.is_some_and(|known| known.gone.is_some()) && !work.cancelled, "who wanted that?");
        work.cancelled = true;
    }
}

fn asks_for(request: &Request, work: &Work) -> bool {
    match (request, work) {
        (Request::Allocate { .. }, Work::Map { .. } | Work::Place { .. })
        | (Request::Cards { after: None }, Work::Look { .. }) => true,
        (Request::Free { iova: asked }, Work::Unmap { iova, .. })
        | (Request::Share { iova: asked, .. }, Work::Share { iova, .. }) => asked == iova,
        (Request::Open { card: asked }, Work::Grant { card })
        | (Request::Reset { card: asked }, Work::Reset { card, unused: false })
        | (Request::Release { card: asked, will: true, .. }, Work::CarryOut { card, .. }) => asked == card,
        (Request::Wire { card: asked, vector: which }, Work::Wire { card, vector })
        | (Request::Silence { card: asked, vector: which }, Work::Silence { card, vector }) => {
            (asked, which) == (card, vector)
        }
        _ => false,
    }
}
