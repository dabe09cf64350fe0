//! VFIO: containers, groups and devices.
//!
//! Documentation: <https://docs.kernel.org/driver-api/vfio.html>, and of each ioctl in `include/uapi/linux/vfio.h`.

use super::iommufd::Iommufd;
use super::{call_with, call_with_bytes, call_with_number, describe, number, open_node, part_of, size};
use crate::transport::InterruptKind;
use jitney_memory::Mapping;
use rustix::fs::FileType;
use rustix::io::{Errno, Result};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use vfio_bindings::bindings::vfio::{
    VFIO_BASE, VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE, VFIO_IRQ_SET_ACTION_TRIGGER,
    VFIO_IRQ_SET_ACTION_UNMASK, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE,
    vfio_device_attach_iommufd_pt, vfio_device_bind_iommufd, vfio_device_info, vfio_group_status,
    vfio_iommu_type1_dma_map, vfio_iommu_type1_dma_unmap, vfio_iommu_type1_info, vfio_irq_info, vfio_irq_set,
    vfio_pci_dependent_device, vfio_pci_hot_reset, vfio_pci_hot_reset_info, vfio_region_info,
};

// The kernel's sizes on every 64-bit machine. The device's own structures grow at their end.
const _: () = assert!(size_of::<vfio_device_info>() == 24);
const _: () = assert!(size_of::<vfio_group_status>() == 8);
const _: () = assert!(size_of::<vfio_iommu_type1_dma_map>() == 32);
const _: () = assert!(size_of::<vfio_iommu_type1_dma_unmap>() == 24);
const _: () = assert!(size_of::<vfio_iommu_type1_info>() == 24);
const _: () = assert!(size_of::<vfio_irq_info>() == 16);
const _: () = assert!(size_of::<vfio_irq_set>() == 20);
const _: () = assert!(size_of::<vfio_pci_hot_reset>() == 12);
const _: () = assert!(size_of::<vfio_pci_hot_reset_info>() == 12);
const _: () = assert!(size_of::<vfio_pci_dependent_device>() == 8);
const _: () = assert!(size_of::<vfio_region_info>() == 32);
const _: () = assert!(size_of::<vfio_device_bind_iommufd>() >= 16);
const _: () = assert!(size_of::<vfio_device_attach_iommufd_pt>() >= 12);

const GET_API_VERSION: u8 = number(VFIO_BASE);
const CHECK_EXTENSION: u8 = number(VFIO_BASE + 1);
const SET_IOMMU: u8 = number(VFIO_BASE + 2);
const GROUP_GET_STATUS: u8 = number(VFIO_BASE + 3);
const GROUP_SET_CONTAINER: u8 = number(VFIO_BASE + 4);
const GROUP_GET_DEVICE_FD: u8 = number(VFIO_BASE + 6);
const DEVICE_GET_INFO: u8 = number(VFIO_BASE + 7);
const DEVICE_GET_REGION_INFO: u8 = number(VFIO_BASE + 8);
const DEVICE_GET_IRQ_INFO: u8 = number(VFIO_BASE + 9);
const DEVICE_SET_IRQS: u8 = number(VFIO_BASE + 10);
const DEVICE_RESET: u8 = number(VFIO_BASE + 11);
const DEVICE_GET_PCI_HOT_RESET_INFO: u8 = number(VFIO_BASE + 12);
const DEVICE_PCI_HOT_RESET: u8 = number(VFIO_BASE + 13);
const DEVICE_BIND_IOMMUFD: u8 = number(VFIO_BASE + 18);
const DEVICE_ATTACH_IOMMUFD_PT: u8 = number(VFIO_BASE + 19);
const IOMMU_GET_INFO: u8 = number(VFIO_BASE + 12);
const IOMMU_MAP_DMA: u8 = number(VFIO_BASE + 13);
const IOMMU_UNMAP_DMA: u8 = number(VFIO_BASE + 14);

/// The most functions that a bus reset is asked to list.
const MOST_DEPENDENT: usize = 256;

/// An open container, `/dev/vfio/vfio`.
#[derive(Debug)]
pub(in crate::kernel) struct Container(OwnedFd);

impl Container {
    pub(in crate::kernel) fn open(path: &Path) -> Result<Self> {
        open_node(path).map(Self)
    }

    /// One that another process has opened. Whether it is one shows when it is asked.
    pub(in crate::kernel) const fn kept(file: OwnedFd) -> Self {
        Self(file)
    }

    /// `VFIO_GET_API_VERSION`.
    pub(in crate::kernel) fn api_version(&self) -> Result<i32> {
        // SAFETY: It takes nothing.
        unsafe { call_with_number(self.0.as_fd(), GET_API_VERSION, 0) }
    }

    /// `VFIO_CHECK_EXTENSION`: whether this kernel has an IOMMU driver of that kind.
    pub(in crate::kernel) fn has_extension(&self, extension: u32) -> Result<bool> {
        // SAFETY: It takes a number.
        unsafe { call_with_number(self.0.as_fd(), CHECK_EXTENSION, extension as usize) }
            .map(|answer| answer > 0)
    }

    /// `VFIO_SET_IOMMU`, after the first group has joined.
    pub(in crate::kernel) fn set_iommu(&self, kind: u32) -> Result<()> {
        // SAFETY: It takes a number.
        unsafe { call_with_number(self.0.as_fd(), SET_IOMMU, kind as usize) }.map(drop)
    }

    /// `VFIO_IOMMU_GET_INFO`: a `vfio_iommu_type1_info` with its capabilities.
    pub(in crate::kernel) fn info(&self) -> Result<Vec<u8>> {
        // SAFETY: It takes this structure, which holds no address.
        unsafe { describe(self.0.as_fd(), IOMMU_GET_INFO, &[], size_of::<vfio_iommu_type1_info>()) }
    }

    /// `VFIO_IOMMU_MAP_DMA` of `length` bytes of `view` from `offset` on, readable and writable by the cards. The pages
    /// stay pinned when the view is gone.
    pub(in crate::kernel) fn map(&self, view: &Mapping, offset: u64, iova: u64, length: u64) -> Result<()> {
        let mut map = vfio_iommu_type1_dma_map {
            argsz: size::<vfio_iommu_type1_dma_map>(),
            flags: VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
            vaddr: part_of(view, offset, length)?,
            iova,
            size: length,
        };
        // SAFETY: It takes this structure. Cards get access to memory of a `Mapping` and to nothing else, and a `Mapping`
        // is memory that others may change at any time.
        unsafe { call_with(self.0.as_fd(), IOMMU_MAP_DMA, &mut map) }.map(drop)
    }

    /// `VFIO_IOMMU_UNMAP_DMA`. Returns how many bytes were unmapped.
    pub(in crate::kernel) fn unmap(&self, iova: u64, length: u64) -> Result<u64> {
        let mut unmap = vfio_iommu_type1_dma_unmap {
            argsz: size::<vfio_iommu_type1_dma_unmap>(),
            iova,
            size: length,
            ..Default::default()
        };
        // SAFETY: It takes this structure; without a flag it has no further data.
        unsafe { call_with(self.0.as_fd(), IOMMU_UNMAP_DMA, &mut unmap) }?;
        Ok(unmap.size)
    }
}

impl AsFd for Container {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// An open group, `/dev/vfio/86`.
#[derive(Debug)]
pub(in crate::kernel) struct Group(OwnedFd);

impl Group {
    pub(in crate::kernel) fn open(path: &Path) -> Result<Self> {
        open_node(path).map(Self)
    }

    /// One that another process has opened. Whether it is one shows when it is asked.
    pub(in crate::kernel) const fn kept(file: OwnedFd) -> Self {
        Self(file)
    }

    /// `VFIO_GROUP_GET_STATUS`: its flags.
    pub(in crate::kernel) fn status(&self) -> Result<u32> {
        let mut status = vfio_group_status { argsz: size::<vfio_group_status>(), flags: 0 };
        // SAFETY: It takes this structure.
        unsafe { call_with(self.0.as_fd(), GROUP_GET_STATUS, &mut status) }?;
        Ok(status.flags)
    }

    /// `VFIO_GROUP_SET_CONTAINER`: joins a container.
    pub(in crate::kernel) fn set_container(&self, container: &Container) -> Result<()> {
        let mut descriptor = container.0.as_raw_fd();
        // SAFETY: It takes the address of a descriptor's number, a C int.
        unsafe { call_with(self.0.as_fd(), GROUP_SET_CONTAINER, &mut descriptor) }.map(drop)
    }

    /// `VFIO_GROUP_GET_DEVICE_FD`: opens the device of that name. The kernel makes the descriptor close on exec.
    pub(in crate::kernel) fn device(&self, name: &CStr) -> Result<DeviceFile> {
        let argument = name.as_ptr().cast_mut().cast();
        // SAFETY: It takes a string that ends with a zero, which it only reads.
        let descriptor = unsafe { super::call(self.0.as_fd(), GROUP_GET_DEVICE_FD, argument) }?;
        // SAFETY: The kernel has just made this descriptor for this call and nobody else knows it.
        Ok(DeviceFile(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// An open device, by group or by cdev.
#[derive(Debug)]
pub(in crate::kernel) struct DeviceFile(OwnedFd);

impl DeviceFile {
    /// Opens a cdev, `/dev/vfio/devices/vfio0`. It can do nothing before [`bind`](Self::bind).
    pub(in crate::kernel) fn open(path: &Path) -> Result<Self> {
        open_node(path).map(Self)
    }

    /// Takes a descriptor that somebody sent, if it is a VFIO device's.
    ///
    /// # Errors
    /// What it is instead.
    pub(in crate::kernel) fn received(file: OwnedFd) -> std::result::Result<Self, String> {
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        let target =
            std::fs::read_link(&link).map_err(|error| format!("nothing that can be told ({error})"))?;
        let by_group = target.as_os_str() == "anon_inode:[vfio-device]";
        if by_group || is_cdev(&file) { Ok(Self(file)) } else { Err(target.display().to_string()) }
    }

    /// Takes a descriptor that was kept, if it can be a VFIO device's. Of a card that is being taken away there is no
    /// more in sysfs by which a cdev could be told from other nodes.
    ///
    /// # Errors
    /// What it is instead.
    pub(in crate::kernel) fn kept(file: OwnedFd) -> std::result::Result<Self, String> {
        let folder = Path::new("/dev/vfio/devices");
        let target = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default();
        match target.parent() == Some(folder) {
            true => Ok(Self(file)),
            false => Self::received(file),
        }
    }

    pub(in crate::kernel) fn duplicate(&self) -> Result<OwnedFd> {
        rustix::io::fcntl_dupfd_cloexec(&self.0, 3)
    }

    /// `VFIO_DEVICE_GET_INFO`.
    pub(in crate::kernel) fn info(&self) -> Result<vfio_device_info> {
        let mut info = vfio_device_info { argsz: size::<vfio_device_info>(), ..Default::default() };
        // SAFETY: It takes this structure.
        unsafe { call_with(self.0.as_fd(), DEVICE_GET_INFO, &mut info) }?;
        Ok(info)
    }

    /// `VFIO_DEVICE_GET_REGION_INFO`: a `vfio_region_info` with its capabilities.
    pub(in crate::kernel) fn region(&self, index: u32) -> Result<Vec<u8>> {
        let head = [0, index];
        // SAFETY: It takes this structure, which holds no address.
        unsafe { describe(self.0.as_fd(), DEVICE_GET_REGION_INFO, &head, size_of::<vfio_region_info>()) }
    }

    /// `VFIO_DEVICE_GET_IRQ_INFO`.
    pub(in crate::kernel) fn interrupts(&self, index: u32) -> Result<vfio_irq_info> {
        let mut info = vfio_irq_info { argsz: size::<vfio_irq_info>(), index, ..Default::default() };
        // SAFETY: It takes this structure.
        unsafe { call_with(self.0.as_fd(), DEVICE_GET_IRQ_INFO, &mut info) }?;
        Ok(info)
    }

    /// `VFIO_DEVICE_SET_IRQS`: wires vectors to eventfds from `first` on. Returns 0, or how many vectors the kernel could
    /// have given where it cannot give as many as asked for.
    pub(in crate::kernel) fn arm(
        &self,
        kind: InterruptKind,
        first: u32,
        events: &[Option<BorrowedFd<'_>>],
    ) -> Result<i32> {
        let flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
        let count = u32::try_from(events.len()).map_err(|_| Errno::TOOBIG)?;
        let mut set = interrupts_to_set(flags, kind, first, count);
        for event in events {
            let descriptor = event.map_or(-1, |event| event.as_raw_fd());
            set.extend(descriptor.to_ne_bytes());
        }
        // SAFETY: It takes this structure with as many descriptors' numbers, and holds on to the files, not the memory.
        unsafe { call_with_bytes(self.0.as_fd(), DEVICE_SET_IRQS, &mut set) }
    }

    /// `VFIO_DEVICE_SET_IRQS`: disables all vectors of a kind.
    pub(in crate::kernel) fn disarm(&self, kind: InterruptKind) -> Result<()> {
        let flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
        let mut set = interrupts_to_set(flags, kind, 0, 0);
        // SAFETY: It takes this structure, without further data.
        unsafe { call_with_bytes(self.0.as_fd(), DEVICE_SET_IRQS, &mut set) }.map(drop)
    }

    /// `VFIO_DEVICE_SET_IRQS`: lifts the mask that the kernel has put on a vector.
    pub(in crate::kernel) fn unmask(&self, kind: InterruptKind, vector: u32) -> Result<()> {
        let flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK;
        let mut set = interrupts_to_set(flags, kind, vector, 1);
        // SAFETY: It takes this structure, without further data.
        unsafe { call_with_bytes(self.0.as_fd(), DEVICE_SET_IRQS, &mut set) }.map(drop)
    }

    /// `VFIO_DEVICE_RESET`: the function alone, in whichever way the kernel knows for it.
    pub(in crate::kernel) fn reset(&self) -> Result<()> {
        // SAFETY: It takes nothing.
        unsafe { call_with_number(self.0.as_fd(), DEVICE_RESET, 0) }.map(drop)
    }

    /// `VFIO_DEVICE_GET_PCI_HOT_RESET_INFO`: a `vfio_pci_hot_reset_info` with the functions that a reset of the bus
    /// would reset.
    pub(in crate::kernel) fn hot_reset_info(&self) -> Result<Vec<u8>> {
        let fixed = size_of::<vfio_pci_hot_reset_info>();
        let mut info = vec![0; fixed + MOST_DEPENDENT * size_of::<vfio_pci_dependent_device>()];
        // SAFETY: It takes this structure with room for functions, and writes no more than fit.
        unsafe { call_with_bytes(self.0.as_fd(), DEVICE_GET_PCI_HOT_RESET_INFO, &mut info) }?;
        Ok(info)
    }

    /// `VFIO_DEVICE_PCI_HOT_RESET`: resets the bus. `groups` proves that all functions on it are the caller's; a device
    /// that was bound to an iommufd gives none.
    pub(in crate::kernel) fn hot_reset(&self, groups: &[BorrowedFd<'_>]) -> Result<()> {
        let count = u32::try_from(groups.len()).map_err(|_| Errno::TOOBIG)?;
        let mut reset: Vec<u8> = [0, 0, count].into_iter().flat_map(u32::to_ne_bytes).collect();
        reset.extend(groups.iter().flat_map(|group| group.as_raw_fd().to_ne_bytes()));
        // SAFETY: It takes this structure with as many descriptors' numbers.
        unsafe { call_with_bytes(self.0.as_fd(), DEVICE_PCI_HOT_RESET, &mut reset) }.map(drop)
    }

    /// `VFIO_DEVICE_BIND_IOMMUFD`: makes the opened cdev this process's.
    pub(in crate::kernel) fn bind(&self, iommufd: &Iommufd) -> Result<()> {
        let mut bind = vfio_device_bind_iommufd {
            argsz: size::<vfio_device_bind_iommufd>(),
            iommufd: iommufd.as_fd().as_raw_fd(),
            ..Default::default()
        };
        // SAFETY: It takes this structure. The address of a token in it is none, and no flag says that there is one.
        unsafe { call_with(self.0.as_fd(), DEVICE_BIND_IOMMUFD, &mut bind) }.map(drop)
    }

    /// `VFIO_DEVICE_ATTACH_IOMMUFD_PT`: gives a bound device the address space `ioas`.
    pub(in crate::kernel) fn attach(&self, ioas: u32) -> Result<()> {
        let mut attach = vfio_device_attach_iommufd_pt {
            argsz: size::<vfio_device_attach_iommufd_pt>(),
            pt_id: ioas,
            ..Default::default()
        };
        // SAFETY: It takes this structure.
        unsafe { call_with(self.0.as_fd(), DEVICE_ATTACH_IOMMUFD_PT, &mut attach) }.map(drop)
    }
}

impl AsFd for DeviceFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A `vfio_irq_set` without its data. Its size is filled in by the call.
fn interrupts_to_set(flags: u32, kind: InterruptKind, first: u32, count: u32) -> Vec<u8> {
    [0, flags, kind as u32, first, count].into_iter().flat_map(u32::to_ne_bytes).collect()
}

/// Whether a descriptor is that of a node that the class of VFIO's cdevs made.
fn is_cdev(file: &OwnedFd) -> bool {
    let Ok(stat) = rustix::fs::fstat(file) else { return false };
    let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && std::fs::read_link(format!("/sys/dev/char/{major}:{minor}/subsystem"))
            .is_ok_and(|class| class.file_name().is_some_and(|name| name == "vfio-dev"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::ioctl::opcode;
    use std::fs::File;

    /// Against the header that the machine's C compiler uses, as `_IO(';', 100 + n)`.
    #[test]
    fn numbers_are_the_header_s() {
        assert_eq!(opcode::none(super::super::FAMILY, GET_API_VERSION), 0x3b64);
        assert_eq!(opcode::none(super::super::FAMILY, GROUP_GET_DEVICE_FD), 0x3b6a);
        assert_eq!(opcode::none(super::super::FAMILY, IOMMU_MAP_DMA), 0x3b71);
        assert_eq!(opcode::none(super::super::FAMILY, DEVICE_ATTACH_IOMMUFD_PT), 0x3b77);
    }

    #[test]
    fn only_a_vfio_device_is_taken_for_one() {
        for path in ["/dev/null", "/proc/self/exe"] {
            let found = DeviceFile::received(File::open(path).unwrap().into()).unwrap_err();
            assert!(!found.is_empty());
        }
    }

    #[test]
    fn another_file_has_no_such_ioctl() {
        let null = Container(open_node(Path::new("/dev/null")).unwrap());
        assert_eq!(null.api_version(), Err(Errno::NOTTY));
        assert_eq!(null.info(), Err(Errno::NOTTY));
        let view = Mapping::anonymous(4096).unwrap();
        assert_eq!(null.map(&view, 0, 0, 4096), Err(Errno::NOTTY));
        assert_eq!(null.unmap(0, 4096), Err(Errno::NOTTY));
    }
}
