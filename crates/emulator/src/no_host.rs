//! A host that a board has nothing to do with.

use crate::function::{CardRange, DmaFault, Host, Live};

/// A host without memory and without interrupts: for looking at a board's registers and configuration space alone, in tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHost;

const fn unmapped(iova: u64) -> Result<(), DmaFault> {
    Err(DmaFault::Unmapped { iova })
}

impl Host for NoHost {
    fn read_to(&self, iova: u64, _: CardRange<'_>, _: Live<'_>) -> Result<(), DmaFault> {
        unmapped(iova)
    }

    fn write_from(&self, iova: u64, _: CardRange<'_>, _: Live<'_>) -> Result<(), DmaFault> {
        unmapped(iova)
    }

    fn read(&self, iova: u64, _: &mut [u8], _: Live<'_>) -> Result<(), DmaFault> {
        unmapped(iova)
    }

    fn write(&self, iova: u64, _: &[u8], _: Live<'_>) -> Result<(), DmaFault> {
        unmapped(iova)
    }

    fn write_word(&self, iova: u64, _: u32, _: Live<'_>) -> Result<(), DmaFault> {
        unmapped(iova)
    }

    fn set_interrupt(&self, _: u16, _: bool) {}

    fn bus_master(&self) -> bool {
        false
    }
}
