//! What was found instead of the pattern.

use std::fmt;

/// The most wrong words that are named one by one.
const NAMED: usize = 4;

/// Where memory differs from the pattern.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mismatch {
    /// How many words are wrong.
    pub words: u64,
    /// The first of them.
    pub first: Vec<WrongWord>,
}

/// A word that is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongWord {
    /// Where it is, in bytes from the start of the range that was compared.
    pub offset: u64,
    /// What the pattern has there.
    pub expected: u32,
    /// What the memory has there.
    pub actual: u32,
}

impl Mismatch {
    /// The same, of a range that begins `bytes` further on in a larger one.
    #[must_use]
    pub fn further_on(mut self, bytes: u64) -> Self {
        self.first.iter_mut().for_each(|wrong| wrong.offset += bytes);
        self
    }

    /// Notes the words that differ in two equally long pieces, the first of which is `offset` bytes into the range.
    pub(crate) fn note(&mut self, offset: u64, expected: &[u8], actual: &[u8]) {
        let words = expected.chunks(4).zip(actual.chunks(4));
        for (at, (expected, actual)) in (offset..).step_by(4).zip(words) {
            if expected == actual {
                continue;
            }
            self.words += 1;
            if self.first.len() < NAMED {
                self.first.push(WrongWord { offset: at, expected: word(expected), actual: word(actual) });
            }
        }
    }
}

/// A word, or what there is of it at the end of a range.
fn word(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte))
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} wrong words, the first", self.words)?;
        for (index, wrong) in self.first.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let WrongWord { offset, expected, actual } = wrong;
            write!(f, "{comma} at {offset:#x}: expected {expected:#010x}, found {actual:#010x}")?;
        }
        Ok(())
    }
}
