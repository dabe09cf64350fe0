//! A card as programs open it that know nothing of others: its group and a container, by ioctls of their own.

#![expect(unsafe_code, reason = "ioctls take addresses")]

use jitney_memory::{Access, Mapping};
use rustix::fs::{Mode, OFlags};
use rustix::io;
use rustix::ioctl::{IntegerSetter, Opcode, Setter, ioctl, opcode};
use std::error::Error;
use std::ffi::c_int;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

const VFIO: u8 = b';';
const SET_CONTAINER: Opcode = opcode::none(VFIO, 104);
const SET_IOMMU: Opcode = opcode::none(VFIO, 102);
const TYPE1V2: usize = 3;
const GET_DEVICE_FD: u8 = 106;
const MAP_DMA: Opcode = opcode::none(VFIO, 113);
const UNMAP_DMA: Opcode = opcode::none(VFIO, 114);
const READ_WRITE: u32 = 0b11;

/// A card, and what keeps it open. Closed in this order. As many programs do, nobody made the last two close on exec.
pub(crate) struct ByHand {
    pub(crate) device: OwnedFd,
    pub(crate) _group: OwnedFd,
    pub(crate) container: OwnedFd,
}

impl ByHand {
    pub(crate) fn open(group: u32, address: &str) -> Result<Self> {
        let open = |path: &str| rustix::fs::open(path, OFlags::RDWR, Mode::empty());
        let (container, group) = (open("/dev/vfio/vfio")?, open(&format!("/dev/vfio/{group}"))?);
        let number: c_int = container.as_raw_fd();
        // SAFETY: VFIO_GROUP_SET_CONTAINER takes the address of a descriptor's number.
        let join = unsafe { Setter::<SET_CONTAINER, c_int>::new(number) };
        // SAFETY: As above.
        unsafe { ioctl(&group, join) }?;
        // SAFETY: VFIO_SET_IOMMU takes a number.
        let iommu = unsafe { IntegerSetter::<SET_IOMMU>::new_usize(TYPE1V2) };
        // SAFETY: As above.
        unsafe { ioctl(&container, iommu) }?;
        let mut name = std::ffi::CString::new(address)?.into_bytes_with_nul();
        // SAFETY: VFIO_GROUP_GET_DEVICE_FD takes a string with a zero at its end.
        let device = unsafe { ioctl(&group, DeviceNamed(&mut name)) }?;
        // SAFETY: It returned a descriptor that is new and nobody else's.
        let device = unsafe { OwnedFd::from_raw_fd(device) };
        Ok(Self { device, _group: group, container })
    }
}

/// Maps a BAR. A region's offset in a device's file is its index shifted by VFIO_PCI_OFFSET_SHIFT.
pub(crate) fn map_bar(device: impl AsFd, bar: u64, size: usize) -> jitney_memory::Result<Mapping> {
    Mapping::shared(device, bar << 40, size, Access::ReadWrite)
}

#[repr(C)]
struct DmaMap {
    size: u32,
    flags: u32,
    address: u64,
    iova: u64,
    bytes: u64,
}

#[repr(C)]
struct DmaUnmap {
    size: u32,
    flags: u32,
    iova: u64,
    bytes: u64,
}

/// Maps memory for the cards of a container.
pub(crate) fn map(container: impl AsFd, memory: &Mapping, iova: u64) -> io::Result<()> {
    let (address, bytes) = (memory.address(), memory.len() as u64);
    let argument = DmaMap { size: 32, flags: READ_WRITE, address, iova, bytes };
    // SAFETY: VFIO_IOMMU_MAP_DMA takes the address of this structure.
    let call = unsafe { Setter::<MAP_DMA, DmaMap>::new(argument) };
    // SAFETY: As above; the kernel pins the pages, and they stay memory of this process.
    unsafe { ioctl(container, call) }
}

/// Takes a mapping back.
pub(crate) fn unmap(container: impl AsFd, iova: u64, bytes: u64) -> io::Result<()> {
    let argument = DmaUnmap { size: 24, flags: 0, iova, bytes };
    // SAFETY: VFIO_IOMMU_UNMAP_DMA takes the address of this structure.
    let call = unsafe { Setter::<UNMAP_DMA, DmaUnmap>::new(argument) };
    // SAFETY: As above; what it writes back goes to the structure, which nobody reads.
    unsafe { ioctl(container, call) }
}

struct DeviceNamed<'a>(&'a mut Vec<u8>);

// SAFETY: The number is that of VFIO_GROUP_GET_DEVICE_FD, which reads a string and returns a number.
unsafe impl rustix::ioctl::Ioctl for DeviceNamed<'_> {
    type Output = c_int;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        opcode::none(VFIO, GET_DEVICE_FD)
    }

    fn as_ptr(&mut self) -> *mut std::ffi::c_void {
        self.0.as_mut_ptr().cast()
    }

    unsafe fn output_from_ptr(
        output: rustix::ioctl::IoctlOutput,
        _: *mut std::ffi::c_void,
    ) -> io::Result<c_int> {
        Ok(output)
    }
}
