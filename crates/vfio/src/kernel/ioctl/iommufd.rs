//! iommufd: I/O address spaces.
//!
//! Documentation: <https://docs.kernel.org/userspace-api/iommufd.html>, and of each ioctl in
//! `include/uapi/linux/iommufd.h`.

use super::{call_with, number, open_node, part_of, size};
use iommufd_bindings::{
    IOMMUFD_CMD_IOAS_ALLOC, IOMMUFD_CMD_IOAS_CHANGE_PROCESS, IOMMUFD_CMD_IOAS_IOVA_RANGES,
    IOMMUFD_CMD_IOAS_MAP, IOMMUFD_CMD_IOAS_MAP_FILE, IOMMUFD_CMD_IOAS_UNMAP, iommu_ioas_alloc,
    iommu_ioas_change_process, iommu_ioas_iova_ranges, iommu_ioas_map, iommu_ioas_map_file, iommu_ioas_unmap,
    iommu_iova_range, iommufd_ioas_map_flags_IOMMU_IOAS_MAP_FIXED_IOVA as FIXED_IOVA,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_READABLE as READABLE,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_WRITEABLE as WRITEABLE,
};
use jitney_memory::{Mapping, Memfd};
use rustix::io::{Errno, Result};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

const _: () = assert!(size_of::<iommu_ioas_alloc>() == 12);
const _: () = assert!(size_of::<iommu_ioas_change_process>() == 8);
const _: () = assert!(size_of::<iommu_ioas_iova_ranges>() == 32);
const _: () = assert!(size_of::<iommu_iova_range>() == 16);
const _: () = assert!(size_of::<iommu_ioas_map>() == 40);
const _: () = assert!(size_of::<iommu_ioas_map_file>() == 40);
const _: () = assert!(size_of::<iommu_ioas_unmap>() == 24);

const IOAS_ALLOC: u8 = number(IOMMUFD_CMD_IOAS_ALLOC);
const IOAS_CHANGE_PROCESS: u8 = number(IOMMUFD_CMD_IOAS_CHANGE_PROCESS);
const IOAS_IOVA_RANGES: u8 = number(IOMMUFD_CMD_IOAS_IOVA_RANGES);
const IOAS_MAP: u8 = number(IOMMUFD_CMD_IOAS_MAP);
const IOAS_MAP_FILE: u8 = number(IOMMUFD_CMD_IOAS_MAP_FILE);
const IOAS_UNMAP: u8 = number(IOMMUFD_CMD_IOAS_UNMAP);

/// The most ranges that an address space is asked for; x86 has two.
const MOST_RANGES: usize = 1024;

/// How memory is mapped: at the address that is asked for, readable and writable by the cards.
const FLAGS: u32 = FIXED_IOVA | READABLE | WRITEABLE;

/// An open `/dev/iommu`.
#[derive(Debug)]
pub(in crate::kernel) struct Iommufd(OwnedFd);

impl Iommufd {
    pub(in crate::kernel) fn open(path: &Path) -> Result<Self> {
        open_node(path).map(Self)
    }

    /// One that another process has opened. Whether it is one shows when it is asked.
    pub(in crate::kernel) const fn kept(file: OwnedFd) -> Self {
        Self(file)
    }

    /// `IOMMU_IOAS_CHANGE_PROCESS`: what is pinned counts for this process from now on. `ENOTTY` before Linux 6.13;
    /// `EINVAL` if something is mapped by [`map`](Self::map).
    pub(in crate::kernel) fn change_process(&self) -> Result<()> {
        let mut change =
            iommu_ioas_change_process { size: size::<iommu_ioas_change_process>(), ..Default::default() };
        // SAFETY: It takes this structure.
        unsafe { call_with(self.as_fd(), IOAS_CHANGE_PROCESS, &mut change) }.map(drop)
    }

    /// `IOMMU_IOAS_ALLOC`: makes an address space and returns its id.
    pub(in crate::kernel) fn make_ioas(&self) -> Result<u32> {
        let mut alloc = iommu_ioas_alloc { size: size::<iommu_ioas_alloc>(), ..Default::default() };
        // SAFETY: It takes this structure.
        unsafe { call_with(self.as_fd(), IOAS_ALLOC, &mut alloc) }?;
        Ok(alloc.out_ioas_id)
    }

    /// `IOMMU_IOAS_IOVA_RANGES`: first and last address of each range that can be mapped, and the alignment that
    /// addresses need.
    pub(in crate::kernel) fn ranges(&self, ioas: u32) -> Result<(Vec<(u64, u64)>, u64)> {
        let mut ranges = vec![iommu_iova_range::default(); MOST_RANGES];
        let mut query = iommu_ioas_iova_ranges {
            size: size::<iommu_ioas_iova_ranges>(),
            ioas_id: ioas,
            num_iovas: u32::try_from(ranges.len()).map_err(|_| Errno::TOOBIG)?,
            allowed_iovas: std::ptr::from_mut(ranges.as_mut_slice())
                .cast::<iommu_iova_range>()
                .expose_provenance() as u64,
            ..Default::default()
        };
        // SAFETY: It takes this structure. The kernel writes as many ranges as the structure says that there is room for,
        // to a vector that lives longer than the call and is not looked at meanwhile.
        unsafe { call_with(self.as_fd(), IOAS_IOVA_RANGES, &mut query) }?;
        ranges.truncate(query.num_iovas as usize);
        Ok((ranges.iter().map(|range| (range.start, range.last)).collect(), query.out_iova_alignment))
    }

    /// `IOMMU_IOAS_MAP` of `length` bytes of `view` from `offset` on. The pages stay pinned when the view is gone.
    pub(in crate::kernel) fn map(
        &self,
        ioas: u32,
        view: &Mapping,
        offset: u64,
        iova: u64,
        length: u64,
    ) -> Result<()> {
        let mut map = iommu_ioas_map {
            size: size::<iommu_ioas_map>(),
            flags: FLAGS,
            ioas_id: ioas,
            user_va: part_of(view, offset, length)?,
            length,
            iova,
            ..Default::default()
        };
        // SAFETY: It takes this structure. Cards get access to memory of a `Mapping` and to nothing else, and a `Mapping`
        // is memory that others may change at any time.
        unsafe { call_with(self.as_fd(), IOAS_MAP, &mut map) }.map(drop)
    }

    /// `IOMMU_IOAS_MAP_FILE` of `length` bytes of `memory` from `offset` on, since Linux 6.13; `ENOTTY` before.
    pub(in crate::kernel) fn map_file(
        &self,
        ioas: u32,
        memory: &Memfd,
        offset: u64,
        iova: u64,
        length: u64,
    ) -> Result<()> {
        let mut map = iommu_ioas_map_file {
            size: size::<iommu_ioas_map_file>(),
            flags: FLAGS,
            ioas_id: ioas,
            fd: memory.as_fd().as_raw_fd(),
            start: offset,
            length,
            iova,
        };
        // SAFETY: It takes this structure. Cards get access to the pages of a memfd, of which there is no reference.
        unsafe { call_with(self.as_fd(), IOAS_MAP_FILE, &mut map) }.map(drop)
    }

    /// `IOMMU_IOAS_UNMAP`. Returns how many bytes were unmapped.
    pub(in crate::kernel) fn unmap(&self, ioas: u32, iova: u64, length: u64) -> Result<u64> {
        let mut unmap = iommu_ioas_unmap { size: size::<iommu_ioas_unmap>(), ioas_id: ioas, iova, length };
        // SAFETY: It takes this structure.
        unsafe { call_with(self.as_fd(), IOAS_UNMAP, &mut unmap) }?;
        Ok(unmap.length)
    }
}

impl AsFd for Iommufd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::ioctl::opcode;

    #[test]
    fn numbers_are_the_header_s() {
        assert_eq!(opcode::none(super::super::FAMILY, IOAS_ALLOC), 0x3b81);
        assert_eq!(opcode::none(super::super::FAMILY, IOAS_UNMAP), 0x3b86);
        assert_eq!(opcode::none(super::super::FAMILY, IOAS_MAP_FILE), 0x3b8f);
        assert_eq!(opcode::none(super::super::FAMILY, IOAS_CHANGE_PROCESS), 0x3b92);
    }

    #[test]
    fn another_file_has_no_such_ioctl() {
        let null = Iommufd::open(Path::new("/dev/null")).unwrap();
        assert_eq!(null.make_ioas(), Err(Errno::NOTTY));
        assert_eq!(null.ranges(1), Err(Errno::NOTTY));
        assert_eq!(null.unmap(1, 0, 4096), Err(Errno::NOTTY));
    }
}
