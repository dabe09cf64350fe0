//! The configuration flash of a board: a serial NOR flash on the bus of an AXI Quad SPI.
//!
//! Commands travel on one line each way, which every core and every flash has; the registers of the core are slower than that
//! bus, so that more lines would bring nothing. A flash says what it is by its ID and its SFDP (JESD216); of makers whose
//! cores do not send the command for that, the data sheets are built in.
//!
//! [`Update`] writes an image and leaves out what is there already.

mod error;
mod part;
pub mod sfdp;
mod update;

use crate::error::{Error, Result};
use crate::quad_spi::LeasedSpi;
pub use error::FlashError;
use part::Addressing;
pub use part::{FlashPart, Maker};
use sfdp::{Parameters, SfdpError};
use std::ops::Range;
use std::time::{Duration, Instant};
pub use update::{Difference, Doing, Outcome, Progress, State, Stopped, Update, compare};

/// Status register: it is programming, erasing or writing a register.
const BUSY: u8 = 1 << 0;
/// Status register: the write enable latch.
const WRITE_ENABLED: u8 = 1 << 1;
/// Spansion's status register, and Macronix's security register: program and erase errors, either way round.
const STATUS_ERRORS: u8 = 0b0110_0000;
/// Micron's flag status register: erase, program, and protection errors (N25Q256A, "Flag Status Register").
const FLAG_ERRORS: u8 = 0b0011_1010;
const FLAG_PROTECTION: u8 = 1 << 1;
const FLAG_FOUR_BYTE: u8 = 1 << 0;

/// Between two looks at a flash that is busy.
const LOOK_AGAIN: Duration = Duration::from_micros(100);
/// How long a register write may take.
const REGISTER_LIMIT: Duration = Duration::from_secs(2);
/// How long a flash may go on with what somebody else has started.
const FOREIGN_LIMIT: Duration = Duration::from_secs(10);
/// What is read at once. No part has dies or segments that end within it.
const PIECE: u64 = 64 << 10;
/// The most of an SFDP space that is read.
const LONGEST_SFDP: usize = 4096;

/// A flash that was identified.
#[derive(Debug)]
pub struct Flash {
    spi: LeasedSpi,
    part: FlashPart,
    /// Reads are by the commands with a byte of waiting; else by those without, for slower clocks.
    fast: bool,
}

impl Flash {
    /// Asks the flash on the bus of `spi` what it is.
    ///
    /// # Errors
    /// [`FlashError::Silent`] if nobody answers, [`FlashError::Unknown`] for a part that can be used neither by what it says nor by its ID.
    pub(crate) fn identify(spi: LeasedSpi) -> Result<Self> {
        let id = read_id(&spi)?;
        let part = match parameters(&spi)? {
            Ok(parameters) => FlashPart::of_sfdp(id, &parameters),
            Err(why) => FlashPart::of_data_sheet(id).ok_or_else(|| FlashError::Unknown {
                at: spi.place().to_owned(),
                id: id.to_vec(),
                why,
            })?,
        };
        let mut flash = Self { spi, part, fast: true };
        flash.fast = flash.waits_one_byte()?;
        // Somebody may have been stopped in it.
        if flash.part.maker == Maker::Micron && flash.register(0x70)? & FLAG_FOUR_BYTE != 0 {
            flash.leave_mode()?;
        }
        Ok(flash)
    }

    /// What it is.
    #[must_use]
    pub const fn part(&self) -> &FlashPart {
        &self.part
    }

    /// How many bytes either FIFO of its bus holds.
    #[must_use]
    pub const fn fifo_depth(&self) -> usize {
        self.spi.fifo_depth()
    }

    /// What it is called in errors: `the quad-spi of 0000:2e:00.0 (10ee:7011)`.
    #[must_use]
    pub fn place(&self) -> &str {
        self.spi.place()
    }

    /// Reads `data` from `address` on.
    ///
    /// # Errors
    /// [`FlashError::Range`] for bytes that it does not have, else what the bus says.
    pub fn read(&self, address: u64, data: &mut [u8]) -> Result<()> {
        self.check(address, data.len() as u64)?;
        let own = matches!(
            self.part.addressing,
            Addressing::Commands | Addressing::Mode { read_commands: true, .. }
        );
        let opcode = match (own, self.fast) {
            (true, true) => 0x0c,
            (true, false) => 0x13,
            (false, true) => 0x0b,
            (false, false) => 0x03,
        };
        let mut read = || {
            let mut address = address;
            let mut left = &mut data[..];
            while !left.is_empty() {
                let room = usize::try_from(PIECE - address % PIECE).unwrap_or(usize::MAX);
                let (piece, rest) = left.split_at_mut(room.min(left.len()));
                let mut command = self.command(opcode, own, address);
                command.extend(self.fast.then_some(0));
                self.spi.transaction(&command, piece)?;
                address += piece.len() as u64;
                left = rest;
            }
            Ok(())
        };
        match self.part.addressing {
            Addressing::Mode { read_commands: false, .. } => self.in_mode(read),
            _ => read(),
        }
    }

    /// The bits of its status register that protect blocks from being written; zero if none is protected.
    pub fn protection(&self) -> Result<u8> {
        Ok(self.register(0x05)? & self.part.maker.protection())
    }

    /// Takes the protection of all blocks off, for good.
    ///
    /// # Errors
    /// [`FlashError::Locked`] if it stays, as where a pin locks the register.
    pub fn unprotect(&self) -> Result<()> {
        let status = self.register(0x05)?;
        // Neither lock, nor what is no setting.
        let kept = status & !(self.part.maker.protection() | 1 << 7 | BUSY | WRITE_ENABLED);
        self.enable_writes(0)?;
        self.spi.transaction(&[0x01, kept], &mut [])?;
        self.wait("writing the status register", 0, REGISTER_LIMIT)?;
        match self.protection()? {
            0 => Ok(()),
            bits => Err(FlashError::Locked { at: self.at(), bits }.into()),
        }
    }

    /// Erases the sector that begins at `address`.
    pub(crate) fn erase(&self, address: u64) -> Result<()> {
        let (opcode, own) = match self.part.addressing {
            Addressing::Commands => (0xdc, true),
            _ => (self.part.erase, false),
        };
        self.in_write_mode(|| {
            self.enable_writes(address)?;
            self.spi.transaction(&self.command(opcode, own, address), &mut [])?;
            self.finish("erase", address, self.part.erase_limit)
        })
    }

    /// Programs `pages`, each with its address, and asks `go_on` before each whether to.
    pub(crate) fn program<'a>(
        &self,
        pages: impl Iterator<Item = (u64, &'a [u8])>,
        mut go_on: impl FnMut(u64) -> bool,
    ) -> Result<bool> {
        let (opcode, own) = match self.part.addressing {
            Addressing::Commands => (0x12, true),
            _ => (0x02, false),
        };
        self.in_write_mode(|| {
            for (address, page) in pages {
                if !go_on(page.len() as u64) {
                    return Ok(false);
                }
                self.enable_writes(address)?;
                let mut command = self.command(opcode, own, address);
                command.extend_from_slice(page);
                self.spi.transaction(&command, &mut [])?;
                self.finish("program", address, self.part.program_limit)?;
            }
            Ok(true)
        })
    }

    /// Clears what failed before, so that what fails now is seen.
    pub(crate) fn clear_failures(&self) -> Result<()> {
        match self.part.maker {
            Maker::Micron => self.spi.transaction(&[0x50], &mut []),
            Maker::Spansion if self.register(0x05)? & STATUS_ERRORS != 0 => clear_spansion(&self.spi),
            _ => Ok(()),
        }
    }

    pub(crate) fn check(&self, address: u64, length: u64) -> Result<()> {
        let end = address.saturating_add(length);
        if end <= self.part.size {
            return Ok(());
        }
        Err(FlashError::Range { at: self.at(), range: Range { start: address, end }, size: self.part.size }
            .into())
    }

    pub(crate) fn at(&self) -> String {
        self.spi.place().to_owned()
    }

    /// A command with its address, in the mode in which it is sent.
    fn command(&self, opcode: u8, own_four: bool, address: u64) -> Vec<u8> {
        let three = self.part.addressing == Addressing::Three && !own_four;
        let bytes = address.to_be_bytes();
        let mut command = vec![opcode];
        command.extend_from_slice(if three { &bytes[5..] } else { &bytes[4..] });
        command
    }

    fn register(&self, opcode: u8) -> Result<u8> {
        register(&self.spi, opcode)
    }

    /// Whether reads with a byte of waiting wait for just that, as after power-up. A setting that stays may have changed it.
    fn waits_one_byte(&self) -> Result<bool> {
        Ok(match self.part.maker {
            // Bits 7:4 of the volatile configuration are clocks; none and all are the usual ones.
            Maker::Micron => matches!(self.register(0x85)? >> 4, 0 | 8 | 15),
            // Bits 7:6 of the configuration are a latency code, of which the last is for no clocks at all.
            Maker::Spansion => self.register(0x35)? >> 6 != 0b11,
            _ => true,
        })
    }

    fn enable_writes(&self, address: u64) -> Result<()> {
        self.spi.transaction(&[0x06], &mut [])?;
        if self.register(0x05)? & WRITE_ENABLED != 0 {
            return Ok(());
        }
        Err(self.failed("enable writes", address, "its write enable latch stays clear".into()))
    }

    /// Until it is not busy any more.
    fn wait(&self, what: &'static str, address: u64, limit: Duration) -> Result<u8> {
        let begun = Instant::now();
        loop {
            let late = begun.elapsed() > limit;
            let status = self.register(0x05)?;
            // Spansion's stay busy after a failure, until that is cleared.
            let stuck = self.part.maker == Maker::Spansion && status & STATUS_ERRORS != 0;
            if status & BUSY == 0 || stuck {
                return Ok(status);
            }
            if late {
                return Err(FlashError::Busy { at: self.at(), what, address, limit }.into());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Until a program or an erase is done, and whether it went well.
    fn finish(&self, what: &'static str, address: u64, limit: Duration) -> Result<()> {
        let status = self.wait(what, address, limit)?;
        let why = match self.part.maker {
            Maker::Micron => {
                let flags = self.register(0x70)? & FLAG_ERRORS;
                let protected = if flags & FLAG_PROTECTION != 0 { ", the block is protected" } else { "" };
                (flags != 0).then(|| format!("its flags are {flags:#04x}{protected}"))
            }
            Maker::Spansion => (status & STATUS_ERRORS != 0).then(|| format!("its status is {status:#04x}")),
            Maker::Macronix => {
                let security = self.register(0x2b)? & STATUS_ERRORS;
                (security != 0).then(|| format!("its security register has {security:#04x}"))
            }
            _ => None,
        };
        if let Some(why) = why {
            self.clear_failures()?;
            return Err(self.failed(what, address, why));
        }
        if status & WRITE_ENABLED != 0 {
            return Err(self.failed(what, address, "it did not heed the command".into()));
        }
        Ok(())
    }

    fn failed(&self, what: &'static str, address: u64, why: String) -> Error {
        FlashError::Failed { at: self.at(), what, address, why }.into()
    }

    fn in_write_mode<T>(&self, change: impl FnOnce() -> Result<T>) -> Result<T> {
        match self.part.addressing {
            Addressing::Mode { .. } => self.in_mode(change),
            _ => change(),
        }
    }

    /// With addresses of four bytes, and back whatever comes of it.
    fn in_mode<T>(&self, change: impl FnOnce() -> Result<T>) -> Result<T> {
        self.switch_mode(0xb7)?;
        let done = change();
        let left = self.leave_mode();
        let done = done?;
        left?;
        Ok(done)
    }

    fn leave_mode(&self) -> Result<()> {
        self.switch_mode(0xe9)?;
        if self.part.maker == Maker::Micron && self.register(0x70)? & FLAG_FOUR_BYTE != 0 {
            return Err(self.failed(
                "leave its 4-byte mode",
                0,
                "it stays in it; switch the card off and on".into(),
            ));
        }
        Ok(())
    }

    fn switch_mode(&self, opcode: u8) -> Result<()> {
        if matches!(self.part.addressing, Addressing::Mode { write_enable: true, .. }) {
            self.spi.transaction(&[0x06], &mut [])?;
        }
        self.spi.transaction(&[opcode], &mut [])?;
        // What did not need it has left it set.
        self.spi.transaction(&[0x04], &mut [])
    }
}

fn register(spi: &LeasedSpi, opcode: u8) -> Result<u8> {
    let mut value = [0];
    spi.transaction(&[opcode], &mut value)?;
    Ok(value[0])
}

fn clear_spansion(spi: &LeasedSpi) -> Result<()> {
    spi.transaction(&[0x30], &mut [])?;
    spi.transaction(&[0x04], &mut [])
}

/// The ID, which is the same twice.
fn read_id(spi: &LeasedSpi) -> Result<[u8; 6]> {
    let read = || {
        let mut id = [0; 6];
        spi.transaction(&[0x9f], &mut id).map(|()| id)
    };
    // The first clocks after the FPGA's configuration do not reach the flash: a core's clock goes through STARTUP.
    read()?;
    let mut id = read()?;
    if is_silent(id) {
        // It may be asleep, or go on with what somebody has started who is gone.
        wake(spi)?;
        id = read()?;
    }
    if is_silent(id) {
        return Err(FlashError::Silent { at: spi.place().to_owned(), byte: id[0] }.into());
    }
    let again = read()?;
    if again != id {
        let first = |id: [u8; 6]| [id[0], id[1], id[2]];
        return Err(FlashError::Unsteady {
            at: spi.place().to_owned(),
            first: first(id),
            second: first(again),
        }
        .into());
    }
    Ok(id)
}

fn is_silent(id: [u8; 6]) -> bool {
    id[..3] == [0xff; 3] || id[..3] == [0; 3]
}

fn wake(spi: &LeasedSpi) -> Result<()> {
    let begun = Instant::now();
    let mut may_be_spansion = true;
    loop {
        let status = register(spi, 0x05)?;
        if status == 0xff || status & BUSY == 0 || begun.elapsed() > FOREIGN_LIMIT {
            break;
        }
        // Spansion's stay busy after a failure. To others these bits are protection, and their cores do not send what clears it.
        if status & STATUS_ERRORS != 0 && may_be_spansion {
            match clear_spansion(spi) {
                Err(Error::Flash(error)) if matches!(*error, FlashError::Command { .. }) => {
                    may_be_spansion = false
                }
                other => other?,
            }
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    // Release from deep power-down.
    spi.transaction(&[0xab], &mut [])?;
    std::thread::sleep(Duration::from_millis(1));
    Ok(())
}

/// What the flash says of itself, or why it cannot.
fn parameters(spi: &LeasedSpi) -> Result<std::result::Result<Parameters, String>> {
    let mut length = 64;
    loop {
        let mut bytes = vec![0; length];
        match spi.transaction(&[0x5a, 0, 0, 0, 0], &mut bytes) {
            Ok(()) => {}
            Err(Error::Flash(error)) if matches!(*error, FlashError::Command { .. }) => {
                return Ok(Err(
                    "the core does not send the command that asks it for its parameters (5Ah)".into()
                ));
            }
            Err(error) => return Err(error),
        }
        match Parameters::parse(&bytes) {
            Ok(parameters) => return Ok(Ok(parameters)),
            Err(SfdpError::Short(needed)) if needed > length && needed <= LONGEST_SFDP => length = needed,
            Err(error) => return Ok(Err(error.to_string())),
        }
    }
}
