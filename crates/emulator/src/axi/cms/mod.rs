//! Alveo card management (PG348): a MicroBlaze whose firmware keeps a register map in memory that the host sees, and answers
//! messages in a mailbox in it.
//!
//! The register map is memory: the host can write anywhere in it, and it keeps what it holds over a reset of the MicroBlaze,
//! the ready bit too, as U200 cards were seen to do. A driver that does not clear that bit before it starts the firmware
//! takes the old map for the new one.

mod firmware;
mod modules;
mod sensors;

use super::{Peripheral, merge};
use crate::fault::Faults;
use firmware::Firmware;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// "MB_RESETN_REG": bit 0 lets the MicroBlaze run. Clear after power-up and reset (PG348, "Register Space").
const RESETN: u32 = 0x2_0000;
/// The register map.
const MAP: u32 = 0x2_8000;
const MAP_END: u32 = 0x2_A000;
const MAP_WORDS: usize = ((MAP_END - MAP) / 4) as usize;

/// Offsets in the register map (PG348, "REG_MAP").
mod at {
    pub(super) const ID: u32 = 0x000;
    pub(super) const FIRMWARE_VERSION: u32 = 0x004;
    pub(super) const PROFILE: u32 = 0x014;
    pub(super) const CONTROL: u32 = 0x018;
    pub(super) const MESSAGE_OFFSET: u32 = 0x300;
    pub(super) const MESSAGE_ERROR: u32 = 0x304;
    pub(super) const STATUS_2: u32 = 0x30C;
    pub(super) const CORE_BUILD: u32 = 0xC4C;
}
/// "test" backwards.
const ID: u32 = 0x7473_6574;
/// 12.1.5.
const FIRMWARE_VERSION: u32 = 0x000C_0105;
/// "U2XX": a U200 or U250.
const PROFILE: u32 = 0x5532_5858;
const READY: u32 = 1 << 0;
/// Where the mailbox begins in the map.
const MAILBOX: u32 = 0x1000;

/// From the release of the reset until the map is ready. Cards take up to some seconds.
const BOOT: Duration = Duration::from_millis(150);
/// Until a message is answered.
const ANSWER: Duration = Duration::from_millis(2);

/// The register map, as words.
#[derive(Debug)]
struct Map(Box<[u32]>);

impl Map {
    fn get(&self, offset: u32) -> u32 {
        self.0.get((offset / 4) as usize).copied().unwrap_or(0)
    }

    fn set(&mut self, offset: u32, value: u32) {
        if let Some(word) = self.0.get_mut((offset / 4) as usize) {
            *word = value;
        }
    }
}

#[derive(Debug)]
struct State {
    map: Map,
    /// The firmware, while the MicroBlaze is out of reset.
    firmware: Option<Firmware>,
}

impl State {
    fn new() -> Self {
        Self { map: Map(vec![0; MAP_WORDS].into()), firmware: None }
    }

    /// What the firmware has done until `now`.
    fn run(&mut self, now: Instant, faults: &Faults) {
        if let Some(firmware) = &mut self.firmware {
            firmware.run(&mut self.map, now, faults);
        }
    }

    fn read(&self, offset: u32) -> u32 {
        match offset {
            RESETN => u32::from(self.firmware.is_some()),
            MAP..MAP_END => self.map.get(offset - MAP),
            _ => 0,
        }
    }

    fn write(&mut self, offset: u32, value: u32, lanes: u32, now: Instant) {
        match offset {
            RESETN if lanes & 1 == 0 => {}
            RESETN if value & 1 == 0 => self.firmware = None,
            RESETN => self.firmware = Some(self.firmware.take().unwrap_or_else(|| Firmware::new(now))),
            MAP..MAP_END => {
                let old = self.map.get(offset - MAP);
                self.map.set(offset - MAP, merge(old, value, lanes));
                if offset - MAP == at::CONTROL
                    && let Some(firmware) = &mut self.firmware
                {
                    firmware.control_written(now);
                }
            }
            _ => {}
        }
    }
}

/// The peripheral.
#[derive(Debug)]
pub struct Cms {
    state: Mutex<State>,
    faults: Arc<Faults>,
}

impl Cms {
    /// The card management of a U200 with one module, in its first cage. Its firmware stops answering when `faults` say so.
    #[must_use]
    pub fn new(faults: Arc<Faults>) -> Self {
        Self { state: Mutex::new(State::new()), faults }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peripheral for Cms {
    fn read(&self, offset: u32) -> u32 {
        let mut state = self.state();
        state.run(Instant::now(), &self.faults);
        state.read(offset)
    }

    fn write(&self, offset: u32, value: u32, lanes: u32) {
        let mut state = self.state();
        let now = Instant::now();
        state.run(now, &self.faults);
        state.write(offset, value, lanes, now);
    }

    /// The MicroBlaze is in reset again; the map is memory and stays.
    fn reset(&self) {
        self.state().firmware = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Rig {
        state: State,
        faults: Faults,
        now: Instant,
    }

    impl Rig {
        fn new() -> Self {
            Self { state: State::new(), faults: Faults::default(), now: Instant::now() }
        }

        fn running() -> Self {
            let mut rig = Self::new();
            rig.write(RESETN, 1);
            rig.wait(BOOT);
            rig
        }

        fn wait(&mut self, time: Duration) {
            self.now += time;
        }

        fn read(&mut self, offset: u32) -> u32 {
            self.state.run(self.now, &self.faults);
            self.state.read(offset)
        }

        fn map(&mut self, offset: u32) -> u32 {
            self.read(MAP + offset)
        }

        fn write(&mut self, offset: u32, value: u32) {
            self.state.run(self.now, &self.faults);
            self.state.write(offset, value, u32::MAX, self.now);
        }

        /// Sends a message and waits for the answer: its header and payload, or the error.
        fn message(&mut self, opcode: u32, payload: &[u32]) -> Result<Vec<u32>, u32> {
            self.write(MAP + MAILBOX, opcode << 24);
            for (word, offset) in payload.iter().zip((MAILBOX + 4..).step_by(4)) {
                self.write(MAP + offset, *word);
            }
            let control = self.map(at::CONTROL);
            self.write(MAP + at::CONTROL, control | 1 << 5);
            assert_eq!(self.map(at::CONTROL) & 1 << 5, 1 << 5, "busy until it was answered");
            self.wait(ANSWER);
            assert_eq!(self.map(at::CONTROL) & 1 << 5, 0);
            match self.map(at::MESSAGE_ERROR) {
                0 => Ok((MAILBOX..MAILBOX + 0x400).step_by(4).map(|offset| self.map(offset)).collect()),
                error => Err(error),
            }
        }
    }

    #[test]
    fn nothing_is_ready_before_the_firmware_has_started() {
        let mut rig = Rig::new();
        assert_eq!((rig.read(RESETN), rig.map(at::ID), rig.map(at::STATUS_2)), (0, 0, 0));
        rig.write(RESETN, 1);
        rig.wait(BOOT / 2);
        assert_eq!((rig.read(RESETN), rig.map(at::ID), rig.map(at::STATUS_2)), (1, 0, 0));
        rig.wait(BOOT / 2);
        assert_eq!((rig.map(at::ID), rig.map(at::STATUS_2)), (ID, 1));
        assert_eq!((rig.map(at::PROFILE), rig.map(at::MESSAGE_OFFSET)), (0x5532_5858, 0x1000));
    }

    #[test]
    fn a_reset_leaves_the_ready_bit_as_it_was() {
        let mut rig = Rig::running();
        assert_eq!(rig.map(at::STATUS_2), 1);
        rig.write(RESETN, 0);
        assert_eq!((rig.read(RESETN), rig.map(at::STATUS_2)), (0, 1), "the map is memory");
        rig.write(MAP + at::STATUS_2, 0);
        rig.write(RESETN, 1);
        assert_eq!(rig.map(at::STATUS_2), 0);
        rig.wait(BOOT);
        assert_eq!(rig.map(at::STATUS_2), 1);
    }

    #[test]
    fn sensors_have_a_maximum_an_average_and_a_value_now() {
        let mut rig = Rig::running();
        for _ in 0..200 {
            rig.wait(Duration::from_millis(70));
            for (offset, around) in [(0x20, 12_100), (0xF8, 45), (0xE0, 850), (0x164, 1400)] {
                let [max, average, now] = [0, 4, 8].map(|place| rig.map(offset + place));
                assert!(now <= max && average <= max, "{offset:#x}: {max} {average} {now}");
                assert!(now.abs_diff(around) * 10 <= around, "{offset:#x}: {now}");
            }
        }
        assert_eq!((rig.map(0x260), rig.map(0x268)), (0, 0), "a U200 has no HBM");
        let control = rig.map(at::CONTROL);
        rig.write(MAP + at::CONTROL, control | 1);
        rig.wait(Duration::from_millis(60));
        assert_eq!(rig.map(at::CONTROL) & 1, 0, "clears itself");
        assert_eq!(rig.map(0xF8), rig.map(0x100), "the maximum begins anew");
    }

    #[test]
    fn messages_are_answered_or_refused_with_a_number() {
        let mut rig = Rig::running();
        let answer = rig.message(0x04, &[]).unwrap();
        let length = (answer[0] & 0xFFF) as usize;
        let bytes: Vec<u8> = answer[1..].iter().flat_map(|word| word.to_le_bytes()).take(length).collect();
        assert_eq!(bytes[0], 0x27, "the card's name comes first");
        assert!(bytes.windows(9).any(|part| part == b"ALVEO U20"), "{bytes:02x?}");
        assert_eq!(rig.message(0x77, &[]), Err(1), "no such message");
        // The module of cage 0, its upper page 0; of cage 1 there is none.
        let page = rig.message(0x0B, &[0, 0, 1]).unwrap();
        assert_eq!((page[4], page[5] & 0xFF), (128, 0x11));
        assert_eq!(rig.message(0x0B, &[1, 0, 1]), Err(0xA));
        assert_eq!(rig.message(0x0B, &[3, 0, 1]), Err(0xA));
        assert_eq!(rig.message(0x0F, &[0, 0, 0, 0]).unwrap()[5], 0x11);
    }

    #[test]
    fn low_speed_signals_have_to_be_enabled() {
        let mut rig = Rig::running();
        assert_eq!(rig.message(0x0D, &[0]), Err(0xA));
        rig.write(MAP + at::CONTROL, 1 << 26);
        assert_eq!(rig.message(0x0D, &[0]).unwrap()[2] & 1 << 3, 0, "present");
        assert_eq!(rig.message(0x0D, &[1]).unwrap()[2] & 1 << 3, 1 << 3, "absent");
        rig.message(0x0E, &[0, 0b11]).unwrap();
        assert_eq!(rig.message(0x0D, &[0]).unwrap()[2] & 0b11, 0b11);
    }

    #[test]
    fn a_module_takes_what_can_be_written() {
        let mut rig = Rig::running();
        rig.message(0x10, &[0, 0, 0, 86, 0x0F]).unwrap();
        assert_eq!(rig.message(0x0F, &[0, 0, 0, 86]).unwrap()[5], 0x0F, "transmitters off");
        rig.message(0x10, &[0, 0, 0, 0, 0xEE]).unwrap();
        assert_eq!(rig.message(0x0F, &[0, 0, 0, 0]).unwrap()[5], 0x11, "what it is cannot be written");
    }

    #[test]
    fn firmware_that_hangs_leaves_the_mailbox_busy_until_a_reset() {
        let mut rig = Rig::running();
        rig.faults.inject("cms-hang@2".parse().unwrap());
        rig.message(0x04, &[]).unwrap();
        rig.write(MAP + MAILBOX, 0x0400_0000);
        rig.write(MAP + at::CONTROL, 1 << 5);
        rig.wait(Duration::from_secs(60));
        assert_eq!(rig.map(at::CONTROL), 1 << 5);
        rig.write(RESETN, 0);
        rig.write(RESETN, 1);
        rig.wait(BOOT);
        rig.message(0x04, &[]).unwrap();
    }
}
