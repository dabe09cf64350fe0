//! The parts that boards are put together from.

use super::{BoardError, BoardOptions};
use crate::axi::{Peripheral, Window, Windows};
use crate::card_memory::CardMemory;
use crate::fault::Faults;
use crate::function::{BarDescription, Description, Host, InterruptKind};
use crate::xdma::{Xdma, XdmaConfig};
use jitney_memory::{Access, Mapping, Memfd, PageSize};
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
    /// Memory, which clients may map.
    Memory {
        /// To hand out.
        memory: Memfd,
        /// For accesses by message.
        mapping: Mapping,
    },
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
            interrupts: InterruptKind::None,
            vectors: 0,
            msix: None,
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
    ) {
        let windows = peripherals
            .into_iter()
            .map(|(offset, name, peripheral)| Window { offset, size: FRAME, name, peripheral })
            .collect();
        self.add_bar(index, size, prefetchable, Bar::Registers(Arc::new(Windows::new(windows))));
    }

    /// Adds a BAR of memory.
    pub(super) fn add_memory(&mut self, index: u8, size: u64, name: &str) -> Result<(), BoardError> {
        let memory = Memfd::create(name, size, PageSize::Normal)?;
        let len = usize::try_from(size).unwrap_or(usize::MAX);
        let mapping = Mapping::shared(&memory, 0, len, Access::ReadWrite)?;
        self.add_bar(index, size, true, Bar::Memory { memory, mapping });
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
        let interrupts = request.options.interrupts.unwrap_or_default();
        let vectors = match interrupts {
            InterruptKind::None => 0,
            InterruptKind::Intx => 1,
            InterruptKind::Msi | InterruptKind::MsiX => MSIX_VECTORS,
        };
        let config = XdmaConfig {
            h2c: channels,
            c2h: channels,
            data_width: DATA_WIDTH,
            alignments: Alignments::ANY,
            interrupts,
            vectors,
            speed: request.options.speed,
            strict_adjacency: request.options.strict_adjacency,
        };
        let memory = CardMemory::new(0, memory)?;
        let xdma =
            Arc::new(Xdma::new(config, memory, Arc::clone(&request.host), Arc::clone(&request.faults))?);
        self.add_bar(index, DMA_BAR_SIZE, false, Bar::Registers(Arc::clone(&xdma) as Arc<dyn Peripheral>));
        self.xdma = Some(xdma);
        self.description.interrupts = interrupts;
        self.description.vectors = vectors;
        self.description.msix = (interrupts == InterruptKind::MsiX).then(|| {
            const { assert!(MSIX_TABLE < DMA_BAR_SIZE && MSIX_PENDING < DMA_BAR_SIZE) };
            #[expect(clippy::cast_possible_truncation, reason = "asserted to be in the BAR")]
            (index, MSIX_TABLE as u32, MSIX_PENDING as u32)
        });
        Ok(())
    }
}
