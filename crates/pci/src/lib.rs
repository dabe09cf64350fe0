//! PCI configuration space as types, for those who read it and for those who build one. No I/O: the reader hands in a
//! [`ConfigRead`].
//!
//! | Module | Holds | Source |
//! |---|---|---|
//! | [`header`] | the type 0 header | PCI 3.0, section 6.1 |
//! | [`bar`] | base address registers | PCI 3.0, section 6.2.5 |
//! | [`capability`] | the two lists of capabilities, walked without trust | PCI 3.0, section 6.7; PCIe 5.0, section 7.6 |
//! | [`power`], [`msi`], [`msix`], [`express`], [`serial`] | the capabilities themselves | PCIe 5.0, sections 7.5.2, 7.7.1, 7.7.2, 7.5.3, 7.9.3 |
//!
//! Offsets are in bytes: in [`header`] from the start of configuration space, in a capability's module from the start
//! of that capability. All values are little endian.
//!
//! ```
//! use jitney_pci::{Address, ConfigRead, capability, express, header};
//!
//! let mut config = [0u8; 4096];
//! config[usize::from(header::STATUS)] = 1 << 4; // there is a list of capabilities,
//! config[usize::from(header::CAPABILITIES)] = 0x40; // it starts here,
//! config[0x40] = capability::EXPRESS; // with the one that every PCIe function has
//! config[0x52] = 0x42;
//!
//! let found = capability::find(&config[..], capability::EXPRESS)?.expect("a PCIe function");
//! let status = express::LinkStatus::from(config[..].read16(found + express::LINK_STATUS)?);
//! assert_eq!(status.link().to_string(), "5 GT/s x4");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod address;
pub mod bar;
pub mod capability;
pub mod config;
pub mod express;
pub mod header;
pub mod msi;
pub mod msix;
pub mod power;
pub mod serial;

pub use address::{Address, Id, ParseError};
pub use bar::{Bar, BarKind};
pub use capability::{Capability, CapabilityError, ExtendedCapability};
pub use config::ConfigRead;
pub use express::Link;
pub use serial::SerialNumber;
