//! Quarantine: what was taken from a client that left without a goodbye, while its cards may still be at work for it.
//!
//! Unmapping memory keeps a card from it. But a descriptor that an engine is at goes on, and would meet whatever is mapped at
//! the same addresses next: the memory of somebody who did everything right. So such addresses go to nobody until every card
//! that may have been told of them was seen quiet or was reset, else oldest first when there are no others left.
//!
//! A reset that was ordered before the client was gone says nothing: a client that lives can start an engine again behind it.
//!
//! Where there is no IOMMU unmapping keeps nobody from anything: there the memory itself stays until then.

use super::{Client, ClientId, Effect, Machine, Space, TaskId, Work};
use crate::protocol::CardId;
use jitney_iova::QuarantineId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A moment, named by the first piece of work that was ordered after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Since(pub(super) TaskId);

/// Cards that may be at work for somebody who is gone, and since when nobody tells them anything more for it.
pub(super) type Traces = BTreeMap<CardId, Since>;

/// Adds what `more` says to `traces`: of a card that both know, the later moment counts.
pub(super) fn add_traces(traces: &mut Traces, more: &Traces) {
    for (&card, &since) in more {
        let known = traces.entry(card).or_insert(since);
        *known = since.max(*known);
    }
}

/// The most addresses of one user that are in quarantine, as many as it may have buffers. Whoever dies again and again would have
/// the books grow for ever; it is its own addresses that are let go of, and not those of others.
const MOST: usize = 16384;

/// Something in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Quarantined {
    pub(super) what: What,
    /// Whose it was.
    pub(super) uid: u32,
    /// The cards that have not been seen quiet since. Memory for which there are none any more is being unmapped.
    pub(super) waits_for: Traces,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum What {
    /// Addresses at which nothing is mapped any more.
    Address(QuarantineId),
    /// Memory that is still mapped.
    Memory { iova: u64, space: Space, size: u64 },
}

impl Client {
    /// The cards that may still be at work for it although nobody looks after that.
    pub(super) fn unquiet(&self) -> &Traces {
        self.departure.as_ref().map_or(&self.stuck, |departure| &departure.unquiet)
    }
}

impl Machine {
    /// Puts addresses of `client` into quarantine at which nothing is mapped any more.
    pub(super) fn quarantine_address(&mut self, client: ClientId, iova: u64, waits_for: Traces) {
        match self.iovas.quarantine(iova) {
            Ok(id) => self.quarantine(client, What::Address(id), waits_for),
            Err(error) => {
                tracing::error!(iova, %error, "the broker's books do not agree with its allocator");
            }
        }
    }

    /// Lets go of a user's oldest addresses if there are too many of it.
    fn limit_quarantine(&mut self, uid: u32) {
        let own = |entry: &&Quarantined| entry.uid == uid && matches!(entry.what, What::Address(_));
        // There cannot be more of one than there are of all, which is quickly seen.
        if self.quarantined.len() <= MOST || self.quarantined.iter().filter(own).count() <= MOST {
            return;
        }
        // Many at a time, since what is behind them moves up.
        let mut oldest = Vec::new();
        self.quarantined.retain(|entry| match entry.what {
            What::Address(id) if entry.uid == uid && oldest.len() < MOST / 16 => {
                oldest.push(id);
                false
            }
            _ => true,
        });
        for id in oldest {
            self.iovas.absolve(id);
        }
    }

    /// Keeps memory or addresses that `client` had last until these cards are quiet.
    pub(super) fn quarantine(&mut self, client: ClientId, what: What, waits_for: Traces) {
        if let Some(state) = self.clients.get(&client) {
            let uid = state.peer.uid;
            self.quarantined.push(Quarantined { what, uid, waits_for });
            self.limit_quarantine(uid);
        }
    }

    /// A card was reset or closed by `task`: it does nothing any more that it was told before that was ordered.
    pub(super) fn is_quiet(&mut self, card: CardId, task: TaskId, effects: &mut Vec<Effect>) {
        let is_before = |since: Option<&Since>| since.is_some_and(|Since(since)| *since <= task);
        let settle = |traces: &mut Traces| {
            if is_before(traces.get(&card)) {
                traces.remove(&card);
            }
        };
        for client in self.clients.values_mut() {
            if is_before(client.reached.get(&card).and_then(Option::as_ref)) {
                client.reached.remove(&card);
            }
            settle(&mut client.stuck);
            if let Some(departure) = &mut client.departure {
                settle(&mut departure.unquiet);
            }
        }
        self.buffers.values_mut().for_each(|buffer| settle(&mut buffer.traces));
        let mut done = Vec::new();
        self.quarantined.retain_mut(|entry| {
            let waited = !entry.waits_for.is_empty();
            settle(&mut entry.waits_for);
            let ends = waited && entry.waits_for.is_empty();
            if ends {
                done.push(entry.what);
            }
            // Memory is there until it is unmapped.
            !ends || matches!(entry.what, What::Memory { .. })
        });
        for what in done {
            match what {
                What::Address(id) => self.iovas.absolve(id),
                What::Memory { iova, space, size } => {
                    self.start(Work::Unmap { space, iova, size }, None, None, effects);
                }
            }
        }
    }

    /// Memory at `iova` that was in quarantine is there no more, or is lost.
    pub(super) fn is_over(&mut self, iova: u64) {
        self.quarantined.retain(|entry| !matches!(entry.what, What::Memory { iova: at, .. } if at == iova));
    }

    /// How many buffers of a user are in quarantine whose memory is still there, and their bytes. Addresses alone are not counted:
    /// nobody is refused anything because its programs died before.
    pub(super) fn in_quarantine(&self, uid: u32) -> (usize, u64) {
        let own = self.quarantined.iter().filter(|entry| entry.uid == uid);
        own.fold((0, 0), |(count, bytes), entry| match entry.what {
            What::Address(_) => (count, bytes),
            What::Memory { size, .. } => (count + 1, bytes.saturating_add(size)),
        })
    }
}
