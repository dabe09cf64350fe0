//! memmapped_blkram, an open design without DMA: block RAM in the BARs.

use super::design::{CLASS_RAM, DESIGNS, DEVICE_7SERIES_X4, Design, Request, XILINX};
use super::{BoardError, Model};
use crate::function::InterruptKind;

pub(super) const BLKRAM: Model = Model {
    name: "memmapped-blkram",
    summary: "the open design memmapped_blkram: RAM in three BARs, no DMA",
    info: "\
10ee:7024, subsystem 0002:0001
BAR0    1 MiB, BAR2 128 KiB, BAR4 64 KiB: RAM, which clients can map
Revision: the PCI revision id (default 0). No interrupts, no channels, no other memory",
    build,
};

fn build(request: Request<'_>) -> Result<Design, BoardError> {
    let options = request.options;
    if let Some(kind) = options.interrupts.filter(|&kind| kind != InterruptKind::None) {
        return Err(request.refuse("interrupts of kind", format!("{kind:?}"), "the design has none"));
    }
    if let Some(channels) = options.channels {
        return Err(request.refuse("a number of channels of", channels, "the design has no DMA"));
    }
    if let Some(memory) = options.memory {
        return Err(request.refuse("a memory of", memory, "the sizes of its BARs are fixed"));
    }
    let mut design = Design::new([XILINX, DEVICE_7SERIES_X4, DESIGNS, 0x0001], CLASS_RAM);
    design.description.revision = request.pci_revision()?;
    for (bar, size) in [(0, 0x10_0000), (2, 0x2_0000), (4, 0x1_0000)] {
        design.add_memory(bar, size, &format!("{}-bar{bar}", request.board))?;
    }
    Ok(design)
}
