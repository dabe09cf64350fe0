//! Wills as facts: short programs that stop what a client left running on a card. Pure; whoever owns the card carries them out.

use crate::error::{Error, ErrorKind, Result};
use crate::identity::{BarInfo, Identity, existing_bar};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One step of a will.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum WillStep {
    /// Writes a register.
    Write {
        /// Index of the BAR, 0 to 5.
        bar: u8,
        /// Offset in the BAR, in bytes, a multiple of four.
        offset: u64,
        /// What to write.
        value: u32,
    },
    /// Waits until a register, masked, has a value: until an engine says that it is idle.
    WaitUntil {
        /// Index of the BAR, 0 to 5.
        bar: u8,
        /// Offset in the BAR, in bytes, a multiple of four.
        offset: u64,
        /// Which bits are looked at.
        mask: u32,
        /// What they have to be.
        value: u32,
        /// How long that may take, in milliseconds.
        within_ms: u32,
    },
}

impl WillStep {
    /// A register write.
    #[must_use]
    pub const fn write(bar: u8, offset: u64, value: u32) -> Self {
        Self::Write { bar, offset, value }
    }

    /// The register that it is about: BAR and offset.
    #[must_use]
    pub const fn register(&self) -> (u8, u64) {
        match *self {
            Self::Write { bar, offset, .. } | Self::WaitUntil { bar, offset, .. } => (bar, offset),
        }
    }
}

/// A short program that the owner of a card carries out, in order, if the holder of a lease goes without a goodbye: it
/// stops a DMA engine, usually, and waits until that is idle.
///
/// All steps are carried out, also if one fails. A will with a wait that succeeded says that what its holder drove is quiet:
/// memory that it had can go to somebody else.
///
/// The will of a **shared** lease stops what others use as well. So it is carried out when the last of those who share the part goes, by that
/// one's will; what the others had the card do is not seen to be quiet.
///
/// The shape fits XDMA (clear RUN, wait for BUSY to fall), NVMe (clear CC.EN, wait
/// for CSTS.RDY to fall) and QDMA (write a context command, wait until it is done).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Will(pub Vec<WillStep>);

impl Will {
    /// The most steps that a will may have.
    pub const MAX_STEPS: usize = 64;

    /// How long the waits of a will may take together.
    pub const MAX_WAIT: Duration = Duration::from_secs(5);

    /// Nothing to do.
    #[must_use]
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// How long its waits may take together.
    #[must_use]
    pub fn longest(&self) -> Duration {
        let waits = self.0.iter().map(|step| match step {
            WillStep::Write { .. } => 0,
            WillStep::WaitUntil { within_ms, .. } => u64::from(*within_ms),
        });
        Duration::from_millis(waits.fold(0, u64::saturating_add))
    }

    /// Whether it waits for something.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.0.iter().any(|step| matches!(step, WillStep::WaitUntil { .. }))
    }

    /// Whether it can be carried out on `card`, which has `bars`.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for more than [`MAX_STEPS`](Self::MAX_STEPS) steps, waits of more than
    /// [`MAX_WAIT`](Self::MAX_WAIT), or an offset that is no multiple of four, [`ErrorKind::NotFound`] for a BAR that is not
    /// there, [`ErrorKind::OutOfBounds`] for an offset outside of it.
    pub fn check(&self, bars: &[BarInfo; 6], card: &Identity) -> Result<()> {
        let steps = self.0.len();
        if steps > Self::MAX_STEPS {
            let most = Self::MAX_STEPS;
            let what = format!("a will for card {card} cannot have {steps} steps; {most} are possible");
            return Err(Error::new(ErrorKind::Invalid, what));
        }
        if self.longest() > Self::MAX_WAIT {
            let (longest, most) = (self.longest(), Self::MAX_WAIT);
            let what = format!("a will for card {card} waits {longest:?} in all; {most:?} are possible");
            return Err(Error::new(ErrorKind::Invalid, what));
        }
        for (bar, offset) in self.0.iter().map(WillStep::register) {
            let size = existing_bar(bars, bar.into(), card)?.size;
            if !offset.is_multiple_of(4) {
                let what = format!("a will for card {card} names {offset:#x} of BAR {bar}, no multiple of 4");
                return Err(Error::new(ErrorKind::Invalid, what));
            }
            if offset.checked_add(4).is_none_or(|end| end > size) {
                let what = format!(
                    "a will for card {card} names {offset:#x} of BAR {bar}, which has {size:#x} bytes"
                );
                return Err(Error::new(ErrorKind::OutOfBounds, what));
            }
        }
        Ok(())
    }
}
