//! The type 0 header, the first 64 bytes of an endpoint's configuration space (PCI 3.0, section 6.1).

use bitfield_struct::bitfield;

/// Vendor id, 16 bits; all-ones if nothing is there.
pub const VENDOR_ID: u16 = 0x00;
/// Device id, 16 bits.
pub const DEVICE_ID: u16 = 0x02;
/// [`Command`], 16 bits.
pub const COMMAND: u16 = 0x04;
/// [`Status`], 16 bits.
pub const STATUS: u16 = 0x06;
/// Revision id, 8 bits.
pub const REVISION: u16 = 0x08;
/// [`ClassCode`], 24 bits; a 32-bit read of [`REVISION`] has it in bits 31:8.
pub const CLASS_CODE: u16 = 0x09;
/// Cache line size, 8 bits, in units of 4 bytes; without meaning on PCIe.
pub const CACHE_LINE_SIZE: u16 = 0x0c;
/// Latency timer, 8 bits; without meaning on PCIe.
pub const LATENCY_TIMER: u16 = 0x0d;
/// Header type, 8 bits: 0 for an endpoint, bit 7 if the device has several functions.
pub const HEADER_TYPE: u16 = 0x0e;
/// Built-in self test, 8 bits.
pub const BIST: u16 = 0x0f;
/// The first of six [base address registers](crate::bar), 32 bits each.
pub const BAR0: u16 = 0x10;
/// Subsystem vendor id, 16 bits.
pub const SUBSYSTEM_VENDOR_ID: u16 = 0x2c;
/// Subsystem id, 16 bits.
pub const SUBSYSTEM_ID: u16 = 0x2e;
/// Expansion ROM base address, 32 bits.
pub const EXPANSION_ROM: u16 = 0x30;
/// Where the list of [capabilities](crate::capability) starts, 8 bits.
pub const CAPABILITIES: u16 = 0x34;
/// Interrupt line, 8 bits; software's own.
pub const INTERRUPT_LINE: u16 = 0x3c;
/// Interrupt pin, 8 bits: 0 for none, 1 to 4 for INTA to INTD.
pub const INTERRUPT_PIN: u16 = 0x3d;

/// Bytes of the header.
pub const SIZE: u16 = 0x40;

/// "Command Register" (PCI 3.0, section 6.2.2).
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct Command {
    /// The function answers at its I/O BARs.
    pub io_space: bool,
    /// The function answers at its memory BARs.
    pub memory_space: bool,
    /// The function may start DMA and message-signalled interrupts.
    pub bus_master: bool,
    #[bits(3)]
    __: u8,
    /// Poisoned data is an error.
    pub parity_error_response: bool,
    __: bool,
    /// Errors are reported to the root complex.
    pub serr: bool,
    __: bool,
    /// The function may not raise INTx.
    pub interrupt_disable: bool,
    #[bits(5)]
    __: u8,
}

/// "Status Register" (PCI 3.0, section 6.2.3). A written 1 clears the error bits.
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct Status {
    #[bits(3)]
    __: u8,
    /// INTx is raised.
    pub interrupt: bool,
    /// There is a list of capabilities; always so on PCIe.
    pub capabilities_list: bool,
    #[bits(3)]
    __: u8,
    /// The function, as master, saw poisoned data.
    pub master_data_parity_error: bool,
    #[bits(2)]
    __: u8,
    /// The function answered with a completer abort.
    pub signaled_target_abort: bool,
    /// The function was answered with a completer abort.
    pub received_target_abort: bool,
    /// The function was answered with an unsupported request.
    pub received_master_abort: bool,
    /// The function reported an error to the root complex.
    pub signaled_system_error: bool,
    /// The function received poisoned data.
    pub detected_parity_error: bool,
}

/// What kind of device this is, 24 bits: `0x058000` is "memory controller, other".
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct ClassCode {
    /// Programming interface.
    pub interface: u8,
    /// Sub-class.
    pub sub: u8,
    /// Base class.
    pub base: u8,
    __: u8,
}

impl ClassCode {
    /// Memory controller, RAM.
    pub const RAM: Self = Self::new().with_base(0x05).with_sub(0x00);
    /// Memory controller, other than RAM or flash.
    pub const OTHER_MEMORY: Self = Self::new().with_base(0x05).with_sub(0x80);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_where_the_specification_puts_them() {
        assert_eq!(u16::from(Command::new().with_memory_space(true).with_bus_master(true)), 0x0006);
        assert_eq!(u16::from(Command::new().with_parity_error_response(true)), 0x0040);
        assert_eq!(u16::from(Command::new().with_serr(true).with_interrupt_disable(true)), 0x0500);
        assert_eq!(u16::from(Status::new().with_interrupt(true).with_capabilities_list(true)), 0x0018);
        assert_eq!(u16::from(Status::new().with_master_data_parity_error(true)), 0x0100);
        assert_eq!(u16::from(Status::new().with_signaled_target_abort(true)), 0x0800);
        assert_eq!(u16::from(Status::new().with_detected_parity_error(true)), 0x8000);
        assert_eq!(u32::from(ClassCode::RAM), 0x05_0000);
        assert_eq!(u32::from(ClassCode::OTHER_MEMORY), 0x05_8000);
    }
}
