//! Interrupts of the logic behind the XDMA (PG195, "IRQ Block Registers (0x2)" and the port `usr_irq_req`).
//!
//! A line is a level: the logic raises it and holds it until it was told that it was heard, in a way of its own. A vector fires when
//! a request rises behind the enable bit. So the bit is cleared when the vector has fired and set before the next wait: a line that
//! is up by then, because it was raised again or never fell, fires at once, and none is lost.
//!
//! Of a vector that it shares, a line is told by the IRQ block's requests: one that falls before software has looked is not heard.

use crate::error::Error;
use crate::interrupt::{Vector, direct, silence_requests, take_vector};
use jitney_registers::Block;
use jitney_vfio::{
    Card, ErrorKind, Fired, Lease, LeaseRequest, Part, Region, SharedInterrupt, Will, WillStep,
};
use jitney_xdma_spec::{Submodule, block, irq};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An interrupt line of the design's own logic, see [`Xdma::user_interrupt`](crate::Xdma::user_interrupt). Dropping it masks it.
#[derive(Debug)]
pub struct UserInterrupt {
    line: u8,
    registers: Block<Region>,
    /// Whether the line may fire.
    armed: bool,
    interrupt: SharedInterrupt,
    // Last, so that all is silent before somebody else can have it.
    _lease: Lease,
}

impl UserInterrupt {
    pub(crate) fn take(
        card: &Arc<dyn Card>,
        bar: u8,
        region: &Region,
        line: u8,
        vector: Vector,
    ) -> Result<Self, Error> {
        let name = format!("user interrupt {line}");
        if line >= irq::USER_INTERRUPTS {
            let error = jitney_vfio::Error::new(
                ErrorKind::Invalid,
                format!("there is no {name} of {}", card.identity()),
            );
            let remedy = format!("an XDMA has {}, counted from 0", irq::USER_INTERRUPTS);
            return Err(error.with_remedy(remedy).into());
        }
        let start = block::offset(Submodule::Irq, 0);
        let mask = WillStep::Write {
            bar,
            offset: start + u64::from(irq::USER_ENABLE_CLEAR.offset()),
            value: 1 << line,
        };
        let part: Part = format!("user-irq{line}").parse()?;
        let lease = card.lease(LeaseRequest::exclusive(part).with_will(Will(vec![mask])))?;
        let registers = Block::new(region.clone(), start);
        let (number, interrupt) = take_vector(&**card, &name, irq::CHANNEL_INTERRUPTS + line, vector)?;
        let taken = Self { line, registers, armed: false, interrupt, _lease: lease };
        // Whatever an earlier user left.
        taken.mask()?;
        direct(&**card, &taken.registers, irq::user_vectors(line), number)?;
        Ok(taken)
    }

    /// Which line it is.
    #[must_use]
    pub const fn line(&self) -> u8 {
        self.line
    }

    /// Whether the logic holds the line up, whether or not it may fire.
    ///
    /// # Errors
    /// [`Error::LinkDown`], or what reading a register says.
    pub fn is_raised(&self) -> Result<bool, Error> {
        let pending = self.registers.read(irq::USER_PENDING)?;
        if pending == u32::MAX {
            return Err(Error::all_ones("the pending user interrupts"));
        }
        Ok(pending & self.bit() != 0)
    }

    /// Waits until the line is raised, at most `timeout` (for ever without one); whether it was. Then the logic is to be told that it
    /// was heard: a line that is still up at the next call counts as raised again.
    ///
    /// # Errors
    /// What the card or its owner says.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<bool, Error> {
        let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.arm()?;
        loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let fired = self.fired(left)?;
            if !fired && left.is_none_or(|left| left > Duration::ZERO) {
                continue;
            }
            if fired {
                self.silence()?;
            }
            return Ok(fired);
        }
    }

    /// For an event loop of the caller's own: lets the line fire. [`AsFd`] gives what is readable then, and may be so when another
    /// source of the same vector has fired; [`has_fired`](Self::has_fired) says, and makes it unreadable again.
    ///
    /// # Errors
    /// What the card or its owner says.
    pub fn arm(&mut self) -> Result<(), Error> {
        if !self.armed {
            // What fired before belongs to a wait that is over.
            self.fired(Some(Duration::ZERO))?;
            self.armed = true;
            self.registers.write(irq::USER_ENABLE_SET, self.bit())?;
        }
        Ok(())
    }

    /// Waits at most `timeout` until the vector has fired for this line; whether it has since it was last asked.
    fn fired(&self, timeout: Option<Duration>) -> Result<bool, Error> {
        let fired = self.interrupt.wait(timeout, |sources| silence_requests(&self.registers, sources))?;
        self.check(fired)
    }

    fn check(&self, fired: Fired) -> Result<bool, Error> {
        if fired == Fired::Silenced {
            // Everybody is told of a card that does not answer.
            self.is_raised()?;
        }
        Ok(fired != Fired::No)
    }

    /// After the line has fired: keeps it from firing until it is [armed](Self::arm) again.
    fn silence(&mut self) -> Result<(), Error> {
        self.mask()?;
        self.armed = false;
        Ok(self.interrupt.rearm()?)
    }

    /// For an event loop: whether the line has fired since it was [armed](Self::arm). If so it does not fire until it is armed again.
    ///
    /// # Errors
    /// What the card or its owner says.
    pub fn has_fired(&mut self) -> Result<bool, Error> {
        let fired = self.fired(Some(Duration::ZERO))?;
        if fired {
            self.silence()?;
        }
        Ok(fired)
    }

    /// Waits until the line is raised as a task, of any executor; else as [`wait`](Self::wait).
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    #[cfg(feature = "async")]
    pub async fn raised(&mut self) -> Result<(), Error> {
        self.arm()?;
        let fired = self.interrupt.fired(|sources| silence_requests(&self.registers, sources)).await?;
        self.check(fired)?;
        self.silence()
    }

    const fn bit(&self) -> u32 {
        1 << self.line
    }

    fn mask(&self) -> Result<(), Error> {
        Ok(self.registers.write(irq::USER_ENABLE_CLEAR, self.bit())?)
    }
}

impl AsFd for UserInterrupt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.interrupt.as_fd()
    }
}

impl Drop for UserInterrupt {
    fn drop(&mut self) {
        if self.armed
            && let Err(error) = self.mask()
        {
            // Nobody hears it any more, and the line's next user masks it first.
            tracing::debug!(line = self.line, %error, "a user interrupt could not be masked");
        }
    }
}
