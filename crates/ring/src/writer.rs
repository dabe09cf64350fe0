//! The one who writes.

use crate::error::Error;
use crate::layout::{
    AT_BLOCKS, AT_BYTES, AT_CLOSED, AT_MAGIC, AT_PUBLISHED, AT_VERSION, AT_WAKE, BEGUN, BYTES_BEFORE,
    ENDS_PACKET, FLAGS, LENGTH, MAGIC, PACKETS_BEFORE, Shape, VERSION, WHOLE, low,
};
use jitney_vfio::DmaBuffer;
use std::sync::atomic::{Ordering, fence};

/// Who puts blocks into a ring. Dropping it says to the readers that there will be no more.
#[derive(Debug)]
pub struct Writer {
    buffer: DmaBuffer,
    shape: Shape,
    published: Published,
}

/// What a writer has published so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Published {
    /// Blocks.
    pub blocks: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Packets that ended in them.
    pub packets: u64,
}

impl Writer {
    /// Makes a ring in `buffer`, which is as large as [`Shape::request`] says and nobody else writes to.
    ///
    /// # Errors
    /// [`Error::Size`] if it is not.
    pub fn new(buffer: &DmaBuffer, shape: Shape) -> Result<Self, Error> {
        if buffer.size() < shape.size() {
            return Err(Error::Size { needed: shape.size(), there: buffer.size() });
        }
        let memory = buffer.view();
        // Whoever looks too early finds no ring.
        memory.store_release32(AT_MAGIC, 0)?;
        for number in 0..u64::from(shape.blocks()) {
            let record = shape.record(number);
            memory.store_release64(record + BEGUN, 0)?;
            memory.store_release64(record + WHOLE, 0)?;
        }
        memory.store32(AT_VERSION, VERSION)?;
        memory.store32(AT_BLOCKS, shape.blocks())?;
        memory.store32(AT_BYTES, u32::try_from(shape.block_size()).unwrap_or(u32::MAX))?;
        memory.store32(AT_CLOSED, 0)?;
        memory.store32(AT_WAKE, 0)?;
        memory.store_release64(AT_PUBLISHED, 0)?;
        memory.store_release32(AT_MAGIC, MAGIC)?;
        Ok(Self { buffer: buffer.clone(), shape, published: Published::default() })
    }

    /// The ring's shape.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// What was published so far.
    #[must_use]
    pub const fn published(&self) -> Published {
        self.published
    }

    /// Copies `data` into the next block and publishes it, for what comes from no card.
    ///
    /// # Errors
    /// [`Error::TooLong`] if it has more bytes than a block.
    pub fn put(&mut self, data: &[u8], ends_packet: bool) -> Result<(), Error> {
        let most = self.shape.block_size();
        let length = u32::try_from(data.len()).ok().filter(|_| data.len() <= most);
        let length = length.ok_or(Error::TooLong { length: data.len(), most })?;
        self.begin(self.published.blocks)?;
        self.buffer.write(self.shape.block(self.published.blocks), data)?;
        self.publish(length, ends_packet)?;
        self.wake()
    }

    /// From here on block `number` is being put where another was: who reads that one finds out.
    pub(crate) fn begin(&self, number: u64) -> Result<(), Error> {
        self.buffer.view().store_release64(self.shape.record(number) + BEGUN, number + 1)?;
        // What is written to the block comes behind that.
        fence(Ordering::SeqCst);
        Ok(())
    }

    /// The next block is there as a whole.
    pub(crate) fn publish(&mut self, length: u32, ends_packet: bool) -> Result<(), Error> {
        let Published { blocks, bytes, packets } = self.published;
        let (memory, record) = (self.buffer.view(), self.shape.record(blocks));
        memory.store_release64(record + BYTES_BEFORE, bytes)?;
        memory.store_release64(record + PACKETS_BEFORE, packets)?;
        memory.store32(record + LENGTH, length)?;
        memory.store32(record + FLAGS, if ends_packet { ENDS_PACKET } else { 0 })?;
        memory.store_release64(record + WHOLE, blocks + 1)?;
        memory.store_release64(AT_PUBLISHED, blocks + 1)?;
        self.published = Published {
            blocks: blocks + 1,
            bytes: bytes + u64::from(length),
            packets: packets + u64::from(ends_packet),
        };
        Ok(())
    }

    /// Wakes the readers who have seen all that there was before.
    pub(crate) fn wake(&self) -> Result<(), Error> {
        let memory = self.buffer.view();
        memory.store_release32(AT_WAKE, low(self.published.blocks))?;
        // A reader stores nothing, so nobody knows whether one sleeps.
        Ok(memory.wake32(AT_WAKE)?)
    }

    fn close(&self) -> Result<(), Error> {
        let memory = self.buffer.view();
        memory.store_release32(AT_CLOSED, 1)?;
        // Another value than the one that they sleep on.
        memory.store_release32(AT_WAKE, low(self.published.blocks) ^ 1 << 31)?;
        Ok(memory.wake32(AT_WAKE)?)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(%error, "the readers of a ring could not be told that it has ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jitney_vfio::{Card, FakeCard, FakeHost};

    /// A card is given blocks ahead of those that are published: from then on what was there is good for nobody.
    #[test]
    fn a_block_that_is_begun_ahead_takes_back_the_one_that_was_there_and_no_other() {
        let card = FakeCard::builder(&FakeHost::new(), 0x10ee, 0x7011).build().unwrap();
        let shape = Shape::new(4, 64).unwrap();
        let buffer = card.dma_buffer(shape.request()).unwrap();
        let mut writer = Writer::new(&buffer, shape).unwrap();
        (0..4).for_each(|number| writer.put(&[number], true).unwrap());
        writer.begin(5).unwrap();
        let word = |number, which| buffer.view().load_acquire64(shape.record(number) + which).unwrap();
        assert_eq!((0..4).map(|number| word(number, BEGUN)).collect::<Vec<_>>(), [1, 6, 3, 4]);
        assert_eq!((0..4).map(|number| word(number, WHOLE)).collect::<Vec<_>>(), [1, 2, 3, 4]);
    }
}
