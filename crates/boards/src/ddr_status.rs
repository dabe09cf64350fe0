//! Reset and state of the DDR controller, which some designs show in a GPIO.

use crate::error::Result;
use crate::frame::Frame;
use bitfield_struct::bitfield;
use jitney_registers::{Block, ReadOnly, Register, WriteOnly};
use serde::Serialize;

/// The one pin that is an output.
const CONTROL: Register<DdrWord, WriteOnly> = Register::new(0x0);
const STATUS: Register<DdrWord, ReadOnly> = Register::new(0x0);

/// The GPIO's pins.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
struct DdrWord {
    reset: bool,
    locked: bool,
    mmcm_locked: bool,
    calibrated: bool,
    ui_reset: bool,
    #[bits(27)]
    __: u32,
}

/// The state of the DDR controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DdrState {
    /// It is held in reset from outside.
    pub reset: bool,
    /// The clocks that feed it are stable.
    pub locked: bool,
    /// Its own clocks are stable.
    pub mmcm_locked: bool,
    /// It has finished the calibration of the memory; before that a DMA transfer hangs.
    pub calibrated: bool,
    /// It holds its user interface in reset.
    pub ui_reset: bool,
}

impl From<DdrWord> for DdrState {
    fn from(word: DdrWord) -> Self {
        Self {
            reset: word.reset(),
            locked: word.locked(),
            mmcm_locked: word.mmcm_locked(),
            calibrated: word.calibrated(),
            ui_reset: word.ui_reset(),
        }
    }
}

impl DdrState {
    /// Whether the memory can be used.
    #[must_use]
    pub fn is_ready(self) -> bool {
        !self.reset && self.locked && self.mmcm_locked && self.calibrated && !self.ui_reset
    }
}

/// The GPIO with the state of the DDR controller.
#[derive(Debug, Clone)]
pub struct DdrStatus {
    frame: Frame,
}

impl DdrStatus {
    /// The one in `frame`.
    #[must_use]
    pub fn new(frame: Frame) -> Self {
        Self { frame }
    }

    /// Holds the controller in reset, or lets it go, whereupon it calibrates the memory; [`state`](Self::state) says when it has.
    /// A DMA transfer hangs from the first until then, so nobody may have one under way.
    ///
    /// # Errors
    /// What the card says.
    pub fn hold_in_reset(&self, held: bool) -> Result<()> {
        Block::new(&self.frame, 0).write(CONTROL, DdrWord::new().with_reset(held))
    }

    /// The state of the controller now.
    ///
    /// # Errors
    /// [`ErrorKind::LinkDown`](jitney_vfio::ErrorKind::LinkDown) if it reads as all-ones.
    pub fn state(&self) -> Result<DdrState> {
        self.frame.sane(STATUS).map(DdrState::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bit_has_its_place() {
        let state = |word: u32| DdrState::from(DdrWord::from(word));
        assert!(state(0b01110).is_ready());
        for wrong in [0b01111, 0b01100, 0b01010, 0b00110, 0b11110] {
            assert!(!state(wrong).is_ready(), "{wrong:#b}");
        }
        assert!(state(0b00001).reset && state(0b00010).locked && state(0b00100).mmcm_locked);
        assert!(state(0b01000).calibrated && state(0b10000).ui_reset);
    }
}
