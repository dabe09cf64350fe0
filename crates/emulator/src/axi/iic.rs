//! AXI IIC (PG090): a master with FIFOs, in standard and in dynamic mode. It is never addressed as a slave, and it is alone on
//! its bus.
//!
//! Bytes take the time that they take at 100 kHz. What the core has done is found out when somebody looks.

mod engine;

use super::{Peripheral, merge};
use crate::fault::Faults;
use crate::i2c::Bus;
use engine::Engine;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

// Registers (PG090, "Register Space").
const GIE: u32 = 0x01C;
const ISR: u32 = 0x020;
const IER: u32 = 0x028;
const SOFTR: u32 = 0x040;
const SOFTR_KEY: u32 = 0xA;
const CR: u32 = 0x100;
const SR: u32 = 0x104;
const TX_FIFO: u32 = 0x108;
const RX_FIFO: u32 = 0x10C;
const ADR: u32 = 0x110;
const TX_FIFO_OCY: u32 = 0x114;
const RX_FIFO_OCY: u32 = 0x118;
const TEN_ADR: u32 = 0x11C;
const RX_FIFO_PIRQ: u32 = 0x120;
const GPO: u32 = 0x124;
const TIMING: u32 = 0x128;
const TIMING_END: u32 = 0x148;

/// Registers that only keep what is written: interrupt enables, slave addresses, outputs and timing.
#[derive(Debug, Default)]
struct Kept {
    gie: u32,
    ier: u32,
    adr: u32,
    ten_adr: u32,
    gpo: u32,
    timing: [u32; ((TIMING_END - TIMING) / 4) as usize],
}

impl Kept {
    fn register(&mut self, offset: u32) -> Option<(&mut u32, u32)> {
        Some(match offset {
            GIE => (&mut self.gie, 1 << 31),
            IER => (&mut self.ier, 0xFF),
            ADR => (&mut self.adr, 0xFE),
            TEN_ADR => (&mut self.ten_adr, 0x7),
            GPO => (&mut self.gpo, 0xFF),
            TIMING..TIMING_END => (self.timing.get_mut(((offset - TIMING) / 4) as usize)?, u32::MAX),
            _ => return None,
        })
    }
}

#[derive(Debug)]
struct State {
    kept: Kept,
    engine: Engine,
}

impl State {
    fn read(&mut self, offset: u32) -> u32 {
        match offset {
            ISR => self.engine.isr(),
            CR => self.engine.control(),
            SR => self.engine.status(),
            RX_FIFO => self.engine.pop().into(),
            TX_FIFO_OCY => self.engine.occupancy().0,
            RX_FIFO_OCY => self.engine.occupancy().1,
            RX_FIFO_PIRQ => self.engine.pirq(),
            _ => self.kept.register(offset).map_or(0, |(register, _)| *register),
        }
    }

    fn write(&mut self, offset: u32, value: u32, lanes: u32, now: Instant) {
        match offset {
            // Another key is answered with SLVERR, and nothing happens.
            SOFTR if value & 0xF == SOFTR_KEY => {
                self.kept = Kept::default();
                self.engine.reset(now);
            }
            ISR => self.engine.toggle_isr(value),
            CR => self.engine.set_control(merge(self.engine.control(), value, lanes), now),
            TX_FIFO => self.engine.push(value),
            RX_FIFO_PIRQ => self.engine.set_pirq(value),
            _ => {
                if let Some((register, mask)) = self.kept.register(offset) {
                    *register = merge(*register, value, lanes) & mask;
                }
            }
        }
    }
}

/// The peripheral.
#[derive(Debug)]
pub struct Iic {
    state: Mutex<State>,
    faults: Arc<Faults>,
}

impl Iic {
    /// A core with `bus` behind it, on which things go wrong when `faults` say so.
    #[must_use]
    pub fn new(bus: Bus, faults: Arc<Faults>) -> Self {
        let engine = Engine::new(bus, Instant::now());
        Self { state: Mutex::new(State { kept: Kept::default(), engine }), faults }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peripheral for Iic {
    fn read(&self, offset: u32) -> u32 {
        let mut state = self.state();
        state.engine.run(Instant::now(), &self.faults);
        state.read(offset)
    }

    fn write(&self, offset: u32, value: u32, lanes: u32) {
        let mut state = self.state();
        let now = Instant::now();
        state.engine.run(now, &self.faults);
        state.write(offset, value, lanes, now);
    }

    fn reset(&self) {
        let mut state = self.state();
        state.kept = Kept::default();
        state.engine.reset(Instant::now());
    }
}

#[cfg(test)]
mod tests;
