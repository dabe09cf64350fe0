//! The registers of one peripheral.

use crate::error::{Error, Result};
use jitney_designs::Peripheral;
use jitney_registers::{Block, Readable, Register, RegisterSpace};
use jitney_vfio::{ErrorKind, Region};

/// A peripheral of a board and its registers, whose offsets count from the start of its frame.
///
/// Every type of this crate for a peripheral is made from one. For one that this crate has no type for, it is the
/// [`RegisterSpace`] to write one with.
#[derive(Debug, Clone)]
pub struct Frame {
    peripheral: Peripheral,
    block: Block<Region>,
}

impl Frame {
    /// The frame of `peripheral` in `region`, which is its BAR.
    pub(crate) fn new(peripheral: Peripheral, region: Region) -> Self {
        let block = Block::new(region, peripheral.offset);
        Self { peripheral, block }
    }

    /// What the catalogue says about it.
    #[must_use]
    pub fn peripheral(&self) -> &Peripheral {
        &self.peripheral
    }

    /// Reads a register that cannot be all-ones unless nobody answers.
    pub(crate) fn sane<A: Readable, V: From<u32>>(&self, register: Register<V, A>) -> Result<V> {
        let value = self.read32(register.offset().into())?;
        if value == u32::MAX { Err(self.link_down(register.offset())) } else { Ok(value.into()) }
    }

    /// The register at `offset` reads as all-ones.
    pub(crate) fn link_down(&self, offset: u32) -> Error {
        let Peripheral { kind, offset: base, .. } = self.peripheral;
        let (place, name) = (base + u64::from(offset), self.block.space().name());
        let what = format!(
            "{name} reads as all-ones at {place:#x}, in the {kind}: \
             its link is down, the card was reset, or there is no {kind}"
        );
        jitney_vfio::Error::new(ErrorKind::LinkDown, what).into()
    }

    fn inside(&self, offset: u64) -> Result<u64> {
        let Peripheral { kind, size, .. } = self.peripheral;
        if offset.checked_add(4).is_some_and(|end| end <= size) {
            Ok(self.block.base() + offset)
        } else {
            Err(Error::OutsideFrame { kind, offset, size })
        }
    }
}

impl RegisterSpace for Frame {
    type Error = Error;

    fn read32(&self, offset: u64) -> Result<u32> {
        Ok(self.block.space().read32(self.inside(offset)?)?)
    }

    fn write32(&self, offset: u64, value: u32) -> Result<()> {
        Ok(self.block.space().write32(self.inside(offset)?, value)?)
    }
}
