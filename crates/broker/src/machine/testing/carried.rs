//! What is true when a piece of work has ended: the account is told before the machine is.

use super::account::{CardAccount, Memory, Moment, State, add_traces};
use super::world::World;
use crate::machine::{ClientId, Failure, Outcome, Space, Task, Work};
use crate::protocol::CardId;
use jitney_vfio::{DmaPlace, LeaseId, Will};
use std::collections::BTreeMap;
use std::ops::Range;

impl World {
    pub(super) fn carried_out(&mut self, task: &Task, ordered: Moment, outcome: &Result<Outcome, Failure>) {
        let Task { work, client, answer } = task;
        let lost = outcome.as_ref().is_err_and(|failure| failure.lost);
        match *work {
            Work::Map { iova, .. } => self.was_mapped(iova, outcome.is_ok(), lost),
            Work::Place { space, .. } => {
                if let (Some(place), Some(client)) = (Self::placed(outcome), *client) {
                    self.was_placed(space, place, client);
                }
            }
            Work::Unmap { space, iova, size } => {
                self.was_unmapped(space, &(iova..iova + size), outcome.is_ok())
            }
            Work::Grant { card } => {
                // Also if it fails: by then bus mastering may be on.
                self.card(card).bus_master = true;
                let now = self.ordered();
                let known = client.and_then(|client| self.clients.get_mut(&client)).expect("it was opened");
                if !matches!(outcome, Ok(Outcome::Grant { .. })) {
                    known.opened.remove(&card);
                    known.reached.insert(card, Some(now));
                }
            }
            Work::Wire { card, vector } if outcome.is_ok() => {
                self.card(card).wired.extend(client.map(|client| (vector, client)));
                self.card(card).unsilenced.remove(&vector);
            }
            Work::Silence { card, vector } if outcome.is_ok() => drop(self.card(card).wired.remove(&vector)),
            Work::Silence { card, vector } if answer.is_none() => {
                self.card(card).unsilenced.insert(vector);
            }
            Work::CarryOut { card, ref wills } => {
                self.card(card).hung |= outcome.is_err();
                if let Some(client) = *client {
                    self.wills_ended(client, answer.is_some(), card, wills, outcome.is_ok());
                }
            }
            Work::Reset { card, unused } => {
                let account = self.card(card);
                account.bus_master &= !unused || outcome.is_err();
                account.hung = false;
                account.reset_failed = unused && outcome.is_err();
                if outcome.is_ok() {
                    account.wired.clear();
                    account.unsilenced.clear();
                    self.is_quiet(card, ordered);
                }
            }
            Work::Close { card } => {
                self.card(card).bus_master = false;
                if outcome.is_ok() {
                    self.is_quiet(card, ordered);
                }
                self.cards.remove(&card);
            }
            Work::Take { ref cards, .. } if outcome.is_ok() => {
                self.cards.extend(cards.iter().map(|(card, _)| (*card, CardAccount::default())));
            }
            Work::Share { .. }
            | Work::Wire { .. }
            | Work::Silence { .. }
            | Work::Look { .. }
            | Work::Take { .. }
            | Work::Return { .. } => {}
        }
    }

    fn card(&mut self, card: CardId) -> &mut CardAccount {
        self.cards.get_mut(&card).expect("work at a card that is gone")
    }

    fn was_mapped(&mut self, iova: u64, ok: bool, lost: bool) {
        let mapping = |memory: &Memory| memory.range.start == iova && memory.state == State::Mapping;
        let index = self.memory.iter().position(mapping).expect("it was being mapped");
        if ok {
            self.memory[index].state = State::Live(false);
            return;
        }
        let memory = self.memory.remove(index);
        if lost {
            self.lost.push(memory.range);
        }
    }

    fn was_placed(&mut self, space: Space, DmaPlace { iova, size }: DmaPlace, client: ClientId) {
        let range = iova..iova + size;
        let overlaps = |other: &Range<u64>| other.start < range.end && range.start < other.end;
        let stray = self.memory.iter().any(|memory| !memory.stray && overlaps(&memory.range));
        self.note_memory(space, range, client, State::Live(false), true);
        if let Some(memory) = self.memory.last_mut() {
            memory.stray = stray;
        }
    }

    fn was_unmapped(&mut self, space: Space, range: &Range<u64>, ok: bool) {
        let fits = |memory: &Memory| {
            memory.space == space && memory.range == *range && memory.state == State::Unmapping
        };
        let index = self.memory.iter().position(fits).expect("it was being unmapped");
        let memory = self.memory.remove(index);
        if memory.stray {
            return;
        }
        if !ok {
            self.lost.push(memory.range);
            return;
        }
        let mut traces = memory.waits_for;
        for known in memory.holders.iter().filter_map(|holder| self.clients.get(holder)) {
            add_traces(&mut traces, known.unquiet());
        }
        if !traces.is_empty() {
            self.kept.push((memory.range, traces));
        }
    }

    fn wills_ended(
        &mut self,
        client: ClientId,
        asked: bool,
        card: CardId,
        wills: &[(LeaseId, Will)],
        ok: bool,
    ) {
        let now = self.ordered();
        let Some(known) = self.clients.get_mut(&client) else { return };
        if asked && !ok {
            known.stuck.insert(card, now);
        }
        match &mut known.gone {
            None => known.leases.retain(|id, _| !wills.iter().any(|(other, _)| other == id)),
            Some(gone) if !asked => {
                gone.wills.retain(|id| !wills.iter().any(|(other, _)| other == id));
                if ok && wills.iter().all(|(_, will)| will.waits()) && !known.stuck.contains_key(&card) {
                    gone.unquiet.remove(&card);
                }
            }
            Some(_) => {}
        }
    }

    /// A card was reset or closed by something that was ordered then: what it was told before, it does no more.
    fn is_quiet(&mut self, card: CardId, ordered: Moment) {
        let settle = |traces: &mut BTreeMap<CardId, Moment>| {
            traces.retain(|other, until| *other != card || *until > ordered);
        };
        for known in self.clients.values_mut() {
            known.reached.retain(|other, until| *other != card || until.is_none_or(|until| until > ordered));
            settle(&mut known.stuck);
            if let Some(gone) = &mut known.gone {
                settle(&mut gone.unquiet);
            }
        }
        self.kept.iter_mut().for_each(|(_, traces)| settle(traces));
        self.kept.retain(|(_, traces)| !traces.is_empty());
        self.memory.iter_mut().for_each(|memory| settle(&mut memory.waits_for));
    }
}
