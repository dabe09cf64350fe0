//! What the core does on the bus, a byte at a time.

use crate::fault::{FaultKind, Faults};
use crate::i2c::Bus;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

const DEPTH: usize = 16;
/// Eight bits and an acknowledge at 100 kHz.
pub(super) const BYTE: Duration = Duration::from_micros(90);
/// How long a device holds the clock where that is a fault.
const STRETCH: Duration = Duration::from_millis(100);

/// "Control Register".
pub(super) mod control {
    pub(in super::super) const ENABLE: u32 = 1 << 0;
    pub(in super::super) const TX_FIFO_RESET: u32 = 1 << 1;
    pub(in super::super) const MASTER: u32 = 1 << 2;
    pub(in super::super) const TXAK: u32 = 1 << 4;
    pub(in super::super) const REPEATED_START: u32 = 1 << 5;
    pub(super) const ALL: u32 = 0x7F;
}

/// "Interrupt Status Register".
pub(super) mod interrupt {
    /// In a write, nobody acknowledged; in a read, this core did not, which is how it ends.
    pub(in super::super) const TX_ERROR: u32 = 1 << 1;
    pub(in super::super) const TX_EMPTY: u32 = 1 << 2;
    pub(in super::super) const RX_FULL: u32 = 1 << 3;
    pub(in super::super) const BUS_NOT_BUSY: u32 = 1 << 4;
    pub(super) const NOT_ADDRESSED: u32 = 1 << 6;
    pub(super) const TX_HALF_EMPTY: u32 = 1 << 7;
    pub(super) const AT_RESET: u32 = BUS_NOT_BUSY | NOT_ADDRESSED | TX_HALF_EMPTY;
}

/// Of what is written to the transmit FIFO.
pub(super) const START: u16 = 1 << 8;
pub(super) const STOP: u16 = 1 << 9;

/// Where a transfer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Idle,
    Writing,
    /// So many bytes to come, if the dynamic mode counts them, and whether STOP follows.
    Reading(Option<(u8, bool)>),
    /// The dynamic mode has addressed a device to read from; the count comes next.
    ReadingUncounted,
    /// All that was to be read is there. A repeated START can follow, or STOP.
    ReadAll,
    /// Somebody did not acknowledge. Software has to empty the FIFO and end it.
    Refused,
    /// A device holds the lines.
    Stuck,
}

#[derive(Debug)]
pub(super) struct Engine {
    bus: Bus,
    line: Line,
    /// The transfer was begun by a word with START, not by the control register.
    dynamic: bool,
    control: u32,
    isr: u32,
    pirq: u32,
    tx: VecDeque<u16>,
    rx: VecDeque<u8>,
    /// When the last byte was over.
    since: Instant,
}

impl Engine {
    pub(super) fn new(bus: Bus, now: Instant) -> Self {
        Self {
            bus,
            line: Line::Idle,
            dynamic: false,
            control: 0,
            isr: interrupt::AT_RESET,
            pirq: 0,
            tx: VecDeque::new(),
            rx: VecDeque::new(),
            since: now,
        }
    }

    /// Lets go of the bus. There is no STOP on it, but a device that is not clocked gives up.
    pub(super) fn reset(&mut self, now: Instant) {
        let mut bus = std::mem::take(&mut self.bus);
        bus.stop(now);
        *self = Self::new(bus, now);
    }

    /// Does what there was time for until `now`.
    pub(super) fn run(&mut self, now: Instant, faults: &Faults) {
        while self.has_work() && self.since + BYTE <= now {
            self.since += BYTE;
            self.step(faults);
        }
        if !self.has_work() {
            self.since = self.since.max(now);
        }
    }

    fn has_work(&self) -> bool {
        if self.control & control::ENABLE == 0 {
            return false;
        }
        let waiting = self.tx.front();
        match self.line {
            Line::Idle => {
                let by_control = self.control & control::MASTER != 0;
                waiting.is_some_and(|word| word & START != 0 || by_control)
            }
            Line::Writing | Line::ReadingUncounted => waiting.is_some(),
            Line::Reading(_) => !self.is_throttled() || self.restarts(),
            Line::ReadAll => self.restarts(),
            Line::Refused | Line::Stuck => false,
        }
    }

    /// Whether a repeated START is asked for, and its address is there.
    fn restarts(&self) -> bool {
        self.tx.front().is_some_and(|word| {
            (self.dynamic && word & START != 0) || self.control & control::REPEATED_START != 0
        })
    }

    /// Whether the receive FIFO has what was asked to be told of; then the clock is held.
    fn is_throttled(&self) -> bool {
        self.rx.len() >= DEPTH.min(self.pirq as usize + 1)
    }

    fn step(&mut self, faults: &Faults) {
        match self.line {
            Line::Idle => {
                self.dynamic = self.tx.front().is_some_and(|word| word & START != 0);
                self.start(faults);
            }
            Line::Writing if self.restarts() => self.start(faults),
            Line::Writing => self.send(),
            Line::ReadingUncounted => {
                let word = self.take();
                let [count, _] = word.to_le_bytes();
                self.line = Line::Reading(Some((count, word & STOP != 0)));
                // The count is no byte on the bus.
                self.since -= BYTE;
            }
            Line::Reading(_) | Line::ReadAll if self.restarts() => self.start(faults),
            Line::Reading(left) => self.receive(left),
            Line::ReadAll | Line::Refused | Line::Stuck => {}
        }
    }

    /// START and an address.
    fn start(&mut self, faults: &Faults) {
        let word = self.take();
        self.control &= !control::REPEATED_START;
        if self.dynamic {
            self.control |= control::MASTER;
        }
        let fault = faults.at_i2c_start();
        match fault {
            Some(FaultKind::I2cHang) => {
                self.line = Line::Stuck;
                return;
            }
            Some(FaultKind::I2cStretch) => self.since += STRETCH,
            _ => {}
        }
        let [byte, _] = word.to_le_bytes();
        let (address, read) = (byte >> 1, byte & 1 == 1);
        let answers = fault != Some(FaultKind::I2cNak) && self.bus.start(address, read, self.since);
        if !answers {
            self.refuse();
        } else if self.dynamic && word & STOP != 0 {
            self.stop();
        } else if read && self.dynamic {
            self.line = Line::ReadingUncounted;
        } else if read {
            self.line = Line::Reading(None);
        } else {
            self.line = Line::Writing;
        }
    }

    fn send(&mut self) {
        let word = self.take();
        let [byte, _] = word.to_le_bytes();
        if !self.bus.write(byte) {
            self.refuse();
        } else if (self.dynamic && word & STOP != 0)
            || (!self.dynamic && self.control & control::MASTER == 0 && self.tx.is_empty())
        {
            self.stop();
        }
    }

    fn receive(&mut self, left: Option<(u8, bool)>) {
        self.rx.push_back(self.bus.read());
        if self.rx.len() == self.pirq as usize + 1 {
            self.isr |= interrupt::RX_FULL;
        }
        let (last, stops) = match left {
            // A count of zero is one of 256.
            Some((1, stops)) => (true, stops),
            Some((count, stops)) => {
                self.line = Line::Reading(Some((count.wrapping_sub(1), stops)));
                (false, false)
            }
            None => (self.control & control::TXAK != 0, false),
        };
        if last {
            // The byte that this core does not acknowledge is the last one.
            self.isr |= interrupt::TX_ERROR;
            self.line = Line::ReadAll;
        }
        if stops {
            self.stop();
        }
    }

    fn refuse(&mut self) {
        self.isr |= interrupt::TX_ERROR;
        self.line = Line::Refused;
    }

    fn stop(&mut self) {
        self.bus.stop(self.since);
        self.line = Line::Idle;
        self.control &= !control::MASTER;
        self.isr |= interrupt::BUS_NOT_BUSY;
    }

    /// The next word of the transmit FIFO.
    fn take(&mut self) -> u16 {
        let word = self.tx.pop_front().unwrap_or(0);
        if self.tx.is_empty() {
            self.isr |= interrupt::TX_EMPTY;
        }
        if self.tx.len() < DEPTH / 2 {
            self.isr |= interrupt::TX_HALF_EMPTY;
        }
        word
    }

    /// Writes the transmit FIFO. A full one takes no more.
    pub(super) fn push(&mut self, value: u32) {
        if self.tx.len() < DEPTH && self.control & control::TX_FIFO_RESET == 0 {
            self.tx.push_back((value & 0x3FF) as u16);
        }
    }

    /// Reads the receive FIFO. What an empty one gives means nothing.
    pub(super) fn pop(&mut self) -> u8 {
        self.rx.pop_front().unwrap_or(0)
    }

    pub(super) fn set_control(&mut self, value: u32, now: Instant) {
        let before = self.control;
        self.control = value & control::ALL;
        if self.control & control::TX_FIFO_RESET != 0 {
            self.tx.clear();
        }
        let ends = before & control::MASTER != 0 && self.control & control::MASTER == 0;
        match self.line {
            // A write goes on to the byte that comes last.
            Line::Reading(_) | Line::ReadAll | Line::Refused | Line::ReadingUncounted if ends => {
                self.since = now;
                self.stop();
            }
            _ => {}
        }
        if self.control & control::ENABLE == 0 && self.line != Line::Stuck && self.line != Line::Idle {
            self.bus.stop(now);
            self.line = Line::Idle;
        }
    }

    pub(super) const fn control(&self) -> u32 {
        self.control
    }

    pub(super) const fn isr(&self) -> u32 {
        self.isr
    }

    /// Each bit that is written as one changes.
    pub(super) const fn toggle_isr(&mut self, value: u32) {
        self.isr ^= value & 0xFF;
    }

    pub(super) const fn pirq(&self) -> u32 {
        self.pirq
    }

    pub(super) const fn set_pirq(&mut self, value: u32) {
        self.pirq = value & 0xF;
    }

    /// "Status Register".
    pub(super) fn status(&self) -> u32 {
        u32::from(self.line != Line::Idle) << 2
            | u32::from(self.tx.len() == DEPTH) << 4
            | u32::from(self.rx.len() == DEPTH) << 5
            | u32::from(self.rx.is_empty()) << 6
            | u32::from(self.tx.is_empty()) << 7
    }

    /// Of both FIFOs, each less one.
    pub(super) fn occupancy(&self) -> (u32, u32) {
        let less_one = |length: usize| u32::try_from(length.saturating_sub(1)).unwrap_or(0);
        (less_one(self.tx.len()), less_one(self.rx.len()))
    }
}
