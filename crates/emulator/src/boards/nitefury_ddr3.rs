//! NiteFury_dma_ddr3, an open design for the NiteFury II: two XDMA channels each way to all of the DDR3.

use super::design::{CLASS_RAM, DESIGNS, DEVICE_7SERIES_X4, Design, Request, XILINX};
use super::{BoardError, Model};
use crate::axi::{DdrStatus, Gpio, GpioChannel, Image, QuadSpi, Xadc};
use std::sync::Arc;

pub(super) const DMA_DDR3: Model = Model {
    name: "nitefury-dma-ddr3",
    summary: "NiteFury II with the open design dma_ddr3: XDMA 2+2, 1 GiB DDR3",
    info: "\
10ee:7024, subsystem 0002:0006
BAR0   16 KiB: Quad SPI 0x0000, XADC 0x1000, build timestamp 0x2000, DDR reset and status 0x3000
BAR2   64 KiB: XDMA, memory mapped, 2 channels each way
Memory: 1 GiB at 0, another size by option
Revision: the PCI revision id (default 0)",
    build,
};

/// 17/08/2026 13:12:15: day in bits 31:27, month 26:23, year from 2000 22:17, hour 16:12, minute 11:6, second 5:0.
const BUILD_TIMESTAMP: u32 = 17 << 27 | 8 << 23 | 26 << 17 | 13 << 12 | 12 << 6 | 15;

fn build(request: Request<'_>) -> Result<Design, BoardError> {
    let mut design = Design::new([XILINX, DEVICE_7SERIES_X4, DESIGNS, 0x0006], CLASS_RAM);
    design.description.revision = request.pci_revision()?;
    let timestamp = Gpio::new("timestamp", GpioChannel::inputs(BUILD_TIMESTAMP), None);
    design.add_peripherals(
        0,
        0x4000,
        true,
        [
            (0x0000, "Quad SPI", Arc::new(QuadSpi::default()) as _),
            (0x1000, "XADC", Arc::new(Xadc::new(Image::Sequenced)) as _),
            (0x2000, "user access", Arc::new(timestamp) as _),
            (0x3000, "DDR status", Arc::new(DdrStatus::default()) as _),
        ],
    )?;
    let channels = request.channels(2, &[2])?;
    design.add_xdma(2, &request, channels, request.memory(1 << 30)?)?;
    Ok(design)
}
