//! AMD/Xilinx XDMA as types: what [PG195] ("DMA/Bridge Subsystem for PCI Express", v4.1) says about the registers in
//! the DMA BAR and about the structures in host memory, and nothing about who uses it. The driver and the emulated
//! card both build on this crate, so they share layouts and never behaviour.
//!
//! The DMA BAR is divided into blocks ([`Submodule`]) of 4 KiB, some of which hold up to four channels 256 bytes apart:
//!
//! | Block | Base | Module |
//! |---|---|---|
//! | H2C and C2H channels | 0x0000, 0x1000 | [`channel`] |
//! | IRQ block | 0x2000 | [`irq`] |
//! | Config block | 0x3000 | [`config`] |
//! | H2C and C2H SGDMA | 0x4000, 0x5000 | [`sgdma`] |
//! | SGDMA common | 0x6000 | [`sgdma::common`] |
//! | MSI-X table and pending bits | 0x8000 | [`irq`] |
//!
//! Host memory holds [`Descriptor`]s, [`Writeback`] words and, for a stream from the card, a [`StreamSlot`] per
//! descriptor.
//!
//! ```
//! use jitney_xdma_spec::{Direction, block, channel};
//!
//! let c2h1 = block::offset(Direction::CardToHost.channel_block(), 1);
//! assert_eq!(c2h1 + u64::from(channel::STATUS.offset()), 0x1140);
//! ```
//!
//! Registers reset to zero unless their documentation says otherwise.
//!
//! [PG195]: https://docs.amd.com/r/en-US/pg195-pcie-dma

#![forbid(unsafe_code)]

pub mod block;
pub mod channel;
pub mod config;
pub mod descriptor;
pub mod identifier;
pub mod irq;
pub mod sgdma;
pub mod status;
pub mod writeback;

pub use block::{DMA_BAR_SIZE, Direction, Location, MAX_CHANNELS, Submodule};
pub use channel::{Alignments, ChannelControl, InterruptEnable, PerformanceControl};
pub use descriptor::{Descriptor, DescriptorControl};
pub use identifier::Identifier;
pub use irq::{PackedChannels, VectorNumbers};
pub use sgdma::ChannelSet;
pub use status::ChannelStatus;
pub use writeback::{StreamSlot, StreamStatus, Writeback};
