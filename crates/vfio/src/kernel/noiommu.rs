//! No IOMMU: cards see the machine's memory as it is, all of it. VFIO hands them out all the same if it was told to
//! (`enable_unsafe_noiommu_mode`), to processes with CAP_SYS_RAWIO, and the kernel is tainted.
//!
//! Nothing is mapped: a buffer's IOVA is its physical address. It is made of huge pages, which stay where they are, and is
//! kept from being used for something else until it is unmapped. That is all: a card that still writes afterwards, or
//! whose driver errs, overwrites whatever is there.
//!
//! Newer kernels can do the same by iommufd; this is the container's way, which all have.

use super::device::VfioDevice;
use super::group::{Groups, Kind};
use super::{contiguous, pagemap};
use crate::dma::DmaRequest;
use crate::error::{Error, ErrorKind, Result};
use crate::kernel::KernelRecord;
use crate::record::KeptSpace;
use crate::sysfs::{PciFunction, Sysfs};
use crate::transport::{MapError, Mapper, PhysicalMemory};
use jitney_memory::{Memfd, PageSize};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The machine's memory as cards see it.
#[derive(Debug)]
pub(crate) struct NoIommu {
    groups: Arc<Groups>,
    /// Another process has opened the cards: what it has mapped may not be known here.
    resumed: bool,
    /// What is mapped: by its address, its size and the memory.
    kept: Mutex<BTreeMap<u64, (u64, OwnedFd)>>,
}

/// Opens `functions`.
///
/// # Errors
/// As [`Groups::open`].
pub(crate) fn open(functions: &[PciFunction], sysfs: &Sysfs) -> Result<(Vec<VfioDevice>, Arc<NoIommu>)> {
    let groups = Arc::new(Groups::open(functions, sysfs, Kind::NoIommu)?);
    let devices = groups.devices(functions)?;
    Ok((devices, Arc::new(NoIommu::new(groups, false))))
}

impl NoIommu {
    fn new(groups: Arc<Groups>, resumed: bool) -> Self {
        Self { groups, resumed, kept: Mutex::default() }
    }

    /// The same memory for a process that goes on with the cards.
    pub(super) fn resumed(groups: Arc<Groups>) -> Self {
        Self::new(groups, true)
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<u64, (u64, OwnedFd)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mapper for NoIommu {
    fn ranges(&self) -> Vec<RangeInclusive<u64>> {
        vec![0..=u64::MAX]
    }

    fn granule(&self) -> u64 {
        PageSize::Huge2M.bytes()
    }

    fn physical(&self) -> Option<&dyn PhysicalMemory> {
        Some(self)
    }

    /// Keeps the memory, which has to be where the card will look for it.
    fn map(&self, memory: &Memfd, offset: u64, iova: u64, size: u64) -> std::result::Result<(), MapError> {
        let what = || format!("{size:#x} bytes at physical address {iova:#x}");
        let begin = iova.wrapping_sub(offset);
        let page = memory.page_size().bytes();
        let lies_there = |(index, address): (u64, &u64)| *address == begin.wrapping_add(index * page);
        let is_inside = offset.checked_add(size).is_some_and(|end| end <= memory.size());
        if !is_inside || !(0..).zip(&pagemap::addresses(memory)?).all(lies_there) {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "{}: that is not where the memory lies, and without an IOMMU it cannot be mapped elsewhere",
                    what()
                ),
            )
            .into());
        }
        let memory = memory.as_fd().try_clone_to_owned().map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::MFILE);
            Error::from_errno(errno, format!("keeping {}", what()))
        })?;
        self.kept().insert(iova, (size, memory));
        Ok(())
    }

    /// Lets go of the memory. Without an IOMMU nothing keeps a card from it: it has to have been stopped.
    fn unmap(&self, iova: u64, size: u64) -> std::result::Result<(), MapError> {
        let mut kept = self.kept();
        if kept.get(&iova).is_some_and(|(kept, _)| *kept == size) {
            kept.remove(&iova);
            return Ok(());
        }
        // What the process before had mapped, its memory was kept by somebody else or by nobody.
        if self.resumed && kept.range(..=iova).next_back().is_none_or(|(&at, (kept, _))| iova - at >= *kept) {
            return Ok(());
        }
        let what = format!("{size:#x} bytes at physical address {iova:#x} are not mapped as such");
        Err(Error::new(ErrorKind::NotFound, what).into())
    }

    fn adopt(&self, memory: &Memfd, offset: u64, iova: u64, size: u64) -> std::result::Result<(), MapError> {
        self.map(memory, offset, iova, size)
    }

    fn kept(&self) -> Option<KeptSpace<'_>> {
        Some(self.groups.kept(KernelRecord::NoIommu { groups: self.groups.numbers() }))
    }
}

impl PhysicalMemory for NoIommu {
    fn make(&self, request: &DmaRequest) -> Result<(Memfd, u64)> {
        contiguous::make(request)
    }
}
