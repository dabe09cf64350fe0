//! Quarantine: what was taken from a client that left without a goodbye, while its cards may still be at work for it.
//!
//! Unmapping memory keeps a card from it. But a descriptor that an engine is at goes on, and would meet whatever is mapped at
//! the same addresses next: the memory of somebody who did everything right. So such addresses go to nobody until every card
//! that may have been told of them was seen quiet or was reset, else oldest first when there are no others left.
//!
//! Where there is no IOMMU unmapping keeps nobody from anything: there the memory itself stays until then.

use super::{Effect, Machine, Space, Work};
use crate::protocol::CardId;
use jitney_iova::QuarantineId;
use std::collections::BTreeSet;

/// The most that is in quarantine: as many maps as a type1 container has. Whoever dies again and again would have the books grow for ever.
const MOST: usize = 65536;

/// Something in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Quarantined {
    what: What,
    /// The cards that have not been seen quiet since.
    waits_for: BTreeSet<CardId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    /// Addresses at which nothing is mapped any more.
    Address(QuarantineId),
    /// Memory that is still mapped.
    Memory { iova: u64, space: Space, size: u64 },
}

impl Machine {
    /// Puts addresses into quarantine at which nothing is mapped any more.
    pub(super) fn quarantine_address(&mut self, iova: u64, waits_for: BTreeSet<CardId>) {
        match self.iovas.quarantine(iova) {
            Ok(id) => {
                self.quarantined.push(Quarantined { what: What::Address(id), waits_for });
                self.limit_quarantine();
            }
            Err(error) => {
                tracing::error!(iova, %error, "the broker's books do not agree with its allocator");
            }
        }
    }

    /// Lets go of the oldest addresses if there are too many.
    fn limit_quarantine(&mut self) {
        if self.quarantined.len() <= MOST {
            return;
        }
        // Many at a time, since what is behind them moves up.
        let mut oldest = Vec::new();
        self.quarantined.retain(|entry| match entry.what {
            What::Address(id) if oldest.len() < MOST / 16 => {
                oldest.push(id);
                false
            }
            _ => true,
        });
        for id in oldest {
            self.iovas.absolve(id);
        }
    }

    /// Keeps memory mapped until the cards are quiet.
    pub(super) fn quarantine_memory(
        &mut self,
        iova: u64,
        space: Space,
        size: u64,
        waits_for: BTreeSet<CardId>,
    ) {
        self.quarantined.push(Quarantined { what: What::Memory { iova, space, size }, waits_for });
    }

    /// A card does nothing any more that somebody told it before now: nobody has to wait for it.
    pub(super) fn is_quiet(&mut self, card: CardId, effects: &mut Vec<Effect>) {
        for client in self.clients.values_mut() {
            client.unquiet.remove(&card);
        }
        let mut done = Vec::new();
        self.quarantined.retain_mut(|entry| {
            entry.waits_for.remove(&card);
            if entry.waits_for.is_empty() {
                done.push(entry.what);
            }
            !entry.waits_for.is_empty()
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
}
