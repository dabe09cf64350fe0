//! What a boards file says about a DMA engine.

use serde::{Deserialize, Serialize};

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
    /// Bits of data a clock on the card's side, where known: 64, 128, 256 or 512.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u16>,
    /// How the streams are joined on the card where no stream switch does it; of an XDMA with streams only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<Stream>,
    /// User interrupts of an XDMA, 0 to 16; 16 if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_interrupts: Option<u8>,
    /// A BAR through which the host reaches the card's memory without DMA (PG195, "PCIe to DMA Bypass").
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bypass: Option<Bypass>,
}

impl Dma {
    /// Whether BAR `bar` is its own: its registers or its window onto the card's memory.
    #[must_use]
    pub fn uses(&self, bar: u8) -> bool {
        self.bar == bar || self.bypass.is_some_and(|bypass| bypass.bar == bar)
    }

    /// How many user interrupts it has.
    #[must_use]
    pub fn user_interrupts(&self) -> u8 {
        if self.ip == DmaIp::Xdma { self.user_interrupts.unwrap_or(16) } else { 0 }
    }

    /// Whether it is an XDMA whose channels move packets.
    #[must_use]
    pub fn has_streams(&self) -> bool {
        self.ip == DmaIp::Xdma && self.interface == Some(Interface::Stream)
    }
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

/// What becomes of the packets of an XDMA's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    /// Each H2C channel goes to the C2H channel of the same number.
    Loopback,
    /// H2C 0 goes to C2H 1 and H2C 1 to C2H 0; likewise 2 and 3.
    Crossed,
    /// C2H always delivers constant data, H2C swallows everything.
    FixedData,
    /// Each packet on an H2C channel gives its CRC64 on the C2H channel of the same number.
    Crc64,
    /// H2C swallows everything, C2H delivers nothing.
    None,
}

/// A window of a BAR onto the card's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bypass {
    /// The BAR that it is.
    pub bar: u8,
    /// The card address of its first byte; without it, that of the design's first memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<u64>,
    /// Its size in bytes, a power of two; without it, that of the design's first memory, rounded up to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}
