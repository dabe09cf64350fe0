//! The FPGA's unique number, which a design shows in three words (UG570, "Device Identifier and Device DNA").

use crate::error::Result;
use crate::frame::Frame;
use jitney_registers::{ReadOnly, Register};
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

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

/// A text that is no number of an FPGA.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a DNA: write its 24 hexadecimal digits, as in 4002000000000001000000ab")]
pub struct ParseDnaError(String);

/// 24 hexadecimal digits.
impl FromStr for DnaNumber {
    type Err = ParseDnaError;

    fn from_str(text: &str) -> std::result::Result<Self, ParseDnaError> {
        let word = |from: usize| {
            let digits = text.get(from..from + 8).filter(|word| word.bytes().all(|b| b.is_ascii_hexdigit()));
            digits.and_then(|digits| u32::from_str_radix(digits, 16).ok())
        };
        match (text.len(), word(0), word(8), word(16)) {
            (24, Some(high), Some(middle), Some(low)) => Ok(Self([high, middle, low])),
            _ => Err(ParseDnaError(text.to_owned())),
        }
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
    use proptest::prelude::*;

    #[test]
    fn the_first_word_is_the_most_significant() {
        assert_eq!(DnaNumber([0x4002_0000, 1, 0xab]).to_string(), "4002000000000001000000ab");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in
            ["", "4002", "4002000000000001000000abc", "+002000000000001000000ab", "40020000000000010000é0a"]
        {
            assert!(text.parse::<DnaNumber>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(words: [u32; 3]) {
            let number = DnaNumber(words);
            prop_assert_eq!(number.to_string().parse(), Ok(number));
        }
    }
}
