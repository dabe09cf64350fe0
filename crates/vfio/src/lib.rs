//! One safe interface to a PCIe card and its address space, over every VFIO transport.

#![forbid(unsafe_code)]

mod address;
mod address_space;
mod buffers;
mod card;
mod device;
mod dma;
mod error;
mod fake;
mod grant;
mod interrupt;
mod keeper;
mod lease;
mod open;
mod opened;
mod owned;
mod owner;
mod region;
mod transport;
pub mod user;

pub use address::CardAddress;
pub use address_space::AddressSpace;
pub use card::{BarInfo, Card, Identity};
pub use device::{CONFIG_REGION, Device};
pub use dma::{DmaBuffer, DmaPlace, DmaRequest};
pub use error::{Error, ErrorKind, Result};
pub use fake::{FakeBar, FakeBuilder, FakeCard, FakeHost};
pub use grant::Grant;
pub use interrupt::Interrupt;
pub use keeper::{Handed, Keeper};
pub use lease::{Granted, Lease, LeaseId, LeaseRequest, LeaseTable, Mode, Part, RegisterWrite, Will};
pub use open::{open, open_all};
pub use opened::OpenedCard;
pub use owned::OwnedCard;
pub use owner::Owner;
pub use region::{Region, Trap};
pub use transport::{InterruptKind, Mapper, RegionInfo, Transport};
