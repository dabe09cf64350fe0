//! A ring that a card fills.

use crate::error::Error;
use crate::layout::Shape;
use crate::writer::{Published, Writer};
use jitney_vfio::DmaBuffer;
use jitney_xdma::{C2h, Completed, Pending};
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// A stream that a card's channel puts straight into a ring. Dropping it stops the engine.
///
/// The engine has a quarter of the blocks at a time. It writes to none that it was not given, so the card waits when nobody
/// calls [`publish`](Self::publish) for long; it does not wait for readers.
#[derive(Debug)]
pub struct Receiving {
    /// Oldest first. They end before the ring does.
    waiting: VecDeque<Pending>,
    channel: C2h,
    writer: Writer,
    buffer: DmaBuffer,
    /// The block that the engine is given next.
    next: u64,
}

impl Receiving {
    /// Begins to receive into a ring in `buffer`, which the channel reaches.
    ///
    /// # Errors
    /// [`Error::Size`] if the buffer is too small; what the channel says, above all if it is not a stream's.
    pub fn start(channel: C2h, buffer: &DmaBuffer, shape: Shape) -> Result<Self, Error> {
        let writer = Writer::new(buffer, shape)?;
        let channel = channel.with_depth(shape.armed())?;
        let mut receiving =
            Self { waiting: VecDeque::new(), channel, writer, buffer: buffer.clone(), next: 0 };
        receiving.arm(u64::from(shape.armed()))?;
        Ok(receiving)
    }

    /// What was published so far.
    #[must_use]
    pub const fn published(&self) -> Published {
        self.writer.published()
    }

    /// Waits until the card has filled a block, for `timeout` at most, and publishes all that are there by then; says how many.
    ///
    /// # Errors
    /// What ended the engine. The blocks that it had filled before are published by then.
    pub fn publish(&mut self, timeout: Duration) -> Result<u64, Error> {
        let Some(first) = self.waiting.front() else { return Ok(0) };
        let Some(completed) = first.wait_for(timeout)? else { return Ok(0) };
        let mut done = vec![completed];
        self.waiting.pop_front();
        let ended = loop {
            match self.waiting.front().map_or(Ok(None), Pending::poll) {
                Ok(None) => break Ok(()),
                Ok(Some(completed)) => done.push(completed),
                Err(error) => break Err(error.into()),
            }
            self.waiting.pop_front();
        };
        let count = done.len() as u64;
        // First, so that the engine has something to do meanwhile.
        let armed = ended.and_then(|()| self.arm(count));
        for Completed { bytes, ends_packet, .. } in done {
            self.writer.publish(u32::try_from(bytes).unwrap_or(u32::MAX), ends_packet)?;
        }
        self.writer.wake()?;
        armed.map(|()| count)
    }

    /// Gives the engine the next `count` blocks.
    fn arm(&mut self, count: u64) -> Result<(), Error> {
        let (shape, end) = (self.writer.shape(), self.next + count);
        (self.next..end).try_for_each(|number| self.writer.begin(number))?;
        let range = |number| -> Range<u64> {
            let start = shape.block(number);
            start..start + shape.block_size() as u64
        };
        self.waiting.extend(self.channel.receive_batch(&self.buffer, (self.next..end).map(range))?);
        self.next = end;
        Ok(())
    }
}
