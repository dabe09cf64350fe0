//! What a boards file says about a peripheral.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A peripheral: a block of registers in a BAR.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peripheral {
    /// What it is called, if that says more than its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is.
    pub kind: Kind,
    /// The BAR that it is in.
    pub bar: u8,
    /// Offset of its frame in the BAR, in bytes.
    pub offset: u64,
    /// Size of its frame in bytes.
    #[serde(default = "Peripheral::frame", skip_serializing_if = "Peripheral::is_frame")]
    pub size: u64,
    /// The PCI revision from which on it is there.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub from_revision: u8,
    /// A stream switch's ports on either side.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ports: u8,
    /// A SYSMON's slaves: one for each further die of the FPGA.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub slaves: u8,
    /// What its registers hold when nobody has written them: an AXI GPIO's inputs (channel 1, then 2), the time stamp
    /// of a user-access, the three words of a DNA, of peripherals that are known by name only the first registers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<u32>,
    /// What the pins of an AXI GPIO's channels are built as; both ways if nothing is said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<Pins>,
    /// The flash on the bus of a quad-spi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flash: Option<Flash>,
    /// The version of the board ([`IdWord::version_offset`](crate::IdWord::version_offset)) from which on an XADC
    /// runs its sequencer. Before that it converts the temperature alone.
    #[serde(default, skip_serializing_if = "is_zero_32")]
    pub sequencer_from_version: u32,
    /// The devices on the bus of an I2C master.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub i2c: Vec<I2cDevice>,
    /// The LEDs that pins of an AXI GPIO drive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leds: Vec<Led>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Peripheral {
    /// The frame that most AXI-Lite peripherals decode: 4 KiB.
    const fn frame() -> u64 {
        0x1000
    }

    fn is_frame(size: &u64) -> bool {
        *size == Self::frame()
    }

    /// Whether the byte at `offset` of BAR `bar` is in its frame.
    #[must_use]
    pub fn contains(&self, bar: u8, offset: u64) -> bool {
        self.bar == bar && offset >= self.offset && offset - self.offset < self.size
    }
}

/// What each of a card's peripherals is called: the name in the boards file, else its kind, with a number if there are several of
/// that.
#[must_use]
pub fn names_of(peripherals: &[&Peripheral]) -> Vec<String> {
    let same = |kind: Kind| peripherals.iter().filter(move |other| other.kind == kind);
    let name = |(index, what): (usize, &&Peripheral)| match &what.name {
        Some(name) => name.clone(),
        None if same(what.kind).count() == 1 => what.kind.to_string(),
        None => {
            let number = peripherals[..index].iter().filter(|other| other.kind == what.kind).count();
            format!("{}{number}", what.kind)
        }
    };
    peripherals.iter().enumerate().map(name).collect()
}

fn is_zero(value: &u8) -> bool {
    *value == 0
}

fn is_zero_32(value: &u32) -> bool {
    *value == 0
}

/// A device on an I2C bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct I2cDevice {
    /// Its address, 7 bits: 0x08 to 0x77.
    pub address: u8,
    /// What it is.
    pub device: I2cKind,
    /// What the outputs of a regulator are set to, in millivolts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub millivolts: Vec<u16>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl I2cDevice {
    /// Whether a device can have this address; the others are reserved (I2C-bus specification, "Reserved addresses").
    #[must_use]
    pub const fn is_address(address: u8) -> bool {
        address >= 0x08 && address <= 0x77
    }
}

/// What a device on an I2C bus is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum I2cKind {
    /// The EEPROM of a DDR3 module, which says what it is (JEDEC 21-C, annex K).
    SpdDdr3,
    /// An EEPROM of 256 bytes, as 24C02.
    #[serde(rename = "24c02")]
    Eeprom24c02,
    /// An EEPROM of 4 KiB, whose addresses have two bytes, as 24C32.
    #[serde(rename = "24c32")]
    Eeprom24c32,
    /// A regulator with two outputs that speaks PMBus.
    Ltm4676a,
    /// Something else; the note says what.
    Other,
}

impl I2cKind {
    /// How many outputs it has.
    pub(crate) const fn outputs(self) -> usize {
        match self {
            Self::Ltm4676a => 2,
            Self::SpdDdr3 | Self::Eeprom24c02 | Self::Eeprom24c32 | Self::Other => 0,
        }
    }
}

/// Writes the kind as in a boards file: `spd-ddr3`.
impl fmt::Display for I2cKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::SpdDdr3 => "spd-ddr3",
            Self::Eeprom24c02 => "24c02",
            Self::Eeprom24c32 => "24c32",
            Self::Ltm4676a => "ltm4676a",
            Self::Other => "other",
        })
    }
}

/// An LED that a pin of an AXI GPIO drives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Led {
    /// The channel of the GPIO, 1 or 2.
    pub channel: u8,
    /// The pin, 0 to 31.
    pub bit: u8,
    /// Where it is on the board.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What the pins of a channel of an AXI GPIO were built as (PG144, "All Inputs", "All Outputs").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pins {
    /// Inputs only.
    Inputs,
    /// Outputs only.
    Outputs,
    /// Each is what software makes it.
    Both,
}

/// A serial NOR flash that holds the configuration of an FPGA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Flash {
    /// Spansion S25FL256S with sectors of 64 KiB: 32 MiB.
    S25fl256s,
    /// Micron N25Q256A: 32 MiB.
    N25q256a,
    /// Micron MT25QU256: 32 MiB.
    Mt25qu256,
    /// Micron MT25QU01G, two dies: 128 MiB.
    Mt25qu01g,
    /// Macronix MX25L12835F: 16 MiB.
    Mx25l12835f,
}

impl Flash {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::S25fl256s, Self::N25q256a, Self::Mt25qu256, Self::Mt25qu01g, Self::Mx25l12835f];

    /// How many bytes it holds.
    #[must_use]
    pub const fn size(self) -> u32 {
        match self {
            Self::S25fl256s | Self::N25q256a | Self::Mt25qu256 => 32 << 20,
            Self::Mt25qu01g => 128 << 20,
            Self::Mx25l12835f => 16 << 20,
        }
    }
}

/// Writes the part as in a boards file: `s25fl256s`.
impl fmt::Display for Flash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::S25fl256s => "s25fl256s",
            Self::N25q256a => "n25q256a",
            Self::Mt25qu256 => "mt25qu256",
            Self::Mt25qu01g => "mt25qu01g",
            Self::Mx25l12835f => "mx25l12835f",
        })
    }
}

/// What a peripheral is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Kind {
    /// General purpose inputs and outputs (PG144).
    AxiGpio,
    /// Temperature and voltages of a 7-series FPGA (PG091).
    Xadc,
    /// Temperature and voltages of an UltraScale FPGA (PG185).
    Sysmon,
    /// SPI master with the configuration flash (PG153).
    QuadSpi,
    /// I2C master (PG090).
    Iic,
    /// The time of the build, in a GPIO.
    UserAccess,
    /// Reset and state of the DDR controller, in a GPIO.
    DdrStatus,
    /// The FPGA's unique number, in a GPIO.
    Dna,
    /// Routes between streams (PG085).
    StreamSwitch,
    /// 100G Ethernet of UltraScale+ (PG203).
    Cmac,
    /// Ethernet of Versal (PG314).
    Mrmac,
    /// The Alveo card management (PG348).
    Cms,
    /// Dynamic reconfiguration ports of transceivers.
    Drp,
    /// Serial port (PG142).
    Uart,
    /// Plain memory.
    Ram,
    /// Something of the user's own; the note says what.
    Other,
}

impl Kind {
    /// Whether what its registers mean is known here, so that they cannot hold just anything. Of the rest only the
    /// name is.
    #[must_use]
    pub fn has_own_registers(self) -> bool {
        match self {
            Self::AxiGpio
            | Self::Xadc
            | Self::Sysmon
            | Self::QuadSpi
            | Self::UserAccess
            | Self::DdrStatus
            | Self::Dna
            | Self::StreamSwitch
            | Self::Iic
            | Self::Cmac
            | Self::Cms => true,
            Self::Mrmac | Self::Drp | Self::Uart | Self::Ram | Self::Other => false,
        }
    }

    /// How many words a boards file can say of one that has `size` bytes.
    pub(crate) fn words(self, size: u64) -> u64 {
        match self {
            Self::AxiGpio => 2,
            Self::UserAccess => 1,
            Self::Dna => 3,
            own if own.has_own_registers() => 0,
            _ => size / 4,
        }
    }
}

/// Writes the kind as in a boards file: `axi-gpio`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::AxiGpio => "axi-gpio",
            Self::Xadc => "xadc",
            Self::Sysmon => "sysmon",
            Self::QuadSpi => "quad-spi",
            Self::Iic => "iic",
            Self::UserAccess => "user-access",
            Self::DdrStatus => "ddr-status",
            Self::Dna => "dna",
            Self::StreamSwitch => "stream-switch",
            Self::Cmac => "cmac",
            Self::Mrmac => "mrmac",
            Self::Cms => "cms",
            Self::Drp => "drp",
            Self::Uart => "uart",
            Self::Ram => "ram",
            Self::Other => "other",
        })
    }
}
