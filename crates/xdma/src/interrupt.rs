//! A channel's interrupt: from the channel's status through the IRQ block to a vector of the card (PG195, "IRQ Block
//! Registers (0x2)" and "Channel Interrupt Enable Mask (0x90)").
//!
//! # Why none is lost
//! A channel requests its interrupt by a level: as long as its status has a bit that its mask lets through. The vector
//! fires when a request rises behind the IRQ block's enable bit, also if that is because the bit is set under a request
//! which was up before. The driver takes the bits with the status register that is cleared by reading, so the request
//! falls; whatever the engine logs later raises it again. The enable bit therefore stays set between transfers: no
//! moment is left between looking and enabling. An interrupt that finds nothing new costs a look, and one that never
//! comes is made up for by the look at the registers that a wait takes now and then, which takes the bits too: a request that
//! stayed up would not rise again.
//!
//! # Several on one vector
//! PG195 does not say what a vector does when a second of its sources requests while the first still does: whether each sends a
//! message, or only the first. The interrupt line is one level in any case, and stays up for who is not waited for. So whoever
//! hears the vector asks the IRQ block which sources request, clears the enable bits of those and tells their users, who set them
//! again when they have taken their own bits ([`silence_requests`]): no request of one is taken back by another, and none
//! that nobody attends to keeps the vector up. It looks once more then: one that rose before the other's bit was cleared
//! may have sent nothing. A vector that has only ever had one source is spared all of this.

#[cfg(feature = "async")]
use crate::awaited::Watched;
use crate::channel_info::ChannelInfo;
use crate::error::Error;
use crate::wait::Backoff;
use jitney_registers::{Block, ReadWrite, Register};
use jitney_vfio::{
    Card, ErrorKind, Fired, Lease, LeaseRequest, Part, Region, Requests, SharedInterrupt, WillStep,
};
use jitney_xdma_spec::{
    ChannelControl, ChannelStatus, Direction, InterruptEnable, PackedChannels, Submodule, VectorNumbers,
    block, channel, irq,
};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
#[cfg(feature = "async")]
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The part of a card that who changes vector numbers leases: a register holds those of four channels, each of which may
/// be another process's. It takes two register accesses.
const VECTOR_NUMBERS: &str = "irq-vectors";
/// Of the sources of a vector, which this driver numbers, those that are channels, by their bits in the IRQ block. User
/// interrupts follow.
const CHANNEL_SOURCES: u32 = (1 << irq::CHANNEL_INTERRUPTS) - 1;
/// How long others may take for theirs.
const PATIENCE: Duration = Duration::from_secs(1);

/// What an engine that completes by interrupt is told when it is started, without RUN.
pub(crate) const fn control(direction: Direction) -> ChannelControl {
    ChannelControl::polled(direction)
        .with_report_descriptor_stopped(true)
        .with_report_descriptor_completed(true)
}

/// What a channel requests its interrupt for: the end of its descriptors, and every error.
pub(crate) const fn reasons(direction: Direction) -> InterruptEnable {
    let bits = ChannelStatus::error_mask(direction)
        .with_descriptor_stopped(true)
        .with_descriptor_completed(true)
        .into_bits();
    InterruptEnable::from_bits(bits)
}

/// What silences the channel at both of its masks, for a will.
pub(crate) fn silence(bar: u8, info: &ChannelInfo) -> [WillStep; 2] {
    let write = |submodule, index, register: u32, value| WillStep::Write {
        bar,
        offset: block::offset(submodule, index) + u64::from(register),
        value,
    };
    let all = reasons(info.direction).into_bits();
    let (own, clear) = (info.direction.channel_block(), channel::INTERRUPT_ENABLE_CLEAR.offset());
    [
        write(own, info.index, clear, all),
        write(Submodule::Irq, 0, irq::CHANNEL_ENABLE_CLEAR.offset(), bit(info).into()),
    ]
}

/// The channel's bit in the IRQ block.
fn bit(info: &ChannelInfo) -> PackedChannels {
    PackedChannels::from(1 << (info.interrupt % irq::CHANNEL_INTERRUPTS))
}

/// A channel's interrupt, delivered to this process. Dropping it masks it and gives the vector back.
#[derive(Debug)]
pub(crate) struct ChannelInterrupt {
    info: ChannelInfo,
    /// As the IRQ block takes it.
    vector: u8,
    channel: Block<Region>,
    irq: Block<Region>,
    interrupt: SharedInterrupt,
    /// Whether the channel's bit in the IRQ block was cleared, by whoever heard the vector that it shares.
    silenced: AtomicBool,
    /// Whether it is the channel's no more, and another one's to mask.
    retired: AtomicBool,
    /// A descriptor of its own, for tasks; made when one waits.
    #[cfg(feature = "async")]
    watched: std::sync::OnceLock<Arc<Watched>>,
}

impl ChannelInterrupt {
    /// Takes a vector of `card` for the channel, or its part of one. It fires after [`enable`](Self::enable).
    pub(crate) fn take(
        card: &dyn Card,
        region: &Region,
        info: ChannelInfo,
        vector: Vector,
    ) -> Result<Self, Error> {
        let (number, interrupt) = take_vector(card, &info, info.interrupt, vector)?;
        let registers = |submodule, index| Block::new(region.clone(), block::offset(submodule, index));
        Ok(Self {
            info,
            vector: number,
            channel: registers(info.direction.channel_block(), info.index),
            irq: registers(Submodule::Irq, 0),
            interrupt,
            silenced: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            #[cfg(feature = "async")]
            watched: std::sync::OnceLock::new(),
        })
    }

    /// Directs the channel's requests to the vector and lets them pass; has the channel make them at once if `at_once`.
    pub(crate) fn enable(&self, card: &dyn Card, at_once: bool) -> Result<(), Error> {
        let reasons = if at_once { reasons(self.info.direction) } else { InterruptEnable::new() };
        self.channel.write(channel::INTERRUPT_ENABLE, reasons)?;
        direct(card, &self.irq, irq::channel_vectors(self.info.interrupt), self.vector)?;
        Ok(self.irq.write(irq::CHANNEL_ENABLE_SET, bit(&self.info))?)
    }

    fn disable(&self) -> Result<(), Error> {
        self.channel.write(channel::INTERRUPT_ENABLE_CLEAR, reasons(self.info.direction))?;
        Ok(self.irq.write(irq::CHANNEL_ENABLE_CLEAR, bit(&self.info))?)
    }

    /// Masks it, for good: the channel has another from now on, whoever still has this one.
    pub(crate) fn retire(&self) -> Result<(), Error> {
        self.retired.store(true, Ordering::Release);
        // Before the channel has its bit set again: who still has this vector would clear it and tell nobody.
        self.interrupt.leave();
        self.disable()
    }

    /// Waits at most `timeout` for the vector to fire for this channel; whether it has since it was last asked.
    pub(crate) fn fired(&self, timeout: Duration) -> Result<bool, Error> {
        let silence = |sources| silence_requests(&self.irq, sources);
        let fired = self.interrupt.wait(Some(timeout), silence)?;
        if fired == Fired::Silenced {
            self.silenced.store(true, Ordering::Release);
        }
        Ok(fired != Fired::No)
    }

    /// Lets the channel interrupt again, now that its request has been taken back.
    pub(crate) fn rearm(&self) -> Result<(), Error> {
        if self.silenced.swap(false, Ordering::AcqRel) {
            self.irq.write(irq::CHANNEL_ENABLE_SET, bit(&self.info))?;
        }
        Ok(self.interrupt.rearm()?)
    }

    /// What wakes tasks when the vector has fired.
    #[cfg(feature = "async")]
    pub(crate) fn watched(&self) -> Result<Arc<Watched>, Error> {
        if let Some(watched) = self.watched.get() {
            return Ok(Arc::clone(watched));
        }
        let descriptor = self.event().try_clone_to_owned().map_err(|error| Error::waiting(&error))?;
        let watched = Watched::new_nonblocking(descriptor).map_err(|error| Error::waiting(&error))?;
        Ok(Arc::clone(self.watched.get_or_init(|| Arc::new(watched))))
    }

    /// Readable when the vector has fired, for this channel or another one.
    pub(crate) fn event(&self) -> BorrowedFd<'_> {
        self.interrupt.as_fd()
    }
}

impl Drop for ChannelInterrupt {
    fn drop(&mut self) {
        if !self.retired.load(Ordering::Acquire)
            && let Err(error) = self.disable()
        {
            // Nobody hears it any more, and the channel's next user writes both masks.
            tracing::debug!(channel = %self.info, %error, "a channel's interrupt could not be masked");
        }
    }
}

/// Keeps those of `sources` from requesting that do, until each is let request again by its own user.
pub(crate) fn silence_requests(irq: &Block<Region>, sources: u32) -> Requests {
    let silence_some = || -> Result<u32, Error> {
        let requests = requests(irq, sources)?;
        let (channels, user) = (requests & CHANNEL_SOURCES, requests >> irq::CHANNEL_INTERRUPTS);
        if channels != 0 {
            irq.write(irq::CHANNEL_ENABLE_CLEAR, channels.into())?;
        }
        if user != 0 {
            irq.write(irq::USER_ENABLE_CLEAR, user)?;
        }
        Ok(requests)
    };
    // Whoever is told of a card that does not answer finds out by a look of its own, and has somebody to tell.
    let everybody = Requests { sources, again: false };
    match silence_some() {
        Err(_) => everybody,
        Ok(0) => Requests { sources: 0, again: false },
        Ok(first) => match silence_some() {
            Err(_) => everybody,
            Ok(second) => Requests { sources: first | second, again: second != 0 },
        },
    }
}

/// Which of `sources` request, behind their enable bits.
fn requests(irq: &Block<Region>, sources: u32) -> Result<u32, Error> {
    let mut requests = 0;
    if sources & CHANNEL_SOURCES != 0 {
        requests |= u32::from(irq.read(irq::CHANNEL_REQUEST)?) & CHANNEL_SOURCES;
    }
    if sources & !CHANNEL_SOURCES != 0 {
        requests |= irq.read(irq::USER_REQUEST)? << irq::CHANNEL_INTERRUPTS;
    }
    Ok(requests & sources)
}

/// Which vector a source is to have.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Vector {
    /// This one.
    Number(u16),
    /// The one of this number if there are as many, else one that it shares.
    Usual(u16),
}

/// Takes a vector of `card` for `what`, the source of this number, or its part of one; also as the IRQ block takes it.
pub(crate) fn take_vector(
    card: &dyn Card,
    what: &dyn fmt::Display,
    source: u8,
    vector: Vector,
) -> Result<(u8, SharedInterrupt), Error> {
    let usual = match vector {
        Vector::Number(number) => {
            let taken = (vector_number(card, what, number)?, card.shared_interrupt(number, source));
            return Ok((taken.0, taken.1.map_err(|error| cannot_share(card, what, error))?));
        }
        Vector::Usual(usual) => usual,
    };
    // A card that has none says so itself.
    let count = u16::try_from(card.vectors()?).unwrap_or(u16::MAX).clamp(1, irq::MSIX_VECTORS);
    // Both channels of a pair come to the same vector then, if there is an even number of pairs: a program that has a pair to
    // itself leaves the other vectors to others.
    let usual = usual % count;
    let mut first = None;
    for number in std::iter::once(usual).chain((0..count).rev().filter(|other| *other != usual)) {
        match card.shared_interrupt(number, source) {
            Ok(interrupt) => return Ok((vector_number(card, what, number)?, interrupt)),
            // Another process has it, or the machine has not as many to give.
            Err(error) if matches!(error.kind(), ErrorKind::Held | ErrorKind::Exhausted) => {
                first.get_or_insert(error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    let none = || jitney_vfio::Error::new(ErrorKind::Unsupported, "there is no interrupt vector");
    Err(cannot_share(card, what, first.unwrap_or_else(none)))
}

/// `error`, of `what` of `card` that asked for a vector; if others have it, with what can be done.
fn cannot_share(card: &dyn Card, what: &dyn fmt::Display, error: jitney_vfio::Error) -> Error {
    if error.kind() != ErrorKind::Held {
        return error.into();
    }
    let remedy = "only channels and user interrupts of one process share a vector: have one process drive them, give each \
                  process a vector of its own, or wait without an interrupt";
    error
        .context(format_args!("{what} of {} gets no interrupt vector", card.identity()))
        .with_remedy(remedy)
        .into()
}

/// `vector` as the IRQ block takes it, for `what` of `card`.
fn vector_number(card: &dyn Card, what: &dyn fmt::Display, vector: u16) -> Result<u8, Error> {
    let most = irq::MSIX_VECTORS;
    let number = u8::try_from(vector).ok().filter(|_| vector < most).ok_or_else(|| {
        let what = format!("{what} of {} cannot use interrupt vector {vector}", card.identity());
        jitney_vfio::Error::new(ErrorKind::Invalid, what)
            .with_remedy(format!("an XDMA has at most {most}, counted from 0"))
    })?;
    Ok(number)
}

/// Directs the interrupt whose vector number is at `place` of `register` to `vector`.
pub(crate) fn direct(
    card: &dyn Card,
    irq: &Block<Region>,
    (register, place): (Register<VectorNumbers, ReadWrite>, u8),
    vector: u8,
) -> Result<(), Error> {
    // Nobody else changes this number: what reads right stays right.
    if irq.read(register)?.get(place) != vector {
        let _alone = alone(card)?;
        let all = irq.read(register)?;
        irq.write(register, all.with(place, vector))?;
    }
    Ok(())
}

/// The right to change vector numbers, for as long as the lease lives.
fn alone(card: &dyn Card) -> Result<Lease, Error> {
    let part: Part = VECTOR_NUMBERS.parse()?;
    let backoff = Backoff::new();
    loop {
        match card.lease(LeaseRequest::exclusive(part.clone())) {
            Err(error) if error.kind() == ErrorKind::Held && backoff.elapsed() < PATIENCE => backoff.pause(),
            outcome => return Ok(outcome?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{CardToHost, HostToCard};

    #[test]
    fn the_words_are_those_of_an_interrupt_driven_driver() {
        assert_eq!(control(HostToCard).into_bits(), 0x04ff_fe3e);
        assert_eq!(control(CardToHost).into_bits(), 0x04f8_3e3e);
        assert_eq!(reasons(HostToCard).into_bits(), 0x00f8_fe3e);
        assert_eq!(reasons(CardToHost).into_bits(), 0x00f8_063e);
    }
}
