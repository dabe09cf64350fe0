//! The XDMA core (PG195): everything behind its DMA BAR.
//!
//! An [`Xdma`] is a [`Peripheral`]: the registers of its BAR. It reaches host memory and interrupts by a [`Host`], and the
//! card's side by an [`Interface`]: targets with addresses, or streams. Each channel is a thread that executes descriptors.

// Where is what: `state` and `registers` are one channel's rules, without threads or memory. `fetch` brings descriptors,
// `engine` executes one (its data, if it is a stream's, in `stream`), `channel` is the thread around that. `irq` and
// `config_block` are blocks that the channels share; the SGDMA common block is here.

mod bell;
mod channel;
mod config_block;
mod engine;
mod fetch;
mod interface;
mod irq;
mod link;
mod performance;
mod registers;
mod state;
mod stream;
mod sweep;
#[cfg(test)]
mod tests;
mod user_interrupt;

use crate::axi::Peripheral;
use crate::fault::Faults;
use crate::function::Host;
use channel::Channel;
use config_block::ConfigBlock;
pub use interface::Interface;
use irq::IrqBlock;
use jitney_xdma_spec::irq::USER_INTERRUPTS;
use jitney_xdma_spec::sgdma::ChannelSet;
use jitney_xdma_spec::{
    Alignments, Direction, Identifier, Location, MAX_CHANNELS, PackedChannels, Submodule, block,
};
use link::Link;
pub use link::{LinkError, LinkLimit};
use state::State;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use user_interrupt::Clock;
pub use user_interrupt::{PeriodicInterrupt, PeriodicInterruptError, UserInterrupt};

/// How a design configured the core.
#[derive(Debug, Clone)]
pub struct XdmaConfig {
    /// The channels and what is on their card's side.
    pub interface: Interface,
    /// Width of the AXI data path in bytes: 8, 16, 32 or 64.
    pub data_width: u32,
    /// What the channels ask of addresses and lengths.
    pub alignments: Alignments,
    /// What the link carries; as much as memory if there is no limit.
    pub link: Option<LinkLimit>,
    /// A channel stops where a block of adjacent descriptors does not count down as PG195 has it.
    pub strict_adjacency: bool,
    /// User interrupts that come by themselves.
    pub user_interrupts: Vec<PeriodicInterrupt>,
    /// Clock of the data path (`axi_aclk`), in which performance counters and the flush time count.
    pub clock_hz: u64,
    /// How many user interrupts the design has, 0 to 16.
    pub user_lines: u8,
}

/// Why there is no such core.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum XdmaError {
    /// It cannot have so many channels.
    #[error("{count} {direction} channels: an XDMA has at most {MAX_CHANNELS} in a direction")]
    Channels {
        /// In which direction.
        direction: Direction,
        /// How many were asked for.
        count: usize,
    },
    /// A thread could not be started.
    #[error("cannot start a thread of a DMA core: {0}")]
    Thread(#[from] std::io::Error),
}

/// What all channels of a card share.
struct Card {
    host: Arc<dyn Host>,
    faults: Arc<Faults>,
    alignments: Alignments,
    /// Bytes of a beat.
    data_width: u64,
    clock_hz: u64,
    link: Option<Link>,
    strict_adjacency: bool,
    config: ConfigBlock,
}

/// The core. Its engines' threads end when it is dropped.
pub struct Xdma {
    interface: Interface,
    channels: Vec<(Direction, u8, Arc<Channel>)>,
    irq: Arc<IrqBlock>,
    /// Held for a write of the SGDMA common block: it is one for all channels, as it is on the bus of a card.
    common: Mutex<()>,
    card: Arc<Card>,
    threads: Vec<JoinHandle<()>>,
    /// What makes user interrupts, if anything does.
    _clock: Option<Clock>,
}

/// Offsets of the SGDMA common block's registers, as patterns.
mod at {
    use jitney_xdma_spec::sgdma::common;

    pub(super) const IDENTIFIER: u32 = common::IDENTIFIER.offset();
    pub(super) const HALT: u32 = common::HALT.offset();
    pub(super) const HALT_SET: u32 = common::HALT_SET.offset();
    pub(super) const HALT_CLEAR: u32 = common::HALT_CLEAR.offset();
    pub(super) const CREDIT_MODE: u32 = common::CREDIT_MODE.offset();
    pub(super) const CREDIT_MODE_SET: u32 = common::CREDIT_MODE_SET.offset();
    pub(super) const CREDIT_MODE_CLEAR: u32 = common::CREDIT_MODE_CLEAR.offset();
}

impl Xdma {
    /// A core that reaches its host by `host`, with a sleeping thread for each channel.
    ///
    /// # Errors
    /// More channels than a core can have, or a thread that cannot be started.
    pub fn new(config: XdmaConfig, host: Arc<dyn Host>, faults: Arc<Faults>) -> Result<Self, XdmaError> {
        let interface = config.interface;
        let [h2c, c2h] = [Direction::HostToCard, Direction::CardToHost].map(|direction| {
            let count = interface.channels(direction);
            u8::try_from(count)
                .ok()
                .filter(|count| *count <= MAX_CHANNELS)
                .ok_or(XdmaError::Channels { direction, count })
        });
        let (h2c, c2h) = (h2c?, c2h?);
        let irq =
            Arc::new(IrqBlock::new(Arc::clone(&host), Arc::clone(&faults), h2c + c2h, config.user_lines));
        let clock_hz = config.clock_hz.max(1);
        let block = ConfigBlock::new(Arc::clone(&host), config.data_width, clock_hz);
        let card = Arc::new(Card {
            host,
            faults,
            alignments: config.alignments,
            data_width: u64::from(config.data_width).max(1),
            clock_hz,
            link: config.link.map(Link::new),
            strict_adjacency: config.strict_adjacency,
            config: block,
        });
        let clock = (!config.user_interrupts.is_empty())
            .then(|| Clock::start(Arc::clone(&irq), config.user_interrupts))
            .transpose()?;
        let mut core = Self {
            interface,
            channels: Vec::new(),
            irq,
            common: Mutex::default(),
            card: Arc::clone(&card),
            threads: Vec::new(),
            _clock: clock,
        };
        for direction in Direction::ALL {
            for (index, port) in (0..).zip(core.interface.ports(direction)) {
                let bit = PackedChannels::bit(direction, index, h2c);
                let (card, irq) = (Arc::clone(&card), Arc::clone(&core.irq));
                let channel = Arc::new(Channel::new(card, irq, port, (direction, index), bit));
                core.channels.push((direction, index, Arc::clone(&channel)));
                // A fuzz target has one thread, and steps the engines itself.
                if cfg!(fuzzing) {
                    continue;
                }
                let thread = thread::Builder::new().name(format!("{direction}{index}"));
                core.threads.push(thread.spawn(move || channel.run_engine())?);
            }
        }
        Ok(core)
    }

    /// Executes up to `most` descriptors of each channel in the caller's thread; says how many there were.
    #[cfg(fuzzing)]
    pub(crate) fn step(&self, most: u32) -> u32 {
        self.channels.iter().map(|(_, _, channel)| channel.step(most)).sum()
    }

    /// Fills the first memory that the engines reach.
    #[cfg(fuzzing)]
    pub(crate) fn fill_memory(&self, byte: u8) {
        if let Interface::MemoryMapped { target, .. } = &self.interface
            && let Some(span) = target.memory(0, u64::MAX)
        {
            let memory = span.memory.mapping();
            memory.fill(0, memory.len(), byte).expect("all of it is there");
        }
    }

    /// Its channels.
    #[must_use]
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// The wires of a user interrupt, 0 to 15; for a model of the logic that drives them.
    #[must_use]
    pub fn user_interrupt(&self, number: u8) -> Option<UserInterrupt> {
        (number < USER_INTERRUPTS).then(|| UserInterrupt { irq: Arc::clone(&self.irq), number })
    }

    fn channel(&self, direction: Direction, index: u8) -> Option<&Channel> {
        self.channels
            .iter()
            .find(|(of, number, _)| (*of, *number) == (direction, index))
            .map(|(_, _, channel)| &**channel)
    }

    /// The channels of which something holds, as the SGDMA common block places them.
    fn channels_that(&self, holds: impl Fn(&State) -> bool) -> u32 {
        self.channels
            .iter()
            .filter(|(_, _, channel)| channel.update(|state| holds(state)))
            .fold(0, |set, (direction, index, _)| set | u32::from(ChannelSet::only(*direction, *index)))
    }

    /// Changes the channels of `set`, and no other: several writers that set and clear bits at once each get their own.
    fn change_channels(&self, set: u32, change: impl Fn(&mut State)) {
        for (direction, index, channel) in &self.channels {
            if ChannelSet::from(set).contains(*direction, *index) {
                channel.update(&change);
            }
        }
    }

    fn read_common(&self, register: u32) -> u32 {
        match register {
            at::IDENTIFIER => Identifier::of(Submodule::SgdmaCommon, 0, false).into(),
            at::HALT => self.channels_that(|state| state.halted),
            at::CREDIT_MODE => self.channels_that(|state| state.credit_mode),
            _ => 0,
        }
    }

    fn write_common(&self, register: u32, value: u32, lanes: u32) {
        let _whole = self.common.lock().unwrap_or_else(PoisonError::into_inner);
        let halted = |set, on| self.change_channels(set, |state| state.halted = on);
        let credit_mode = |set, on| self.change_channels(set, |state| state.set_credit_mode(on));
        match register {
            at::HALT => {
                halted(value & lanes, true);
                halted(!value & lanes, false);
            }
            at::HALT_SET => halted(value, true),
            at::HALT_CLEAR => halted(value, false),
            at::CREDIT_MODE => {
                credit_mode(value & lanes, true);
                credit_mode(!value & lanes, false);
            }
            at::CREDIT_MODE_SET => credit_mode(value, true),
            at::CREDIT_MODE_CLEAR => credit_mode(value, false),
            _ => {}
        }
    }
}

impl Peripheral for Xdma {
    /// Blocks and channels that the design does not have read zero. So does the MSI-X table: who presents the function to
    /// its host answers for that, if there is one.
    fn read(&self, offset: u32) -> u32 {
        let Some(Location { submodule, channel, register }) = block::decode(offset.into()) else { return 0 };
        match (submodule, submodule.direction()) {
            (_, Some(direction)) => {
                self.channel(direction, channel).map_or(0, |channel| channel.read(submodule, register))
            }
            (Submodule::Irq, _) => self.irq.read(register),
            (Submodule::Config, _) => self.card.config.read(register),
            (Submodule::MsixTable, _) => 0,
            _ => self.read_common(register),
        }
    }

    fn write(&self, offset: u32, value: u32, lanes: u32) {
        let Some(Location { submodule, channel, register }) = block::decode(offset.into()) else { return };
        match (submodule, submodule.direction()) {
            (_, Some(direction)) => {
                if let Some(channel) = self.channel(direction, channel) {
                    channel.write(submodule, register, value, lanes);
                }
            }
            (Submodule::Irq, _) => self.irq.write(register, value, lanes),
            (Submodule::Config, _) => self.card.config.write(register, value, lanes),
            (Submodule::MsixTable, _) => {}
            _ => self.write_common(register, value, lanes),
        }
    }

    /// Registers to their reset values, engines stopped. Returns at once; an engine that is in the middle of data gives
    /// up within a piece of it. Card memory stays.
    fn reset(&self) {
        for (_, _, channel) in &self.channels {
            channel.reset();
        }
        self.irq.reset();
        if let Some(link) = &self.card.link {
            link.reset();
        }
        self.card.config.reset();
        self.interface.reset();
    }
}

impl Drop for Xdma {
    fn drop(&mut self) {
        for (_, _, channel) in &self.channels {
            channel.close();
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("an engine's thread had panicked");
            }
        }
    }
}
