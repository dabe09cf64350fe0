//! The MSI-X capability (PCIe 5.0, section 7.7.2), and the table that it points to.

use bitfield_struct::bitfield;

/// [`MsixControl`], 16 bits.
pub const CONTROL: u16 = 0x02;
/// Where the table is: [`MsixPointer`], 32 bits.
pub const TABLE: u16 = 0x04;
/// Where the pending bits are: [`MsixPointer`], 32 bits.
pub const PENDING: u16 = 0x08;
/// Bytes of the capability.
pub const SIZE: u16 = 0x0c;

/// Bytes of an entry of the table.
pub const ENTRY_SIZE: u64 = 16;
/// Message address, bits 31:0, from the start of an entry.
pub const ENTRY_ADDRESS_LOW: u64 = 0x0;
/// Message address, bits 63:32.
pub const ENTRY_ADDRESS_HIGH: u64 = 0x4;
/// Message data.
pub const ENTRY_DATA: u64 = 0x8;
/// Vector control: bit 0 masks the vector, and is set after reset.
pub const ENTRY_CONTROL: u64 = 0xc;

/// "Message Control Register for MSI-X".
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct MsixControl {
    /// Entries of the table, less one. Read only.
    #[bits(11)]
    pub last_vector: u16,
    #[bits(3)]
    __: u8,
    /// All vectors are masked.
    pub function_mask: bool,
    /// The function may send messages, and does not raise INTx.
    pub enable: bool,
}

impl MsixControl {
    /// Entries of the table, 1 to 2048.
    #[must_use]
    pub const fn vectors(self) -> u16 {
        self.last_vector() + 1
    }
}

/// A place in a BAR: "Table Offset/Table BIR" and "PBA Offset/PBA BIR".
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct MsixPointer {
    /// The BAR; 6 and 7 are reserved.
    #[bits(3)]
    pub bar: u8,
    /// Where in it, in units of eight bytes; see [`offset`](Self::offset).
    #[bits(29)]
    pub offset_words: u32,
}

impl MsixPointer {
    /// A place in BAR `bar`, `offset` bytes from its start, rounded down to a multiple of eight.
    #[must_use]
    pub const fn at(bar: u8, offset: u32) -> Self {
        Self::from_bits(offset & !7 | (bar & 7) as u32)
    }

    /// Where in the BAR, in bytes.
    #[must_use]
    pub const fn offset(self) -> u64 {
        self.offset_words() as u64 * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capability_of_an_xdma() {
        let control = MsixControl::new().with_last_vector(31);
        assert_eq!((u16::from(control), control.vectors()), (0x001f, 32));
        assert_eq!(u16::from(MsixControl::new().with_enable(true).with_function_mask(true)), 0xc000);
        let pending = MsixPointer::at(2, 0x8fe0);
        assert_eq!((u32::from(pending), pending.bar(), pending.offset()), (0x8fe2, 2, 0x8fe0));
    }

    #[test]
    fn extremes_fit() {
        assert_eq!(MsixControl::from(u16::MAX).vectors(), 2048);
        assert_eq!(MsixPointer::from(u32::MAX).offset(), 0xffff_fff8);
    }
}
