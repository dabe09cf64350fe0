//! AXI Quad SPI (PG153) with nothing on its bus: every byte clocked out brings a zero in, so a flash programmer finds an
//! unknown flash. The FIFOs are real, because software fills them to find how deep they are.

use super::{Peripheral, merge};
use std::sync::{Mutex, MutexGuard, PoisonError};

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
const CONTROL_ENABLE: u32 = 1 << 1;
const CONTROL_MASTER: u32 = 1 << 2;
const CONTROL_TX_RESET: u32 = 1 << 5;
const CONTROL_RX_RESET: u32 = 1 << 6;
const CONTROL_INHIBIT: u32 = 1 << 8;
/// Manual slave select and master inhibit (PG153, "SPI Control Register", reset value).
const CONTROL_AT_RESET: u32 = 0x180;
/// Slave mode select: no other master selects this core.
const STATUS_NOT_SELECTED: u32 = 1 << 5;
/// Slave mode error of a core with two or four data lines: it is not set to be master (PG153, "SPI Status Register").
const STATUS_NO_MASTER: u32 = 1 << 7;
const FIFO_DEPTH: u32 = 256;

#[derive(Debug)]
struct State {
    control: u32,
    slave_select: u32,
    /// Bytes that wait to be sent; their values reach nobody.
    sending: u32,
    /// Bytes received and not yet read: all zero.
    received: u32,
}

impl State {
    const RESET: Self = Self { control: CONTROL_AT_RESET, slave_select: u32::MAX, sending: 0, received: 0 };

    /// Sends what waits, if the core is an enabled master that is not inhibited.
    fn transfer(&mut self) {
        let runs = CONTROL_ENABLE | CONTROL_MASTER;
        if self.control & (runs | CONTROL_INHIBIT) == runs {
            self.received = FIFO_DEPTH.min(self.received + self.sending);
            self.sending = 0;
        }
    }

    fn status(&self) -> u32 {
        let no_master = if self.control & CONTROL_MASTER == 0 { STATUS_NO_MASTER } else { 0 };
        STATUS_NOT_SELECTED
            | no_master
            | u32::from(self.received == 0)
            | u32::from(self.received == FIFO_DEPTH) << 1
            | u32::from(self.sending == 0) << 2
            | u32::from(self.sending == FIFO_DEPTH) << 3
    }
}

/// The peripheral.
#[derive(Debug)]
pub struct QuadSpi(Mutex<State>);

impl Default for QuadSpi {
    fn default() -> Self {
        Self(Mutex::new(State::RESET))
    }
}

impl QuadSpi {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peripheral for QuadSpi {
    fn read(&self, offset: u32) -> u32 {
        let mut state = self.state();
        match offset {
            CONTROL => state.control,
            STATUS => state.status(),
            RX_DATA => {
                state.received = state.received.saturating_sub(1);
                0
            }
            SLAVE_SELECT => state.slave_select,
            TX_OCCUPANCY => state.sending.saturating_sub(1),
            RX_OCCUPANCY => state.received.saturating_sub(1),
            _ => 0,
        }
    }

    fn write(&self, offset: u32, value: u32, lanes: u32) {
        let mut state = self.state();
        match offset {
            SOFT_RESET if value == SOFT_RESET_KEY => *state = State::RESET,
            CONTROL => {
                if value & CONTROL_TX_RESET != 0 {
                    state.sending = 0;
                }
                if value & CONTROL_RX_RESET != 0 {
                    state.received = 0;
                }
                // The FIFO resets clear themselves.
                state.control = merge(state.control, value, lanes) & !(CONTROL_TX_RESET | CONTROL_RX_RESET);
                state.transfer();
            }
            TX_DATA => {
                state.sending = FIFO_DEPTH.min(state.sending + 1);
                state.transfer();
            }
            SLAVE_SELECT => state.slave_select = merge(state.slave_select, value, lanes),
            _ => {}
        }
    }

    fn reset(&self) {
        *self.state() = State::RESET;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_finds_the_fifo_depth_and_an_empty_bus() {
        let spi = QuadSpi::default();
        spi.write(SOFT_RESET, SOFT_RESET_KEY, u32::MAX);
        assert_eq!((spi.read(CONTROL), spi.read(STATUS)), (0x180, 0xA5));

        let mut depth = 0;
        while spi.read(STATUS) & 1 << 3 == 0 {
            spi.write(TX_DATA, 0x9F, u32::MAX);
            depth += 1;
        }
        assert_eq!((depth, spi.read(TX_OCCUPANCY)), (256, 255));

        spi.write(CONTROL, CONTROL_ENABLE | CONTROL_MASTER, u32::MAX);
        assert_eq!(spi.read(STATUS), 0x26, "everything was sent and as much came back");
        let mut received = 0;
        while spi.read(STATUS) & 1 == 0 {
            assert_eq!(spi.read(RX_DATA), 0);
            received += 1;
        }
        assert_eq!(received, 256);
    }

    /// What a flash programmer does first, and what it finds wrong.
    #[test]
    fn a_master_shows_no_error() {
        let spi = QuadSpi::default();
        spi.write(SOFT_RESET, SOFT_RESET_KEY, u32::MAX);
        assert_eq!(spi.read(STATUS), 0xA5);
        spi.write(CONTROL, CONTROL_INHIBIT | CONTROL_MASTER | CONTROL_ENABLE, u32::MAX);
        assert_eq!(spi.read(STATUS), 0x25);
        spi.write(CONTROL, CONTROL_INHIBIT, u32::MAX);
        assert_eq!(spi.read(STATUS), 0xA5);
    }

    #[test]
    fn fifo_resets_clear_themselves() {
        let spi = QuadSpi::default();
        spi.write(TX_DATA, 1, u32::MAX);
        spi.write(CONTROL, CONTROL_AT_RESET | CONTROL_TX_RESET, u32::MAX);
        assert_eq!((spi.read(CONTROL), spi.read(STATUS)), (0x180, 0xA5));
        spi.write(CONTROL, 0, u32::MAX);
        spi.reset();
        assert_eq!(spi.read(CONTROL), 0x180);
    }
}
