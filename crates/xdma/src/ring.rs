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
    /// How many descriptors the card fetches at once.
    block: u8,
}

impl Ring {
    /// A ring that a channel whose highest address is `top` can reach, of a card that fetches `block` descriptors at once.
    pub(crate) fn new(card: &dyn Card, top: u64, block: u8) -> Result<Self, Error> {
        let request = DmaRequest::new(ADJACENT_BOUNDARY).aligned(ADJACENT_BOUNDARY).below(top);
        Ok(Self { memory: card.dma_buffer(request)?, block })
    }

    pub(crate) fn memory(&self) -> &DmaBuffer {
        &self.memory
    }

    /// IOVA of the first descriptor.
    pub(crate) fn first(&self) -> u64 {
        self.memory.iova()
    }

    /// How many of the first `count` descriptors the card may fetch together with the first.
    pub(crate) fn first_adjacent(&self, count: u64) -> u8 {
        adjacent(self.first(), count - 1, self.block)
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

    /// Clears the write-back word and writes the next descriptors of `plan`, as many as fit. Returns how many they are.
    /// The engine must be idle.
    ///
    /// The word comes first and the descriptors' stores are released behind it, so it is clear before the engine can be
    /// started by a register write that is ordered behind earlier writes to memory, as [`Region`](jitney_vfio::Region)'s are:
    /// otherwise the zero might overwrite what the engine wrote.
    pub(crate) fn load(&self, plan: &mut Plan, direction: Direction, stream: bool) -> Result<u64, Error> {
        let count = plan.descriptors().min(CAPACITY);
        let ends = plan.descriptors() <= CAPACITY;
        self.memory.view().store_release32(WRITEBACK, 0)?;
        let table = Table { base: self.first(), count, block: self.block };
        for (index, chunk) in (0..count).zip(plan) {
            let descriptor = table.descriptor(index, chunk, direction, stream && ends);
            self.memory.write(index * SIZE as u64, &descriptor.to_bytes())?;
        }
        Ok(count)
    }
}

/// Descriptors that lie one behind the other.
#[derive(Debug, Clone, Copy)]
struct Table {
    /// IOVA of the first one.
    base: u64,
    /// How many there are.
    count: u64,
    /// How many the card fetches at once.
    block: u8,
}

impl Table {
    /// Descriptor `index`, which moves `chunk`.
    fn descriptor(self, index: u64, chunk: Chunk, direction: Direction, packet: bool) -> Descriptor {
        let last = index + 1 == self.count;
        let next = if last { 0 } else { self.base + (index + 1) * SIZE as u64 };
        let behind_next = self.count.saturating_sub(index + 2);
        let (source, destination) = match direction {
            Direction::HostToCard => (chunk.host, chunk.card),
            Direction::CardToHost => (chunk.card, chunk.host),
        };
        Descriptor {
            control: DescriptorControl::new()
                .with_stop(last)
                .with_completed(last)
                .with_end_of_packet(last && packet)
                .with_next_adjacent(adjacent(next, behind_next, self.block)),
            length: chunk.length,
            source,
            destination,
            next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHUNK: Chunk = Chunk { host: 0x1000, card: 0x20, length: 8 };

    fn encoded(base: u64, count: u64, direction: Direction, packet: bool) -> Vec<Descriptor> {
        in_blocks(16, base, count, direction, packet)
    }

    fn in_blocks(block: u8, base: u64, count: u64, direction: Direction, packet: bool) -> Vec<Descriptor> {
        let table = Table { base, count, block };
        (0..count).map(|index| table.descriptor(index, CHUNK, direction, packet)).collect()
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

    /// What a card does that fetches the first descriptor with as many as the register says, and each further block with as
    /// many as the descriptor before it says (PG195, "Descriptors").
    fn fetched(base: u64, table: &[Descriptor], first_adjacent: u8) -> Vec<std::ops::Range<u64>> {
        let (mut at, mut adjacent, mut blocks) = (base, first_adjacent, Vec::new());
        loop {
            let end = at + (u64::from(adjacent) + 1) * SIZE as u64;
            blocks.push(at..end);
            let last = &table[usize::try_from((end - base) / SIZE as u64).unwrap() - 1];
            if last.control.stop() {
                return blocks;
            }
            (at, adjacent) = (last.next, last.control.next_adjacent());
        }
    }

    proptest! {
        #[test]
        fn blocks_are_aligned_whole_and_counted_down(page in 0..1_u64 << 52, count in 1..=CAPACITY, power in 0..=6_u32) {
            let (base, block) = (page << 12, 1_u8 << power);
            let table = in_blocks(block, base, count, Direction::CardToHost, false);
            for (index, pair) in (0_u64..).zip(table.windows(2)) {
                let [one, next] = pair else { unreachable!() };
                let (this, following) = (one.control.next_adjacent(), next.control.next_adjacent());
                let ends_a_block = (index + 2).is_multiple_of(block.into());
                let counted = this.saturating_sub(1);
                prop_assert!(this < block);
                prop_assert!(ends_a_block == (this == 0) || index + 2 == count, "descriptor {}: {}", index, this);
                prop_assert!(this == 0 || following == counted, "descriptor {}: {} then {}", index, this, following);
            }
            let size = u64::from(block) * SIZE as u64;
            let blocks = fetched(base, &table, adjacent(base, count - 1, block));
            prop_assert_eq!(blocks.len() as u64, count.div_ceil(block.into()), "each but the last is whole");
            for fetch in blocks {
                prop_assert!(fetch.start.is_multiple_of(size) && fetch.end - fetch.start <= size);
                prop_assert!(fetch.end <= base + count * SIZE as u64);
            }
        }
    }
}
