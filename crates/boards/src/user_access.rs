//! The time of the build, which a design's author puts into the FPGA's USR_ACCESS register (UG470, "USR_ACCESS") and
//! shows in a GPIO.

use crate::error::Result;
use crate::frame::Frame;
use bitfield_struct::bitfield;
use jitney_registers::{ReadOnly, Register};
use serde::{Serialize, Serializer};
use std::fmt;

const TIMESTAMP: Register<BuildTimestamp, ReadOnly> = Register::new(0x0);

/// When a bitstream was built. Nobody checks what an author puts there: a month may be 0 or 15.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct BuildTimestamp {
    /// Second, 0 to 59.
    #[bits(6)]
    pub second: u8,
    /// Minute, 0 to 59.
    #[bits(6)]
    pub minute: u8,
    /// Hour, 0 to 23.
    #[bits(5)]
    pub hour: u8,
    /// Years since 2000.
    #[bits(6)]
    pub years: u8,
    /// Month, 1 to 12.
    #[bits(4)]
    pub month: u8,
    /// Day of the month, 1 to 31.
    #[bits(5)]
    pub day: u8,
}

/// Writes `2026-08-17 13:12:15`.
impl fmt::Display for BuildTimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = (2000 + u16::from(self.years()), self.month(), self.day());
        write!(f, "{year}-{month:02}-{day:02} {:02}:{:02}:{:02}", self.hour(), self.minute(), self.second())
    }
}

impl Serialize for BuildTimestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The GPIO with the time of the build.
#[derive(Debug, Clone)]
pub struct UserAccess {
    frame: Frame,
}

impl UserAccess {
    /// The one in `frame`.
    #[must_use]
    pub fn new(frame: Frame) -> Self {
        Self { frame }
    }

    /// When the bitstream was built.
    ///
    /// # Errors
    /// [`ErrorKind::LinkDown`](jitney_vfio::ErrorKind::LinkDown) if it reads as all-ones, which is no time.
    pub fn build_timestamp(&self) -> Result<BuildTimestamp> {
        self.frame.sane(TIMESTAMP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_known_time() {
        assert_eq!(BuildTimestamp::from(0x8c34_d30f).to_string(), "2026-08-17 13:12:15");
    }

    proptest! {
        #[test]
        fn any_word_is_written(word: u32) {
            prop_assert_eq!(BuildTimestamp::from(word).to_string().len(), "2026-08-17 13:12:15".len());
        }
    }
}
