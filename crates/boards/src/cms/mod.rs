//! Alveo card management (PG348): firmware on a MicroBlaze that measures voltages, currents and temperatures of the whole
//! card, knows its serial number, and reaches its network modules.
//!
//! The firmware is in reset until somebody lets it run ([`Cms::start`]). Its sensors can then be read by any number of
//! programs at once; messages are for one at a time ([`Cms::lease`]).

mod card_info;
mod mailbox;
mod module;
mod registers;
mod sensors;

use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::sensor::Reading;
use jitney_registers::{Block, RegisterSpace};
use jitney_vfio::{Card, ErrorKind, Lease, LeaseRequest};
use registers::{
    FIRMWARE_VERSION, ID, ID_VALUE, MAP, MAP_SIZE, POWER_BAD, PROFILE, RESETN, STATUS_2, Status2,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use card_info::{Cage, CageKind, CardInfo, MacAddress};
pub use mailbox::{LeasedCms, ModulePlace, ModuleSignals};
pub use module::{Module, PAGE};

/// The part of a card that who sends messages, or starts the firmware, leases.
const PART: &str = "cms";
/// Within which the firmware is up. Cards were seen to take some seconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to leave the firmware alone between two looks at memory that it uses, too.
const PAUSE: Duration = Duration::from_millis(5);

/// The card management.
#[derive(Debug, Clone)]
pub struct Cms {
    frame: Frame,
    card: Arc<dyn Card>,
}

impl Cms {
    /// The one in `frame` of `card`.
    pub(crate) fn new(frame: Frame, card: Arc<dyn Card>) -> Self {
        Self { frame, card }
    }

    /// Whether its firmware is out of reset and has said that its registers are true.
    ///
    /// # Errors
    /// [`ErrorKind::LinkDown`] if a register reads as all-ones.
    pub fn is_ready(&self) -> Result<bool> {
        Ok(self.is_running()? && self.frame.sane(STATUS_2)?.ready())
    }

    fn is_running(&self) -> Result<bool> {
        Ok(self.frame.sane(RESETN)? & 1 == 1)
    }

    /// Lets the firmware run, if it does not, and waits until it is ready, up to ten seconds. That needs the lease `cms`
    /// only where the reset has to be released; if another program does that at the moment, this waits for the firmware, too.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] if it does not get ready, [`ErrorKind::Unsupported`] if what is there is no card management,
    /// [`ErrorKind::Held`] if another program has the lease and leaves the firmware in reset, and as
    /// [`is_ready`](Self::is_ready).
    pub fn start(&self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        let mut held = None;
        while !self.is_ready()? {
            if !self.is_running()? {
                match self.lease_part() {
                    Ok(_lease) => {
                        self.release()?;
                        held = None;
                    }
                    Err(error) if error.kind() == ErrorKind::Held => held = Some(error),
                    Err(error) => return Err(error.into()),
                }
            }
            if Instant::now() > until {
                return Err(held.unwrap_or_else(|| self.late("its firmware does not get ready")).into());
            }
            std::thread::sleep(PAUSE);
        }
        let id = self.frame.sane(ID)?;
        if id == ID_VALUE {
            return Ok(());
        }
        let what =
            format!("the cms of {} has register map {id:#010x}, not {ID_VALUE:#010x}", self.card.identity());
        Err(jitney_vfio::Error::new(ErrorKind::Unsupported, what).into())
    }

    /// Releases the reset. The map keeps the ready bit of an earlier run, which would be taken for the new one's.
    fn release(&self) -> Result<()> {
        if self.is_running()? {
            return Ok(());
        }
        let registers = Block::new(&self.frame, 0);
        registers.write(STATUS_2, Status2::new())?;
        // Read back, so that it is there before the firmware runs.
        let _ = self.frame.sane(STATUS_2)?;
        registers.write(RESETN, 1)
    }

    fn late(&self, what: &str) -> jitney_vfio::Error {
        let what = format!("the cms of {}: {what} within {PATIENCE:?}", self.card.identity());
        jitney_vfio::Error::new(ErrorKind::TimedOut, what)
            .with_remedy("a reset of the card (jitney's broker resets it after its last user) starts it anew")
    }

    /// What all sensors say that the card has: now, average and greatest value. The firmware must be
    /// [ready](Self::is_ready).
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is not, and as [`is_ready`](Self::is_ready).
    pub fn readings(&self) -> Result<Vec<Reading>> {
        self.must_be_ready()?;
        sensors::read(&self.frame)
    }

    /// Whether the card's supplies are good.
    ///
    /// # Errors
    /// As [`readings`](Self::readings).
    pub fn power_is_good(&self) -> Result<bool> {
        self.must_be_ready()?;
        Ok(self.frame.sane(POWER_BAD)? & 1 == 0)
    }

    /// The version of the firmware: major, minor and increment.
    ///
    /// # Errors
    /// As [`readings`](Self::readings).
    pub fn firmware_version(&self) -> Result<[u8; 3]> {
        self.must_be_ready()?;
        let [_, major, minor, increment] = self.frame.sane(FIRMWARE_VERSION)?.to_be_bytes();
        Ok([major, minor, increment])
    }

    /// Which cards the firmware is for, in four letters or fewer: `U2XX`, `U280`.
    ///
    /// # Errors
    /// As [`readings`](Self::readings).
    pub fn profile(&self) -> Result<String> {
        self.must_be_ready()?;
        let letters = self.frame.sane(PROFILE)?.to_be_bytes();
        Ok(letters.into_iter().filter(u8::is_ascii_graphic).map(char::from).collect())
    }

    /// The right to send messages, which is one program's at a time.
    ///
    /// # Errors
    /// [`ErrorKind::Held`] if somebody else has it, which says who.
    pub fn lease(&self) -> Result<LeasedCms> {
        Ok(LeasedCms::new(self.clone(), self.lease_part()?))
    }

    fn lease_part(&self) -> jitney_vfio::Result<Lease> {
        self.card.lease(LeaseRequest::exclusive(PART.parse()?))
    }

    fn must_be_ready(&self) -> Result<()> {
        if self.is_ready()? {
            return Ok(());
        }
        let what = format!("the firmware of the cms of {} is not ready", self.card.identity());
        let error = jitney_vfio::Error::new(ErrorKind::Invalid, what);
        Err(error.with_remedy("start it (Cms::start; `jitney sensors` does)").into())
    }

    /// A word of the map.
    fn map_word(&self, offset: u32) -> Result<u32> {
        self.frame.read32(self.in_map(offset)?)
    }

    fn set_map_word(&self, offset: u32, value: u32) -> Result<()> {
        self.frame.write32(self.in_map(offset)?, value)
    }

    /// The firmware says where the mailbox is, so that is not relied on.
    fn in_map(&self, offset: u32) -> Result<u64> {
        if offset < MAP_SIZE && offset.is_multiple_of(4) {
            return Ok(u64::from(MAP + offset));
        }
        let (kind, size) = (self.frame.peripheral().kind, u64::from(MAP_SIZE));
        Err(Error::OutsideFrame { kind, offset: offset.into(), size })
    }
}
