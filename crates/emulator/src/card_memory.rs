//! The memory of a card, as the DMA engine's AXI master sees it.

use jitney_memory::Mapping;

/// Zeroed memory at an address of the card. What nobody wrote to costs nothing.
#[derive(Debug)]
pub(crate) struct CardMemory {
    memory: Mapping,
    base: u64,
}

impl CardMemory {
    /// `size` bytes at card address `base`.
    pub(crate) fn new(base: u64, size: u64) -> Result<Self, jitney_memory::Error> {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        Ok(Self { memory: Mapping::anonymous(size)?, base })
    }

    /// The memory itself; offsets in it are what [`decode`](Self::decode) returns.
    pub(crate) fn mapping(&self) -> &Mapping {
        &self.memory
    }

    /// Where in the memory a range of card addresses begins, and how many of its bytes are there before the memory ends.
    ///
    /// A range that begins outside has none. No range wraps at the end of the address space.
    pub(crate) fn decode(&self, address: u64, length: u64) -> (u64, u64) {
        let size = self.memory.len() as u64;
        match address.checked_sub(self.base) {
            Some(offset) if offset < size => (offset, length.min(size - offset)),
            _ => (0, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_end_with_the_memory() {
        let memory = CardMemory::new(0x8_0000_0000, 0x12_8000).unwrap();
        assert_eq!(memory.decode(0x8_0000_0000, 0x12_8000), (0, 0x12_8000));
        assert_eq!(memory.decode(0x8_0012_7fff, 4), (0x12_7fff, 1));
        assert_eq!(memory.decode(0x8_0012_8000, 4), (0, 0));
        assert_eq!(memory.decode(0x7_ffff_ffff, 4), (0, 0), "below the base");
        assert_eq!(memory.decode(u64::MAX, u64::MAX), (0, 0));
        assert_eq!(CardMemory::new(0, 4096).unwrap().decode(4095, u64::MAX), (4095, 1));
    }

    #[test]
    fn a_size_that_no_machine_has_is_an_error() {
        assert!(CardMemory::new(0, u64::MAX).is_err());
        assert!(CardMemory::new(0, 0).is_err());
    }
}
