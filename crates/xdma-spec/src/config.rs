//! The config block (block 3): PG195, "Config Block Registers (0x3)".

use bitfield_struct::bitfield;
use jitney_registers::{ReadOnly, ReadWrite, Register};

pub use crate::identifier::IDENTIFIER;

/// Where the card sits on its bus.
pub const BUS_DEVICE: Register<BusDevice, ReadOnly> = Register::new(0x04);
/// PCIe maximum payload size.
pub const PCIE_MAX_PAYLOAD: Register<TransferSize, ReadOnly> = Register::new(0x08);
/// PCIe maximum read request size.
pub const PCIE_MAX_READ_REQUEST: Register<TransferSize, ReadOnly> = Register::new(0x0c);
/// System id, bits 15:0: [`SYSTEM_ID_DEFAULT`].
pub const SYSTEM_ID: Register<u32, ReadOnly> = Register::new(0x10);
/// Which kind of message-signalled interrupt the host has enabled.
pub const MSI_ENABLE: Register<MsiEnable, ReadOnly> = Register::new(0x14);
/// Width of the AXI data path.
pub const DATA_WIDTH: Register<DataWidth, ReadOnly> = Register::new(0x18);
/// PCIe control; resets to [`PcieControl::RESET`].
pub const PCIE_CONTROL: Register<PcieControl, ReadWrite> = Register::new(0x1c);
/// Maximum payload size towards the card's user logic; resets to [`AxiTransferSize::RESET`].
pub const AXI_MAX_PAYLOAD: Register<AxiTransferSize, ReadWrite> = Register::new(0x40);
/// Maximum read request size towards the card's user logic; resets to [`AxiTransferSize::RESET`].
pub const AXI_MAX_READ_REQUEST: Register<AxiTransferSize, ReadWrite> = Register::new(0x44);
/// How long a C2H stream waits for data before it closes its descriptor: 2 to the power of bits 4:0, in clocks; 0
/// is for ever.
pub const WRITE_FLUSH_TIMEOUT: Register<u32, ReadWrite> = Register::new(0x60);

/// What [`SYSTEM_ID`] reads.
pub const SYSTEM_ID_DEFAULT: u32 = 0xff01;

/// "Config Block BusDev (0x04)".
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct BusDevice {
    /// Function number.
    #[bits(3)]
    pub function: u8,
    /// Device number.
    #[bits(5)]
    pub device: u8,
    /// Bus number.
    pub bus: u8,
    __: u16,
}

/// "Config Block PCIE Max Payload Size (0x08)" and "… Max Read Request Size (0x0C)".
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct TransferSize {
    /// 0 for 128 bytes, 1 for 256, up to 5 for 4096.
    #[bits(3)]
    pub code: u8,
    #[bits(29)]
    __: u32,
}

impl TransferSize {
    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        128 << self.code()
    }

    /// Whether PCIe knows the size: two codes stand for none, and all-ones, which a card that cannot be read reads as, has
    /// one of them.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.code() <= 5
    }
}

/// "Config Block MSI Enable (0x14)".
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct MsiEnable {
    /// MSI is enabled.
    pub msi: bool,
    /// MSI-X is enabled.
    pub msix: bool,
    #[bits(30)]
    __: u32,
}

/// "Config Block PCIE Data Width (0x18)".
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct DataWidth {
    /// 0 for 64 bits, 1 for 128, 2 for 256, 3 for 512.
    #[bits(3)]
    pub code: u8,
    #[bits(29)]
    __: u32,
}

impl DataWidth {
    /// The width in bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        8 << self.code()
    }
}

/// "Config PCIE Control (0x1C)".
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct PcieControl {
    /// Read requests carry the relaxed-ordering attribute.
    pub relaxed_ordering: bool,
    #[bits(31)]
    __: u32,
}

impl PcieControl {
    /// After reset: relaxed ordering.
    pub const RESET: Self = Self::new().with_relaxed_ordering(true);
}

/// "Config AXI User Max Payload Size (0x40)" and "… Max Read Request Size (0x44)". Codes are those of
/// [`TransferSize`].
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct AxiTransferSize {
    /// What software asks for.
    #[bits(3)]
    pub programmed: u8,
    __: bool,
    /// What is in force: it may be less, due to the IP's configuration or data width. Read only.
    #[bits(3)]
    pub effective: u8,
    #[bits(25)]
    __: u32,
}

impl AxiTransferSize {
    /// After reset: 4096 bytes.
    pub const RESET: Self = Self::new().with_programmed(5).with_effective(5);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_bytes() {
        assert_eq!(TransferSize::new().bytes(), 128);
        assert_eq!(TransferSize::new().with_code(5).bytes(), 4096);
        assert!(TransferSize::new().with_code(5).is_valid() && !TransferSize::from(u32::MAX).is_valid());
        assert_eq!(DataWidth::new().with_code(1).bytes(), 16);
        assert_eq!(DataWidth::new().with_code(3).bytes(), 64);
    }

    #[test]
    fn fields_are_where_pg195_puts_them() {
        assert_eq!(u32::from(BusDevice::new().with_bus(0x2e).with_device(1).with_function(2)), 0x2e0a);
        assert_eq!(u32::from(AxiTransferSize::RESET), 0x55);
        assert_eq!(u32::from(MsiEnable::new().with_msix(true)), 2);
        assert_eq!(u32::from(PcieControl::RESET), 1);
    }
}
