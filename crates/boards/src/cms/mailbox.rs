//! Messages to the firmware, one at a time (PG348, "Mailbox").

use super::card_info::CardInfo;
use super::module::{Module, PAGE};
use super::registers::{CONTROL, MESSAGE_ERROR, MESSAGE_OFFSET};
use super::{Cms, PAUSE};
use crate::error::{Error, Result};
use jitney_registers::Block;
use jitney_vfio::{ErrorKind, Lease};
use serde::Serialize;
use std::time::{Duration, Instant};

/// Within which a message is answered: one that reads a module does many transfers of I2C.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer, in bytes: what 12 bits say.
const LONGEST: usize = 0xfff;

const CARD_INFO: u8 = 0x04;
const BLOCK_READ: u8 = 0x0b;
const READ_SIGNALS: u8 = 0x0d;
const WRITE_SIGNALS: u8 = 0x0e;
const BYTE_READ: u8 = 0x0f;
const BYTE_WRITE: u8 = 0x10;

/// A card management to which this program may send messages, until it is dropped.
#[derive(Debug)]
pub struct LeasedCms {
    cms: Cms,
    _lease: Lease,
}

/// A page of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModulePlace {
    /// The cage, from 0.
    pub cage: u8,
    /// The upper page of this number, or the lower page.
    pub upper: Option<u8>,
}

impl ModulePlace {
    /// Words 1 to 3 of the messages that reach a module.
    fn words(self) -> [u32; 3] {
        [self.cage.into(), self.upper.unwrap_or(0).into(), self.upper.is_some().into()]
    }
}

/// The signals of a QSFP cage (SFF-8679).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ModuleSignals {
    /// A module is in it.
    pub present: bool,
    /// It is held in reset.
    pub reset: bool,
    /// It may use little power only.
    pub low_power: bool,
    /// It listens to its I2C.
    pub selected: bool,
    /// It wants something.
    pub interrupt: bool,
}

impl LeasedCms {
    pub(super) fn new(cms: Cms, lease: Lease) -> Self {
        Self { cms, _lease: lease }
    }

    /// The card management.
    #[must_use]
    pub const fn cms(&self) -> &Cms {
        &self.cms
    }

    /// What the card says of itself.
    ///
    /// # Errors
    /// [`Error::CardManagement`] if the firmware refuses, [`ErrorKind::TimedOut`] if it does not answer within five seconds,
    /// [`ErrorKind::Invalid`] if it is not [ready](Cms::is_ready); so do all messages.
    pub fn card_info(&self) -> Result<CardInfo> {
        let answer = self.send(CARD_INFO, &[])?;
        let bytes = self.bytes(1, answer.length)?;
        Ok(CardInfo::decode(&bytes))
    }

    /// 128 bytes of a module.
    ///
    /// # Errors
    /// As [`card_info`](Self::card_info); error 0xa is that no module answers.
    pub fn module_page(&self, place: ModulePlace) -> Result<[u8; PAGE]> {
        self.send(BLOCK_READ, &place.words())?;
        let size = self.word(4)?;
        let bytes = self.bytes(5, PAGE)?;
        match <[u8; PAGE]>::try_from(bytes) {
            Ok(page) if usize::try_from(size) == Ok(PAGE) => Ok(page),
            _ => Err(self.protocol(&format!("a page of {size} bytes, not {PAGE}"))),
        }
    }

    /// Who the module in a cage is, and what it measures.
    ///
    /// # Errors
    /// As [`module_page`](Self::module_page).
    pub fn module(&self, cage: u8) -> Result<Module> {
        let lower = self.module_page(ModulePlace { cage, upper: None })?;
        let upper = self.module_page(ModulePlace { cage, upper: Some(0) })?;
        Ok(Module::decode(&lower, &upper))
    }

    /// A byte of a module; those of an upper page have offsets from 128 on.
    ///
    /// # Errors
    /// As [`module_page`](Self::module_page).
    pub fn module_byte(&self, place: ModulePlace, offset: u8) -> Result<u8> {
        let [cage, page, upper] = place.words();
        self.send(BYTE_READ, &[cage, page, upper, offset.into()])?;
        let [value, ..] = self.word(5)?.to_le_bytes();
        Ok(value)
    }

    /// Writes a byte of a module. Most cannot be written, and nobody says so.
    ///
    /// # Errors
    /// As [`module_page`](Self::module_page).
    pub fn set_module_byte(&self, place: ModulePlace, offset: u8, value: u8) -> Result<()> {
        let [cage, page, upper] = place.words();
        self.send(BYTE_WRITE, &[cage, page, upper, offset.into(), value.into()])?;
        Ok(())
    }

    /// The signals of a QSFP cage.
    ///
    /// # Errors
    /// As [`card_info`](Self::card_info).
    pub fn module_signals(&self, cage: u8) -> Result<ModuleSignals> {
        self.enable_signals()?;
        self.send(READ_SIGNALS, &[cage.into()])?;
        let word = self.word(2)?;
        let bit = |bit: u32| word >> bit & 1 == 1;
        Ok(ModuleSignals {
            present: !bit(3),
            reset: !bit(0),
            low_power: bit(1),
            selected: !bit(2),
            interrupt: !bit(4),
        })
    }

    /// Holds a module in reset or not, and in low-power mode or not.
    ///
    /// # Errors
    /// As [`card_info`](Self::card_info).
    pub fn set_module_signals(&self, cage: u8, reset: bool, low_power: bool) -> Result<()> {
        self.enable_signals()?;
        self.send(WRITE_SIGNALS, &[cage.into(), u32::from(!reset) | u32::from(low_power) << 1])?;
        Ok(())
    }

    /// A U200 or U250 has them switched off after a reset; on other cards the bit means nothing.
    fn enable_signals(&self) -> Result<()> {
        self.cms.must_be_ready()?;
        let control = self.cms.frame.sane(CONTROL)?;
        if control.module_signals() {
            return Ok(());
        }
        Block::new(&self.cms.frame, 0).write(CONTROL, control.with_module_signals(true))
    }

    /// Sends a message and waits for its answer, which is in the mailbox then.
    fn send(&self, opcode: u8, payload: &[u32]) -> Result<Answer> {
        self.cms.must_be_ready()?;
        // One that a program left behind is finished first.
        self.wait(opcode, "an earlier message was not answered")?;
        self.set_word(0, u32::from(opcode) << 24)?;
        for (index, word) in (1..).zip(payload) {
            self.set_word(index, *word)?;
        }
        let registers = Block::new(&self.cms.frame, 0);
        registers.write(CONTROL, self.cms.frame.sane(CONTROL)?.with_message(true))?;
        self.wait(opcode, "its firmware does not answer")?;
        let code = self.cms.frame.sane(MESSAGE_ERROR)?;
        if code != 0 {
            let card = self.cms.card.identity().to_string();
            return Err(Error::CardManagement { card, opcode, code, what: meaning(code) });
        }
        let length = usize::try_from(self.word(0)? & 0xfff).unwrap_or(LONGEST);
        Ok(Answer { length })
    }

    fn wait(&self, opcode: u8, what: &str) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while self.cms.frame.sane(CONTROL)?.message() {
            if Instant::now() > until {
                let what = format!(
                    "the cms of {}: {what}, to message {opcode:#04x} within {PATIENCE:?}",
                    self.cms.card.identity()
                );
                let error = jitney_vfio::Error::new(ErrorKind::TimedOut, what);
                return Err(error.with_remedy("a reset of the card starts its firmware anew").into());
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn mailbox(&self) -> Result<u32> {
        self.cms.frame.sane(MESSAGE_OFFSET)
    }

    fn word(&self, index: u32) -> Result<u32> {
        self.cms.map_word(self.mailbox()?.saturating_add(4 * index))
    }

    fn set_word(&self, index: u32, value: u32) -> Result<()> {
        self.cms.set_map_word(self.mailbox()?.saturating_add(4 * index), value)
    }

    /// `length` bytes from a word of the mailbox on.
    fn bytes(&self, first: u32, length: usize) -> Result<Vec<u8>> {
        let mailbox = self.mailbox()?;
        let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
        for index in (first..).take(length.div_ceil(4)) {
            bytes.extend(self.cms.map_word(mailbox.saturating_add(4 * index))?.to_le_bytes());
        }
        bytes.truncate(length);
        Ok(bytes)
    }

    fn protocol(&self, what: &str) -> Error {
        let what = format!("the cms of {} answers with {what}", self.cms.card.identity());
        jitney_vfio::Error::new(ErrorKind::Protocol, what).into()
    }
}

/// What is known of an answer.
struct Answer {
    /// Bytes of its payload.
    length: usize,
}

/// "HOST_MSG_ERROR_REG" in words.
const fn meaning(code: u32) -> &'static str {
    match code {
        0x1 => "it knows no such message",
        0x2 => "the satellite controller has said nothing about the card",
        0x3 => "the message has a wrong length",
        0x4 => "writing the satellite controller's firmware failed",
        0x5 => "updating the satellite controller's firmware failed",
        0x6 => "loading the satellite controller's firmware failed",
        0x7 => "erasing the satellite controller's firmware failed",
        0x9 => "the satellite controller's registers cannot be reached",
        0xa => "no module answers: the cage is empty, or there is no such cage or page",
        _ => "PG348 has no such error",
    }
}
