//! The FPGA's unique number, which a design shows in three words (UG570, "Device Identifier and Device DNA").

use crate::error::Result;
use crate::frame::Frame;
use jitney_registers::{ReadOnly, Register};
use serde::{Serialize, Serializer};
use std::fmt;

/// The most significant word; the others follow.
const WORDS: Register<u32, ReadOnly> = Register::new(0x0);

/// The number that no other FPGA of its family has: 96 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DnaNumber(pub [u32; 3]);

/// Writes 24 hexadecimal digits.
impl fmt::Display for DnaNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [high, middle, low] = self.0;
        write!(f, "{high:08x}{middle:08x}{low:08x}")
    }
}

impl Serialize for DnaNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The words with the number.
#[derive(Debug, Clone)]
pub struct Dna {
    frame: Frame,
}

impl Dna {
    /// The ones in `frame`.
    #[must_use]
    pub fn new(frame: Frame) -> Self {
        Self { frame }
    }

    /// The number.
    ///
    /// # Errors
    /// [`ErrorKind::LinkDown`](jitney_vfio::ErrorKind::LinkDown) if a word reads as all-ones.
    pub fn number(&self) -> Result<DnaNumber> {
        let word = |index| self.frame.sane(WORDS.nth(index, 4));
        Ok(DnaNumber([word(0)?, word(1)?, word(2)?]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_is_the_most_significant() {
        assert_eq!(DnaNumber([0x4002_0000, 1, 0xab]).to_string(), "4002000000000001000000ab");
    }
}
