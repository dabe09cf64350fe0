//! The kernel's own VFIO: cards that are bound to `vfio-pci`.
//!
//! Three interfaces lead to the same device file and differ in who holds the address space:
//!
//! | | files | since | address space |
//! |---|---|---|---|
//! | [group](type1) | `/dev/vfio/vfio`, `/dev/vfio/86` | always | a container with the type1 IOMMU, version 2 |
//! | [iommufd](iommufd) | `/dev/iommu`, `/dev/vfio/devices/vfio0` | Linux 6.6, where it is built in | an IOAS |
//! | [noiommu](noiommu) | `/dev/vfio/vfio`, `/dev/vfio/noiommu-0` | Linux 4.5, where it is built in and switched on | none: the machine's memory |
//!
//! What a card can do, its registers, interrupts and reset, is the same behind both: [`VfioDevice`].

mod contiguous;
mod device;
mod explain;
mod group;
mod info;
mod ioctl;
pub(crate) mod iommufd;
pub(crate) mod noiommu;
mod pagemap;
mod probe;
mod resume;
pub(crate) mod type1;

pub(crate) use device::{DeviceRecord, VfioDevice};
pub(crate) use resume::{KernelRecord, KernelResumed};

use jitney_memory::{Access, Mapping, Memfd};

/// The most bytes that one map covers. Pages are zeroed when they are pinned, which was measured to take 72 ms for 64 MiB of
/// normal ones; nobody should wait longer than for a part of that.
const PIECE: u64 = 16 << 20;

/// A short-lived view of a part of `memory`, for the kernel to pin; where in the view the part begins.
///
/// A view of huge pages has to begin at one.
fn view(memory: &Memfd, offset: u64, size: u64) -> jitney_memory::Result<(Mapping, u64)> {
    let before = offset % memory.page_size().bytes();
    let length = usize::try_from(size.saturating_add(before)).unwrap_or(usize::MAX);
    Ok((Mapping::shared(memory, offset - before, length, Access::ReadWrite)?, before))
}
