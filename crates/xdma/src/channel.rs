//! A channel as a program uses it.

use crate::capture::{Capture, Overrun};
use crate::channel_info::ChannelInfo;
use crate::engine::Engine;
use crate::error::Error;
use crate::interrupt::Vector;
use crate::lent::Lent;
use crate::pending::{Completed, Pending, Shared};
use crate::plan::{Limits, Plan, PlanError, Transfer, plan};
use crate::queue::Queue;
use crate::work::{Piece, Work};
use jitney_vfio::{Card, DmaBuffer, DmaRequest, OwnBuffer, Region};
use jitney_xdma_spec::Direction;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The widest data path that the IP can have, in bytes. Within a packet a stream takes only multiples of its width.
const WIDEST_STREAM: u64 = 64;

/// The most bytes of a descriptor, if the program does not say: what the slowest link (2.5 GT/s, one lane, some 200 MB/s) moves in
/// 42 ms. An engine that is told to stop finishes its descriptor; so a transfer that is dropped, and a channel whose
/// user was killed, are done with within that, and so often a long transfer shows progress. A GiB takes 128 descriptors, which
/// costs no time that could be measured.
const DEFAULT_LONGEST: u32 = 8 << 20;

/// The most bytes of a channel's own buffer.
const STAGING: usize = 1 << 20;

/// No descriptor of the usual cards takes half as long.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Direction of a [`Channel`]: from the host to the card.
#[derive(Debug)]
pub enum ToCard {}

/// Direction of a [`Channel`]: from the card to the host.
#[derive(Debug)]
pub enum FromCard {}

/// A channel from the host to the card, see [`Xdma::h2c`](crate::Xdma::h2c).
pub type H2c = Channel<ToCard>;

/// A channel from the card to the host, see [`Xdma::c2h`](crate::Xdma::c2h).
pub type C2h = Channel<FromCard>;

/// A channel that this program has leased. It takes any number of transfers and carries them out in order; different channels
/// run side by side. Any thread may use it.
///
/// Dropping it, and the handles of its transfers, stops the engine, then gives its memory back, then the lease. If the engine does
/// not stop it gives back neither, see the [crate's documentation](crate#memory-that-an-engine-may-still-use).
#[derive(Debug)]
pub struct Channel<D> {
    shared: Arc<Shared>,
    info: ChannelInfo,
    /// Which channel of which card, for errors.
    name: String,
    limits: Limits,
    /// What a descriptor may have at most, if the program has said so.
    longest: Option<u32>,
    /// For bytes that have no DMA buffer; made when they come.
    staging: Mutex<Option<DmaBuffer>>,
    direction: PhantomData<fn() -> D>,
}

impl<D> Channel<D> {
    pub(crate) fn open(
        card: &Arc<dyn Card>,
        bar: u8,
        region: &Region,
        info: ChannelInfo,
    ) -> Result<Self, Error> {
        let limits = info.limits();
        let engine = Engine::open(card, bar, region, info, &limits)?;
        let name = engine.name.clone();
        // Nobody knows when a stream has something to say.
        let endless = info.stream && info.direction == Direction::CardToHost;
        let queue = Queue::new(engine, (!endless).then_some(DEFAULT_TIMEOUT));
        let shared = Arc::new(Shared::new(queue));
        let channel = Self {
            shared,
            info,
            name,
            limits,
            longest: None,
            staging: Mutex::new(None),
            direction: PhantomData,
        };
        Ok(channel.aligned(1))
    }

    /// The same channel with every descriptor but the last of a piece a multiple of `align` bytes, a power of two;
    /// 1 if it does not matter. Checked when a transfer is planned.
    #[must_use]
    pub fn aligned(mut self, align: u64) -> Self {
        let least = if self.info.stream { WIDEST_STREAM } else { 1 };
        let align = if align == 1 { least } else { align };
        // One that is as long as it has to be is none that nobody asked for.
        let usual = u64::from(DEFAULT_LONGEST).max(align);
        let longest = self.longest.unwrap_or_else(|| u32::try_from(usual).unwrap_or(u32::MAX));
        self.limits = self.limits.aligned(align).at_most(longest);
        self
    }

    /// The same channel with descriptors of at most `bytes` each: 8 MiB by default, and 0x0fff_ffff is the most that is
    /// possible.
    ///
    /// An engine cannot be stopped in the middle of a descriptor. The time that this driver gives it to become idle follows
    /// from the longest descriptor: a second, and what it takes at 100 MB/s, 3.7 s in all for the most.
    #[must_use]
    pub fn descriptors_of_at_most(mut self, bytes: u32) -> Self {
        self.longest = Some(bytes);
        self.limits = self.limits.at_most(bytes);
        self
    }

    /// The same channel with transfers that fail when no descriptor was done for `timeout`: 10 s by default, and for a stream that
    /// is received from, which may have nothing to say, never.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        self.shared.lock().timeout = Some(timeout);
        self
    }

    /// The same channel with an engine that has at most `descriptors` at once, 1 to 1023; 125 by default, whose ring is one page
    /// of DMA memory. More transfers than that wait in this process, and are given to the engine by who waits or polls.
    ///
    /// # Errors
    /// [`Error::Card`]: there is no memory for the ring; or why the engine could not be stopped for it.
    pub fn with_depth(self, descriptors: u32) -> Result<Self, Error> {
        self.change(|queue| queue.engine.with_ring(descriptors, self.limits.top()))?;
        Ok(self)
    }

    /// The same channel with transfers all of whose data goes to, or comes from, the one card address that they name: a FIFO behind
    /// the DMA (PG195, "Channel Control": non-incrementing address mode). Each beat of the data path is an access of its own
    /// there. A stream has no addresses, and stays as it is.
    ///
    /// # Errors
    /// [`Error::LinkDown`], or why the engine could not be stopped for it.
    pub fn at_one_address(mut self) -> Result<Self, Error> {
        if !self.info.stream {
            self.change(|queue| {
                queue.engine.one_address = true;
                Ok(())
            })?;
            self.limits = self.limits.at_one_address();
        }
        Ok(self)
    }

    /// The same channel with descriptors that the card may fetch as many of at once as its read requests allow, where they
    /// are given to it together (PG195, "Descriptors": adjacent). By default it fetches each by itself, which has run on more
    /// boards; it matters for many short descriptors behind a slow link.
    ///
    /// # Errors
    /// [`Error::LinkDown`], or why the engine could not be stopped for it.
    pub fn with_adjacent_descriptors(self) -> Result<Self, Error> {
        self.change(|queue| {
            let block = queue.engine.fetched_at_once()?;
            queue.engine.ring.fetched_by(block);
            Ok(())
        })?;
        Ok(self)
    }

    /// The same channel with an interrupt that wakes who waits, by the vector of the same number as the
    /// channel's [bit](ChannelInfo::interrupt) in the IRQ block. Without it, who waits looks at memory again and again.
    ///
    /// A card that has fewer vectors than channels, or only the interrupt line, has several of this process's channels [share
    /// one](crate#several-channels-on-one-vector): that of the number modulo how many there are. If another process has
    /// it, any other that is free or this process's is taken.
    ///
    /// # Errors
    /// [`Error::Card`]: the card has no vectors and has to be polled, or other processes have all of them, which says who; or
    /// somebody did not end changing vector numbers (`irq-vectors`) within a second. [`Error::LinkDown`].
    pub fn by_interrupt(self) -> Result<Self, Error> {
        let vector = Vector::Usual(self.info.interrupt.into());
        self.change(|queue| queue.engine.complete_by(vector, false))?;
        Ok(self)
    }

    /// The same by this vector. It is leased (`irq3`), so no other process can have the same one; other channels of this one can.
    ///
    /// # Errors
    /// As [`by_interrupt`](Self::by_interrupt); [`Error::Card`] also if the card has no such vector, or another process has it.
    pub fn by_vector(self, vector: u16) -> Result<Self, Error> {
        self.change(|queue| queue.engine.complete_by(Vector::Number(vector), false))?;
        Ok(self)
    }

    /// The same channel with an interrupt for those who wait long: they look at memory for 30 µs, as long as a short transfer
    /// takes, and then sleep until the interrupt comes, which is let through only while somebody sleeps. It has the vector that
    /// [`by_interrupt`](Self::by_interrupt) would take.
    ///
    /// # Errors
    /// As [`by_interrupt`](Self::by_interrupt).
    pub fn adaptive(self) -> Result<Self, Error> {
        let vector = Vector::Usual(self.info.interrupt.into());
        self.change(|queue| queue.engine.complete_by(vector, true))?;
        Ok(self)
    }

    /// Changes how the engine runs, between two descriptors if it runs.
    fn change(&self, change: impl FnOnce(&mut Queue) -> Result<(), Error>) -> Result<(), Error> {
        let mut queue = self.shared.lock();
        queue.halt()?;
        let outcome = change(&mut queue);
        queue.resume();
        outcome
    }

    /// What there is to know about the channel.
    #[must_use]
    pub const fn info(&self) -> &ChannelInfo {
        &self.info
    }

    /// What its descriptors may be.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The descriptors that a transfer between `range` of `buffer` and `card_address` takes, without starting it.
    ///
    /// # Errors
    /// [`Error::Range`] or [`Error::Plan`].
    pub fn plan(&self, buffer: &DmaBuffer, range: Range<u64>, card_address: u64) -> Result<Plan, Error> {
        let size = buffer.size();
        let channel = || self.name.clone();
        if range.start > range.end || range.end > size {
            return Err(Error::Range { channel: channel(), range, size });
        }
        let host = buffer.iova().saturating_add(range.start);
        let card = if self.info.stream { 0 } else { card_address };
        let transfer = Transfer { host, card, length: range.end - range.start };
        plan(transfer, &self.limits).map_err(|why| Error::Plan { channel: channel(), why })
    }

    /// Queues a transfer between `range` of `buffer`, in bytes from its start, and the card's memory from `card_address`
    /// on, and does not wait for its end. A stream has no addresses; the transfer is one packet of it.
    ///
    /// # Errors
    /// Those of [`plan`](Self::plan), before anything is touched; [`Error::StillBusy`], [`Error::CutOff`],
    /// [`Error::Unknown`] or [`Error::LinkDown`].
    pub fn submit(&self, buffer: &DmaBuffer, range: Range<u64>, card_address: u64) -> Result<Pending, Error> {
        self.must_not_receive()?;
        let plan = self.plan(buffer, range, card_address)?;
        self.queue(Work::new(plan, buffer.clone()))
    }

    /// Queues a transfer of a buffer that is this program's alone, which gets it back when the transfer has ended. Otherwise as
    /// [`submit`](Self::submit).
    ///
    /// # Errors
    /// As [`submit`](Self::submit), with the buffer.
    pub fn submit_own(
        &self,
        buffer: OwnBuffer,
        range: Range<u64>,
        card_address: u64,
    ) -> Result<Lent, (Error, Option<OwnBuffer>)> {
        let buffer = buffer.into_shared();
        match self.submit(&buffer, range, card_address) {
            Ok(pending) => Ok(Lent { pending, buffer }),
            Err(error) => Err((error, buffer.into_own().ok())),
        }
    }

    /// Queues many transfers, one for each piece, which the engine is given together: with one register write for as many as
    /// its ring has room for. Their handles come in the order of the pieces.
    ///
    /// # Errors
    /// As [`submit`](Self::submit), of the first piece that is wrong: then none is queued.
    pub fn submit_batch(&self, pieces: impl IntoIterator<Item = Piece>) -> Result<Vec<Pending>, Error> {
        self.must_not_receive()?;
        let work = |piece: Piece| {
            let plan = self.plan(&piece.buffer, piece.range, piece.card_address)?;
            Ok(Work::new(plan, piece.buffer))
        };
        self.queue_all(pieces.into_iter().map(work).collect::<Result<_, Error>>()?)
    }

    /// Queues a transfer of several pieces, of one buffer or several, in the order that they are given in: to or from one place on
    /// the card if their card addresses follow each other, or any. On a stream they are one packet.
    ///
    /// # Errors
    /// As [`submit`](Self::submit); [`PlanError::Empty`] if there is none.
    pub fn submit_pieces(&self, pieces: impl IntoIterator<Item = Piece>) -> Result<Pending, Error> {
        self.must_not_receive()?;
        let mut pieces = pieces.into_iter();
        let plan = |piece: &Piece| self.plan(&piece.buffer, piece.range.clone(), piece.card_address);
        let Some(first) = pieces.next() else {
            return Err(Error::Plan { channel: self.name.clone(), why: PlanError::Empty });
        };
        let mut work = Work::new(plan(&first)?, first.buffer);
        for piece in pieces {
            work.push(plan(&piece)?, piece.buffer);
        }
        self.queue(work)
    }

    /// Whoever receives does not know how many bytes there will be.
    fn must_not_receive(&self) -> Result<(), Error> {
        let receives = self.info.stream && self.info.direction == Direction::CardToHost;
        if receives { Err(Error::Stream { channel: self.name.clone(), stream: true }) } else { Ok(()) }
    }

    fn queue(&self, work: Work) -> Result<Pending, Error> {
        let mut queue = self.shared.lock();
        let ticket = queue.submit(work)?;
        Ok(self.pending(&queue, ticket))
    }

    fn queue_all(&self, work: Vec<Work>) -> Result<Vec<Pending>, Error> {
        let mut queue = self.shared.lock();
        let tickets = queue.submit_all(work)?;
        Ok(tickets.map(|ticket| self.pending(&queue, ticket)).collect())
    }

    fn pending(&self, queue: &Queue, ticket: u64) -> Pending {
        let interrupt = queue.engine.interrupt().cloned();
        Pending { shared: Arc::clone(&self.shared), ticket, interrupt, is_forgotten: false }
    }

    /// Gives up every transfer of the channel that has not ended, as [`Pending::cancel`] does one.
    ///
    /// # Errors
    /// Why the engine could not be stopped; then all transfers have ended with that.
    pub fn cancel_all(&self) -> Result<(), Error> {
        let outcome = self.shared.lock().cancel_all();
        self.shared.notify();
        outcome
    }
}

impl<D> Channel<D> {
    /// The channel's own buffer, for `length` bytes or a part of them, and where it is kept; one that a failed transfer may still use
    /// is not used again.
    fn staging(&self, length: usize) -> Result<(MutexGuard<'_, Option<DmaBuffer>>, DmaBuffer), Error> {
        let size = if self.info.stream { length } else { length.min(STAGING) }.max(1) as u64;
        let mut kept = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        let buffer = match kept.take() {
            Some(buffer) if buffer.size() >= size => buffer,
            _ => {
                let card = self.shared.lock().engine.card();
                card.dma_buffer(DmaRequest::new(size).below(self.limits.top()))?
            }
        };
        Ok((kept, buffer))
    }

    /// Where the parts of `length` bytes go, one of which fits the channel's own buffer, and which they are.
    fn parts(&self, card_address: u64, length: usize) -> impl Iterator<Item = (u64, Range<usize>)> + use<D> {
        let most = if self.info.stream { length.max(1) } else { STAGING };
        // None at all is refused as any transfer of nothing.
        let starts = (0..length.max(1)).step_by(most);
        starts.map(move |start| (card_address.saturating_add(start as u64), start..length.min(start + most)))
    }
}

impl H2c {
    /// Writes all of `buffer` to the card's memory from `card_address` on, and waits for the end.
    ///
    /// # Errors
    /// Those of [`submit`](Self::submit) and [`Pending::wait`].
    pub fn write(&self, buffer: &DmaBuffer, card_address: u64) -> Result<Completed, Error> {
        self.write_range(buffer, 0..buffer.size(), card_address)
    }

    /// Writes `range` of `buffer`, likewise.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_range(
        &self,
        buffer: &DmaBuffer,
        range: Range<u64>,
        card_address: u64,
    ) -> Result<Completed, Error> {
        self.submit(buffer, range, card_address)?.wait()
    }
}

impl H2c {
    /// Writes `bytes` to the card's memory from `card_address` on, and waits for the end: for the few that are not worth a buffer.
    /// They are copied into one of the channel's own, at most 1 MiB at a time. On a stream they are one packet.
    ///
    /// # Errors
    /// Those of [`write`](Self::write); [`Error::Card`] without memory for the buffer.
    pub fn write_bytes(&self, bytes: &[u8], card_address: u64) -> Result<(), Error> {
        let (mut kept, buffer) = self.staging(bytes.len())?;
        for (address, part) in self.parts(card_address, bytes.len()) {
            let bytes = &bytes[part];
            buffer.write(0, bytes)?;
            self.write_range(&buffer, 0..bytes.len() as u64, address)?;
        }
        *kept = Some(buffer);
        Ok(())
    }
}

impl C2h {
    /// Reads as many bytes as `bytes` has from the card's memory from `card_address` on, likewise.
    ///
    /// # Errors
    /// Those of [`read`](Self::read); [`Error::Card`] without memory for the buffer.
    pub fn read_bytes(&self, bytes: &mut [u8], card_address: u64) -> Result<(), Error> {
        let (mut kept, buffer) = self.staging(bytes.len())?;
        for (address, part) in self.parts(card_address, bytes.len()) {
            let bytes = &mut bytes[part];
            self.read_range(&buffer, 0..bytes.len() as u64, address)?;
            buffer.read(0, bytes)?;
        }
        *kept = Some(buffer);
        Ok(())
    }
}

impl C2h {
    /// Reads the card's memory from `card_address` on into all of `buffer`, and waits for the end.
    ///
    /// # Errors
    /// Those of [`submit`](Self::submit) and [`Pending::wait`].
    pub fn read(&self, buffer: &DmaBuffer, card_address: u64) -> Result<Completed, Error> {
        self.read_range(buffer, 0..buffer.size(), card_address)
    }

    /// Reads into `range` of `buffer`, likewise.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_range(
        &self,
        buffer: &DmaBuffer,
        range: Range<u64>,
        card_address: u64,
    ) -> Result<Completed, Error> {
        self.submit(buffer, range, card_address)?.wait()
    }

    /// Queues `range` of `buffer` for what a stream has to say: up to the end of a packet, or as much as there is room for; the
    /// rest of such a packet goes to the next one queued. [`Completed`] says how many bytes came and whether they end a packet.
    ///
    /// The range is a multiple of 64 bytes, the widest data path that there is, because a card fills whole words of its own; and
    /// one descriptor.
    ///
    /// # Errors
    /// [`Error::Stream`] if the channel is memory-mapped; else as [`submit`](Self::submit).
    pub fn receive(&self, buffer: &DmaBuffer, range: Range<u64>) -> Result<Pending, Error> {
        self.queue(Work::new(self.plan_receipt(buffer, range)?, buffer.clone()))
    }

    /// Queues many ranges, as [`receive`](Self::receive) does one, which the engine is given together.
    ///
    /// # Errors
    /// As [`receive`](Self::receive), of the first range that is wrong: then none is queued.
    pub fn receive_batch(
        &self,
        buffer: &DmaBuffer,
        ranges: impl IntoIterator<Item = Range<u64>>,
    ) -> Result<Vec<Pending>, Error> {
        let work = |range| Ok(Work::new(self.plan_receipt(buffer, range)?, buffer.clone()));
        self.queue_all(ranges.into_iter().map(work).collect::<Result<_, Error>>()?)
    }

    pub(crate) fn plan_receipt(&self, buffer: &DmaBuffer, range: Range<u64>) -> Result<Plan, Error> {
        if !self.info.stream {
            return Err(Error::Stream { channel: self.name.clone(), stream: false });
        }
        let plan = self.plan(buffer, range, 0)?;
        let length = plan.bytes();
        let refused = |why| Error::Plan { channel: self.name.clone(), why };
        if !length.is_multiple_of(WIDEST_STREAM) {
            return Err(refused(PlanError::Length { length, multiple: WIDEST_STREAM }));
        }
        if plan.descriptors() > 1 {
            return Err(refused(PlanError::Receipt { length, longest: plan.whole() }));
        }
        Ok(plan)
    }

    /// Goes on receiving into a ring of `blocks` blocks, 3 to 1023, of `bytes` each, a multiple of 64, until the [`Capture`] is
    /// dropped. What happens when its reader is too slow is said by `overrun`.
    ///
    /// # Errors
    /// [`Error::Stream`] if the channel is memory-mapped; [`Error::Plan`]; [`Error::Card`] without memory for the ring; or why the
    /// engine could not be started.
    pub fn capture(self, blocks: u32, bytes: u64, overrun: Overrun) -> Result<Capture, Error> {
        Capture::start(self, blocks, bytes, overrun)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}
