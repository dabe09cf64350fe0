//! One safe interface to a PCIe card and its address space, over every VFIO transport.
//!
//! A driver in user space needs of a card: its registers, memory that both see, interrupts, and to know that nobody else
//! interferes. That is the trait [`Card`]. A driver takes `&dyn Card` or `Arc<dyn Card>`, and nothing in it tells how
//! the card is reached, whether other processes use it too, or whether there is a card at all:
//!
//! | A `Card` | is for |
//! |---|---|
//! | [`OwnedCard`] | a process that owns its cards alone, through [`Owner`] |
//! | the broker's client (crate `jitney-broker`) | one of several processes that share cards |
//! | [`FakeCard`] | tests of a driver without a card; see [`fake`] |
//!
//! A first program; the process that emulates the card listens on the socket:
//!
//! ```no_run
//! use jitney_vfio::{Card, CardAddress, DmaRequest, Owner};
//!
//! # fn main() -> jitney_vfio::Result<()> {
//! let address: CardAddress = "vfio-user:/run/board.sock".parse()?;
//! let owner = Owner::open(&[address])?;
//! let card = &owner.cards()[0];
//! println!("{} has BAR 0 of {:#x} bytes", card.identity(), card.bars()[0].size);
//!
//! let registers = card.bar(0)?;
//! println!("the first register says {:#x}", registers.read32(0)?);
//!
//! let buffer = card.dma_buffer(DmaRequest::new(1 << 20))?;
//! buffer.write(0, b"for the card to read")?;
//! println!("the card sees it at {:#x}", buffer.iova());
//! # Ok(())
//! # }
//! ```
//!
//! # How a card is reached
//!
//! A [`Transport`] reaches one card, a [`Mapper`] maps memory for it; [`open`] makes both for a [`CardAddress`]. In this
//! version there is one: **vfio-user** ([`user`]), the socket of a process that emulates a card, in the protocol that
//! QEMU speaks too. The two interfaces of the Linux kernel, by group and container (`/dev/vfio/86`) and by device and
//! iommufd (`/dev/vfio/devices/vfio0`), come next; until then a PCI address is refused. [`sysfs`] lists the cards that
//! the machine has.
//!
//! # What to know
//!
//! - **A register access can fail**, if only because the process behind a socket is gone, so each returns a `Result`. On
//!   a BAR that is mapped it is one load or store.
//! - **All-ones is no value**: it is what a card reads as whose link is down or that was reset.
//! - **DMA memory is never a slice.** Cards and other processes may write to it at any time; see [`DmaBuffer`].
//! - **Errors** name the card, the range or the holder, the errno, and where there is one the remedy; see [`Error`].
//!   Nothing here prints, and nothing panics on what a peer or the user chose.
//! - What cannot be reported, as a failure in a destructor, is a [`tracing`] event.

#![forbid(unsafe_code)]

mod address;
mod address_space;
mod buffers;
mod card;
mod device;
mod dma;
mod error;
pub mod fake;
mod grant;
mod interrupt;
mod keeper;
mod lease;
mod open;
mod opened;
mod owned;
mod owner;
mod region;
pub mod sysfs;
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
