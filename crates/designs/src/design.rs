//! What the catalogue says about a design: the words of a boards file as types.

use crate::bars::BarShape;
use crate::dma::{Dma, DmaIp};
use crate::ids::{CardIds, IdPattern};
use crate::memory::{Memory, one_or_many};
use crate::peripheral::Peripheral;
use serde::{Deserialize, Serialize};

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
    /// The FPGA that it is built for, as `XC7A200T`; several where boards of that name have one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fpga: Vec<String>,
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
    /// The revision that a build of the design has, where others are possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usual_revision: Option<u8>,
    /// PCI class code: base class, sub-class and programming interface. Memory controller, RAM, if nothing is said.
    #[serde(default = "Design::usual_class", skip_serializing_if = "Design::is_usual_class")]
    pub class: u32,
    /// The device serial number, if it has that capability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<u64>,
    /// How it can interrupt; if nothing is said, an XDMA in all ways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interrupts: Option<Vec<Interrupt>>,
    /// A word in a register that confirms the design and tells its boards apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id_word: Option<IdWord>,
    /// The DMA engine, if the host can use one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dma: Option<Dma>,
    /// The card's memories, if the DMA engine reaches any and no variant says otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "one_or_many")]
    pub memory: Vec<Memory>,
    /// What its BARs are, where that does not follow from what is in them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bars: Vec<BarShape>,
    /// What is different on some of the cards; the first that applies counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Variant>,
    /// What else the host can reach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peripherals: Vec<Peripheral>,
    /// The PCIe link at its best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
    /// By what a programmer reaches the board.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub programmer: Option<Programmer>,
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

    /// Its name, then its aliases and the names of its variants.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let variants = self.variants.iter().filter_map(|variant| variant.name.as_ref());
        std::iter::once(&self.name).chain(&self.aliases).chain(variants).map(String::as_str)
    }

    /// Whether a card with this design may be meant by `name`, in upper or lower case: the design's name, an alias, or the name or
    /// board of one of its variants. Which of these a card is, it has to say itself.
    #[must_use]
    pub fn may_be_called(&self, name: &str) -> bool {
        let variants = self.variants.iter().filter_map(|variant| variant.board.as_deref());
        let mut names = self.names().chain(variants).chain([self.board.as_str()]);
        names.any(|own| own.eq_ignore_ascii_case(name))
    }

    /// The variant that a card is of which this is known; the first that applies.
    #[must_use]
    pub fn variant(&self, facts: &Facts) -> Option<&Variant> {
        self.variants.iter().find(|variant| facts.fit(variant))
    }

    /// Whether the host can use an XDMA in it.
    #[must_use]
    pub fn has_xdma(&self) -> bool {
        self.dma.is_some_and(|dma| dma.ip == DmaIp::Xdma)
    }

    /// The FPGAs that a card of `variant` may have; none if that is not known.
    #[must_use]
    pub fn fpga_of<'a>(&'a self, variant: Option<&'a Variant>) -> &'a [String] {
        variant.map(|variant| &variant.fpga).filter(|fpga| !fpga.is_empty()).unwrap_or(&self.fpga)
    }

    /// The memories of a card of `variant`.
    #[must_use]
    pub fn memory_of<'a>(&'a self, variant: Option<&'a Variant>) -> &'a [Memory] {
        variant.map(|variant| &variant.memory).filter(|memory| !memory.is_empty()).unwrap_or(&self.memory)
    }

    /// The board that a card of `variant` is.
    #[must_use]
    pub fn board_of<'a>(&'a self, variant: Option<&'a Variant>) -> &'a str {
        variant.and_then(|variant| variant.board.as_ref()).unwrap_or(&self.board)
    }

    /// How it can interrupt.
    #[must_use]
    pub fn interrupts(&self) -> &[Interrupt] {
        match &self.interrupts {
            Some(said) => said,
            None if self.has_xdma() => &Interrupt::ALL,
            None => &[],
        }
    }

    const fn usual_class() -> u32 {
        0x05_0000
    }

    fn is_usual_class(class: &u32) -> bool {
        *class == Self::usual_class()
    }
}

fn is_zero_32(value: &u32) -> bool {
    *value == 0
}

/// A way in which a card interrupts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Interrupt {
    /// Messages, with a table.
    #[serde(rename = "msi-x")]
    MsiX,
    /// Messages.
    #[serde(rename = "msi")]
    Msi,
    /// One level-triggered line.
    #[serde(rename = "intx")]
    Intx,
}

impl Interrupt {
    /// All ways, the most capable first.
    pub const ALL: [Self; 3] = [Self::MsiX, Self::Msi, Self::Intx];
}

/// What is known of a card that tells the variants of its design apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// What its id word reads, if the design has one.
    pub word: Option<u32>,
    /// Channels of its XDMA, H2C and C2H, if they are known.
    pub channels: Option<[u8; 2]>,
    /// Its PCI revision.
    pub revision: u8,
}

impl Facts {
    /// Whether all conditions of `variant` hold.
    fn fit(&self, variant: &Variant) -> bool {
        let word =
            |expected: &String| self.word.is_some_and(|word| word.to_be_bytes() == *expected.as_bytes());
        let channels = |expected: Option<u8>, direction: usize| {
            expected.is_none_or(|expected| self.channels.is_some_and(|is| is[direction] == expected))
        };
        variant.word.as_ref().is_none_or(word)
            && (variant.revisions.is_empty() || variant.revisions.contains(&self.revision))
            && channels(variant.h2c, 0)
            && channels(variant.c2h, 1)
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
    /// The version that boards usually have.
    #[serde(default, skip_serializing_if = "is_zero_32")]
    pub usual_version: u32,
}

/// What is different on some cards of a design. All of its conditions must hold, and it has one at least.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// What an emulated card of this variant is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
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
    /// The FPGA, if it is not the design's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fpga: Vec<String>,
    /// The memories, if they are not the design's.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "one_or_many")]
    pub memory: Vec<Memory>,
}

/// By what a programmer reaches a board, in the words of openFPGALoader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Programmer {
    /// The cable between them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cable: Option<String>,
    /// The board, if it is one that the programmer knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub board: Option<String>,
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
