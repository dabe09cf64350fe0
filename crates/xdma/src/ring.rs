//! The ring of descriptors in DMA memory that an engine runs around, with the words that it writes back.
//!
//! The engine takes a descriptor for each credit that it is given (PG195, "Descriptor Credit"), and goes from the last slot
//! to the first. One slot is always empty, without the magic that a descriptor has: an engine that goes on beyond its
//! credits, as none should, stops there with an error and runs on nothing that is over.

use crate::plan::Chunk;
use jitney_vfio::{Card, DmaBuffer, DmaRequest, Error};
use jitney_xdma_spec::descriptor::{ADJACENT_BOUNDARY, SIZE, adjacent};
use jitney_xdma_spec::sgdma::MAX_CREDITS;
use jitney_xdma_spec::writeback::Writeback;
use jitney_xdma_spec::{Descriptor, DescriptorControl, Direction, StreamSlot};

/// The write-back word has a cache line of its own, so that the card's write of it never meets the descriptors.
const LINE: u64 = 64;

/// Descriptors that an engine may have at once, if the program does not say: what fits a page together with the empty slot
/// and the word.
pub(crate) const DEFAULT_DEPTH: u32 = 125;
const _: () = assert!((DEFAULT_DEPTH as u64 + 1) * SIZE as u64 + LINE == ADJACENT_BOUNDARY);

/// The most: more credits no channel can hold.
pub(crate) const MAX_DEPTH: u32 = MAX_CREDITS;

/// What a descriptor says besides where its data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Flags {
    /// The engine reports its end.
    pub(crate) completed: bool,
    /// Its data ends a packet of a stream.
    pub(crate) end_of_packet: bool,
}

/// Descriptors, what the card writes for each of a stream that is read, and the write-back word.
#[derive(Debug)]
pub(crate) struct Ring {
    memory: DmaBuffer,
    direction: Direction,
    stream: bool,
    /// Slots, the empty one included.
    slots: u64,
    /// How many descriptors the card may fetch at once, a power of two.
    block: u8,
}

impl Ring {
    /// A ring for `depth` descriptors, 1 to [`MAX_DEPTH`], that a channel whose highest address is `top` can reach.
    pub(crate) fn new(
        card: &dyn Card,
        top: u64,
        depth: u32,
        direction: Direction,
        stream: bool,
    ) -> Result<Self, Error> {
        let slots = u64::from(depth.clamp(1, MAX_DEPTH)) + 1;
        let size = slots * (SIZE + StreamSlot::SIZE) as u64 + 2 * LINE;
        let size = if stream { size } else { slots * SIZE as u64 + LINE };
        let request = DmaRequest::new(size).aligned(ADJACENT_BOUNDARY).below(top);
        Ok(Self { memory: card.dma_buffer(request)?, direction, stream, slots, block: 1 })
    }

    /// The same ring for a card that may fetch `block` descriptors at once.
    pub(crate) fn fetched_by(&mut self, block: u8) {
        self.block = block;
    }

    /// How many descriptors the card may fetch at once.
    pub(crate) fn block(&self) -> u8 {
        self.block
    }

    pub(crate) fn memory(&self) -> &DmaBuffer {
        &self.memory
    }

    /// How many descriptors it has room for, the empty slot included.
    pub(crate) fn slots(&self) -> u64 {
        self.slots
    }

    /// How many descriptors the engine may have at once.
    pub(crate) fn depth(&self) -> u64 {
        self.slots - 1
    }

    /// IOVA of the first descriptor.
    pub(crate) fn first(&self) -> u64 {
        self.memory.iova()
    }

    /// IOVA of the write-back word.
    pub(crate) fn writeback_address(&self) -> u64 {
        self.memory.iova() + self.writeback_offset()
    }

    fn writeback_offset(&self) -> u64 {
        self.memory.size() - LINE
    }

    /// What the card has written back last; all zero if nothing since [`clear`](Self::clear).
    #[inline]
    pub(crate) fn writeback(&self) -> Result<Writeback, Error> {
        Ok(Writeback::from(u32::from_le(self.memory.view().load_acquire32(self.writeback_offset())?)))
    }

    /// Makes the ring ready for an engine that is started at its first slot. The engine must be idle.
    ///
    /// A later register write is ordered behind this, as all of [`Region`](jitney_vfio::Region)'s are behind earlier writes to
    /// memory: otherwise the zero might overwrite what the engine wrote.
    pub(crate) fn clear(&self) -> Result<(), Error> {
        self.memory.view().store_release32(self.writeback_offset(), 0)?;
        self.empty(0)
    }

    /// Takes the magic from the slot of the descriptor with this number, counted since the engine was started.
    fn empty(&self, number: u64) -> Result<(), Error> {
        Ok(self.memory.view().store32(self.offset(number), 0)?)
    }

    fn offset(&self, number: u64) -> u64 {
        number % self.slots * SIZE as u64
    }

    /// Where the card says what it has put where descriptor `number` of a stream said, as an offset in the ring's memory.
    fn slot_offset(&self, number: u64) -> u64 {
        (self.slots * SIZE as u64).next_multiple_of(LINE) + number % self.slots * StreamSlot::SIZE as u64
    }

    /// What the card has said of descriptor `number` of a stream that is read.
    pub(crate) fn received(&self, number: u64) -> Result<StreamSlot, Error> {
        let mut bytes = [0; StreamSlot::SIZE];
        self.memory.read(self.slot_offset(number), &mut bytes)?;
        Ok(StreamSlot::from_bytes(bytes))
    }

    /// Writes descriptor `number`, counted since the engine was started, which moves `chunk`. Its slot must be free.
    pub(crate) fn put(&self, number: u64, chunk: Chunk, flags: Flags) -> Result<(), Error> {
        let (source, destination) = match self.direction {
            Direction::HostToCard => (chunk.host, chunk.card),
            Direction::CardToHost if self.stream => {
                self.memory.write(self.slot_offset(number), &[0; StreamSlot::SIZE])?;
                (self.memory.iova() + self.slot_offset(number), chunk.host)
            }
            Direction::CardToHost => (chunk.card, chunk.host),
        };
        let descriptor = Descriptor {
            control: DescriptorControl::new()
                .with_completed(flags.completed)
                .with_end_of_packet(flags.end_of_packet),
            length: chunk.length,
            source,
            destination,
            next: self.first() + self.offset(number + 1),
        };
        self.memory.write(self.offset(number), &descriptor.to_bytes())
    }

    /// Ends a batch of descriptors, those from `start` up to `end`, before the engine is given credits for them: behind the
    /// last one there is none, and each says how many the card may fetch with it.
    pub(crate) fn close(&self, start: u64, end: u64) -> Result<(), Error> {
        self.empty(end)?;
        if self.block > 1 {
            (start..end).try_for_each(|number| self.link(number, end))?;
        }
        Ok(())
    }

    /// Writes into descriptor `number` how many the card may fetch with the next, of a batch that ends at `end`.
    fn link(&self, number: u64, end: u64) -> Result<(), Error> {
        let (offset, next) = (self.offset(number), number + 1);
        let behind = (end - next).saturating_sub(1).min(self.slots - 1 - next % self.slots);
        let behind = adjacent(self.first() + self.offset(next), behind, self.block);
        let control = u32::from_le(self.memory.view().load32(offset)?);
        let control = DescriptorControl::from_bits(control).with_next_adjacent(behind);
        Ok(self.memory.view().store32(offset, control.into_bits().to_le())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jitney_vfio::{FakeCard, FakeHost};
    use proptest::prelude::*;

    const CHUNK: Chunk = Chunk { host: 0x1000, card: 0x20, length: 8 };
    const PLAIN: Flags = Flags { completed: false, end_of_packet: false };

    fn ring(depth: u32, direction: Direction, stream: bool) -> Ring {
        let card = FakeCard::builder(&FakeHost::new(), 0x10ee, 0x7011).build().unwrap();
        Ring::new(&*card, u64::MAX, depth, direction, stream).unwrap()
    }

    fn at(ring: &Ring, number: u64) -> Descriptor {
        let mut bytes = [0; SIZE];
        ring.memory.read(ring.offset(number), &mut bytes).unwrap();
        Descriptor::from_bytes(&bytes)
    }

    #[test]
    fn a_page_holds_the_usual_ring() {
        let usual = ring(DEFAULT_DEPTH, Direction::HostToCard, false);
        assert_eq!((usual.memory.size(), usual.depth()), (4096, 125));
        assert_eq!(ring(5000, Direction::HostToCard, false).depth(), 1023);
        assert_eq!(ring(0, Direction::HostToCard, false).depth(), 1);
    }

    #[test]
    fn the_direction_says_which_end_is_the_source() {
        let h2c = ring(3, Direction::HostToCard, false);
        h2c.put(0, CHUNK, PLAIN).unwrap();
        assert_eq!((at(&h2c, 0).source, at(&h2c, 0).destination, at(&h2c, 0).length), (0x1000, 0x20, 8));
        let c2h = ring(3, Direction::CardToHost, false);
        c2h.put(0, CHUNK, PLAIN).unwrap();
        assert_eq!((at(&c2h, 0).source, at(&c2h, 0).destination), (0x20, 0x1000));
    }

    #[test]
    fn of_a_stream_each_descriptor_has_a_slot_of_its_own() {
        let ring = ring(7, Direction::CardToHost, true);
        let mut places: Vec<u64> = (0..8).map(|number| ring.slot_offset(number)).collect();
        assert_eq!(places, (0..8).map(|slot| 256 + slot * 8).collect::<Vec<_>>());
        ring.memory.write(places[3], &[0xff; 8]).unwrap();
        ring.put(11, CHUNK, PLAIN).unwrap();
        assert_eq!((at(&ring, 3).source, at(&ring, 3).destination), (ring.first() + places[3], 0x1000));
        assert!(!ring.received(11).unwrap().is_valid(), "what an earlier one left is gone");
        places.push(ring.writeback_offset());
        assert!(places.is_sorted() && places[7] + 8 <= places[8]);
    }

    #[test]
    fn it_goes_around_and_behind_the_last_there_is_none() {
        let ring = ring(3, Direction::HostToCard, false);
        ring.clear().unwrap();
        for number in 0..9 {
            ring.put(number, CHUNK, Flags { completed: true, end_of_packet: number == 1 }).unwrap();
            ring.close(number, number + 1).unwrap();
            let descriptor = at(&ring, number);
            assert!(descriptor.control.is_valid() && descriptor.control.completed());
            assert_eq!(descriptor.control.end_of_packet(), number == 1);
            assert!(!descriptor.control.stop(), "an engine is never idle");
            assert_eq!(descriptor.next, ring.first() + (number + 1) % 4 * 32);
            assert!(!at(&ring, number + 1).control.is_valid());
        }
    }

    proptest! {
        /// PG195, "Descriptors": adjacent descriptors count down, lie in one page, and are there.
        #[test]
        fn blocks_are_whole_and_counted_down(
            depth in 1..=MAX_DEPTH, power in 0..=6_u32, from in 0..2000_u64, count in 1..=MAX_DEPTH
        ) {
            let mut ring = ring(depth, Direction::CardToHost, false);
            ring.fetched_by(1 << power);
            let end = from + u64::from(count.min(depth));
            (from..end).for_each(|number| ring.put(number, CHUNK, PLAIN).unwrap());
            ring.close(from, end).unwrap();
            for number in from..end {
                let behind = u64::from(at(&ring, number).control.next_adjacent());
                let (next, last) = (number + 1, number + 1 + behind);
                prop_assert!(behind < 1 << power && (behind == 0 || last < end));
                prop_assert_eq!(ring.offset(next) + behind * 32, ring.offset(last), "they lie side by side");
                prop_assert_eq!(ring.offset(next) / 4096, ring.offset(last) / 4096);
                if behind > 0 {
                    prop_assert_eq!(u64::from(at(&ring, next).control.next_adjacent()), behind - 1);
                }
            }
        }
    }
}
