//! One channel's engine: leasing it, setting it up, starting it. How it is stopped is in `stop`.

mod last_resort;
mod stop;

use crate::channel_info::ChannelInfo;
use crate::error::Error;
use crate::interrupt::{self, ChannelInterrupt};
use crate::plan::{Limits, Plan};
use crate::ring::Ring;
use crate::wait;
use jitney_registers::Block;
use jitney_vfio::{Card, DmaBuffer, Lease, LeaseRequest, Notices, Part, Region, Will, WillStep};
use jitney_xdma_spec::descriptor::{MAX_LENGTH, block_of};
use jitney_xdma_spec::{
    ChannelControl, ChannelSet, ChannelStatus, InterruptEnable, Submodule, block, channel, config, sgdma,
};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
#[cfg(fuzzing)]
pub use stop::let_go_of_what_is_kept;
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
fn fetched_at_once(region: &Region) -> Result<u8, Error> {
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
    Will([stop].into_iter().chain(interrupt::silence(bar, info)).chain([idle]).collect())
}

/// A leased channel. Fields are dropped in this order: the engine has stopped, the interrupt goes back, then memory, then
/// the lease.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) info: ChannelInfo,
    /// Which channel of which card, for errors.
    pub(crate) name: String,
    channel: Block<Region>,
    sgdma: Block<Region>,
    /// What announces the end of a round; without it the engine writes a word back.
    interrupt: Option<ChannelInterrupt>,
    /// What the status said in this round and was cleared by reading it.
    logged: ChannelStatus,
    pub(crate) ring: Ring,
    /// What [`sgdma::FIRST_DESCRIPTOR_ADJACENT`] holds.
    adjacent: u8,
    state: State,
    /// Bytes of the longest descriptor that the engine may be at.
    longest: u32,
    /// The registers may not hold what [`Engine::set_up`] wrote.
    unsettled: bool,
    /// Buffers that an engine which was not seen to stop may still use.
    held: Vec<DmaBuffer>,
    notices: Notices,
    /// When they were looked at last.
    heeded: Option<Instant>,
    /// There until the channel is dropped.
    lease: Option<Lease>,
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
        let lease = card.lease(LeaseRequest::exclusive(part).with_will(will(bar, channel.base(), &info)))?;
        let mut engine = Self {
            info,
            name: format!("{info} of {}", card.identity()),
            channel,
            sgdma: registers(info.direction.sgdma_block()),
            interrupt: None,
            logged: ChannelStatus::new(),
            ring: Ring::new(&**card, limits.top(), fetched_at_once(region)?)?,
            adjacent: 0,
            state: State::Foreign,
            longest: MAX_LENGTH,
            unsettled: true,
            held: Vec::new(),
            notices: card.notices()?,
            heeded: None,
            lease: Some(lease),
            card: Arc::clone(card),
        };
        engine.make_ready()?;
        // Both belong to other ways of using the channel and would keep it from fetching descriptors.
        let common = Block::new(region.clone(), block::offset(Submodule::SgdmaCommon, 0));
        let own = ChannelSet::only(info.direction, info.index);
        common.write(sgdma::common::HALT_CLEAR, own)?;
        common.write(sgdma::common::CREDIT_MODE_CLEAR, own)?;
        tracing::debug!(channel = engine.name, "leased");
        Ok(engine)
    }

    /// From now on, has `vector` announce the end of a round.
    pub(crate) fn complete_by(&mut self, vector: u16) -> Result<(), Error> {
        // First, because it may have the same vector.
        self.interrupt = None;
        let interrupt = ChannelInterrupt::take(&*self.card, self.channel.space(), self.info, vector)?;
        self.interrupt = Some(interrupt);
        self.unsettled = true;
        self.make_ready()
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
            Some(interrupt) => interrupt.enable(&*self.card)?,
        }
        sgdma.write(sgdma::FIRST_DESCRIPTOR_ADJACENT, 0)?;
        self.adjacent = 0;
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
    pub(crate) fn heed_notices(&mut self) -> Result<(), Error> {
        let now = wait::now();
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

    /// Gives the engine the next descriptors of `plan` and starts it; returns how many. It must be ready.
    pub(crate) fn run(&mut self, plan: &mut Plan) -> Result<u64, Error> {
        let count = self.ring.load(plan, self.info.direction, self.info.stream)?;
        let adjacent = self.ring.first_adjacent(count);
        if adjacent != self.adjacent {
            self.sgdma.write(sgdma::FIRST_DESCRIPTOR_ADJACENT, adjacent.into())?;
            self.adjacent = adjacent;
        }
        let control = match self.interrupt {
            None => ChannelControl::polled(self.info.direction),
            Some(_) => interrupt::control(self.info.direction),
        };
        self.logged = ChannelStatus::new();
        self.longest = plan.longest();
        self.state = State::Running;
        self.channel.write(channel::CONTROL, control.with_run(true))?;
        Ok(count)
    }

    /// Takes RUN back from an engine that has come to the end of its descriptors.
    pub(crate) fn end_run(&mut self) -> Result<(), Error> {
        self.channel.write(channel::CONTROL_CLEAR, HALT)?;
        self.state = State::Idle;
        Ok(())
    }

    pub(crate) fn status(&self) -> Result<ChannelStatus, Error> {
        let status = self.channel.read(channel::STATUS)?;
        if status.into_bits() == u32::MAX {
            return Err(self.all_ones());
        }
        Ok(status)
    }

    fn all_ones(&self) -> Error {
        Error::all_ones(format_args!("the status of {}", self.name))
    }

    /// The status of this round: what it says now and what it said before it was cleared. Clears it.
    pub(crate) fn take_status(&mut self) -> Result<ChannelStatus, Error> {
        let status = self.channel.read(channel::STATUS_READ_CLEAR)?;
        if status.into_bits() == u32::MAX {
            return Err(self.all_ones());
        }
        self.logged = (self.logged.into_bits() | status.with_busy(false).into_bits()).into();
        Ok(self.logged.with_busy(status.busy()))
    }

    /// For a channel that completes by interrupt: waits at most `timeout` for it; whether it has come.
    pub(crate) fn interrupted(&self, timeout: Duration) -> Result<Option<bool>, Error> {
        self.interrupt.as_ref().map(|interrupt| interrupt.fired(timeout)).transpose()
    }

    /// Lets an interrupt line fire again, after [`take_status`](Self::take_status).
    pub(crate) fn rearm(&self) -> Result<(), Error> {
        self.interrupt.as_ref().map_or(Ok(()), ChannelInterrupt::rearm)
    }

    /// Readable when the channel has interrupted, if it does.
    pub(crate) fn event(&self) -> Option<BorrowedFd<'_>> {
        self.interrupt.as_ref().map(ChannelInterrupt::event)
    }

    /// Descriptors that the engine has done since it was started.
    pub(crate) fn completed(&self) -> Result<u32, Error> {
        Ok(self.channel.read(channel::COMPLETED_COUNT)?)
    }
}
