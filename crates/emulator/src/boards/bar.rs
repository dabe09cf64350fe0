//! What is behind a BAR.

use crate::axi::{AxiTarget, Peripheral, bursts};
use crate::function::Mappable;
use crate::limited::warn_limited;
use std::sync::Arc;

/// What clients map is made of pages of this size.
const PAGE: u64 = 4096;

/// What is behind a BAR.
pub(super) enum Bar {
    /// Registers, each access of which is seen.
    Registers(Arc<dyn Peripheral>),
    /// A part of a bus, in accesses of any width. Memory at its beginning can be mapped by clients.
    Bus(BusWindow),
}

/// A range of a bus that a BAR leads to.
pub(super) struct BusWindow {
    pub(super) bus: Arc<dyn AxiTarget>,
    /// Where on the bus the BAR begins.
    pub(super) base: u64,
    pub(super) size: u64,
}

impl BusWindow {
    /// What nothing answers stays as it is.
    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        let address = self.base.saturating_add(offset);
        let inside = self.inside(offset, data.len());
        let data = &mut data[..inside];
        for (done, length) in bursts(address, data.len()) {
            let start = usize::try_from(done).unwrap_or(usize::MAX);
            let part = &mut data[start..start + length];
            if let Err(error) = self.bus.read(address.saturating_add(done), part) {
                part.fill(0xff);
                warn_limited!("read at card address {address:#x}: {error}");
            }
        }
    }

    pub(super) fn write(&self, offset: u64, data: &[u8]) {
        let address = self.base.saturating_add(offset);
        let data = &data[..self.inside(offset, data.len())];
        for (done, length) in bursts(address, data.len()) {
            let start = usize::try_from(done).unwrap_or(usize::MAX);
            if let Err(error) = self.bus.write(address.saturating_add(done), &data[start..start + length]) {
                warn_limited!("a write at card address {address:#x} is lost: {error}");
            }
        }
    }

    /// How many of `length` bytes at `offset` the window leads to: a BAR may be larger.
    fn inside(&self, offset: u64, length: usize) -> usize {
        usize::try_from(self.size.saturating_sub(offset)).map_or(length, |left| left.min(length))
    }

    /// The memory at the beginning of the BAR, if that can be mapped in pages.
    pub(super) fn mappable(&self) -> Option<Mappable<'_>> {
        let span = self.bus.memory(self.base, self.size)?;
        let in_pages = span.offset.is_multiple_of(PAGE) && span.length.is_multiple_of(PAGE);
        let file = span.memory.file().filter(|_| in_pages)?;
        Some(Mappable { file, offset: span.offset, length: span.length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::axi::{AddressMap, CardMemory};

    /// A BAR that bypasses the DMA shows the memory that the DMA moves data in and out of, from any address on.
    #[test]
    fn a_window_on_a_bus_shows_the_memory_that_is_there() {
        let memory = Arc::new(CardMemory::mappable("test", 0x4000).unwrap());
        let mut bus = AddressMap::new();
        bus.add(0x8000_0000, 0x4000, "DDR", Arc::clone(&memory) as _).unwrap();
        let bus: Arc<dyn AxiTarget> = Arc::new(bus);
        let window = |base, size| BusWindow { bus: Arc::clone(&bus), base, size };

        let upper = window(0x8000_1000, 0x8000);
        upper.write(0xffe, &[1, 2, 3, 4]);
        let mut data = [0; 2];
        memory.read(0x2000, &mut data).unwrap();
        assert_eq!(data, [3, 4]);
        let mut across = [0; 4];
        upper.read(0x2ffe, &mut across);
        assert_eq!(across, [0, 0, 0xff, 0xff], "where the memory ends, nothing answers");
        upper.write(0x3000, &[1]);

        let mappable = upper.mappable().unwrap();
        assert_eq!((mappable.offset, mappable.length), (0x1000, 0x3000));
        assert!(window(0x8000_0010, 0x1000).mappable().is_none(), "not a whole page");
        // The BAR goes on behind it, and so does the memory.
        memory.write(0xffe, &[1, 2, 3, 4]).unwrap();
        let first = window(0x8000_0000, 0x1000);
        let mut data = [0xff; 4];
        first.read(0xffe, &mut data);
        assert_eq!(data, [1, 2, 0xff, 0xff]);
        first.write(0xffe, &[5, 6, 7, 8]);
        first.write(0x1000, &[9]);
        memory.read(0xffe, &mut data).unwrap();
        assert_eq!(data, [5, 6, 3, 4]);
        assert!(window(0, 0x1000).mappable().is_none());
    }
}
