//! What hangs on an SPI bus.

pub mod nor;

/// A device behind a chip select, which a master exchanges bytes with.
///
/// The master calls it with its own lock held, so that calls never overlap.
pub trait SpiDevice: Send {
    /// Its chip select goes low.
    fn selected(&mut self);

    /// A byte is clocked in, and one out at the same time.
    fn exchange(&mut self, byte: u8) -> u8;

    /// Its chip select goes high; `at_byte` unless that was in the middle of a byte, of which the device then has seen a part.
    fn deselected(&mut self, at_byte: bool);
}
