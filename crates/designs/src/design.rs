//! What the catalogue says about a design: the words of a boards file as types.

use crate::ids::{CardIds, IdPattern};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Bytes from the registers of one die's SYSMON to those of the next.
pub const SYSMON_DIE: u64 = 0x800;

/// A design: what is loaded into the FPGA of a board, and so what the card has at which BAR and offset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Design {
    /// The design's name, unique in the catalogue.
    pub name: String,
    /// Other names of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// The board that it is for.
    pub board: String,
    /// Vendor and device ids that it is found by; one of them must match.
    pub pci: Vec<IdPattern>,
    /// Subsystem ids that it is found by; without them any will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subsystem: Option<IdPattern>,
    /// PCI revisions that it is found by; without them any will do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revisions: Vec<u8>,
    /// The device id that a build of the design has, where `pci` accepts any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usual_device: Option<u16>,
    /// A word in a register that confirms the design and tells its boards apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_word: Option<IdWord>,
    /// The DMA engine, if the host can use one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dma: Option<Dma>,
    /// The card's memory, if the DMA engine reaches any and no variant says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// What is different on some of the cards; the first that applies counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Variant>,
    /// What else the host can reach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peripherals: Vec<Peripheral>,
    /// The PCIe link at its best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
    /// What a user should know besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Design {
    /// Whether the ids of `card` are those of this design. A design with an [`id_word`](Self::id_word) has to be
    /// confirmed by it.
    #[must_use]
    pub fn matches(&self, card: CardIds) -> bool {
        self.pci.iter().any(|ids| ids.matches(card.vendor, card.device))
            && self.subsystem.is_none_or(|ids| ids.matches(card.subsystem_vendor, card.subsystem_device))
            && (self.revisions.is_empty() || self.revisions.contains(&card.revision))
    }

    /// Whether `name` is its name or one of its aliases.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        self.names().any(|own| own == name)
    }

    /// Its name and then its aliases.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.name).chain(&self.aliases).map(String::as_str)
    }
}

/// Where the word that confirms a design is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdWord {
    /// The BAR that it is in.
    pub bar: u8,
    /// Offset of the word in the BAR, in bytes.
    pub offset: u64,
    /// Offset of the board's version in the same BAR, in bytes, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_offset: Option<u64>,
}

/// A DMA engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dma {
    /// Which IP it is.
    pub ip: DmaIp,
    /// The BAR with its registers.
    pub bar: u8,
    /// Host-to-card channels, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub h2c: Option<u8>,
    /// Card-to-host channels, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub c2h: Option<u8>,
    /// What its channels move, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<Interface>,
    /// Bits of data a clock on the card's side, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u16>,
}

/// The DMA engines that AMD has for PCIe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DmaIp {
    /// DMA/Bridge Subsystem for PCI Express (PG195).
    Xdma,
    /// Queue DMA Subsystem for PCI Express (PG302), which this project knows but does not drive.
    Qdma,
}

/// What a DMA channel moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interface {
    /// To and from addresses on the card.
    MemoryMapped,
    /// Packets.
    Stream,
}

/// Memory on the card that the DMA engine reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Address of its first byte, on the card.
    pub base: u64,
    /// Size in bytes.
    pub size: u64,
}

/// What is different on some cards of a design. All of its conditions must hold, and it has one at least.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Condition: the four characters of the [`IdWord`], the most significant byte first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word: Option<String>,
    /// Condition: the PCI revision is one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revisions: Vec<u8>,
    /// Condition: the XDMA has this many host-to-card channels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub h2c: Option<u8>,
    /// Condition: the XDMA has this many card-to-host channels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub c2h: Option<u8>,
    /// The board, if it is not the design's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub board: Option<String>,
    /// The memory, if it is not the design's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
}

/// A peripheral: a block of registers in a BAR.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peripheral {
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
}

fn is_zero(value: &u8) -> bool {
    *value == 0
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

/// A PCIe link at its best.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Gigatransfers a second on a lane, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gt_per_s: Option<f64>,
    /// Lanes, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lanes: Option<u8>,
}
