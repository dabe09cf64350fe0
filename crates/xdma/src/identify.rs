//! Finding out what an XDMA has. Registers are only read, so it can be done while others use the channels.

use crate::channel::{C2h, Channel, H2c};
use crate::channel_info::ChannelInfo;
use crate::error::Error;
use crate::interrupt::Vector;
use crate::user_interrupt::UserInterrupt;
use jitney_registers::Block;
use jitney_vfio::{Card, Region};
use jitney_xdma_spec::identifier::{IDENTIFIER, SUBSYSTEM};
use jitney_xdma_spec::{
    DMA_BAR_SIZE, Direction, Identifier, MAX_CHANNELS, PackedChannels, Submodule, block, channel,
};
use std::sync::Arc;

/// An XDMA that was identified. It holds no lease.
#[derive(Debug, Clone)]
pub struct Xdma {
    card: Arc<dyn Card>,
    bar: u8,
    region: Region,
    h2c: Vec<ChannelInfo>,
    c2h: Vec<ChannelInfo>,
}

impl Xdma {
    /// The BAR of `card` that holds an XDMA, if any: the first whose IRQ and config blocks say so. The two reads that
    /// this takes are harmless in a BAR that holds something else.
    ///
    /// # Errors
    /// What reading a register of the card answers.
    pub fn find(card: &dyn Card) -> Result<Option<usize>, Error> {
        for (index, bar) in card.bars().iter().enumerate() {
            if bar.size < DMA_BAR_SIZE {
                continue;
            }
            let region = card.bar(index)?;
            if identifier(&region, Submodule::Irq, 0)?.is(Submodule::Irq, 0)
                && identifier(&region, Submodule::Config, 0)?.is(Submodule::Config, 0)
            {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// Identifies the XDMA in BAR `bar` of `card`: checks every block and counts the channels.
    ///
    /// # Errors
    /// [`Error::NoXdma`] says which block is not what it has to be; [`Error::LinkDown`] if the BAR reads as all-ones.
    pub fn identify(card: Arc<dyn Card>, bar: usize) -> Result<Self, Error> {
        let region = card.bar(bar)?;
        let none = |why| Error::NoXdma { bar: region.name().to_owned(), why };
        let Ok(number) = u8::try_from(bar) else { return Err(none("no BAR has such a number".into())) };
        let size = region.size();
        if size < DMA_BAR_SIZE {
            return Err(none(format!("it has {size:#x} bytes, and an XDMA takes {DMA_BAR_SIZE:#x}")));
        }
        let h2c = channels(&region, Direction::HostToCard, 0)?;
        if h2c.is_empty() {
            let found = identifier(&region, Submodule::H2cChannel, 0)?;
            return Err(none(unexpected("H2C channel 0", found, Submodule::H2cChannel, 0)));
        }
        let c2h = channels(&region, Direction::CardToHost, u8::try_from(h2c.len()).unwrap_or(MAX_CHANNELS))?;
        for (submodule, name) in [
            (Submodule::SgdmaCommon, "the SGDMA common block"),
            (Submodule::Irq, "the IRQ block"),
            (Submodule::Config, "the config block"),
        ] {
            let found = identifier(&region, submodule, 0)?;
            if !found.is(submodule, 0) {
                return Err(none(unexpected(name, found, submodule, 0)));
            }
        }
        Ok(Self { card, bar: number, region, h2c, c2h })
    }

    /// The card that it is on.
    #[must_use]
    pub fn card(&self) -> &Arc<dyn Card> {
        &self.card
    }

    /// The BAR that it is in.
    #[must_use]
    pub fn bar(&self) -> usize {
        self.bar.into()
    }

    /// The channels of one direction, in order.
    #[must_use]
    pub fn channels(&self, direction: Direction) -> &[ChannelInfo] {
        match direction {
            Direction::HostToCard => &self.h2c,
            Direction::CardToHost => &self.c2h,
        }
    }

    /// Channel `index` from the host to the card: takes an exclusive lease on it (`h2c0`), with a will that stops it,
    /// and stops whatever an earlier user left running.
    ///
    /// # Errors
    /// [`Error::NoChannel`]; [`Error::Card`] if somebody else has the lease, which says who, or no memory is left;
    /// [`Error::StillBusy`] if the channel does not become idle in the time that the longest possible descriptor takes, 4 s.
    pub fn h2c(&self, index: u8) -> Result<H2c, Error> {
        let info = self.channel(Direction::HostToCard, index)?;
        Channel::open(&self.card, self.bar, &self.region, info)
    }

    /// Channel `index` from the card to the host, likewise (`c2h0`).
    ///
    /// # Errors
    /// As [`h2c`](Self::h2c).
    pub fn c2h(&self, index: u8) -> Result<C2h, Error> {
        let info = self.channel(Direction::CardToHost, index)?;
        Channel::open(&self.card, self.bar, &self.region, info)
    }

    /// Interrupt line `line` of the design's own logic, 0 to 15 (PG195, `usr_irq_req`): takes an exclusive lease on it
    /// (`user-irq3`), with a will that masks it, and the vector behind those of the channels that has its number. A card that has
    /// fewer has it share one with other sources of this process, as a [channel](Channel::by_interrupt).
    ///
    /// On a vector that it shares, the logic has to hold the line until it was told, as PG195 asks: a line that falls by itself once
    /// its message was sent is then not heard.
    ///
    /// # Errors
    /// As [`user_interrupt_by`](Self::user_interrupt_by).
    pub fn user_interrupt(&self, line: u8) -> Result<UserInterrupt, Error> {
        let channels = self.h2c.len() + self.c2h.len();
        let vector = u16::try_from(channels).unwrap_or(0) + u16::from(line);
        self.take_line(line, Vector::Usual(vector))
    }

    /// The same by another vector. It is leased (`irq3`), so no other process can have the same one; other lines and channels of this
    /// one can.
    ///
    /// # Errors
    /// [`Error::Card`]: an XDMA has no such line, the card has no such vector or another process has either, which says who.
    /// [`Error::LinkDown`].
    pub fn user_interrupt_by(&self, line: u8, vector: u16) -> Result<UserInterrupt, Error> {
        self.take_line(line, Vector::Number(vector))
    }

    fn take_line(&self, line: u8, vector: Vector) -> Result<UserInterrupt, Error> {
        UserInterrupt::take(&self.card, self.bar, &self.region, line, vector)
    }

    fn channel(&self, direction: Direction, index: u8) -> Result<ChannelInfo, Error> {
        let channels = self.channels(direction);
        channels.get(usize::from(index)).copied().ok_or_else(|| Error::NoChannel {
            channel: format!("{direction}{index} of {}", self.card.identity()),
            direction,
            there: channels.len(),
        })
    }
}

/// The channels of one direction, counted upwards to the first that is not there. `h2c_channels` matters to the others.
fn channels(region: &Region, direction: Direction, h2c_channels: u8) -> Result<Vec<ChannelInfo>, Error> {
    let (own, sgdma) = (direction.channel_block(), direction.sgdma_block());
    let mut found = Vec::new();
    for index in 0..MAX_CHANNELS {
        let identifier = identifier(region, own, index)?;
        if index == 0 && identifier.into_bits() == u32::MAX {
            return Err(Error::all_ones(region.name()));
        }
        if !identifier.is(own, index) {
            break;
        }
        let other = self::identifier(region, sgdma, index)?;
        if !other.is(sgdma, index) || other.stream() != identifier.stream() {
            let name = format!("the SGDMA block of {direction}{index}");
            let mut why = unexpected(&name, other, sgdma, index);
            if other.is(sgdma, index) {
                why += " and the kind of the channel, stream or memory-mapped";
            }
            return Err(Error::NoXdma { bar: region.name().to_owned(), why });
        }
        let registers = Block::new(region, block::offset(own, index));
        found.push(ChannelInfo {
            direction,
            index,
            stream: identifier.stream(),
            alignments: registers.read(channel::ALIGNMENTS)?,
            version: identifier.version(),
            interrupt: PackedChannels::bit(direction, index, h2c_channels),
        });
    }
    Ok(found)
}

fn identifier(region: &Region, submodule: Submodule, channel: u8) -> Result<Identifier, Error> {
    Ok(Block::new(region, block::offset(submodule, channel)).read(IDENTIFIER)?)
}

fn unexpected(name: &str, found: Identifier, submodule: Submodule, channel: u8) -> String {
    format!(
        "the identifier of {name} reads {:#010x}, expected subsystem {SUBSYSTEM:#x}, block {}, channel {channel}",
        found.into_bits(),
        submodule.number()
    )
}
