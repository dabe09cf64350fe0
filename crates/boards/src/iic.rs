//! AXI IIC: a master on an I2C bus (PG090), driven in its dynamic mode, in which the FIFO says where START and STOP are.

use crate::error::{Error, Result};
use crate::frame::Frame;
use bitfield_struct::bitfield;
use jitney_designs::{I2cDevice, Kind};
use jitney_registers::{Block, ReadOnly, ReadWrite, Register, WriteOnly};
use jitney_vfio::{Card, ErrorKind, Lease, LeaseRequest};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Interrupt status: each bit that is written as one changes.
const ISR: Register<Interrupts, ReadWrite> = Register::new(0x020);
const SOFT_RESET: Register<u32, WriteOnly> = Register::new(0x040);
const SOFT_RESET_KEY: u32 = 0xa;
const CONTROL: Register<Control, ReadWrite> = Register::new(0x100);
const STATUS: Register<Status, ReadOnly> = Register::new(0x104);
const TX_FIFO: Register<Word, WriteOnly> = Register::new(0x108);
const RX_FIFO: Register<u32, ReadOnly> = Register::new(0x10c);
/// At how many bytes, less one, the clock is held until some were read.
const RX_FIFO_PIRQ: Register<u32, WriteOnly> = Register::new(0x120);

/// Bytes that the receive FIFO has.
const DEPTH: u32 = 16;
/// The most bytes of one read: what the count in the FIFO says.
pub const LONGEST_READ: usize = 255;
/// How long nothing may move. SMBus gives a device 35 ms; the I2C bus itself has no limit.
const PATIENCE: Duration = Duration::from_millis(300);
/// Within which the bus is free after somebody did not acknowledge.
const STOP_PATIENCE: Duration = Duration::from_millis(20);
/// About a byte at 100 kHz.
const PAUSE: Duration = Duration::from_micros(100);

/// "Control Register".
#[bitfield(u32)]
struct Control {
    enable: bool,
    tx_fifo_reset: bool,
    #[bits(30)]
    __: u32,
}

/// "Status Register".
#[bitfield(u32)]
struct Status {
    #[bits(2)]
    __: u8,
    bus_busy: bool,
    __: bool,
    tx_full: bool,
    __: bool,
    rx_empty: bool,
    tx_empty: bool,
    #[bits(24)]
    __: u32,
}

/// "Interrupt Status Register".
#[bitfield(u32)]
struct Interrupts {
    arbitration_lost: bool,
    /// Nobody acknowledged; or this core has not, at the end of a read.
    transmit_error: bool,
    #[bits(2)]
    __: u8,
    bus_not_busy: bool,
    #[bits(27)]
    __: u32,
}

/// A word of the transmit FIFO.
#[bitfield(u32)]
struct Word {
    /// A byte; of a read, how many.
    byte: u8,
    start: bool,
    stop: bool,
    #[bits(22)]
    __: u32,
}

/// An I2C master of a board.
#[derive(Debug, Clone)]
pub struct Iic {
    frame: Frame,
    card: Arc<dyn Card>,
    /// The part that who uses it leases.
    part: String,
}

impl Iic {
    /// Number `index` of its kind, in `frame` of `card`.
    pub(crate) fn new(frame: Frame, card: Arc<dyn Card>, index: usize) -> Self {
        let kind = Kind::Iic.to_string();
        let part = if index == 0 { kind } else { format!("{kind}{index}") };
        Self { frame, card, part }
    }

    /// What the boards file says is on its bus.
    #[must_use]
    pub fn known(&self) -> &[I2cDevice] {
        &self.frame.peripheral().i2c
    }

    /// The right to use it, which is one program's at a time. The core is reset.
    ///
    /// # Errors
    /// [`ErrorKind::Held`] if somebody else has it, which says who; [`ErrorKind::LinkDown`] if it reads as all-ones;
    /// [`ErrorKind::TimedOut`] if somebody holds the bus.
    pub fn lease(&self) -> Result<LeasedIic> {
        let lease = self.card.lease(LeaseRequest::exclusive(self.part.parse()?))?;
        let leased = LeasedIic { iic: self.clone(), _lease: lease };
        leased.recover()?;
        Ok(leased)
    }
}

/// An I2C master that this program may use, until it is dropped.
#[derive(Debug)]
pub struct LeasedIic {
    iic: Iic,
    _lease: Lease,
}

impl LeasedIic {
    /// The master.
    #[must_use]
    pub const fn iic(&self) -> &Iic {
        &self.iic
    }

    /// Resets the core and waits until the bus is free. A transfer that fails does so by itself.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] if the bus stays busy: a device holds it, which only a reset of that device ends.
    pub fn recover(&self) -> Result<()> {
        let registers = self.registers();
        registers.write(SOFT_RESET, SOFT_RESET_KEY)?;
        registers.write(RX_FIFO_PIRQ, DEPTH - 1)?;
        registers.write(CONTROL, Control::new().with_tx_fifo_reset(true))?;
        registers.write(CONTROL, Control::new().with_enable(true))?;
        self.wait_until_free(PATIENCE)
    }

    /// Writes `bytes` to the device at `address` (7 bits).
    ///
    /// # Errors
    /// [`Error::NotAcknowledged`] if the device is not there, is busy, or takes no more; [`ErrorKind::TimedOut`] if nothing
    /// moves for 0.3 s; [`ErrorKind::Invalid`] for a reserved address, [`ErrorKind::LinkDown`] if the core reads as all-ones.
    /// The bus is free again afterwards, if it can be.
    pub fn write(&self, address: u8, bytes: &[u8]) -> Result<()> {
        self.transfer(address, Some(bytes), 0).map(drop)
    }

    /// Reads 1 to [`LONGEST_READ`] bytes from the device at `address`.
    ///
    /// # Errors
    /// As [`write`](Self::write); [`ErrorKind::Invalid`] for another number of bytes.
    pub fn read(&self, address: u8, count: usize) -> Result<Vec<u8>> {
        self.must_be_readable(count)?;
        self.transfer(address, None, count)
    }

    /// Writes `bytes`, which mostly is where to read, and reads without letting go of the bus in between.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn write_read(&self, address: u8, bytes: &[u8], count: usize) -> Result<Vec<u8>> {
        self.must_be_readable(count)?;
        self.transfer(address, Some(bytes), count)
    }

    /// Whether a device acknowledges `address`. Nothing is written: it is addressed for a write of no bytes, or, where such
    /// a write is known to harm (addresses of EEPROMs and of their write protection), a byte is read.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn probe(&self, address: u8) -> Result<bool> {
        let answer = match address {
            0x30..=0x37 | 0x50..=0x5f => self.read(address, 1).map(drop),
            _ => self.write(address, &[]),
        };
        match answer {
            Ok(()) => Ok(true),
            Err(Error::NotAcknowledged { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn must_be_readable(&self, count: usize) -> Result<()> {
        if (1..=LONGEST_READ).contains(&count) {
            return Ok(());
        }
        let what = format!("{count} bytes cannot be read from {} in one transfer", self.name());
        Err(self.invalid(what, format!("read 1 to {LONGEST_READ}")))
    }

    fn transfer(&self, address: u8, written: Option<&[u8]>, count: usize) -> Result<Vec<u8>> {
        if !I2cDevice::is_address(address) {
            let what = format!("{address:#04x} is no address of a device on {}", self.name());
            return Err(self.invalid(what, "addresses have 7 bits, from 0x08 to 0x77".to_owned()));
        }
        let words = words(address, written, count);
        let result = self.carry_out(address, &words, count);
        match &result {
            Ok(_) => {}
            Err(Error::NotAcknowledged { .. }) => self.end_refused()?,
            // What failed before says more than what a reset says.
            Err(_) => drop(self.recover()),
        }
        result
    }

    fn carry_out(&self, address: u8, words: &[Word], count: usize) -> Result<Vec<u8>> {
        let registers = self.registers();
        self.wait_until_free(PATIENCE)?;
        self.drain()?;
        // What is written as one changes, so what is there goes.
        registers.write(ISR, self.iic.frame.sane(ISR)?)?;
        let mut waiting = words.iter();
        let mut received = Vec::with_capacity(count);
        let mut moved = Instant::now();
        loop {
            // In this order: what the one says has happened before what the others say.
            let interrupts = self.iic.frame.sane(ISR)?;
            let (left, there) = (waiting.len(), received.len());
            while !self.status()?.rx_empty() && received.len() < count {
                let [byte, ..] = registers.read(RX_FIFO)?.to_le_bytes();
                received.push(byte);
            }
            if interrupts.arbitration_lost() {
                return Err(self.failure("it lost the bus to another master"));
            }
            let ends_a_read = count > 0 && received.len() == count;
            if interrupts.transmit_error() && !ends_a_read {
                let sent = words.len() - waiting.len();
                return Err(self.refused(address, sent));
            }
            while !self.status()?.tx_full() {
                let Some(word) = waiting.next() else { break };
                registers.write(TX_FIFO, *word)?;
            }
            if interrupts.bus_not_busy() && waiting.len() == 0 && received.len() == count {
                return Ok(received);
            }
            if (waiting.len(), received.len()) != (left, there) {
                moved = Instant::now();
            }
            if moved.elapsed() > PATIENCE {
                return Err(self.late(&format!("a transfer with {address:#04x} does not go on")));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Reads what an earlier transfer left behind.
    fn drain(&self) -> Result<()> {
        for _ in 0..=DEPTH {
            if self.status()?.rx_empty() {
                return Ok(());
            }
            self.registers().read(RX_FIFO)?;
        }
        Err(self.failure("its receive FIFO does not get empty"))
    }

    /// Empties the FIFO after a refusal, which ends the transfer with a STOP; if not, a reset does.
    fn end_refused(&self) -> Result<()> {
        let registers = self.registers();
        registers.write(CONTROL, Control::new().with_enable(true).with_tx_fifo_reset(true))?;
        registers.write(CONTROL, Control::new().with_enable(true))?;
        match self.wait_until_free(STOP_PATIENCE) {
            Err(Error::Card(error)) if error.kind() == ErrorKind::TimedOut => self.recover(),
            ended => ended,
        }
    }

    fn wait_until_free(&self, patience: Duration) -> Result<()> {
        let since = Instant::now();
        while self.status()?.bus_busy() {
            if since.elapsed() > patience {
                return Err(self.late("the bus stays busy"));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn status(&self) -> Result<Status> {
        self.iic.frame.sane(STATUS)
    }

    fn registers(&self) -> Block<&Frame> {
        Block::new(&self.iic.frame, 0)
    }

    fn name(&self) -> String {
        format!("the {} of {}", self.iic.part, self.iic.card.identity())
    }

    fn refused(&self, address: u8, sent: usize) -> Error {
        Error::NotAcknowledged { bus: self.name(), address, sent: sent.saturating_sub(1) }
    }

    fn failure(&self, what: &str) -> Error {
        jitney_vfio::Error::new(ErrorKind::Protocol, format!("{}: {what}", self.name())).into()
    }

    fn late(&self, what: &str) -> Error {
        let what = format!("{}: {what}: for {PATIENCE:?} nothing moved", self.name());
        let error = jitney_vfio::Error::new(ErrorKind::TimedOut, what);
        error
            .with_remedy("a device may hold the bus; if it goes on, take the board's power away for a moment")
            .into()
    }

    fn invalid(&self, what: String, remedy: String) -> Error {
        jitney_vfio::Error::new(ErrorKind::Invalid, what).with_remedy(remedy).into()
    }
}

/// What is put into the FIFO. A write of nothing is its address alone.
fn words(address: u8, written: Option<&[u8]>, count: usize) -> Vec<Word> {
    let mut words = Vec::new();
    if let Some(bytes) = written {
        words.push(Word::new().with_start(true).with_byte(address << 1));
        words.extend(bytes.iter().map(|byte| Word::new().with_byte(*byte)));
    }
    if count > 0 {
        words.push(Word::new().with_start(true).with_byte(address << 1 | 1));
        words.push(Word::new().with_byte(u8::try_from(count).unwrap_or(u8::MAX)));
    }
    if let Some(last) = words.last_mut() {
        last.set_stop(true);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(address: u8, bytes: Option<&[u8]>, count: usize) -> Vec<u32> {
        words(address, bytes, count).into_iter().map(u32::from).collect()
    }

    #[test]
    fn the_fifo_is_told_where_start_and_stop_are() {
        assert_eq!(written(0x50, Some(&[]), 0), [0x3a0]);
        assert_eq!(written(0x50, Some(&[1, 2]), 0), [0x1a0, 1, 0x202]);
        assert_eq!(written(0x50, None, 255), [0x1a1, 0x2ff]);
        assert_eq!(written(0x40, Some(&[0x8b]), 2), [0x180, 0x8b, 0x181, 0x202]);
    }
}
