//! The DDR reset and status register of the designs with DDR3: one AXI GPIO, partly output and partly input.

use super::{AxiError, AxiTarget, MemorySpan, Peripheral};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

const RESET: u32 = 1 << 0;
const LOCKED: u32 = 1 << 1;
const MMCM_LOCKED: u32 = 1 << 2;
const CALIBRATED: u32 = 1 << 3;
const UI_RESET: u32 = 1 << 4;

/// A memory controller that is calibrated as soon as it is out of reset. Its reset does not lose the memory's contents.
#[derive(Debug, Default)]
pub struct DdrStatus {
    held: Arc<AtomicBool>,
}

impl DdrStatus {
    /// `memory` as it is behind this controller: while that is held in reset, nothing answers.
    #[must_use]
    pub fn control(&self, memory: Arc<dyn AxiTarget>) -> Arc<dyn AxiTarget> {
        Arc::new(Controlled { memory, held: Arc::clone(&self.held) })
    }
}

struct Controlled {
    memory: Arc<dyn AxiTarget>,
    held: Arc<AtomicBool>,
}

impl Controlled {
    fn answers(&self) -> Result<(), AxiError> {
        if self.held.load(Relaxed) { Err(AxiError::Hung) } else { Ok(()) }
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
        match offset {
            0 if self.held.load(Relaxed) => RESET | LOCKED | MMCM_LOCKED | UI_RESET,
            0 => LOCKED | MMCM_LOCKED | CALIBRATED,
            _ => 0,
        }
    }

    fn write(&self, offset: u32, value: u32, lanes: u32) {
        if offset == 0 && lanes & RESET != 0 {
            self.held.store(value & RESET != 0, Relaxed);
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
        let mut data = [0; 2];
        memory.read(8, &mut data).unwrap();
        assert_eq!((data, memory.memory(0, 8).is_some()), ([1, 2], true));
    }
}
