//! The parts that boards are put together from.

use super::{BoardError, BoardOptions};
use crate::axi::{AddressMap, AxiTarget, CardMemory, LiteMaster, Peripheral, RegisterTarget, bursts};
use crate::fault::Faults;
use crate::function::{BarDescription, Description, Host, InterruptKind, InterruptKinds, Mappable, Msix};
use crate::limited::warn_limited;
use crate::xdma::{Interface, Xdma, XdmaConfig};
use jitney_xdma_spec::irq::{MSIX_PENDING, MSIX_TABLE, MSIX_VECTORS};
use jitney_xdma_spec::{Alignments, DMA_BAR_SIZE};
use std::sync::Arc;

/// Vendor id of AMD/Xilinx, and the one that the author of the open designs uses as subsystem vendor.
pub(super) const XILINX: u16 = 0x10EE;
pub(super) const DESIGNS: u16 = 0x0002;
/// Vivado's device id for a 7-series card with a 5 GT/s ×4 link.
pub(super) const DEVICE_7SERIES_X4: u16 = 0x7024;
/// Base class memory controller, sub-class RAM.
pub(super) const CLASS_RAM: [u8; 3] = [0x05, 0x00, 0x00];
/// 5 GT/s, four lanes.
const LINK_GEN2_X4: (u8, u8) = (2, 4);
/// Where an AXI-Lite peripheral's 4 KiB of registers end.
const FRAME: u64 = 0x1000;
/// What clients map is made of pages of this size.
const PAGE: u64 = 4096;
/// Width of the AXI data path of all these designs, in bytes.
const DATA_WIDTH: u32 = 16;

/// What a board is to be built for.
pub(super) struct Request<'a> {
    pub(super) board: &'static str,
    pub(super) options: &'a BoardOptions,
    pub(super) host: Arc<dyn Host>,
    pub(super) faults: Arc<Faults>,
}

/// A board that was put together.
pub(super) struct Design {
    pub(super) description: Description,
    pub(super) bars: [Option<Bar>; 6],
    pub(super) xdma: Option<Arc<Xdma>>,
}

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
        for (done, length) in bursts(address, data.len()) {
            let start = usize::try_from(done).unwrap_or(usize::MAX);
            if let Err(error) = self.bus.write(address.saturating_add(done), &data[start..start + length]) {
                warn_limited!("a write at card address {address:#x} is lost: {error}");
            }
        }
    }

    /// The memory at the beginning of the BAR, if that can be mapped in pages.
    pub(super) fn mappable(&self) -> Option<Mappable<'_>> {
        let span = self.bus.memory(self.base, self.size)?;
        let in_pages = span.offset.is_multiple_of(PAGE) && span.length.is_multiple_of(PAGE);
        in_pages.then(|| Mappable { file: span.memory.file(), offset: span.offset, length: span.length })
    }
}

impl Request<'_> {
    /// An option out of those that a board can have.
    pub(super) fn refuse(
        &self,
        option: &'static str,
        given: impl ToString,
        allowed: impl Into<String>,
    ) -> BoardError {
        BoardError::Option { board: self.board, option, given: given.to_string(), allowed: allowed.into() }
    }

    /// The size of the card's memory in bytes.
    pub(super) fn memory(&self, default: u64) -> Result<u64, BoardError> {
        let size = self.options.memory.unwrap_or(default);
        if size == 0 || !size.is_multiple_of(4096) {
            return Err(self.refuse("a memory of", size, "give a multiple of 4096 bytes, not zero"));
        }
        Ok(size)
    }

    /// The number of channels in each direction.
    pub(super) fn channels(&self, default: u8, built: &[u8]) -> Result<u8, BoardError> {
        let count = self.options.channels.unwrap_or(default);
        if !built.contains(&count) {
            let counts: Vec<_> = built.iter().map(u8::to_string).collect();
            return Err(self.refuse(
                "a number of channels of",
                count,
                format!("the design was built with {} in each direction", counts.join(" or ")),
            ));
        }
        Ok(count)
    }

    /// The revision id in config space, for designs whose builds are told apart by it.
    pub(super) fn pci_revision(&self) -> Result<u8, BoardError> {
        let revision = self.options.revision.unwrap_or(0);
        u8::try_from(revision)
            .map_err(|_| self.refuse("revision", revision, "a PCI revision id is at most 255"))
    }
}

impl Design {
    /// A function without BARs.
    pub(super) fn new(ids: [u16; 4], class: [u8; 3]) -> Self {
        let description = Description {
            ids,
            revision: 0,
            class,
            bars: [None; 6],
            interrupts: InterruptKinds::default(),
            link: LINK_GEN2_X4,
            slot_lanes: None,
            serial: None,
        };
        Self { description, bars: Default::default(), xdma: None }
    }

    /// Plugs the board called `name` into a slot with so many lanes.
    pub(super) fn plug_into(&mut self, name: &'static str, lanes: Option<u8>) -> Result<(), BoardError> {
        let width = self.description.link.1;
        if let Some(lanes) = lanes.filter(|lanes| *lanes > width || !lanes.is_power_of_two()) {
            return Err(BoardError::Option {
                board: name,
                option: "lanes",
                given: lanes.to_string(),
                allowed: format!("1, 2 or 4, and at most {width}"),
            });
        }
        self.description.slot_lanes = lanes;
        Ok(())
    }

    /// Adds a 64-bit BAR.
    pub(super) fn add_bar(&mut self, index: u8, size: u64, prefetchable: bool, bar: Bar) {
        let description = BarDescription { size, is_64bit: true, prefetchable };
        self.description.bars[usize::from(index)] = Some(description);
        self.bars[usize::from(index)] = Some(bar);
    }

    /// Adds a BAR of AXI-Lite peripherals, 4 KiB each.
    pub(super) fn add_peripherals(
        &mut self,
        index: u8,
        size: u64,
        prefetchable: bool,
        peripherals: impl IntoIterator<Item = (u64, &'static str, Arc<dyn Peripheral>)>,
    ) -> Result<(), BoardError> {
        let mut bus = AddressMap::new();
        for (offset, name, peripheral) in peripherals {
            bus.add(offset, FRAME, name, Arc::new(RegisterTarget(peripheral)))?;
        }
        let master = LiteMaster { bus: Arc::new(bus), base: 0 };
        self.add_bar(index, size, prefetchable, Bar::Registers(Arc::new(master)));
        Ok(())
    }

    /// Adds a BAR of memory.
    pub(super) fn add_memory(&mut self, index: u8, size: u64, name: &str) -> Result<(), BoardError> {
        let bus = Arc::new(CardMemory::new(name, size)?);
        self.add_bar(index, size, true, Bar::Bus(BusWindow { bus, base: 0, size }));
        Ok(())
    }

    /// Adds the DMA BAR of an XDMA with so many channels in each direction over `memory` bytes from card address 0, and
    /// the interrupts that come with it.
    pub(super) fn add_xdma(
        &mut self,
        index: u8,
        request: &Request<'_>,
        channels: u8,
        memory: u64,
    ) -> Result<(), BoardError> {
        let target = Arc::new(CardMemory::new(request.board, memory)?);
        let config = XdmaConfig {
            interface: Interface::MemoryMapped { h2c: channels, c2h: channels, target },
            data_width: DATA_WIDTH,
            alignments: Alignments::ANY,
            speed: request.options.speed,
            strict_adjacency: request.options.strict_adjacency,
        };
        let xdma = Arc::new(Xdma::new(config, Arc::clone(&request.host), Arc::clone(&request.faults))?);
        self.add_bar(index, DMA_BAR_SIZE, false, Bar::Registers(Arc::clone(&xdma) as Arc<dyn Peripheral>));
        self.xdma = Some(xdma);
        self.description.interrupts = xdma_interrupts(index, request.options.interrupts);
        Ok(())
    }
}

/// The interrupts of a core whose DMA BAR is `bar`: all kinds, or only the one that was asked for.
fn xdma_interrupts(bar: u8, only: Option<InterruptKind>) -> InterruptKinds {
    const { assert!(MSIX_TABLE < DMA_BAR_SIZE && MSIX_PENDING < DMA_BAR_SIZE) };
    #[expect(clippy::cast_possible_truncation, reason = "asserted to be in the BAR")]
    let (table, pending) = (MSIX_TABLE as u32, MSIX_PENDING as u32);
    let has = |kind| only.is_none_or(|only| only == kind);
    InterruptKinds {
        line: has(InterruptKind::Intx),
        msi: if has(InterruptKind::Msi) { MSIX_VECTORS } else { 0 },
        msix: has(InterruptKind::MsiX).then_some(Msix { vectors: MSIX_VECTORS, bar, table, pending }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A BAR that bypasses the DMA shows the memory that the DMA moves data in and out of, from any address on.
    #[test]
    fn a_window_on_a_bus_shows_the_memory_that_is_there() {
        let memory = Arc::new(CardMemory::new("test", 0x4000).unwrap());
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
        assert!(window(0, 0x1000).mappable().is_none());
    }
}
