//! Fetching descriptors: as many at once as software says lie next to each other (PG195, "Nxt_adj").
//!
//! A block of adjacent descriptors is as long as the register, or the last descriptor of the block before, says, plus one. It is
//! executed as it lies there: what its inner descriptors say of `next` and `Nxt_adj` is not looked at (Linux's own driver,
//! drivers/dma/xilinx/xdma.c, writes nothing there). PG195 has `Nxt_adj` decrement down to zero in the last but one and has
//! `next` lead from each to the one behind it; a strict core stops where that does not hold. No block crosses a page, and none
//! that does goes on behind it (Xilinx/dma_ip_drivers, issue 48: "magic stopped"). A block is brought by as few reads as
//! the largest read request allows.

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
    /// The page that it lies in.
    page: u64,
}

/// A descriptor, and where the one behind it is looked for.
pub(super) struct Fetched {
    pub(super) descriptor: Descriptor,
    pub(super) next: u64,
    /// How many more lie behind that one.
    pub(super) next_adjacent: u32,
}

/// Why there is no descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoDescriptor {
    /// The host did not answer.
    Refused(DmaFault),
    /// Descriptors are not as adjacent as they say.
    NotAdjacent,
}

impl Fetcher {
    /// The descriptor of `job`.
    pub(super) fn next(&mut self, card: &Card, job: &Job, live: Live<'_>) -> Result<Fetched, NoDescriptor> {
        if self.run != job.run {
            *self = Self { run: job.run, ..Self::default() };
        }
        if self.left == 0 {
            self.block = job.adjacent + 1;
            self.left = self.block;
            self.page = job.address / PAGE;
            self.fetched.clear();
        }
        if job.address.saturating_add(SIZE as u64 - 1) / PAGE != self.page {
            complain(job, "a block of adjacent descriptors crosses a page");
            return Err(NoDescriptor::NotAdjacent);
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
        let control = descriptor.control;
        if self.left == 0 {
            let next_adjacent = control.next_adjacent().into();
            return Ok(Fetched { next: descriptor.next, next_adjacent, descriptor });
        }
        let behind = job.address.wrapping_add(SIZE as u64);
        let counts_down = u32::from(control.next_adjacent()) == self.left - 1 && descriptor.next == behind;
        if card.strict_adjacency && !control.stop() && !counts_down {
            complain(job, "`next` or Nxt_adj do not lead through a block of adjacent descriptors");
            return Err(NoDescriptor::NotAdjacent);
        }
        Ok(Fetched { next: behind, next_adjacent: self.left - 1, descriptor })
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
}

fn complain(job: &Job, what: &str) {
    warn_limited!("{what}, at {:#x} (PG195, \"Nxt_adj\"): the channel stops", job.address);
}
