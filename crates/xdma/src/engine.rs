//! One channel's engine: leasing it, setting it up, starting it. How it is stopped is in `stop`.

mod last_resort;
mod stop;

use crate::channel_info::ChannelInfo;
use crate::error::Error;
use crate::interrupt::{self, ChannelInterrupt, Vector};
use crate::plan::{Chunk, Limits};
use crate::ring::{DEFAULT_DEPTH, Flags, Ring};
use jitney_registers::Block;
use jitney_vfio::{Card, Lease, LeaseRequest, Notices, Part, Region, Tally, Will, WillStep};
use jitney_xdma_spec::descriptor::{MAX_LENGTH, block_of};
use jitney_xdma_spec::{
    ChannelControl, ChannelSet, ChannelStatus, InterruptEnable, Submodule, block, channel, config, sgdma,
};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stop::{HALT, stop_time};

/// How often the notices about the card are looked at: at once for a person, and no system call for each small transfer.
const HEED: Duration = Duration::from_millis(50);

/// What a card's largest read request is if it does not say: what most hosts set, in bytes.
const USUAL_READ_REQUEST: u32 = 512;

/// What an engine may be doing with memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Whatever an earlier user left; it knows nothing of this channel's memory.
    Foreign,
    /// Nothing.
    Idle,
    /// RUN may be set.
    Running,
    /// It was told to stop and stayed busy, or it is not known whether it has heard.
    Stuck,
    /// The same, but its card's bus mastering is off.
    CutOff,
}

/// How many descriptors the card fetches at once at most.
pub(crate) fn fetched_at_once(region: &Region) -> Result<u8, Error> {
    let config = Block::new(region, block::offset(Submodule::Config, 0));
    let most = config.read(config::PCIE_MAX_READ_REQUEST)?;
    Ok(block_of(if most.is_valid() { most.bytes() } else { USUAL_READ_REQUEST }))
}

/// What an owner does if this process goes without a goodbye: stops the channel, silences it, and waits as long as the longest
/// descriptor can last, since those of later transfers are not known yet.
fn will(bar: u8, channel: u64, info: &ChannelInfo) -> Will {
    let register = |offset: u32| channel + u64::from(offset);
    let stop = WillStep::write(bar, register(channel::CONTROL_CLEAR.offset()), HALT.into_bits());
    let idle = WillStep::WaitUntil {
        bar,
        offset: register(channel::STATUS.offset()),
        mask: ChannelStatus::new().with_busy(true).into_bits(),
        value: 0,
        within_ms: u32::try_from(stop_time(MAX_LENGTH).as_millis()).unwrap_or(u32::MAX),
    };
    // The next user may be a driver that knows nothing of credits and would wait for ever.
    let common = block::offset(Submodule::SgdmaCommon, 0);
    let own = ChannelSet::only(info.direction, info.index).into_bits();
    let no_credits = WillStep::write(bar, common + u64::from(sgdma::common::CREDIT_MODE_CLEAR.offset()), own);
    Will([stop].into_iter().chain(interrupt::silence(bar, info)).chain([idle, no_credits]).collect())
}

/// A leased channel. Fields are dropped in this order: the engine has stopped, the interrupt goes back, then memory, then
/// the lease.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) info: ChannelInfo,
    /// Which channel of which card, for errors.
    pub(crate) name: String,
    /// What it has the lease of.
    part: Part,
    channel: Block<Region>,
    sgdma: Block<Region>,
    /// What holds one bit for every channel.
    common: Block<Region>,
    /// What wakes who waits; the engine writes a word back in any case.
    interrupt: Option<Arc<ChannelInterrupt>>,
    /// Whether the interrupt is let through only while somebody sleeps.
    adaptive: bool,
    /// All of a transfer goes to, or comes from, one card address.
    pub(crate) one_address: bool,
    /// What the status said since the engine was started and was cleared by reading it.
    logged: ChannelStatus,
    pub(crate) ring: Ring,
    state: State,
    /// Bytes of the longest descriptor that the engine may be at.
    longest: u32,
    /// The registers may not hold what [`Engine::set_up`] wrote.
    unsettled: bool,
    notices: Notices,
    /// When they were looked at last.
    heeded: Option<Instant>,
    /// There until the channel is dropped.
    lease: Option<Lease>,
    /// For people who watch.
    pub(crate) tally: Tally,
    card: Arc<dyn Card>,
}

impl Engine {
    /// Leases the channel, stops whatever ran on it, and sets it up.
    pub(crate) fn open(
        card: &Arc<dyn Card>,
        bar: u8,
        region: &Region,
        info: ChannelInfo,
        limits: &Limits,
    ) -> Result<Self, Error> {
        let registers = |submodule| Block::new(region.clone(), block::offset(submodule, info.index));
        let channel = registers(info.direction.channel_block());
        let part: Part = info.to_string().parse()?;
        let tally = card.tally(&part);
        Self::end_what_is_left_behind(&**card, &part, &info, &channel)?;
        let lease =
            card.lease(LeaseRequest::exclusive(part.clone()).with_will(will(bar, channel.base(), &info)))?;
        let mut engine = Self {
            info,
            name: format!("{info} of {}", card.identity()),
            part,
            channel,
            sgdma: registers(info.direction.sgdma_block()),
            common: Block::new(region.clone(), block::offset(Submodule::SgdmaCommon, 0)),
            interrupt: None,
            adaptive: false,
            one_address: false,
            logged: ChannelStatus::new(),
            ring: Ring::new(&**card, limits.top(), DEFAULT_DEPTH, info.direction, info.stream)?,
            state: State::Foreign,
            longest: MAX_LENGTH,
            unsettled: true,
            notices: card.notices()?,
            heeded: None,
            lease: Some(lease),
            tally,
            card: Arc::clone(card),
        };
        engine.make_ready()?;
        tracing::debug!(channel = engine.name, "leased");
        Ok(engine)
    }

    /// From now on, has a vector wake who waits; `adaptive`: only while somebody sleeps. The engine must be idle.
    pub(crate) fn complete_by(&mut self, vector: Vector, adaptive: bool) -> Result<(), Error> {
        // First, because it may have the same vector.
        if let Some(interrupt) = self.interrupt.take() {
            interrupt.retire()?;
        }
        let interrupt = ChannelInterrupt::take(&*self.card, self.channel.space(), self.info, vector)?;
        self.interrupt = Some(Arc::new(interrupt));
        self.adaptive = adaptive;
        self.unsettled = true;
        self.make_ready()
    }

    /// From now on, has a ring for `depth` descriptors that reaches up to `top`. The engine must be idle.
    pub(crate) fn with_ring(&mut self, depth: u32, top: u64) -> Result<(), Error> {
        if self.state != State::Idle {
            self.stop()?;
        }
        let block = self.ring.block();
        self.ring = Ring::new(&*self.card, top, depth, self.info.direction, self.info.stream)?;
        self.ring.fetched_by(block);
        self.unsettled = true;
        Ok(())
    }

    /// How many descriptors the card fetches at once at most.
    pub(crate) fn fetched_at_once(&self) -> Result<u8, Error> {
        fetched_at_once(self.channel.space())
    }

    /// Brings the engine to where it can be started, from wherever it is.
    pub(crate) fn make_ready(&mut self) -> Result<(), Error> {
        // Until all of this has worked: a card that is away for a moment comes back with its registers reset.
        let unsettled = std::mem::replace(&mut self.unsettled, true);
        if self.state != State::Idle || self.status()?.busy() {
            self.stop()?;
        }
        if unsettled {
            self.set_up()?;
        }
        self.unsettled = false;
        Ok(())
    }

    /// Writes the registers that stay the same from transfer to transfer, and sees that the card has them: an engine that is
    /// started with addresses of an earlier user's runs on memory that is somebody else's now.
    fn set_up(&mut self) -> Result<(), Error> {
        let Self { channel, sgdma, ring, .. } = self;
        match &self.interrupt {
            None => channel.write(channel::INTERRUPT_ENABLE, InterruptEnable::new())?,
            Some(interrupt) => interrupt.enable(&*self.card, !self.adaptive)?,
        }
        sgdma.write(sgdma::FIRST_DESCRIPTOR_ADJACENT, 0)?;
        let (direction, index) = (self.info.direction, self.info.index);
        // It belongs to another way of using the channel and would keep it from fetching descriptors.
        self.common.write(sgdma::common::HALT_CLEAR, ChannelSet::only(direction, index))?;
        self.common.write(sgdma::common::CREDIT_MODE_SET, ChannelSet::only(direction, index))?;
        let credit_mode = self.common.read(sgdma::common::CREDIT_MODE)?;
        if !credit_mode.contains(direction, index) {
            return Err(Error::no_credit_mode(&self.name, credit_mode));
        }
        for (block, low, high, address) in [
            (
                channel,
                channel::WRITEBACK_ADDRESS_LOW,
                channel::WRITEBACK_ADDRESS_HIGH,
                ring.writeback_address(),
            ),
            (sgdma, sgdma::FIRST_DESCRIPTOR_LOW, sgdma::FIRST_DESCRIPTOR_HIGH, ring.first()),
        ] {
            block.write_pair(low, high, address)?;
            let read = u64::from(block.read(high)?) << 32 | u64::from(block.read(low)?);
            if read != address {
                return Err(Error::lost_write(&self.name, address, read));
            }
        }
        Ok(())
    }

    /// Fails if the card is wanted back or has failed, by what was last said about it: nobody who waits for the card may keep
    /// it then, and nothing may be started on it.
    pub(crate) fn heed_notices(&mut self, now: Instant) -> Result<(), Error> {
        if self.heeded.is_some_and(|heeded| now - heeded < HEED) {
            return Ok(());
        }
        self.heeded = Some(now);
        match self.notices.look()? {
            None => Ok(()),
            Some(notice) => {
                self.heeded = None;
                Err(notice.explain(self.card.identity()).into())
            }
        }
    }

    /// The card that it is on.
    pub(crate) fn card(&self) -> Arc<dyn Card> {
        Arc::clone(&self.card)
    }

    /// Whether it was started and not stopped since.
    pub(crate) fn is_running(&self) -> bool {
        self.state == State::Running
    }

    /// Starts the engine at the first slot of its empty ring, where it waits for [`credit`](Self::credit). It must be ready.
    pub(crate) fn start(&mut self) -> Result<(), Error> {
        self.start_with(|_| Ok(()))
    }

    fn start_with(
        &mut self,
        fill: impl FnOnce(&Ring) -> Result<(), jitney_vfio::Error>,
    ) -> Result<(), Error> {
        self.ring.clear()?;
        fill(&self.ring)?;
        let control = match self.interrupt {
            None => ChannelControl::polled(self.info.direction),
            Some(_) => interrupt::control(self.info.direction),
        };
        let control = control.with_non_incrementing(self.one_address);
        self.logged = ChannelStatus::new();
        self.longest = 0;
        self.state = State::Running;
        Ok(self.channel.write(channel::CONTROL, control.with_run(true))?)
    }

    /// Starts the engine on a ring whose every slot has a descriptor, without credits: it goes around until it is stopped. It
    /// must be ready.
    pub(crate) fn start_endless(&mut self, chunks: impl Iterator<Item = Chunk>) -> Result<(), Error> {
        // They are on again for whatever comes next.
        self.unsettled = true;
        let own = ChannelSet::only(self.info.direction, self.info.index);
        self.common.write(sgdma::common::CREDIT_MODE_CLEAR, own)?;
        let flags = Flags { completed: true, end_of_packet: false };
        let mut longest = 0;
        self.start_with(|ring| {
            (0..ring.slots()).zip(chunks).try_for_each(|(number, chunk)| {
                longest = longest.max(chunk.length);
                ring.put(number, chunk, flags)
            })
        })?;
        self.longest = longest;
        Ok(())
    }

    /// Has the running engine take the next `count` descriptors of its ring, the longest of which has `longest` bytes.
    pub(crate) fn credit(&mut self, count: u32, longest: u32) -> Result<(), Error> {
        self.longest = self.longest.max(longest);
        Ok(self.sgdma.write(sgdma::CREDITS, count)?)
    }

    /// The status since the engine was started: what it says now and what it said before it was cleared.
    pub(crate) fn status(&self) -> Result<ChannelStatus, Error> {
        let status = self.channel.read(channel::STATUS)?;
        if status.into_bits() == u32::MAX {
            return Err(self.all_ones());
        }
        Ok((self.logged.into_bits() | status.into_bits()).into())
    }

    /// Whether an engine that was stopped had said that it failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.logged.has_errors(self.info.direction)
    }

    fn all_ones(&self) -> Error {
        Error::all_ones(format_args!("the status of {}", self.name))
    }

    /// The status since the engine was started: what it says now and what it said before it was cleared. Clears it.
    pub(crate) fn take_status(&mut self) -> Result<ChannelStatus, Error> {
        let status = self.channel.read(channel::STATUS_READ_CLEAR)?;
        if status.into_bits() == u32::MAX {
            return Err(self.all_ones());
        }
        self.logged = (self.logged.into_bits() | status.with_busy(false).into_bits()).into();
        Ok(self.logged.with_busy(status.busy()))
    }

    /// What wakes who waits, if anything does.
    pub(crate) fn interrupt(&self) -> Option<&Arc<ChannelInterrupt>> {
        self.interrupt.as_ref()
    }

    /// Lets the interrupt through from now on, if that is not always so; without one for what has been.
    pub(crate) fn arm(&mut self) -> Result<(), Error> {
        if self.adaptive && self.interrupt.is_some() {
            self.take_status()?;
            self.channel.write(channel::INTERRUPT_ENABLE, interrupt::reasons(self.info.direction))?;
        }
        Ok(())
    }

    /// Lets it through no more, if that is not always so.
    pub(crate) fn disarm(&self) -> Result<(), Error> {
        if self.adaptive && self.interrupt.is_some() {
            self.channel.write(channel::INTERRUPT_ENABLE, InterruptEnable::new())?;
        }
        Ok(())
    }

    /// Whether the interrupt is let through only while somebody sleeps.
    pub(crate) fn is_adaptive(&self) -> bool {
        self.adaptive
    }

    /// Descriptors that the engine has done since it was started.
    pub(crate) fn completed(&self) -> Result<u32, Error> {
        Ok(self.channel.read(channel::COMPLETED_COUNT)?)
    }

    /// Leaves the channel as a driver finds it that knows nothing of credits.
    fn leave_credit_mode(&self) {
        let own = ChannelSet::only(self.info.direction, self.info.index);
        if let Err(error) = self.common.write(sgdma::common::CREDIT_MODE_CLEAR, own) {
            tracing::debug!(channel = self.name, %error, "credit mode could not be ended");
        }
    }
}
