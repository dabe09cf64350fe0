//! 100G Ethernet of UltraScale+ (PG203): configuration, status and statistics. Nothing of it reaches a design's streams: its
//! partner on the cable is a switch that sends a broadcast of 64 bytes a hundred times a second, and the port sends nothing.

use super::{Peripheral, merge};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

// Registers (PG203, "AXI4-Lite Register Space").
const CONFIGURATION_END: u32 = 0x200;
const CONFIGURATION_TX: u32 = 0x00C;
const CONFIGURATION_RX: u32 = 0x014;
const CORE_VERSION: u32 = 0x024;
const GT_LOOPBACK: u32 = 0x090;
const STAT_RX_STATUS: u32 = 0x204;
const TICK: u32 = 0x2B0;
const TX_STATISTICS: u32 = 0x500;
const RX_STATISTICS: u32 = 0x608;
const STATISTICS_END: u32 = 0x718;

const ENABLE: u32 = 1 << 0;
const VERSION: u32 = 0x0301;
/// The link is up, and the lanes are aligned: latched low.
const STATUS_UP: u32 = 0b11;
/// The core itself sees a fault: latched high.
const STATUS_LOCAL_FAULT: u32 = 1 << 6;

const PERIOD: Duration = Duration::from_millis(10);
const PACKET: u64 = 64;

/// Of the received packets, by the offset of their counters: all, good ones, bytes, good bytes, those of 64 bytes, broadcasts.
const RECEIVED: [(u32, u64); 6] =
    [(0x608, 1), (0x610, 1), (0x618, PACKET), (0x620, PACKET), (0x628, 1), (0x6E8, 1)];

#[derive(Debug)]
struct State {
    configuration: [u32; (CONFIGURATION_END / 4) as usize],
    /// Packets since the last tick.
    packets: u64,
    /// Packets as the last tick has left them to be read.
    shown: u64,
    /// What the latched bits of the receiver's status read next.
    latched: u32,
    since: Instant,
}

impl State {
    fn new(now: Instant) -> Self {
        let configuration = [0; (CONFIGURATION_END / 4) as usize];
        Self { configuration, packets: 0, shown: 0, latched: STATUS_LOCAL_FAULT, since: now }
    }

    fn configuration(&self, offset: u32) -> u32 {
        self.configuration.get((offset / 4) as usize).copied().unwrap_or(0)
    }

    /// Whether the receiver is aligned: to its partner, or to its own transmitter.
    fn is_up(&self) -> bool {
        let looped = self.configuration(GT_LOOPBACK) & 1 == 1;
        let sends = self.configuration(CONFIGURATION_TX) & ENABLE != 0;
        self.configuration(CONFIGURATION_RX) & ENABLE != 0 && (!looped || sends)
    }

    /// What has come until `now`. Nothing comes from a partner that is cut off.
    fn run(&mut self, now: Instant) {
        let hears = self.is_up() && self.configuration(GT_LOOPBACK) & 1 == 0;
        while self.since + PERIOD <= now {
            if !hears {
                self.since = now;
                return;
            }
            // However long nobody has looked.
            let periods =
                u64::try_from((now - self.since).as_nanos() / PERIOD.as_nanos()).unwrap_or(u64::MAX);
            self.packets = self.packets.saturating_add(periods);
            self.since = now;
        }
    }

    fn status(&self) -> u32 {
        if self.is_up() { STATUS_UP } else { STATUS_LOCAL_FAULT }
    }

    /// Bits that were low once, or high once, read so once more.
    fn read_status(&mut self) -> u32 {
        let now = self.status();
        let low = now & self.latched & STATUS_UP;
        let high = (now | self.latched) & STATUS_LOCAL_FAULT;
        self.latched = now;
        low | high
    }

    fn read(&mut self, offset: u32) -> u32 {
        match offset {
            CORE_VERSION => VERSION,
            0..CONFIGURATION_END => self.configuration(offset),
            STAT_RX_STATUS => self.read_status(),
            TX_STATISTICS..RX_STATISTICS => 0,
            RX_STATISTICS..STATISTICS_END => {
                let counter = RECEIVED.iter().find(|(own, _)| *own == offset & !7);
                let value =
                    counter.map_or(0, |(_, each)| self.shown.saturating_mul(*each)) & 0xFFFF_FFFF_FFFF;
                let half = if offset & 4 == 0 { value & 0xFFFF_FFFF } else { value >> 32 };
                u32::try_from(half).unwrap_or(0)
            }
            _ => 0,
        }
    }

    fn write(&mut self, offset: u32, value: u32, lanes: u32) {
        match offset {
            CORE_VERSION => {}
            TICK if value & 1 == 1 => self.shown = std::mem::take(&mut self.packets),
            0..CONFIGURATION_END => {
                let was = self.status();
                if let Some(word) = self.configuration.get_mut((offset / 4) as usize) {
                    *word = merge(*word, value, lanes);
                }
                let is = self.status();
                self.latched =
                    (self.latched & was & is & STATUS_UP) | ((self.latched | was | is) & STATUS_LOCAL_FAULT);
            }
            _ => {}
        }
    }
}

/// The peripheral.
#[derive(Debug)]
pub struct Cmac(Mutex<State>);

impl Default for Cmac {
    fn default() -> Self {
        Self(Mutex::new(State::new(Instant::now())))
    }
}

impl Cmac {
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.run(Instant::now());
        state
    }
}

impl Peripheral for Cmac {
    fn read(&self, offset: u32) -> u32 {
        self.state().read(offset)
    }

    fn write(&self, offset: u32, value: u32, lanes: u32) {
        self.state().write(offset, value, lanes);
    }

    fn reset(&self) {
        *self.state() = State::new(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rig() -> (State, Instant) {
        let now = Instant::now();
        (State::new(now), now)
    }

    #[test]
    fn a_link_comes_up_when_the_receiver_is_on_and_says_that_it_was_down() {
        let (mut state, _) = rig();
        assert_eq!((state.read(CORE_VERSION), state.read(STAT_RX_STATUS)), (0x301, STATUS_LOCAL_FAULT));
        state.write(CONFIGURATION_RX, ENABLE, u32::MAX);
        assert_eq!(state.read(STAT_RX_STATUS), STATUS_LOCAL_FAULT, "as it was");
        assert_eq!(state.read(STAT_RX_STATUS), STATUS_UP);
        state.write(CONFIGURATION_RX, 0, u32::MAX);
        state.write(CONFIGURATION_RX, ENABLE, u32::MAX);
        assert_eq!(state.read(STAT_RX_STATUS), STATUS_LOCAL_FAULT, "it was down in between");
        state.write(GT_LOOPBACK, 1, u32::MAX);
        let _ = state.read(STAT_RX_STATUS);
        assert_eq!(state.read(STAT_RX_STATUS), STATUS_LOCAL_FAULT, "nobody sends into the loop");
        state.write(CONFIGURATION_TX, ENABLE, u32::MAX);
        let _ = state.read(STAT_RX_STATUS);
        assert_eq!(state.read(STAT_RX_STATUS), STATUS_UP);
    }

    #[test]
    fn counters_stand_still_until_a_tick_and_count_from_there() {
        let (mut state, now) = rig();
        state.write(CONFIGURATION_RX, ENABLE, u32::MAX);
        state.run(now + 10 * PERIOD);
        assert_eq!(state.read(0x608), 0);
        state.write(TICK, 1, u32::MAX);
        assert_eq!(
            [0x608, 0x60C, 0x618, 0x628, 0x630, 0x6E8].map(|at| state.read(at)),
            [10, 0, 640, 10, 0, 10]
        );
        state.run(now + 13 * PERIOD);
        state.write(TICK, 1, u32::MAX);
        assert_eq!((state.read(0x608), state.read(0x500)), (3, 0));
        state.packets = 1 << 40;
        state.write(TICK, 1, u32::MAX);
        assert_eq!((state.read(0x608), state.read(0x60C)), (0, 1 << 8), "48 bits");
    }
}
