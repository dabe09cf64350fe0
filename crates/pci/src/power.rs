//! The power management capability (PCIe 5.0, section 7.5.2).

use bitfield_struct::bitfield;

/// [`PowerCapabilities`], 16 bits.
pub const CAPABILITIES: u16 = 0x02;
/// [`PowerControl`], 16 bits.
pub const CONTROL: u16 = 0x04;
/// Bytes of the capability.
pub const SIZE: u16 = 0x08;

/// "Power Management Capabilities Register".
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct PowerCapabilities {
    /// 3 on every PCIe function.
    #[bits(3)]
    pub version: u8,
    #[bits(6)]
    __: u8,
    /// D1 is supported.
    pub d1: bool,
    /// D2 is supported.
    pub d2: bool,
    /// The states, D0 to D3cold, in which the function can raise PME.
    #[bits(5)]
    pub pme: u8,
}

/// "Power Management Control/Status Register".
#[bitfield(u16)]
#[derive(PartialEq, Eq)]
pub struct PowerControl {
    /// 0 for D0 to 3 for D3hot.
    #[bits(2)]
    pub state: u8,
    __: bool,
    /// The function keeps its state from D3hot to D0.
    pub no_soft_reset: bool,
    #[bits(4)]
    __: u8,
    /// PME may be raised.
    pub pme_enable: bool,
    #[bits(6)]
    __: u8,
    /// PME is raised; a written 1 clears it.
    pub pme_status: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_where_the_specification_puts_them() {
        assert_eq!(u16::from(PowerCapabilities::new().with_version(3).with_d1(true)), 0x0203);
        assert_eq!(u16::from(PowerCapabilities::new().with_pme(1)), 0x0800);
        assert_eq!(u16::from(PowerControl::new().with_state(3).with_no_soft_reset(true)), 0x000b);
        assert_eq!(u16::from(PowerControl::new().with_pme_enable(true).with_pme_status(true)), 0x8100);
    }
}
