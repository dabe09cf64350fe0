//! A channel as a program uses it.

use crate::channel_info::ChannelInfo;
use crate::engine::Engine;
use crate::error::Error;
use crate::pending::{Completed, Pending};
use crate::plan::{Limits, Plan, Transfer, plan};
use jitney_vfio::{Card, DmaBuffer, Region};
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// The widest data path that the IP can have, in bytes. Within a packet a stream takes only multiples of its width.
const WIDEST_STREAM: u64 = 64;

/// The most bytes of a descriptor, if the program does not say: what the slowest link (2.5 GT/s, one lane, some 200 MB/s) moves in
/// 42 ms. An engine that is told to stop finishes its descriptor; so a transfer that is dropped, and a channel whose
/// user was killed, are done with within that, and so often a long transfer shows progress. A GiB takes 128 descriptors, which
/// costs no time that could be measured.
const DEFAULT_LONGEST: u32 = 8 << 20;

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

/// A channel that this program has leased. One transfer runs on it at a time; different channels run side by side.
///
/// Dropping it stops the channel, then gives its memory back, then the lease. If the channel does not stop it gives back neither,
/// see the [crate's documentation](crate#memory-that-an-engine-may-still-use).
#[derive(Debug)]
pub struct Channel<D> {
    engine: Engine,
    limits: Limits,
    /// What a descriptor may have at most, if the program has said so.
    longest: Option<u32>,
    timeout: Duration,
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
        let channel =
            Self { engine, limits, longest: None, timeout: DEFAULT_TIMEOUT, direction: PhantomData };
        Ok(channel.aligned(1))
    }

    /// The same channel with every descriptor but the last of a transfer a multiple of `align` bytes, a power of two;
    /// 1 if it does not matter. Checked when a transfer is planned.
    #[must_use]
    pub fn aligned(mut self, align: u64) -> Self {
        let least = if self.engine.info.stream { WIDEST_STREAM } else { 1 };
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

    /// The same channel with transfers that fail when no descriptor was done for `timeout`: 10 s by default.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same channel with an interrupt to announce the end of a transfer, by the vector of the same number as the
    /// channel's [bit](ChannelInfo::interrupt) in the IRQ block, instead of a word in memory that has to be polled.
    ///
    /// # Errors
    /// As [`by_vector`](Self::by_vector).
    pub fn by_interrupt(self) -> Result<Self, Error> {
        let vector = self.info().interrupt.into();
        self.by_vector(vector)
    }

    /// The same by another vector. It is leased (`irq3`), so no other channel can have the same one.
    ///
    /// # Errors
    /// [`Error::Card`]: the card has no such vector, or none at all and has to be polled, or somebody else has it, which
    /// says who; or somebody did not end changing vector numbers (`irq-vectors`) within a second. [`Error::LinkDown`].
    pub fn by_vector(mut self, vector: u16) -> Result<Self, Error> {
        self.engine.complete_by(vector)?;
        Ok(self)
    }

    /// What there is to know about the channel.
    #[must_use]
    pub const fn info(&self) -> &ChannelInfo {
        &self.engine.info
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
        let channel = || self.engine.name.clone();
        if range.start > range.end || range.end > size {
            return Err(Error::Range { channel: channel(), range, size });
        }
        let host = buffer.iova().saturating_add(range.start);
        let transfer = Transfer { host, card: card_address, length: range.end - range.start };
        plan(transfer, &self.limits).map_err(|why| Error::Plan { channel: channel(), why })
    }

    /// Starts a transfer between `range` of `buffer`, in bytes from its start, and the card's memory from `card_address`
    /// on, and does not wait for its end. A stream has no addresses; the transfer is one packet of it.
    ///
    /// # Errors
    /// Those of [`plan`](Self::plan), before anything is touched; [`Error::StillBusy`], [`Error::CutOff`],
    /// [`Error::Unknown`] or [`Error::LinkDown`].
    pub fn start(
        &mut self,
        buffer: &DmaBuffer,
        range: Range<u64>,
        card_address: u64,
    ) -> Result<Pending<'_>, Error> {
        let plan = self.plan(buffer, range, card_address)?;
        Pending::start(&mut self.engine, buffer.clone(), plan, self.timeout)
    }
}

impl H2c {
    /// Writes all of `buffer` to the card's memory from `card_address` on, and waits for the end.
    ///
    /// # Errors
    /// Those of [`start`](Self::start) and [`Pending::wait`].
    pub fn write(&mut self, buffer: &DmaBuffer, card_address: u64) -> Result<Completed, Error> {
        self.write_range(buffer, 0..buffer.size(), card_address)
    }

    /// Writes `range` of `buffer`, likewise.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_range(
        &mut self,
        buffer: &DmaBuffer,
        range: Range<u64>,
        card_address: u64,
    ) -> Result<Completed, Error> {
        self.start(buffer, range, card_address)?.wait()
    }
}

impl C2h {
    /// Reads the card's memory from `card_address` on into all of `buffer`, and waits for the end.
    ///
    /// # Errors
    /// Those of [`start`](Self::start) and [`Pending::wait`].
    pub fn read(&mut self, buffer: &DmaBuffer, card_address: u64) -> Result<Completed, Error> {
        self.read_range(buffer, 0..buffer.size(), card_address)
    }

    /// Reads into `range` of `buffer`, likewise.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_range(
        &mut self,
        buffer: &DmaBuffer,
        range: Range<u64>,
        card_address: u64,
    ) -> Result<Completed, Error> {
        self.start(buffer, range, card_address)?.wait()
    }
}
