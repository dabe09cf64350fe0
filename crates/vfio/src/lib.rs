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
//! A [`Transport`] reaches one card, a [`Mapper`] maps memory for it; [`open`] makes both for a [`CardAddress`]. There are
//! four ways, and everything above them is the same:
//!
//! | Address | Way | What this process opens |
//! |---|---|---|
//! | `0000:2e:00.0` | the kernel's VFIO, by group and container (type1) | `/dev/vfio/vfio`, `/dev/vfio/86` |
//! | `0000:2e:00.0` | the kernel's VFIO, by device and iommufd, where the kernel has it | `/dev/iommu`, `/dev/vfio/devices/vfio0` |
//! | `0000:2e:00.0` | the kernel's VFIO without an IOMMU: **unsafe**, only [by name](IommuInterface::NoIommu) | `/dev/vfio/vfio`, `/dev/vfio/noiommu-0` |
//! | `vfio-user:/run/board.sock` | **vfio-user** ([`user`]), as QEMU speaks it: a process emulates the card | the socket |
//!
//! Which of the kernel's is used is decided when cards are opened: [`open_all_with`], [`choose_interface`].
//! [`sysfs`] lists the cards that the machine has, [`holders`] tells which process has one.
//!
//! # A card in this machine
//!
//! 1. **The IOMMU is on**: in the BIOS (VT-d, AMD-Vi) and, on Intel, on the kernel's command line (`intel_iommu=on`). It
//!    confines the card's DMA to the memory that was mapped for it. Then `/sys/kernel/iommu_groups` is not empty.
//! 2. **The card is bound to `vfio-pci`**. `jitney bind 0000:2e:00.0` does it, or by hand as root:
//!    ```text
//!    modprobe vfio-pci
//!    echo vfio-pci > /sys/bus/pci/devices/0000:2e:00.0/driver_override
//!    echo 0000:2e:00.0 > /sys/bus/pci/drivers_probe
//!    ```
//! 3. **Its whole IOMMU group is**: what the IOMMU cannot tell apart can be handed out only together. Opening a group that
//!    holds another driver's device fails and names it; another slot of the machine may have a group of its own.
//! 4. **The user may open the nodes.** They belong to root at first. One udev rule gives them to the group `vfio` for good
//!    (`/etc/udev/rules.d/70-vfio.rules`, then `udevadm trigger`):
//!    ```text
//!    SUBSYSTEM=="vfio|vfio-dev|misc", KERNEL=="[0-9]*|vfio[0-9]*|iommu", GROUP="vfio", MODE="0660"
//!    ```
//! 5. **The user may lock memory**: what a card may reach is pinned, and counts against `RLIMIT_MEMLOCK` of the process that
//!    maps it (`LimitMEMLOCK=infinity` in a service, `@vfio - memlock unlimited` in `/etc/security/limits.conf`).
//!
//! Clients of a broker (crate `jitney-broker`) need neither 4 nor 5.
//!
//! On a machine without an IOMMU no card is opened unless [`IommuInterface::NoIommu`] is asked for. Then point 1 is
//! `enable_unsafe_noiommu_mode` of the module `vfio`, 3 and 4 are root's (CAP_SYS_RAWIO, CAP_SYS_ADMIN), and in place of 5
//! huge pages have to be reserved: an IOVA is a physical address, and buffers are made where they can be in one piece. A
//! card, and whoever drives it, can then overwrite all of the machine's memory.
//!
//! Two examples drive cards of QEMU's with nothing but this crate: `edu` its teaching device, `nvme_identify` an NVMe.
//!
//! # What to know
//!
//! - **A register access can fail**, if only because the process behind a socket is gone, so each returns a `Result`. On
//!   a BAR that is mapped it is one load or store.
//! - **All-ones is no value**: it is what a card reads as whose link is down or that was reset.
//! - **A card can be wanted back**, because it is unplugged, and that waits until every process has let go of it. A driver looks
//!   while it waits for the card, and ends: [`Card::notices`].
//! - **DMA memory is never a slice.** Cards and other processes may write to it at any time; see [`DmaBuffer`]; unless there is one handle of it and no transfer, see [`OwnBuffer`].
//! - **Errors** name the card, the range or the holder, the errno, and where there is one the remedy; see [`Error`].
//!   Nothing here prints, and nothing panics on what a peer or the user chose.
//! - What cannot be reported, as a failure in a destructor, is a [`tracing`] event.

mod address;
mod address_space;
mod buffers;
mod card;
mod choice;
mod device;
mod dma;
mod dma_view;
mod error;
pub mod fake;
mod grant;
pub mod holders;
mod identity;
mod interrupt;
mod keeper;
mod kernel;
mod lease;
mod leased;
mod notices;
mod open;
mod opened;
mod own_buffer;
mod owned;
mod owner;
mod record;
mod region;
mod resume;
mod running_will;
mod serial;
mod shared_interrupt;
mod still_used;
pub mod sysfs;
mod tally;
mod transport;
mod trust;
pub mod user;
#[cfg(feature = "async")]
mod watched;
mod will;

pub use address::CardAddress;
pub use address_space::{AddressSpace, NotMapped};
pub use card::Card;
pub use choice::{Choice, IommuInterface, choose_interface};
pub use device::{CONFIG_REGION, Device};
pub use dma::{DmaBuffer, DmaPlace, DmaRequest};
pub use dma_view::DmaView;
pub use error::{Error, ErrorKind, Result};
pub use fake::{FakeBar, FakeBuilder, FakeCard, FakeHost};
pub use grant::Grant;
pub use identity::{BarInfo, Identity};
pub use interrupt::Interrupt;
pub use jitney_pci::SerialNumber;
pub use keeper::{Handed, Keeper};
pub use lease::{Granted, LeaseId, LeaseRequest, LeaseTable, Mode, Part};
pub use leased::Lease;
pub use notices::{Notice, NoticeSource, Notices};
pub use open::{OpenOptions, OpenedSpace, open, open_all, open_all_with, open_connected};
pub use opened::OpenedCard;
pub use own_buffer::OwnBuffer;
pub use owned::OwnedCard;
pub use owner::Owner;
pub use record::{KeptCard, KeptSpace, SpaceRecord};
pub use region::{Region, Trap};
pub use running_will::{RunningWill, WillProgress};
pub use shared_interrupt::{Fired, Requests, SharedInterrupt, SharedVectors};
pub use still_used::{IsIdle, StillUsed, UsedPart};
pub use tally::{Moved, Tally, TallyPage, TallyReader};
pub use transport::{InterruptKind, MapError, Mapper, PhysicalMemory, Pinning, RegionInfo, Transport};
pub use trust::refuse_strangers;
#[cfg(feature = "async")]
pub use watched::Watched;
pub use will::{Will, WillStep};
