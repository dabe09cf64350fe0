//! The memory of a card: DDR, HBM or block RAM.

use super::{AxiError, AxiTarget, MemorySpan};
use jitney_memory::{Access, Mapping, Memfd, PageSize};

/// Zeroed memory. What nobody wrote to costs nothing.
#[derive(Debug)]
pub struct CardMemory {
    mapping: Mapping,
    file: Option<Memfd>,
}

impl CardMemory {
    /// `size` bytes that are reached by the DMA alone. Reading them costs nothing, either.
    ///
    /// # Errors
    /// A size of zero, or one that the machine cannot have.
    pub fn new(size: u64) -> Result<Self, jitney_memory::Error> {
        let mapping = Mapping::anonymous(usize::try_from(size).unwrap_or(usize::MAX))?;
        Ok(Self { mapping, file: None })
    }

    /// `size` bytes, a multiple of 4096, that clients can map as well where a BAR leads to them: a file in memory that is
    /// sealed against shrinking and growing. `name` is what the process's maps show. A page that is read is one from then on.
    ///
    /// # Errors
    /// Another size, or one that the machine cannot have.
    pub fn mappable(name: &str, size: u64) -> Result<Self, jitney_memory::Error> {
        let file = Memfd::create(name, size, PageSize::Normal)?;
        let mapping =
            Mapping::shared(&file, 0, usize::try_from(size).unwrap_or(usize::MAX), Access::ReadWrite)?;
        Ok(Self { mapping, file: Some(file) })
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.mapping.len() as u64
    }

    /// The file, to hand to others, if it is memory that can be mapped.
    #[must_use]
    pub fn file(&self) -> Option<&Memfd> {
        self.file.as_ref()
    }

    /// The memory itself.
    #[must_use]
    pub fn mapping(&self) -> &Mapping {
        &self.mapping
    }
}

impl AxiTarget for CardMemory {
    fn memory(&self, address: u64, length: u64) -> Option<MemorySpan<'_>> {
        let left = self.size().checked_sub(address).filter(|left| *left > 0)?;
        Some(MemorySpan { memory: self, offset: address, length: length.min(left) })
    }

    fn read(&self, address: u64, data: &mut [u8]) -> Result<(), AxiError> {
        self.mapping.read(address, data).map_err(|_| AxiError::Decode)
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), AxiError> {
        self.mapping.write(address, data).map_err(|_| AxiError::Decode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_end_with_the_memory() {
        let memory = CardMemory::new(0x12_8000).unwrap();
        let span = |address, length| memory.memory(address, length).map(|span| (span.offset, span.length));
        assert_eq!(span(0, 0x12_8000), Some((0, 0x12_8000)));
        assert_eq!(span(0x12_7fff, u64::MAX), Some((0x12_7fff, 1)));
        assert_eq!(span(0x12_8000, 4), None);
        assert_eq!(span(u64::MAX, u64::MAX), None);
        assert_eq!(memory.read(0x12_7fff, &mut [0; 2]), Err(AxiError::Decode));
    }

    #[test]
    fn its_file_is_the_same_memory_and_stays_as_long_as_it_is() {
        let memory = CardMemory::mappable("test", 0x2000).unwrap();
        memory.write(0x1ffc, &[1, 2, 3, 4]).unwrap();
        let other = Mapping::shared(memory.file().unwrap(), 0x1000, 0x1000, Access::ReadOnly).unwrap();
        assert_eq!(other.load32(0xffc).unwrap(), 0x0403_0201);
        assert!(rustix::fs::ftruncate(memory.file().unwrap(), 0x1000).is_err());
    }

    #[test]
    fn memory_of_any_size_costs_what_was_touched() {
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/statm").unwrap();
            status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
        };
        let before = resident();
        for memory in [CardMemory::new(1 << 40).unwrap(), CardMemory::mappable("large", 1 << 40).unwrap()] {
            memory.write((1 << 40) - 4, &[1, 2, 3, 4]).unwrap();
            let mut data = [0; 4];
            memory.read((1 << 40) - 4, &mut data).unwrap();
            assert_eq!(data, [1, 2, 3, 4]);
        }
        let memory = CardMemory::new(1 << 30).unwrap();
        let mut data = vec![1; 1 << 20];
        for address in (0..1 << 30).step_by(1 << 20) {
            memory.read(address, &mut data).unwrap();
        }
        // Other tests run beside this one.
        assert!(resident().saturating_sub(before) < 256 << 20);
    }

    #[test]
    fn a_size_that_no_machine_has_is_an_error() {
        for size in [0, u64::MAX, 1 << 62] {
            assert!(CardMemory::new(size).is_err(), "{size:#x}");
        }
        for size in [0, 1000, u64::MAX, 1 << 62] {
            assert!(CardMemory::mappable("test", size).is_err(), "{size:#x}");
        }
    }
}
