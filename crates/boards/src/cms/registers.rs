//! The registers of the card management (PG348, "Register Space").

use bitfield_struct::bitfield;
use jitney_registers::{ReadOnly, ReadWrite, Register};

/// "MB_RESETN_REG".
pub(super) const RESETN: Register<u32, ReadWrite> = Register::new(0x2_0000);
/// The register map.
pub(super) const MAP: u32 = 0x2_8000;
/// Bytes of the register map, the mailbox included.
pub(super) const MAP_SIZE: u32 = 0x2000;

/// "REG_MAP_ID_REG".
pub(super) const ID: Register<u32, ReadOnly> = Register::new(MAP);
/// What that holds: "test".
pub(super) const ID_VALUE: u32 = 0x7473_6574;
/// "FW_VERSION_REG".
pub(super) const FIRMWARE_VERSION: Register<u32, ReadOnly> = Register::new(MAP + 0x004);
/// "PROFILE_NAME_REG": four letters, the most significant byte first.
pub(super) const PROFILE: Register<u32, ReadOnly> = Register::new(MAP + 0x014);
/// "CONTROL_REG".
pub(super) const CONTROL: Register<Control, ReadWrite> = Register::new(MAP + 0x018);
/// "HOST_MSG_OFFSET_REG": where the mailbox is in the map.
pub(super) const MESSAGE_OFFSET: Register<u32, ReadOnly> = Register::new(MAP + 0x300);
/// "HOST_MSG_ERROR_REG".
pub(super) const MESSAGE_ERROR: Register<u32, ReadOnly> = Register::new(MAP + 0x304);
/// "HOST_STATUS2_REG". It is memory: the host can clear it.
pub(super) const STATUS_2: Register<Status2, ReadWrite> = Register::new(MAP + 0x30c);
/// "POWER_GOOD_INS_REG": bit 0 is set if power is bad.
pub(super) const POWER_BAD: Register<u32, ReadOnly> = Register::new(MAP + 0x370);

/// "CONTROL_REG".
#[bitfield(u32)]
pub(super) struct Control {
    pub reset_extremes: bool,
    pub reset_errors: bool,
    #[bits(3)]
    __: u8,
    /// A message waits; the firmware clears it with the answer.
    pub message: bool,
    pub reboot: bool,
    #[bits(19)]
    __: u32,
    /// The signals of the modules can be reached; needed on a U200 and U250.
    pub module_signals: bool,
    pub hbm_temperature: bool,
    #[bits(4)]
    __: u8,
}

/// "HOST_STATUS2_REG".
#[bitfield(u32)]
pub(super) struct Status2 {
    pub ready: bool,
    #[bits(31)]
    __: u32,
}

/// A sensor's three registers.
pub(super) struct Triple {
    pub(super) max: Register<u32, ReadOnly>,
    pub(super) average: Register<u32, ReadOnly>,
    pub(super) now: Register<u32, ReadOnly>,
}

impl Triple {
    pub(super) const fn at(offset: u32) -> Self {
        let max = Register::new(offset);
        Self { max, average: max.nth(1, 4), now: max.nth(2, 4) }
    }
}
