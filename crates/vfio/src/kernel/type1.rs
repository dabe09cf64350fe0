//! The type1 IOMMU, version 2, of a container: what most machines have.

use super::device::VfioDevice;
use super::explain::{FailedMap, gone, unmapped};
use super::group::{Groups, Kind};
use super::info::Iommu;
use super::probe::Probe;
use super::{PIECE, view};
use crate::error::{Error, ErrorKind, Result};
use crate::kernel::KernelRecord;
use crate::record::KeptSpace;
use crate::sysfs::{PciFunction, Sysfs};
use crate::transport::{MapError, Mapper, Pinning};
use jitney_memory::Memfd;
use rustix::io::Errno;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// What an x86 machine with 39 address bits has, for kernels before 5.4, which do not say: all but the window of its
/// message-signalled interrupts.
const USUAL_RANGES: [RangeInclusive<u64>; 2] = [0..=0xfedf_ffff, 0xfef0_0000..=(1 << 39) - 1];

/// A container whose groups share one address space behind the IOMMU.
#[derive(Debug)]
pub(crate) struct Type1 {
    groups: Arc<Groups>,
    ranges: Vec<RangeInclusive<u64>>,
    /// The kernel does not say which addresses can be mapped.
    guessed: bool,
    granule: u64,
    node: Option<u32>,
}

/// Opens `functions`, all in one container.
///
/// # Errors
/// As [`Groups::open`].
pub(crate) fn open(functions: &[PciFunction], sysfs: &Sysfs) -> Result<(Vec<VfioDevice>, Arc<Type1>)> {
    let groups = Arc::new(Groups::open(functions, sysfs, Kind::Type1)?);
    let devices = groups.devices(functions)?;
    Ok((devices, Arc::new(Type1::new(groups, sysfs.common_node(functions))?)))
}

impl Type1 {
    /// The container with all its groups, which decide what can be mapped; `node` is where memory is best taken.
    pub(super) fn new(groups: Arc<Groups>, node: Option<u32>) -> Result<Self> {
        let iommu = read_info(&groups)?;
        let guessed = iommu.ranges.is_none();
        let ranges = iommu.ranges.unwrap_or_else(|| USUAL_RANGES.to_vec());
        Ok(Self { ranges, guessed, granule: smallest_page(iommu.page_sizes), groups, node })
    }

    fn failed(&self, iova: u64, size: u64, errno: Errno) -> Error {
        let available = match errno {
            Errno::NOSPC => read_info(&self.groups).ok().and_then(|iommu| iommu.available),
            _ => None,
        };
        let (space, granule, ranges) = (self.groups.name(), self.granule, &self.ranges[..]);
        FailedMap { space, iova, size, granule, ranges, guessed: self.guessed, available }.explain(errno)
    }
}

impl Mapper for Type1 {
    fn ranges(&self) -> Vec<RangeInclusive<u64>> {
        self.ranges.clone()
    }

    fn granule(&self) -> u64 {
        self.granule
    }

    fn piece(&self) -> u64 {
        PIECE
    }

    fn pinning(&self) -> Option<Pinning> {
        Some(Pinning { node: self.node })
    }

    /// The pages are pinned through a view that is gone when this returns.
    fn map(&self, memory: &Memfd, offset: u64, iova: u64, size: u64) -> std::result::Result<(), MapError> {
        let (view, start) = view(memory, offset, size)?;
        let outcome = self.groups.container().map(&view, start, iova, size);
        outcome.map_err(|errno| self.failed(iova, size, errno).into())
    }

    fn unmap(&self, iova: u64, size: u64) -> std::result::Result<(), MapError> {
        Ok(unmapped(self.groups.container().unmap(iova, size), self.groups.name(), iova, size)?)
    }

    /// The kernel unmaps whatever lies within and refuses to cut a map (EINVAL). That it unmapped nothing can mean that there
    /// is nothing, or, before Linux 6.0, that another process has mapped it.
    fn unmap_if_mapped(&self, iova: u64, size: u64) -> std::result::Result<(), MapError> {
        let container = self.groups.container();
        let outcome = container.unmap(iova, size).and_then(|unmapped| match unmapped {
            0 => Probe { iova, size, granule: self.granule }.finds_nothing(
                |view, at| container.map(view, 0, at, self.granule),
                |at, size| container.unmap(at, size),
            ),
            _ => Ok(()),
        });
        Ok(gone(outcome, self.groups.name(), iova, size)?)
    }

    fn kept(&self) -> Option<KeptSpace<'_>> {
        let kernel = KernelRecord::Type1 { groups: self.groups.numbers(), node: self.node };
        Some(self.groups.kept(kernel))
    }
}

fn read_info(groups: &Groups) -> Result<Iommu> {
    let what = || format!("asking for the addresses of {}", groups.name());
    let answer = groups.container().info().map_err(|errno| Error::from_errno(errno, what()))?;
    Iommu::parse(&answer).map_err(|error| Error::new(ErrorKind::Protocol, format!("{}: {error}", what())))
}

/// The smallest of the page sizes, each a bit; no smaller than those of the processor.
fn smallest_page(sizes: u64) -> u64 {
    (sizes & sizes.wrapping_neg()).max(rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_page_is_the_granule() {
        assert_eq!(smallest_page(0x4020_1000), 0x1000);
        assert_eq!(smallest_page(0x4020_0000), 0x20_0000);
        // The kernel sets all bits above its own page size's when the IOMMU could do less.
        assert_eq!(smallest_page(0), 0x1000);
        assert_eq!(smallest_page(u64::MAX), 0x1000);
    }
}
