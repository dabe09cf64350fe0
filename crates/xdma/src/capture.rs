//! Receiving from a stream without an end.

use crate::channel::C2h;
use crate::error::Error;
use crate::pending::Pending;
use crate::plan::Chunk;
use crate::wait::{Backoff, now};
use jitney_vfio::{DmaBuffer, DmaRequest};
use jitney_xdma_spec::StreamSlot;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

/// What happens when blocks come faster than they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overrun {
    /// The card waits: nothing is lost between it and the reader, as long as what feeds the stream can wait too.
    Wait,
    /// The oldest blocks are overwritten, and the reader is told how many: the card never waits.
    Overwrite,
}

/// A block that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Captured {
    /// Its number, counted from 0 when the capture was started, those that were lost included.
    pub sequence: u64,
    /// How many bytes it has.
    pub bytes: usize,
    /// Whether they end a packet.
    pub ends_packet: bool,
    /// Blocks directly in front of it that were overwritten before they were read.
    pub lost: u64,
}

/// A ring of blocks that a stream is received into, see [`C2h::capture`]. Dropping it stops the engine.
#[derive(Debug)]
pub struct Capture {
    channel: C2h,
    buffer: DmaBuffer,
    blocks: u64,
    /// Bytes of a block.
    bytes: u64,
    /// Number of the block that is read next.
    next: u64,
    lost: u64,
    way: Way,
    /// What ended the engine.
    ended: Option<Error>,
}

#[derive(Debug)]
enum Way {
    /// A transfer for each block that is not being read, oldest first.
    Waiting(VecDeque<Pending>),
    /// Descriptors that the engine has done, and when its registers were looked at.
    Overwriting { done: u64, looked: Instant },
}

/// The bits of the word that count.
const WORD_MASK: u64 = 0x00ff_ffff;

/// How often the registers are looked at while there is nothing to read.
const LOOK: Duration = Duration::from_millis(50);

impl Capture {
    pub(crate) fn start(channel: C2h, blocks: u32, bytes: u64, overrun: Overrun) -> Result<Self, Error> {
        // Of a ring that is overwritten, one block is being written, and the one behind it may be.
        let (least, spare) = match overrun {
            Overrun::Wait => (2, 0),
            Overrun::Overwrite => (3, 1),
        };
        let blocks = blocks.clamp(least, crate::ring::MAX_DEPTH);
        let slots = blocks - spare;
        let channel = channel.with_depth(slots)?;
        let blocks = u64::from(blocks);
        let card = channel.shared().lock().engine.card();
        let request = DmaRequest::new(blocks.saturating_mul(bytes)).below(channel.limits().top());
        let buffer = card.dma_buffer(request)?;
        for block in 0..blocks {
            channel.plan_receipt(&buffer, range(block, blocks, bytes))?;
        }
        let mut capture = Self {
            channel,
            buffer,
            blocks,
            bytes,
            next: 0,
            lost: 0,
            way: Way::Waiting(VecDeque::new()),
            ended: None,
        };
        match overrun {
            Overrun::Wait => (0..blocks).try_for_each(|block| capture.arm(block))?,
            Overrun::Overwrite => capture.start_endless()?,
        }
        Ok(capture)
    }

    /// Has block `number` filled.
    fn arm(&mut self, number: u64) -> Result<(), Error> {
        let range = range(number, self.blocks, self.bytes);
        let pending = self.channel.receive(&self.buffer, range)?;
        if let Way::Waiting(waiting) = &mut self.way {
            waiting.push_back(pending);
        }
        Ok(())
    }

    fn start_endless(&mut self) -> Result<(), Error> {
        // First: whatever becomes of it, the engine may have heard.
        self.way = Way::Overwriting { done: 0, looked: now() };
        let mut queue = self.channel.shared().lock();
        queue.halt()?;
        queue.engine.make_ready()?;
        let length = u32::try_from(self.bytes).unwrap_or(u32::MAX);
        let iova = self.buffer.iova();
        let chunks = (0..self.blocks).map(|block| Chunk { host: iova + block * self.bytes, card: 0, length });
        queue.engine.start_endless(chunks)
    }

    /// Bytes that a block can have.
    #[must_use]
    pub fn block_size(&self) -> usize {
        usize::try_from(self.bytes).unwrap_or(usize::MAX)
    }

    /// Blocks that were overwritten before they were read, since the capture was started.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Copies the next block into `block`, which has [`block_size`](Self::block_size) bytes at least; waits for it if need be, for
    /// `timeout` at most. Nothing if there is none by then.
    ///
    /// # Errors
    /// [`Error::Range`] if `block` is too short; what ended the engine, as of [`Pending::poll`].
    pub fn read(&mut self, block: &mut [u8], timeout: Option<Duration>) -> Result<Option<Captured>, Error> {
        let Some(block) = block.get_mut(..self.block_size()) else {
            let channel = self.channel.name().to_owned();
            return Err(Error::Range { channel, range: 0..self.bytes, size: block.len() as u64 });
        };
        if let Some(error) = &self.ended {
            return Err(error.clone());
        }
        let end = timeout.and_then(|timeout| now().checked_add(timeout));
        match &self.way {
            Way::Waiting(_) => self.read_waiting(block, end),
            Way::Overwriting { .. } => self.read_overwriting(block, end),
        }
    }

    fn read_waiting(&mut self, block: &mut [u8], end: Option<Instant>) -> Result<Option<Captured>, Error> {
        let Way::Waiting(waiting) = &mut self.way else { return Ok(None) };
        let Some(pending) = waiting.front() else { return Ok(None) };
        let completed = match end {
            None => loop {
                if let Some(completed) = pending.wait_for(Duration::from_secs(3600))? {
                    break completed;
                }
            },
            Some(end) => match pending.wait_for(end.saturating_duration_since(now()))? {
                Some(completed) => completed,
                None => return Ok(None),
            },
        };
        waiting.pop_front();
        let bytes = usize::try_from(completed.bytes).unwrap_or(block.len()).min(block.len());
        self.buffer.read(range(self.next, self.blocks, self.bytes).start, &mut block[..bytes])?;
        let sequence = self.next;
        self.next += 1;
        self.arm(sequence)?;
        Ok(Some(Captured { sequence, bytes, ends_packet: completed.ends_packet, lost: 0 }))
    }

    fn read_overwriting(
        &mut self,
        block: &mut [u8],
        end: Option<Instant>,
    ) -> Result<Option<Captured>, Error> {
        let (backoff, before) = (Backoff::new(), self.next);
        loop {
            let done = self.look()?;
            self.next = self.next.max(self.oldest(done));
            if self.next == done {
                if end.is_some_and(|end| now() >= end) {
                    return Ok(None);
                }
                backoff.pause();
                continue;
            }
            let sequence = self.next;
            let slot = self.copy(sequence, block)?;
            // What was copied comes before what is counted now.
            fence(Ordering::Acquire);
            let done = self.look()?;
            if sequence < self.oldest(done) {
                continue;
            }
            if !slot.is_valid() || u64::from(slot.length) > self.bytes {
                let error = Error::wrong_length(self.channel.name(), slot);
                return Err(self.fail(error));
            }
            self.next += 1;
            let lost = sequence - before;
            self.lost += lost;
            self.channel.shared().lock().engine.tally.moved(slot.length.into());
            let bytes = usize::try_from(slot.length).unwrap_or(block.len());
            let ends_packet = slot.status.end_of_packet();
            return Ok(Some(Captured { sequence, bytes, ends_packet, lost }));
        }
    }

    /// The oldest block that is whole when `done` are done: the engine is at the next, where the one was that came a round before
    /// it, and may have begun the one behind it.
    const fn oldest(&self, done: u64) -> u64 {
        (done + 2).saturating_sub(self.blocks)
    }

    /// Copies what the block with this number has, and what the card says of it; both may be overwritten meanwhile.
    fn copy(&self, sequence: u64, block: &mut [u8]) -> Result<StreamSlot, Error> {
        let slot = self.channel.shared().lock().engine.ring.received(sequence)?;
        let bytes = usize::try_from(slot.length).unwrap_or(block.len()).min(block.len());
        self.buffer.read(range(sequence, self.blocks, self.bytes).start, &mut block[..bytes])?;
        Ok(slot)
    }

    /// How many blocks the engine has filled.
    fn look(&mut self) -> Result<u64, Error> {
        let Way::Overwriting { done, looked } = &mut self.way else { return Ok(0) };
        let mut queue = self.channel.shared().lock();
        let now = now();
        let due = now.saturating_duration_since(*looked) >= LOOK;
        if due {
            *looked = now;
            // The word begins again after 2^24, which may be some times since it was read.
            let completed = queue.engine.completed()?;
            // All-ones is a card that does not answer, which its status says too.
            if completed != u32::MAX {
                *done += u64::from(completed).wrapping_sub(*done) & u64::from(u32::MAX);
            }
        }
        let word = queue.engine.ring.writeback()?;
        // It may be behind the count.
        let ahead = u64::from(word.count()).wrapping_sub(*done) & WORD_MASK;
        *done += if ahead <= WORD_MASK / 2 { ahead } else { 0 };
        let (failed, done) = (word.error(), *done);
        if failed || due {
            let outcome = queue.check_endless(done, failed, now);
            drop(queue);
            outcome.map_err(|error| self.fail(error))?;
        }
        Ok(done)
    }

    /// Ends the capture, and says if its engine could not be stopped. Dropping it does the same and logs that.
    ///
    /// # Errors
    /// Why the engine could not be stopped: its memory is kept until it can be.
    pub fn stop(self) -> Result<(), Error> {
        let mut queue = self.channel.shared().lock();
        match self.way {
            Way::Overwriting { .. } => queue.stop_endless(&self.buffer),
            Way::Waiting(_) => queue.cancel_all()?,
        }
        Ok(())
    }

    /// Stops the engine; says with what the capture has ended.
    fn fail(&mut self, error: Error) -> Error {
        let error = self.channel.shared().lock().fail_endless(error, &self.buffer);
        self.ended = Some(error.clone());
        error
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // What went wrong is logged.
        let mut queue = self.channel.shared().lock();
        if let Way::Overwriting { .. } = self.way {
            queue.stop_endless(&self.buffer);
        } else {
            let _ = queue.cancel_all();
        }
    }
}

/// Bytes of block `number` in a buffer of `blocks` blocks of `bytes` each.
fn range(number: u64, blocks: u64, bytes: u64) -> Range<u64> {
    let start = number % blocks * bytes;
    start..start + bytes
}
