//! FPGA designs as a file describes them: what a card has at which BAR and offset.
//!
//! A [`Design`] is what is loaded into the FPGA of a board. The [`Catalogue`] has those that come with the crate and
//! those of the user's own files; [`catalogue`] explains the format.
//!
//! ```
//! use jitney_designs::{CardIds, Catalogue};
//!
//! let catalogue = Catalogue::built_in();
//! let ids = CardIds { vendor: 0x10ee, device: 0x7024, subsystem_vendor: 2, subsystem_device: 6, revision: 0 };
//! let design = catalogue.designs().find(|design| design.matches(ids)).unwrap();
//! assert_eq!(design.name, "NiteFury_dma_ddr3");
//! ```
//!
//! # What it is not for
//! It opens no card and knows of no driver: it says what should be there. Identification of a card and drivers for its
//! peripherals are elsewhere, and so are models of them.
//!
//! # Limits
//! The entries come from the designs' sources and from notes about them; none was checked on hardware by this project
//! so far.

#![forbid(unsafe_code)]

mod bars;
pub mod catalogue;
mod check;
mod design;
mod dma;
mod error;
mod file;
mod ids;
mod memory;
mod peripheral;
mod place;
mod user_files;

pub use bars::{Bar, BarShape};
pub use catalogue::{Catalogue, Known};
pub use design::{Design, Facts, IdWord, Interrupt, Link, Programmer, SYSMON_DIE, Variant};
pub use dma::{Bypass, Dma, DmaIp, Interface, Stream};
pub use error::{Error, Result};
pub use file::BadFile;
pub use ids::{CardIds, IdPattern};
pub use memory::{Memory, MemoryKind};
pub use peripheral::{Flash, I2cDevice, I2cKind, Kind, Led, Peripheral, Pins, names_of};
