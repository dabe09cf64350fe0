//! Registers that keep what is written: what stands for a peripheral that has no model.

use super::{CardMemory, Peripheral, merge};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

const PAGE: u64 = 4096;

/// Read-write registers without a meaning. Those that nobody touched cost nothing, however many there are.
#[derive(Debug)]
pub struct PlainRegisters {
    values: CardMemory,
    /// Registers that do not change, by offset.
    constant: BTreeMap<u32, u32>,
    /// Held while a register is changed in part.
    writing: Mutex<()>,
}

impl PlainRegisters {
    /// `size` bytes of registers, of which the first hold `words`, the others zero.
    ///
    /// # Errors
    /// A size that the machine does not have.
    pub fn new(size: u64, words: &[u32]) -> Result<Self, jitney_memory::Error> {
        let values = CardMemory::new(size.next_multiple_of(PAGE))?;
        for (word, offset) in words.iter().zip((0..size).step_by(4)) {
            // Words beyond the last register are not there.
            let _ = values.mapping().store32(offset, *word);
        }
        Ok(Self { values, constant: BTreeMap::new(), writing: Mutex::new(()) })
    }

    /// The same with a register at `offset` that holds `value` whatever is written.
    #[must_use]
    pub fn with_constant(mut self, offset: u32, value: u32) -> Self {
        self.constant.insert(offset, value);
        self
    }
}

impl Peripheral for PlainRegisters {
    fn read(&self, offset: u32) -> u32 {
        match self.constant.get(&offset) {
            Some(value) => *value,
            // All ones is what nobody answers.
            None => self.values.mapping().load32(offset.into()).unwrap_or(u32::MAX),
        }
    }

    fn write(&self, offset: u32, value: u32, lanes: u32) {
        if self.constant.contains_key(&offset) {
            return;
        }
        let _whole = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mapping = self.values.mapping();
        if let Ok(old) = mapping.load32(offset.into()) {
            // It was just read, so it is there.
            let _ = mapping.store32(offset.into(), merge(old, value, lanes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_keep_what_is_written() {
        let plain = PlainRegisters::new(0x100, &[1, 2]).unwrap().with_constant(8, 7);
        assert_eq!([0, 4, 8, 12].map(|offset| plain.read(offset)), [1, 2, 7, 0]);
        plain.write(4, 0xaa00, 0xff00);
        plain.write(8, 9, u32::MAX);
        assert_eq!((plain.read(4), plain.read(8)), (0xaa02, 7));
        assert_eq!(plain.read(0x1000), u32::MAX, "nobody answers");
        plain.reset();
        assert_eq!(plain.read(4), 0xaa02, "a reset of the card leaves peripherals as they are");
    }
}
