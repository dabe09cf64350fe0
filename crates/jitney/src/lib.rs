//! Several processes drive the same PCIe cards from user space, at the same time and safely.
//!
//! A program opens a [`Bus`], takes a card from it and drives it. Alone it owns the card; started under `jitney run` or
//! beside a broker it shares the card with others. Nothing else in it differs:
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bus = jitney::Bus::open()?; // alone, or under a broker
//! let card = bus.card("10ee:7011")?; // by address or by vendor:device
//! let board = jitney::boards::identify(&card)?; // NiteFury, version 2, 1 GiB
//! let h2c = board.xdma()?.h2c(0)?; // takes the lease, leaves a will
//! let buffer = bus.dma_buffer(1 << 30)?;
//! h2c.write(&buffer, 0)?; // card address 0
//! # Ok(())
//! # }
//! ```
//!
//! # What is where
//! - [`prelude`]: the names that most programs need.
//! - [`Bus`]: cards and DMA memory, whoever owns them; [`find`]: the card that a program means, by its board, its serial number or what it
//!   says; [`Watch`]: cards that arrive and leave.
//! - [`vfio`]: what a card is to a driver ([`vfio::Card`]), BARs, DMA buffers, leases, interrupts; an in-process fake
//!   card for tests of your own driver.
//! - [`xdma`]: the driver for AMD/Xilinx XDMA.
//! - [`nvme`]: a driver for NVMe drives, whose controller several processes share.
//! - [`ring`]: a card's stream for any number of readers in other processes.
//! - [`boards`]: which board it is, and what sits on it.
//! - `emulated`, with the feature `emulator`: emulated boards within this process, for tests of your program.
//! - [`broker`]: for a program that wants to be the owner of cards for others itself.
//!
//! # What it is not for
//! It does not isolate programs that use the same card from each other: an IOMMU knows cards, not processes, and
//! whoever may write a card's registers can make it write to any memory that is mapped for it. docs/limits.md says
//! what that means.

#![forbid(unsafe_code)]

#[cfg(feature = "emulator")]
pub mod emulated;
mod find;
pub mod prelude;

/// The code on a page of docs/ is tested with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/program.md")]
mod page {}

pub use find::{Find, find};
pub use jitney_boards as boards;
pub use jitney_broker as broker;
pub use jitney_broker::{Bus, BusOptions, Change, Watch};
pub use jitney_nvme as nvme;
pub use jitney_ring as ring;
pub use jitney_vfio as vfio;
pub use jitney_xdma as xdma;
