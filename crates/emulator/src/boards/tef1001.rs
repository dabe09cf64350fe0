//! TEF1001_dma_blkram, an open design for the Trenz TEF1001: XDMA to block RAM, and nothing else.

use super::design::{CLASS_RAM, DESIGNS, DEVICE_7SERIES_X4, Design, Request, XILINX};
use super::{BoardError, Model};

pub(super) const DMA_BLKRAM: Model = Model {
    name: "tef1001-dma-blkram",
    summary: "TEF1001 with the open design dma_blkram: XDMA 1+1, 0x128000 bytes of block RAM",
    info: "\
10ee:7024, subsystem 0002:0003
BAR0   64 KiB: XDMA, memory mapped, 1 channel each way (2 in the newer build)
Memory: 0x128000 bytes at 0 (0x120000 in the newer build), another size by option
Revision: 0 (default) is the older build, 1 the newer one of April 2023; channels: 1 or 2
The true card cannot interrupt; this one has MSI-X unless told otherwise (interrupts: none)",
    build,
};

const OLDER_MEMORY: u64 = 0x10_0000 + 0x2_0000 + 0x8000;
const NEWER_MEMORY: u64 = 0x10_0000 + 0x2_0000;

fn build(request: Request<'_>) -> Result<Design, BoardError> {
    let (memory, channels) = match request.options.revision.unwrap_or(0) {
        0 => (OLDER_MEMORY, 1),
        1 => (NEWER_MEMORY, 2),
        other => {
            return Err(request.refuse("revision", other, "0 is the older build and 1 the newer one"));
        }
    };
    let mut design = Design::new([XILINX, DEVICE_7SERIES_X4, DESIGNS, 0x0003], CLASS_RAM);
    let channels = request.channels(channels, &[1, 2])?;
    design.add_xdma(0, &request, channels, request.memory(memory)?)?;
    Ok(design)
}
