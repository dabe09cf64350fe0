//! What hangs on a card's AXI buses: memory, peripherals of 32-bit registers, and whatever else has addresses.
//!
//! [`AxiTarget`] is the seam between a master, which is a core's DMA or a BAR, and what it reaches; [`AddressMap`] puts
//! several targets on one bus. A peripheral of one's own is a [`Peripheral`], which [`RegisterTarget`] puts there.

mod address_map;
mod alarms;
mod cmac;
mod cms;
mod ddr;
mod gpio;
mod iic;
mod lite;
mod memory;
mod plain;
mod quad_spi;
mod sysmon;
mod target;
mod xadc;

pub use address_map::{AddressMap, MapError};
pub use cmac::Cmac;
pub use cms::Cms;
pub use ddr::DdrStatus;
pub use gpio::{Gpio, GpioChannel};
pub use iic::Iic;
pub use lite::RegisterTarget;
pub use memory::CardMemory;
pub use plain::PlainRegisters;
pub use quad_spi::{BYTE_TIME, QuadSpi};
pub use sysmon::Sysmon;
pub use target::{AxiError, AxiTarget, BURST, MemorySpan, NoAnswer};
pub use xadc::{Image, Xadc};

pub(crate) use lite::{LiteMaster, read_registers, write_registers};
pub(crate) use target::bursts;

/// Registers of 32 bits, at offsets that are multiples of four.
///
/// Called by several threads at once, so state is behind a lock or atomic.
pub trait Peripheral: Send + Sync {
    /// Reads the register at `offset`, side effects included.
    fn read(&self, offset: u32) -> u32;

    /// Writes the bits of `lanes` (whole bytes: AXI's write strobes) of the register at `offset`; `value` is zero elsewhere.
    fn write(&self, offset: u32, value: u32, lanes: u32);

    /// The card's reset reaches the peripheral. Most keep what they hold.
    fn reset(&self) {}
}

/// What a plain read-write register holds after the bits of `lanes` were written.
#[must_use]
pub const fn merge(old: u32, value: u32, lanes: u32) -> u32 {
    (old & !lanes) | (value & lanes)
}
