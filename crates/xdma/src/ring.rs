//! The page of DMA memory that a channel's descriptors and its write-back word lie in.

use crate::plan::{Chunk, Plan};
use jitney_vfio::{Card, DmaBuffer, DmaRequest, Error};
use jitney_xdma_spec::descriptor::{ADJACENT_BOUNDARY, SIZE, adjacent};
use jitney_xdma_spec::writeback::Writeback;
use jitney_xdma_spec::{Descriptor, DescriptorControl, Direction};

/// The write-back word has a cache line of its own, so that the card's write of it never meets the descriptors.
const LINE: u64 = 64;
const WRITEBACK: u64 = ADJACENT_BOUNDARY - LINE;

/// Descriptors of one round.
pub(crate) const CAPACITY: u64 = WRITEBACK / SIZE as u64;

/// Descriptors and write-back word in memory that the card sees.
#[derive(Debug)]
pub(crate) struct Ring {
    memory: DmaBuffer,
}

impl Ring {
    /// A ring that a channel whose highest address is `top` can reach.
    pub(crate) fn new(card: &dyn Card, top: u64) -> Result<Self, Error> {
        let request = DmaRequest::new(ADJACENT_BOUNDARY).aligned(ADJACENT_BOUNDARY).below(top);
        Ok(Self { memory: card.dma_buffer(request)? })
    }

    pub(crate) fn memory(&self) -> &DmaBuffer {
        &self.memory
    }

    /// IOVA of the first descriptor.
    pub(crate) fn first(&self) -> u64 {
        self.memory.iova()
    }

    /// IOVA of the write-back word.
    pub(crate) fn writeback_address(&self) -> u64 {
        self.memory.iova() + WRITEBACK
    }

    /// What the card has written back since the last [`load`](Self::load); all zero if nothing.
    #[inline]
    pub(crate) fn writeback(&self) -> Result<Writeback, Error> {
        Ok(Writeback::from(u32::from_le(self.memory.view().load_acquire32(WRITEBACK)?)))
    }

    /// Writes the next descriptors of `plan`, as many as fit, and clears the write-back word. Returns how many they are.
    /// The engine must be idle.
    pub(crate) fn load(&self, plan: &mut Plan, direction: Direction, stream: bool) -> Result<u64, Error> {
        let count = plan.descriptors().min(CAPACITY);
        let ends = plan.descriptors() <= CAPACITY;
        for (index, chunk) in (0..count).zip(plan) {
            let descriptor = encode(self.first(), index, count, chunk, direction, stream && ends);
            self.memory.write(index * SIZE as u64, &descriptor.to_bytes())?;
        }
        self.memory.view().store_release32(WRITEBACK, 0)?;
        Ok(count)
    }
}

/// Descriptor `index` of `count`, which lie one behind the other from `base` on.
fn encode(base: u64, index: u64, count: u64, chunk: Chunk, direction: Direction, packet: bool) -> Descriptor {
    let last = index + 1 == count;
    let next = if last { 0 } else { base + (index + 1) * SIZE as u64 };
    let behind_next = count.saturating_sub(index + 2);
    let (source, destination) = match direction {
        Direction::HostToCard => (chunk.host, chunk.card),
        Direction::CardToHost => (chunk.card, chunk.host),
    };
    Descriptor {
        control: DescriptorControl::new()
            .with_stop(last)
            .with_completed(last)
            .with_end_of_packet(last && packet)
            .with_next_adjacent(adjacent(next, behind_next)),
        length: chunk.length,
        source,
        destination,
        next,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHUNK: Chunk = Chunk { host: 0x1000, card: 0x20, length: 8 };

    fn encoded(base: u64, count: u64, direction: Direction, packet: bool) -> Vec<Descriptor> {
        (0..count).map(|index| encode(base, index, count, CHUNK, direction, packet)).collect()
    }

    #[test]
    fn only_the_last_descriptor_stops_reports_and_ends_the_packet() {
        let ring = encoded(0x4000, 3, Direction::HostToCard, true);
        let flags = |d: &Descriptor| (d.control.stop(), d.control.completed(), d.control.end_of_packet());
        assert_eq!(
            ring.iter().map(flags).collect::<Vec<_>>(),
            [(false, false, false), (false, false, false), (true, true, true)]
        );
        assert_eq!(ring.iter().map(|d| d.next).collect::<Vec<_>>(), [0x4020, 0x4040, 0]);
        assert!(!encoded(0, 1, Direction::HostToCard, false)[0].control.end_of_packet());
    }

    #[test]
    fn the_direction_says_which_end_is_the_source() {
        let h2c = encoded(0, 1, Direction::HostToCard, false)[0];
        assert_eq!((h2c.source, h2c.destination, h2c.length), (0x1000, 0x20, 8));
        let c2h = encoded(0, 1, Direction::CardToHost, false)[0];
        assert_eq!((c2h.source, c2h.destination), (0x20, 0x1000));
    }

    proptest! {
        #[test]
        fn what_is_called_adjacent_exists_and_lies_in_one_page(page in 0..1_u64 << 52, count in 1..=CAPACITY) {
            let base = page << 12;
            for (index, descriptor) in (0..).zip(encoded(base, count, Direction::CardToHost, false)) {
                let adjacent = u64::from(descriptor.control.next_adjacent());
                if adjacent > 0 {
                    prop_assert!(index + 1 + adjacent < count);
                    let last = descriptor.next + adjacent * SIZE as u64;
                    prop_assert_eq!(descriptor.next / ADJACENT_BOUNDARY, last / ADJACENT_BOUNDARY);
                }
                prop_assert_eq!(adjacent, count.saturating_sub(index + 2).min(63));
            }
        }
    }
}
