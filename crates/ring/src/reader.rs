//! One of those who read.

use crate::error::Error;
use crate::layout::{
    AT_CLOSED, AT_PUBLISHED, AT_WAKE, BEGUN, BYTES_BEFORE, ENDS_PACKET, FLAGS, LENGTH, PACKETS_BEFORE, Shape,
    WHOLE, low,
};
use jitney_memory::Mapping;
use jitney_vfio::DmaView;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

/// How often a reader that hears nothing looks whether its writer is there.
const LOOK: Duration = Duration::from_millis(100);

/// How often it is tried to begin in a ring whose newest block is overwritten each time.
const TRIES: usize = 100;

/// A reader of a ring, which begins with what is published after it was made.
#[derive(Debug)]
pub struct Reader {
    view: DmaView,
    shape: Shape,
    /// The block that comes next, with bytes and packets of all before it.
    place: Place,
    lost: Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Place {
    block: u64,
    bytes: u64,
    packets: u64,
}

/// What a reader did not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lost {
    /// Blocks.
    pub blocks: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Packets that ended in them.
    pub packets: u64,
}

/// What a reader finds.
#[derive(Debug)]
pub enum Next<'r> {
    /// The next block that is still there.
    Block(Block<'r>),
    /// Nothing in time.
    Nothing,
    /// There will be no more, and everything that there was has been read.
    Ended(End),
}

/// How a ring ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The writer has ended it.
    Closed,
    /// The writer is gone, or does not offer it any more.
    Gone,
}

/// A block, as long as it is not overwritten. What is read of it is good if nothing was refused.
#[derive(Debug)]
pub struct Block<'r> {
    reader: &'r mut Reader,
    found: Found,
    lost: Lost,
}

#[derive(Debug, Clone, Copy)]
struct Found {
    place: Place,
    length: u32,
    ends_packet: bool,
}

impl Reader {
    /// A reader of the ring in `view`.
    ///
    /// # Errors
    /// [`Error::NoRing`] if there is none; [`Error::Broken`] if it cannot be one.
    pub fn new(view: DmaView) -> Result<Self, Error> {
        let shape = Shape::of(view.view(), view.size())?;
        let mut reader = Self { view, shape, place: Place::default(), lost: Lost::default() };
        for _ in 0..TRIES {
            let Some(last) = reader.published()?.checked_sub(1) else { return Ok(reader) };
            if let Some(found) = reader.look_at(last)? {
                reader.place = found.behind()?;
                return Ok(reader);
            }
        }
        Err(Error::Broken("the block that was published last is never there".into()))
    }

    /// The ring's shape.
    #[must_use]
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// All that this reader has lost so far, what is overwritten and was not looked for yet not included.
    #[must_use]
    pub const fn lost(&self) -> Lost {
        self.lost
    }

    /// The next block; waits for it if need be, for `timeout` at most.
    ///
    /// Who has fallen behind so far that the next block was overwritten goes on in the middle of what there is, so that it is not
    /// caught up with at once.
    ///
    /// # Errors
    /// [`Error::Broken`] if what the writer says cannot be; [`Error::Memory`] if the broker is gone.
    pub fn next(&mut self, timeout: Duration) -> Result<Next<'_>, Error> {
        let end = Instant::now().checked_add(timeout);
        let mut quiet = false;
        loop {
            let published = self.published()?;
            let found = self.find(published)?;
            if let Some(found) = found {
                return self.take(found);
            }
            // What was said before it ended has been seen by now.
            let ended = self.ended(quiet)?;
            if let Some(how) = ended
                && self.published()? == self.place.block
            {
                return Ok(Next::Ended(how));
            }
            let left = end.map_or(LOOK, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(Next::Nothing);
            }
            if published == self.place.block {
                let slice = left.min(LOOK);
                let began = Instant::now();
                quiet = !self.view.view().wait32(AT_WAKE, low(published), slice)?;
                if !quiet && self.published()? == published && began.elapsed() < Duration::from_micros(50) {
                    // The word is ahead of the count for a moment; a writer that leaves it so has nobody spin.
                    std::thread::sleep(Duration::from_micros(200));
                }
            } else {
                std::thread::yield_now();
            }
        }
    }

    fn memory(&self) -> &Mapping {
        self.view.view()
    }

    fn published(&self) -> Result<u64, Error> {
        Ok(self.memory().load_acquire64(AT_PUBLISHED)?)
    }

    fn ended(&self, quiet: bool) -> Result<Option<End>, Error> {
        if self.memory().load_acquire32(AT_CLOSED)? != 0 {
            return Ok(Some(End::Closed));
        }
        // That takes a call of the kernel, so it is asked only when nothing came.
        Ok((quiet && !self.view.is_offered()?).then_some(End::Gone))
    }

    /// The first block from the next on that is there.
    fn find(&self, published: u64) -> Result<Option<Found>, Error> {
        let next = self.place.block;
        if published < next {
            return Err(Error::Broken(format!("{published} blocks were published, after {next} had been")));
        }
        if published == next {
            return Ok(None);
        }
        if let Some(found) = self.look_at(next)? {
            return Ok(Some(found));
        }
        let middle = published.saturating_sub(u64::from(self.shape.blocks() / 2));
        for number in middle.max(next + 1)..published {
            if let Some(found) = self.look_at(number)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// What is said of a block, if it is there as a whole.
    fn look_at(&self, number: u64) -> Result<Option<Found>, Error> {
        let (memory, record) = (self.memory(), self.shape.record(number));
        let stamp = number.wrapping_add(1);
        if memory.load_acquire64(record + WHOLE)? != stamp {
            return Ok(None);
        }
        let place = Place {
            block: number,
            bytes: memory.load_acquire64(record + BYTES_BEFORE)?,
            packets: memory.load_acquire64(record + PACKETS_BEFORE)?,
        };
        let (length, flags) = (memory.load32(record + LENGTH)?, memory.load32(record + FLAGS)?);
        if !self.is_there(number)? {
            return Ok(None);
        }
        if length as usize > self.shape.block_size() {
            return Err(Error::Broken(format!("block {number} has {length} bytes")));
        }
        Ok(Some(Found { place, length, ends_packet: flags & ENDS_PACKET != 0 }))
    }

    /// Whether nothing else was begun where block `number` is, after all that was read so far.
    fn is_there(&self, number: u64) -> Result<bool, Error> {
        fence(Ordering::Acquire);
        let begun = self.memory().load_acquire64(self.shape.record(number) + BEGUN)?;
        Ok(begun == number.wrapping_add(1))
    }

    /// Hands out a block, and counts what lies before it.
    fn take(&mut self, found: Found) -> Result<Next<'_>, Error> {
        let lost = found.place.since(self.place)?;
        let sum = |a: u64, b: u64| a.saturating_add(b);
        self.lost = Lost {
            blocks: sum(self.lost.blocks, lost.blocks),
            bytes: sum(self.lost.bytes, lost.bytes),
            packets: sum(self.lost.packets, lost.packets),
        };
        self.place = found.behind()?;
        Ok(Next::Block(Block { reader: self, found, lost }))
    }
}

impl Place {
    /// What lies between an earlier place and this one.
    fn since(self, earlier: Self) -> Result<Lost, Error> {
        let between = || {
            Some(Lost {
                blocks: self.block.checked_sub(earlier.block)?,
                bytes: self.bytes.checked_sub(earlier.bytes)?,
                packets: self.packets.checked_sub(earlier.packets)?,
            })
        };
        between()
            .ok_or_else(|| Error::Broken(format!("before block {} there was less than before", self.block)))
    }
}

impl Found {
    /// The place behind it.
    fn behind(&self) -> Result<Place, Error> {
        let Place { block, bytes, packets } = self.place;
        let behind = || {
            Some(Place {
                block: block.checked_add(1)?,
                bytes: bytes.checked_add(u64::from(self.length))?,
                packets: packets.checked_add(u64::from(self.ends_packet))?,
            })
        };
        behind().ok_or_else(|| Error::Broken(format!("block {block} comes behind {bytes} bytes")))
    }
}

impl Block<'_> {
    /// Its number, counted from 0 when the writer began.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.found.place.block
    }

    /// Where its first byte is in the stream, counted from when the writer began.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.found.place.bytes
    }

    /// How many bytes it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.found.length as usize
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.found.length == 0
    }

    /// Whether it ends a packet.
    #[must_use]
    pub const fn ends_packet(&self) -> bool {
        self.found.ends_packet
    }

    /// What was lost directly in front of it.
    #[must_use]
    pub const fn lost(&self) -> Lost {
        self.lost
    }

    /// Copies bytes from `offset` on out of the block.
    ///
    /// # Errors
    /// [`Error::Overrun`] if the block was overwritten meanwhile: then the bytes, and what was read of it before, are worth nothing,
    /// and the block counts as lost. [`Error::OutOfBlock`] for bytes that it does not have.
    pub fn read(&mut self, offset: usize, bytes: &mut [u8]) -> Result<(), Error> {
        let (length, end) = (self.len(), offset.saturating_add(bytes.len()));
        if end > length {
            return Err(Error::OutOfBlock { offset, end, length });
        }
        let start = self.reader.shape.block(self.number()) + offset as u64;
        self.reader.memory().read(start, bytes)?;
        self.check()
    }

    /// The memory that it lies in, and where, for who looks at it word by word and copies nothing. What was seen counts if
    /// [`check`](Self::check) says so afterwards.
    #[must_use]
    pub fn memory(&self) -> (&Mapping, u64) {
        (self.reader.memory(), self.reader.shape.block(self.number()))
    }

    /// Whether everything that was read of it so far was its.
    ///
    /// # Errors
    /// [`Error::Overrun`] if not; then the block counts as lost.
    pub fn check(&mut self) -> Result<(), Error> {
        if self.reader.is_there(self.number())? {
            return Ok(());
        }
        // It is among what is found to be lost in front of the next.
        self.reader.place = self.found.place;
        Err(Error::Overrun(self.number()))
    }
}
