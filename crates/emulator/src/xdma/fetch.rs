//! Fetching descriptors: as many at once as software says lie next to each other (PG195, "Nxt_adj").
//!
//! A block of adjacent descriptors is as long as the register or the descriptor before it says, plus one. Within it
//! `next` leads from each to the one behind it, and `Nxt_adj` decrements down to zero in the last but one; none crosses a
//! page. What disagrees with that is followed all the same, as the cards do that were looked at, and complained of; a
//! strict core stops. A block is brought by as few reads as the largest read request allows.

use super::Card;
use super::state::Job;
use crate::function::{DmaFault, Live};
use crate::limited::warn_limited;
use jitney_xdma_spec::Descriptor;
use jitney_xdma_spec::descriptor::{MAGIC, SIZE};
use std::collections::VecDeque;

/// A block lies within one page of this size (PG195: a descriptor fetch is one read request, which crosses none).
const PAGE: u64 = 4096;
/// Most descriptors of a block: the field has six bits.
const MOST: usize = 64;
/// Beyond so many of a block, a core with the fault "adjacent-bug" gets them wrong.
const SOUND: u32 = 16;

/// The descriptors of a block that are here and not executed yet.
#[derive(Debug, Default)]
pub(super) struct Fetcher {
    run: u64,
    fetched: VecDeque<Descriptor>,
    /// Descriptors of the block.
    block: u32,
    /// Those that are not executed yet, fetched or not.
    left: u32,
    /// Where the next of them is.
    expected: u64,
}

/// Why there is no descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoDescriptor {
    /// The host did not answer.
    Refused(DmaFault),
    /// Adjacency does not hold, and the core is strict.
    NotAdjacent,
}

impl Fetcher {
    /// The descriptor of `job`.
    pub(super) fn next(
        &mut self,
        card: &Card,
        job: &Job,
        live: Live<'_>,
    ) -> Result<Descriptor, NoDescriptor> {
        if self.run != job.run {
            *self = Self { run: job.run, ..Self::default() };
        }
        if self.left > 0 && job.address != self.expected {
            Self::complain(card, job, "`next` leads out of a block of adjacent descriptors")?;
            self.left = 0;
        }
        if self.left == 0 {
            self.block = job.adjacent + 1;
            self.left = self.block;
            self.fetched.clear();
            if job.address % PAGE + u64::from(self.block) * SIZE as u64 > PAGE {
                Self::complain(card, job, "a block of adjacent descriptors crosses a page")?;
            }
        }
        if self.fetched.is_empty() {
            self.fetch(card, job, live).map_err(NoDescriptor::Refused)?;
        }
        // `fetch` brings one at least.
        let mut descriptor = self.fetched.pop_front().unwrap_or_default();
        if self.block - self.left >= SOUND && card.faults.adjacent_bug() {
            descriptor.control.set_magic(!MAGIC);
        }
        self.left -= 1;
        self.expected = job.address.wrapping_add(SIZE as u64);
        let control = descriptor.control;
        if self.left > 0 && !control.stop() && u32::from(control.next_adjacent()) != self.left - 1 {
            Self::complain(card, job, "Nxt_adj does not count down to the end of its block")?;
        }
        Ok(descriptor)
    }

    fn fetch(&mut self, card: &Card, job: &Job, live: Live<'_>) -> Result<(), DmaFault> {
        let in_page = (PAGE - job.address % PAGE) / SIZE as u64;
        let in_request = u64::from(card.host.packet_sizes().read_request) / SIZE as u64;
        let count = u64::from(self.left).min(in_page).min(in_request).min(job.credits.into()).max(1);
        let mut bytes = [0; MOST * SIZE];
        let part = usize::try_from(count).unwrap_or(1).min(MOST) * SIZE;
        card.host.read(job.address, &mut bytes[..part], live)?;
        let (descriptors, _) = bytes[..part].as_chunks::<SIZE>();
        self.fetched.extend(descriptors.iter().map(Descriptor::from_bytes));
        Ok(())
    }

    fn complain(card: &Card, job: &Job, what: &str) -> Result<(), NoDescriptor> {
        warn_limited!("{what}, at {:#x} (PG195, \"Nxt_adj\"); a card may stop or hang here", job.address);
        if card.strict_adjacency { Err(NoDescriptor::NotAdjacent) } else { Ok(()) }
    }
}
