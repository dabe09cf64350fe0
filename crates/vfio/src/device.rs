//! A card reached through a transport: its identity, BARs, config space and interrupts. It shares and arbitrates
//! nothing; the owner's card and a client's card are both built on it.

use crate::error::{Error, ErrorKind, Result};
use crate::identity::{BarInfo, Identity, existing_bar};
use crate::region::{Region, Trap};
use crate::transport::{InterruptKind, Transport};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, OnceLock};

/// The region index of configuration space (`VFIO_PCI_CONFIG_REGION_INDEX`).
pub const CONFIG_REGION: u32 = 7;

/// The command register and its bits Memory Space and Bus Master Enable (PCI 3.0, section 6.2.2).
const COMMAND: u64 = 0x04;
const MEMORY_SPACE: u16 = 1 << 1;
const BUS_MASTER: u16 = 1 << 2;

/// A card reached through a transport. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Device {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    transport: Arc<dyn Transport>,
    identity: Identity,
    bars: [BarInfo; 6],
    regions: [OnceLock<Region>; 6],
}

impl Device {
    /// Reads who the card at `address` is and what it has.
    pub fn new(address: String, transport: Arc<dyn Transport>) -> Result<Self> {
        let mut bars = [BarInfo::default(); 6];
        for (index, bar) in (0..).zip(&mut bars) {
            let region = transport.region(index)?;
            *bar = BarInfo { size: region.size, mappable: region.mappable };
        }
        let config = config_region(&address, &transport)?;
        let identity = Identity {
            vendor: config.read16(0x00)?,
            device: config.read16(0x02)?,
            revision: config.read8(0x08)?,
            class: config.read32(0x08)? >> 8,
            subsystem_vendor: config.read16(0x2c)?,
            subsystem_device: config.read16(0x2e)?,
            address,
        };
        if identity.vendor == 0xffff {
            return Err(Error::new(
                ErrorKind::LinkDown,
                format!("card {} reads all-ones: its link is down or it was reset", identity.address),
            ));
        }
        Ok(Self { shared: Arc::new(Shared { transport, identity, bars, regions: Default::default() }) })
    }

    /// A card that another process has opened and asked already. It is not touched.
    pub(crate) fn resumed(identity: Identity, bars: [BarInfo; 6], transport: Arc<dyn Transport>) -> Self {
        Self { shared: Arc::new(Shared { transport, identity, bars, regions: Default::default() }) }
    }

    /// Who the card is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    /// Its six BARs.
    #[must_use]
    pub fn bars(&self) -> &[BarInfo; 6] {
        &self.shared.bars
    }

    /// Access to BAR `index`, mapped where the card allows it. It is mapped once, at the first call.
    pub fn bar(&self, index: usize) -> Result<Region> {
        let info = existing_bar(self.bars(), index, self.identity())?;
        let Some(slot) = self.shared.regions.get(index) else {
            unreachable!("existing_bar checked the index")
        };
        if let Some(region) = slot.get() {
            return Ok(region.clone());
        }
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        let mapped = match info.mappable {
            true => Some(Arc::new(self.shared.transport.map(number)?)),
            false => None,
        };
        let name = format!("BAR {index} of {}", self.identity().address);
        let trap = Arc::new(RegionTrap { transport: Arc::clone(&self.shared.transport), index: number });
        Ok(slot.get_or_init(|| Region::new(name, info.size, trap, mapped)).clone())
    }

    /// Access to configuration space.
    pub fn config(&self) -> Result<Region> {
        config_region(&self.identity().address, &self.shared.transport)
    }

    /// Switches the card's right to start DMA and message-signalled interrupts on or off.
    pub fn set_bus_master(&self, on: bool) -> Result<()> {
        self.set_command(BUS_MASTER, on)
    }

    /// Whether the card may start DMA and message-signalled interrupts.
    pub fn bus_master(&self) -> Result<bool> {
        Ok(self.config()?.read16(COMMAND)? & BUS_MASTER != 0)
    }

    /// Switches on or off that the card answers to the addresses of its BARs.
    pub fn set_memory_decode(&self, on: bool) -> Result<()> {
        self.set_command(MEMORY_SPACE, on)
    }

    /// Whether the card answers to the addresses of its BARs.
    pub fn memory_decode(&self) -> Result<bool> {
        Ok(self.config()?.read16(COMMAND)? & MEMORY_SPACE != 0)
    }

    fn set_command(&self, bit: u16, on: bool) -> Result<()> {
        let config = self.config()?;
        let command = config.read16(COMMAND)?;
        let wanted = if on { command | bit } else { command & !bit };
        if wanted == command { Ok(()) } else { config.write16(COMMAND, wanted) }
    }

    /// The best kind of interrupt that the card has, and how many vectors: one if it only has the interrupt line (INTx).
    pub fn vectors(&self) -> Result<Option<(InterruptKind, u32)>> {
        for kind in [InterruptKind::MsiX, InterruptKind::Msi, InterruptKind::Intx] {
            let count = self.shared.transport.interrupt_count(kind)?;
            if count > 0 {
                return Ok(Some((kind, count)));
            }
        }
        Ok(None)
    }

    /// Wires one vector to an eventfd, or silences it.
    pub fn wire(&self, kind: InterruptKind, vector: u16, event: Option<BorrowedFd<'_>>) -> Result<()> {
        self.shared.transport.arm(kind, u32::from(vector), &[event])
    }

    /// Resets the card; bus mastering is off afterwards.
    pub fn reset(&self) -> Result<()> {
        self.shared.transport.reset()
    }

    /// The transport underneath.
    #[must_use]
    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.shared.transport
    }
}

fn config_region(address: &str, transport: &Arc<dyn Transport>) -> Result<Region> {
    let size = transport.region(CONFIG_REGION)?.size;
    let trap = Arc::new(RegionTrap { transport: Arc::clone(transport), index: CONFIG_REGION });
    Ok(Region::new(format!("config space of {address}"), size, trap, None))
}

struct RegionTrap {
    transport: Arc<dyn Transport>,
    index: u32,
}

impl Trap for RegionTrap {
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<()> {
        self.transport.read(self.index, offset, data)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.transport.write(self.index, offset, data)
    }
}
