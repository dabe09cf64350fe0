//! AXI Quad SPI (PG153), generated with four data lines and FIFOs of 256 bytes, and what hangs on its bus.
//!
//! A byte takes time: [`BYTE_TIME`], eight clocks of 25 MHz. It leaves the transmit FIFO when it begins, so that this is
//! empty while the last byte is under way. With a flash on the bus the core lets through the commands of its maker alone.
//! How many lines a command uses makes no difference, and there is no interrupt output, which no design here has.
//!
//! A core whose clock goes through the FPGA's STARTUP primitive loses the first clocks after the configuration, so that the
//! device does not understand its first transaction; drivers read the first ID twice.

mod commands;
#[cfg(test)]
mod tests;

use super::{Peripheral, merge};
use crate::spi::SpiDevice;
use crate::spi::nor::{Maker, NorFlash};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const GLOBAL_INTERRUPT_ENABLE: u32 = 0x1C;
const INTERRUPT_STATUS: u32 = 0x20;
const INTERRUPT_ENABLE: u32 = 0x28;
const SOFT_RESET: u32 = 0x40;
const CONTROL: u32 = 0x60;
const STATUS: u32 = 0x64;
const TX_DATA: u32 = 0x68;
const RX_DATA: u32 = 0x6C;
const SLAVE_SELECT: u32 = 0x70;
const TX_OCCUPANCY: u32 = 0x74;
const RX_OCCUPANCY: u32 = 0x78;

/// What written to the soft reset register resets the core.
const SOFT_RESET_KEY: u32 = 0x0A;
const CONTROL_LOOPBACK: u32 = 1 << 0;
const CONTROL_ENABLE: u32 = 1 << 1;
const CONTROL_MASTER: u32 = 1 << 2;
const CONTROL_POLARITY: u32 = 1 << 3;
const CONTROL_PHASE: u32 = 1 << 4;
const CONTROL_TX_RESET: u32 = 1 << 5;
const CONTROL_RX_RESET: u32 = 1 << 6;
const CONTROL_INHIBIT: u32 = 1 << 8;
const CONTROL_LSB_FIRST: u32 = 1 << 9;
const CONTROL_BITS: u32 = 0x3FF;
/// Manual slave select and master inhibit (PG153, "SPI Control Register", reset value).
const CONTROL_AT_RESET: u32 = 0x180;
/// Slave mode select: no other master selects this core.
const STATUS_NOT_SELECTED: u32 = 1 << 5;
/// Errors of a core with two or four data lines (PG153, "SPI Status Register"): the clock is neither of modes 0 and 3, it is
/// not set to be master, bits are sent the other way round, it is looped back, the command is not in its table.
const STATUS_CLOCK_MODE: u32 = 1 << 6;
const STATUS_NO_MASTER: u32 = 1 << 7;
const STATUS_BIT_ORDER: u32 = 1 << 8;
const STATUS_LOOPBACK: u32 = 1 << 9;
const STATUS_COMMAND: u32 = 1 << 10;
/// Interrupt status (PG153, "IP Interrupt Status Register"); the errors above are there, three bits higher.
const INTERRUPT_TX_EMPTY: u32 = 1 << 2;
const INTERRUPT_RX_FULL: u32 = 1 << 4;
const INTERRUPT_RX_OVERRUN: u32 = 1 << 5;
const INTERRUPT_BITS: u32 = 0x3FFF;
const ERRORS: u32 =
    STATUS_CLOCK_MODE | STATUS_NO_MASTER | STATUS_BIT_ORDER | STATUS_LOOPBACK | STATUS_COMMAND;

/// Bytes of either FIFO, of a core as designs mostly have it; 16 is the other depth that there is.
const FIFO_DEPTH: usize = 256;
/// The one device.
const SELECT_FIRST: u32 = 1 << 0;
/// Eight clocks of 25 MHz, a quarter of an AXI clock of 100 MHz.
pub const BYTE_TIME: Duration = Duration::from_nanos(320);

struct Core {
    control: u32,
    slave_select: u32,
    sending: VecDeque<u8>,
    received: VecDeque<u8>,
    /// The byte that is under way, and when it has arrived.
    shifting: Option<(u8, Instant)>,
    interrupts: u32,
    interrupt_enable: u32,
    global_interrupt_enable: u32,
    /// The command that is refused, until the core is reset.
    command_error: bool,
    /// The next byte is the first since the device was selected.
    at_command: bool,
    byte_time: Duration,
    depth: usize,
    /// No transaction has ended since the FPGA was configured.
    just_configured: bool,
    device: Option<Box<dyn SpiDevice>>,
    /// Whose commands are let through; without it all are.
    maker: Option<Maker>,
}

impl Core {
    fn new(device: Option<Box<dyn SpiDevice>>, maker: Option<Maker>) -> Self {
        Self {
            control: CONTROL_AT_RESET,
            slave_select: u32::MAX,
            sending: VecDeque::new(),
            received: VecDeque::new(),
            shifting: None,
            interrupts: 0,
            interrupt_enable: 0,
            global_interrupt_enable: 0,
            command_error: false,
            at_command: true,
            byte_time: BYTE_TIME,
            depth: FIFO_DEPTH,
            just_configured: device.is_some(),
            device,
            maker,
        }
    }

    /// As after the configuration, but for the device.
    fn reset(&mut self) {
        self.set_lines(CONTROL_AT_RESET, u32::MAX);
        self.sending.clear();
        self.received.clear();
        self.interrupts = 0;
        self.interrupt_enable = 0;
        self.global_interrupt_enable = 0;
        self.command_error = false;
        self.at_command = true;
    }

    const fn enabled(control: u32) -> bool {
        let master = CONTROL_ENABLE | CONTROL_MASTER;
        control & master == master
    }

    const fn selects(control: u32, slave_select: u32) -> bool {
        Self::enabled(control) && slave_select & SELECT_FIRST == 0
    }

    fn errors(&self) -> u32 {
        let bit = |set: bool, bit: u32| if set { bit } else { 0 };
        let mode = self.control & (CONTROL_POLARITY | CONTROL_PHASE);
        bit(mode == CONTROL_POLARITY || mode == CONTROL_PHASE, STATUS_CLOCK_MODE)
            | bit(self.control & CONTROL_MASTER == 0, STATUS_NO_MASTER)
            | bit(self.control & CONTROL_LSB_FIRST != 0, STATUS_BIT_ORDER)
            | bit(self.control & CONTROL_LOOPBACK != 0, STATUS_LOOPBACK)
            | bit(self.command_error, STATUS_COMMAND)
    }

    fn runs(&self) -> bool {
        Self::enabled(self.control) && self.control & CONTROL_INHIBIT == 0 && self.errors() == 0
    }

    /// Moves the bytes for which there was time until `now`.
    fn advance(&mut self, now: Instant) {
        let mut begin = now;
        loop {
            if let Some((byte, arrived)) = self.shifting {
                if now < arrived {
                    return;
                }
                self.shifting = None;
                begin = arrived;
                self.arrive(byte);
            }
            if !self.runs() {
                return;
            }
            let Some(byte) = self.sending.front().copied() else { return };
            if self.at_command && self.maker.is_some_and(|maker| !commands::knows(maker, byte)) {
                self.command_error = true;
                self.interrupts |= STATUS_COMMAND << 3;
                return;
            }
            self.at_command = false;
            self.sending.pop_front();
            if self.sending.is_empty() {
                self.interrupts |= INTERRUPT_TX_EMPTY;
            }
            self.shifting = Some((byte, begin + self.byte_time));
        }
    }

    /// A byte is out, and another in.
    fn arrive(&mut self, byte: u8) {
        let selected = Self::selects(self.control, self.slave_select);
        let answer = match &mut self.device {
            // Its first clocks do not reach the device, and what follows is no command to it.
            Some(_) if self.just_configured => 0xFF,
            Some(device) if selected => device.exchange(byte),
            Some(_) => 0xFF,
            None => 0,
        };
        if self.received.len() == self.depth {
            self.interrupts |= INTERRUPT_RX_OVERRUN;
            return;
        }
        self.received.push_back(answer);
        if self.received.len() == self.depth {
            self.interrupts |= INTERRUPT_RX_FULL;
        }
    }

    /// Sets what decides about the bus. A byte that is under way is lost if it is stopped (PG153 calls the outcome
    /// unpredictable).
    fn set_lines(&mut self, control: u32, slave_select: u32) {
        let before = Self::selects(self.control, self.slave_select);
        let after = Self::selects(control, slave_select);
        let stopped = !Self::enabled(control) || control & CONTROL_INHIBIT != 0 || before != after;
        let at_byte = !stopped || self.shifting.take().is_none();
        (self.control, self.slave_select) = (control, slave_select);
        if before == after {
            return;
        }
        self.at_command = true;
        let Some(device) = &mut self.device else { return };
        match (after, self.just_configured) {
            (true, false) => device.selected(),
            (false, false) => device.deselected(at_byte),
            (true, true) => {}
            (false, true) => self.just_configured = false,
        }
    }

    fn status(&self) -> u32 {
        STATUS_NOT_SELECTED
            | self.errors()
            | u32::from(self.received.is_empty())
            | u32::from(self.received.len() == self.depth) << 1
            | u32::from(self.sending.is_empty()) << 2
            | u32::from(self.sending.len() == self.depth) << 3
    }
}

/// The peripheral.
pub struct QuadSpi(Mutex<Core>);

impl fmt::Debug for QuadSpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = self.core();
        f.debug_struct("QuadSpi")
            .field("control", &core.control)
            .field("maker", &core.maker)
            .finish_non_exhaustive()
    }
}

/// A core with nothing on its bus: every byte brings a zero in, and any command is let through.
impl Default for QuadSpi {
    fn default() -> Self {
        Self(Mutex::new(Core::new(None, None)))
    }
}

impl QuadSpi {
    /// A core with a flash behind its first chip select, that was generated for flashes of this maker.
    #[must_use]
    pub fn with_flash(flash: NorFlash) -> Self {
        let maker = flash.maker();
        Self(Mutex::new(Core::new(Some(Box::new(flash)), Some(maker))))
    }

    /// A core with a device of one's own behind its first chip select, that lets any command through.
    #[must_use]
    pub fn with_device(device: impl SpiDevice + 'static) -> Self {
        Self(Mutex::new(Core::new(Some(Box::new(device)), None)))
    }

    /// The same with FIFOs of 16 bytes.
    #[must_use]
    pub fn with_short_fifos(self) -> Self {
        self.core().depth = 16;
        self
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peripheral for QuadSpi {
    fn read(&self, offset: u32) -> u32 {
        let mut core = self.core();
        core.advance(Instant::now());
        let occupancy = |fifo: &VecDeque<u8>| u32::try_from(fifo.len().saturating_sub(1)).unwrap_or(0);
        match offset {
            GLOBAL_INTERRUPT_ENABLE => core.global_interrupt_enable,
            INTERRUPT_STATUS => core.interrupts | (core.errors() << 3),
            INTERRUPT_ENABLE => core.interrupt_enable,
            CONTROL => core.control,
            STATUS => core.status(),
            RX_DATA => core.received.pop_front().unwrap_or(0).into(),
            SLAVE_SELECT => core.slave_select,
            TX_OCCUPANCY => occupancy(&core.sending),
            RX_OCCUPANCY => occupancy(&core.received),
            _ => 0,
        }
    }

    fn write(&self, offset: u32, value: u32, lanes: u32) {
        let mut core = self.core();
        core.advance(Instant::now());
        match offset {
            GLOBAL_INTERRUPT_ENABLE => {
                core.global_interrupt_enable = merge(core.global_interrupt_enable, value, lanes) & 1 << 31;
            }
            // A one toggles its bit.
            INTERRUPT_STATUS => core.interrupts ^= value & lanes & INTERRUPT_BITS,
            INTERRUPT_ENABLE => {
                core.interrupt_enable = merge(core.interrupt_enable, value, lanes) & INTERRUPT_BITS
            }
            SOFT_RESET if value == SOFT_RESET_KEY => core.reset(),
            CONTROL => {
                if value & CONTROL_TX_RESET != 0 {
                    core.sending.clear();
                }
                if value & CONTROL_RX_RESET != 0 {
                    core.received.clear();
                }
                // The FIFO resets clear themselves.
                let control =
                    merge(core.control, value, lanes) & CONTROL_BITS & !(CONTROL_TX_RESET | CONTROL_RX_RESET);
                let select = core.slave_select;
                core.set_lines(control, select);
            }
            // What does not fit is lost.
            TX_DATA if core.sending.len() < core.depth => {
                let [byte, ..] = value.to_le_bytes();
                core.sending.push_back(byte);
            }
            SLAVE_SELECT => {
                let (control, select) = (core.control, merge(core.slave_select, value, lanes));
                core.set_lines(control, select);
            }
            _ => {}
        }
        core.advance(Instant::now());
    }

    fn reset(&self) {
        self.core().reset();
    }
}

const _: () = assert!(ERRORS == 0x7C0, "five errors side by side");
