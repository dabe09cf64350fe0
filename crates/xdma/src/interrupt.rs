//! A channel's interrupt: from the channel's status through the IRQ block to a vector of the card (PG195, "IRQ Block
//! Registers (0x2)" and "Channel Interrupt Enable Mask (0x90)").
//!
//! # Why none is lost
//! A channel requests its interrupt by a level: as long as its status has a bit that its mask lets through. The vector
//! fires when a request rises behind the IRQ block's enable bit, also if that is because the bit is set under a request
//! which was up before. The driver takes the bits with the status register that is cleared by reading, so the request
//! falls; whatever the engine logs later raises it again. The enable bit therefore stays set between transfers: no
//! moment is left between looking and enabling. An interrupt that finds nothing new costs a look, and one that never
//! comes is made up for by the look at the registers that a wait takes now and then.

#[cfg(feature = "async")]
use crate::awaited::Watched;
use crate::channel_info::ChannelInfo;
use crate::error::Error;
use crate::wait::Backoff;
use jitney_registers::{Block, ReadWrite, Register};
use jitney_vfio::{Card, ErrorKind, Interrupt, Lease, LeaseRequest, Part, Region, WillStep};
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
    interrupt: Interrupt,
    /// Whether it is the channel's no more, and another one's to mask.
    retired: AtomicBool,
    /// A descriptor of its own, for tasks; made when one waits.
    #[cfg(feature = "async")]
    watched: std::sync::OnceLock<Arc<Watched>>,
}

impl ChannelInterrupt {
    /// Takes `vector` of `card` for the channel. It fires after [`enable`](Self::enable).
    pub(crate) fn take(
        card: &dyn Card,
        region: &Region,
        info: ChannelInfo,
        vector: u16,
    ) -> Result<Self, Error> {
        let number = vector_number(card, &info, vector)?;
        let registers = |submodule, index| Block::new(region.clone(), block::offset(submodule, index));
        Ok(Self {
            info,
            vector: number,
            channel: registers(info.direction.channel_block(), info.index),
            irq: registers(Submodule::Irq, 0),
            interrupt: card.interrupt(vector)?,
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
        self.disable()
    }

    /// Waits at most `timeout` for the vector to fire; whether it has since it was last asked.
    pub(crate) fn fired(&self, timeout: Duration) -> Result<bool, Error> {
        Ok(self.interrupt.wait(Some(timeout))?)
    }

    /// Lets the card's interrupt line fire again, now that the request has been taken back.
    pub(crate) fn rearm(&self) -> Result<(), Error> {
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

    /// Readable when the vector has fired.
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

/// `vector` as the IRQ block takes it, for `what` of `card`.
pub(crate) fn vector_number(card: &dyn Card, what: &dyn fmt::Display, vector: u16) -> Result<u8, Error> {
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
