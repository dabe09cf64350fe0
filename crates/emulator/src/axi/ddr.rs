//! The DDR reset and status register of the designs with DDR3: one AXI GPIO, partly output and partly input.

use super::{AxiError, AxiTarget, MemorySpan, Peripheral};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const RESET: u32 = 1 << 0;
const LOCKED: u32 = 1 << 1;
const MMCM_LOCKED: u32 = 1 << 2;
const CALIBRATED: u32 = 1 << 3;
const UI_RESET: u32 = 1 << 4;

/// How long the memory is calibrated after a reset. Controllers take some ten to some hundred milliseconds.
const CALIBRATION: Duration = Duration::from_millis(20);

/// A memory controller, calibrated when the board is switched on, and anew after each reset, which does not lose the memory's
/// contents. Whoever uses the memory before that waits for ever, as behind a real one (the DMA hangs).
#[derive(Debug, Default)]
pub struct DdrStatus {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Clone, Copy, Default)]
enum State {
    #[default]
    Ready,
    Held,
    /// Since then.
    Calibrating(Instant),
}

/// Where it stands now.
fn now(state: &Mutex<State>) -> State {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    if let State::Calibrating(since) = *state
        && since.elapsed() >= CALIBRATION
    {
        *state = State::Ready;
    }
    *state
}

impl DdrStatus {
    /// `memory` as it is behind this controller: while that is held in reset, nothing answers.
    #[must_use]
    pub fn control(&self, memory: Arc<dyn AxiTarget>) -> Arc<dyn AxiTarget> {
        Arc::new(Controlled { memory, state: Arc::clone(&self.state) })
    }
}

struct Controlled {
    memory: Arc<dyn AxiTarget>,
    state: Arc<Mutex<State>>,
}

impl Controlled {
    fn answers(&self) -> Result<(), AxiError> {
        match now(&self.state) {
            State::Ready => Ok(()),
            State::Held | State::Calibrating(_) => Err(AxiError::Hung),
        }
    }
}

impl AxiTarget for Controlled {
    fn memory(&self, address: u64, length: u64) -> Option<MemorySpan<'_>> {
        self.answers().ok()?;
        self.memory.memory(address, length)
    }

    fn read(&self, address: u64, data: &mut [u8]) -> Result<(), AxiError> {
        self.answers()?;
        self.memory.read(address, data)
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), AxiError> {
        self.answers()?;
        self.memory.write(address, data)
    }

    fn reset(&self) {
        self.memory.reset();
    }
}

impl Peripheral for DdrStatus {
    fn read(&self, offset: u32) -> u32 {
        match (offset, now(&self.state)) {
            (0, State::Held) => RESET | LOCKED | MMCM_LOCKED | UI_RESET,
            (0, State::Calibrating(_)) => LOCKED | MMCM_LOCKED | UI_RESET,
            (0, State::Ready) => LOCKED | MMCM_LOCKED | CALIBRATED,
            _ => 0,
        }
    }

    fn write(&self, offset: u32, value: u32, lanes: u32) {
        if offset == 0 && lanes & RESET != 0 {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            *state = match (value & RESET != 0, *state) {
                (true, _) => State::Held,
                (false, State::Held) => State::Calibrating(Instant::now()),
                (false, other) => other,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calibration_is_lost_while_reset_is_held() {
        let ddr = DdrStatus::default();
        assert_eq!(ddr.read(0), 0b0_1110);
        ddr.write(0, RESET, u32::MAX);
        assert_eq!(ddr.read(0), 0b1_0111);
        ddr.write(0, 0, 0xFF00);
        assert_eq!(ddr.read(0) & RESET, RESET, "a byte that was not written keeps its bits");
        ddr.write(0, 0, u32::MAX);
        assert_eq!(ddr.read(0), 0b1_0110);
        std::thread::sleep(CALIBRATION);
        assert_eq!(ddr.read(0), 0b0_1110);
    }

    #[test]
    fn memory_answers_when_its_controller_does() {
        let ddr = DdrStatus::default();
        let memory = ddr.control(Arc::new(crate::axi::CardMemory::new(0x1000).unwrap()));
        memory.write(8, &[1, 2]).unwrap();
        ddr.write(0, RESET, u32::MAX);
        assert!(memory.memory(0, 8).is_none());
        assert_eq!(memory.read(8, &mut [0; 2]), Err(AxiError::Hung));
        assert_eq!(memory.write(8, &[3]), Err(AxiError::Hung));
        ddr.write(0, 0, u32::MAX);
        assert!(memory.memory(0, 8).is_none(), "not calibrated yet");
        std::thread::sleep(CALIBRATION);
        let mut data = [0; 2];
        memory.read(8, &mut data).unwrap();
        assert_eq!((data, memory.memory(0, 8).is_some()), ([1, 2], true));
    }
}
