//! The MSI capability (PCIe 5.0, section 7.7.1). Its layout depends on what [`MsiControl`] says.

use bitfield_struct::bitfield;

/// [`MsiControl`], 16 bits.
pub const CONTROL: u16 = 0x02;
/// Message address, bits 31:0.
pub const ADDRESS_LOW: u16 = 0x04;
/// Message address, bits 63:32, with [`MsiControl::wide`] only.
pub const ADDRESS_HIGH: u16 = 0x08;

/// "Message Control Register for MSI".
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct MsiControl {
    /// The function may send messages, and does not raise INTx.
    pub enable: bool,
    /// The vectors that the function wants, as a power of two, at most 5.
    #[bits(3)]
    pub capable_log2: u8,
    /// The vectors that it was given, as a power of two.
    #[bits(3)]
    pub enabled_log2: u8,
    /// The message address has 64 bits.
    pub wide: bool,
    /// There are mask and pending bits for each vector.
    pub maskable: bool,
    #[bits(7)]
    __: u8,
}

impl MsiControl {
    /// Where the message data lies, 16 bits.
    #[must_use]
    pub const fn data(self) -> u16 {
        if self.wide() { 0x0c } else { 0x08 }
    }

    /// Where the mask bits lie, 32 bits, if there are any.
    #[must_use]
    pub const fn mask(self) -> Option<u16> {
        if self.maskable() { Some(self.data() + 4) } else { None }
    }

    /// Where the pending bits lie, 32 bits, if there are any.
    #[must_use]
    pub const fn pending(self) -> Option<u16> {
        if self.maskable() { Some(self.data() + 8) } else { None }
    }

    /// Bytes of the capability; the last two may be padding.
    #[must_use]
    pub const fn size(self) -> u16 {
        self.data() + if self.maskable() { 12 } else { 4 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_follows_the_control_word() {
        let narrow = MsiControl::new();
        assert_eq!((narrow.data(), narrow.mask(), narrow.pending(), narrow.size()), (0x08, None, None, 0x0c));
        let full = narrow.with_wide(true).with_maskable(true);
        assert_eq!(
            (full.data(), full.mask(), full.pending(), full.size()),
            (0x0c, Some(0x10), Some(0x14), 0x18)
        );
    }

    #[test]
    fn bits_are_where_the_specification_puts_them() {
        let control = MsiControl::new().with_enable(true).with_capable_log2(5).with_enabled_log2(1);
        assert_eq!(u16::from(control), 0x001b);
        assert_eq!(u16::from(MsiControl::new().with_wide(true).with_maskable(true)), 0x0180);
    }
}
