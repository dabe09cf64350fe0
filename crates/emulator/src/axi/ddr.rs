//! The DDR reset and status register of the designs with DDR3: one AXI GPIO, partly output and partly input.

use super::Peripheral;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

const RESET: u32 = 1 << 0;
const LOCKED: u32 = 1 << 1;
const MMCM_LOCKED: u32 = 1 << 2;
const CALIBRATED: u32 = 1 << 3;
const UI_RESET: u32 = 1 << 4;

/// A memory controller that is calibrated as soon as it is out of reset. Its reset does not lose the memory's contents.
#[derive(Debug, Default)]
pub struct DdrStatus {
    held: AtomicBool,
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
}
