//! What hangs on a card's AXI-Lite bus: peripherals of 32-bit registers, and the windows of a BAR they are seen through.

mod ddr;
mod gpio;
mod quad_spi;
mod window;
mod xadc;

pub(crate) use ddr::DdrStatus;
pub(crate) use gpio::{Gpio, GpioChannel};
pub(crate) use quad_spi::QuadSpi;
pub(crate) use window::{Window, Windows, read_registers, write_registers};
pub(crate) use xadc::{Image, Xadc};

/// Registers of 32 bits, at offsets that are multiples of four.
///
/// Called by several threads at once, so state is behind a lock or atomic.
pub(crate) trait Peripheral: Send + Sync {
    /// Reads the register at `offset`, side effects included.
    fn read(&self, offset: u32) -> u32;

    /// Writes the bits of `lanes` (whole bytes: AXI's write strobes) of the register at `offset`; `value` is zero elsewhere.
    fn write(&self, offset: u32, value: u32, lanes: u32);

    /// The card's reset reaches the peripheral. Most keep what they hold.
    fn reset(&self) {}
}

/// What a plain read-write register holds after the bits of `lanes` were written.
pub(crate) const fn merge(old: u32, value: u32, lanes: u32) -> u32 {
    (old & !lanes) | (value & lanes)
}
