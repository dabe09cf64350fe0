//! A card with an XDMA that is opened by hand: its registers, and leave to reach memory.

use crate::by_hand::{ByHand, Result, map_bar};
use jitney_memory::{AccessError, Mapping};
use jitney_registers::RegisterSpace;
use jitney_vfio::sysfs::Sysfs;
use jitney_xdma_spec::DMA_BAR_SIZE;

const CONFIG_REGION: u64 = 7;
const COMMAND: u64 = 4;
const BUS_MASTER: u8 = 1 << 2;

/// The card at an address of PCI.
pub(crate) fn open(address: &str) -> Result<ByHand> {
    let group = Sysfs::default().function(address.parse()?)?.iommu_group;
    ByHand::open(group.ok_or("the card has no IOMMU group")?, address)
}

/// The registers of its XDMA, which may reach memory from now on.
pub(crate) fn xdma(card: &ByHand, address: &str) -> Result<Registers> {
    let offset = (CONFIG_REGION << 40) + COMMAND;
    let mut command = [0];
    rustix::io::pread(&card.device, &mut command, offset)?;
    rustix::io::pwrite(&card.device, &[command[0] | BUS_MASTER], offset)?;
    let bars = Sysfs::default().function(address.parse()?)?.bars;
    let bar = bars.iter().position(|&size| size == DMA_BAR_SIZE).ok_or("the card has no BAR of an XDMA")?;
    Ok(Registers(map_bar(&card.device, bar as u64, usize::try_from(DMA_BAR_SIZE)?)?))
}

/// A BAR that is mapped.
pub(crate) struct Registers(Mapping);

impl RegisterSpace for Registers {
    type Error = AccessError;

    fn read32(&self, offset: u64) -> std::result::Result<u32, AccessError> {
        self.0.load32(offset)
    }

    fn write32(&self, offset: u64, value: u32) -> std::result::Result<(), AccessError> {
        self.0.store32(offset, value)
    }
}
