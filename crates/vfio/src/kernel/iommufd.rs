//! Device cdev and iommufd: the newer interface, in kernels that are built with it (Linux 6.6).
//!
//! A device is bound to the iommufd first, before which it can do nothing, then attached to an address space.
//! Documentation: <https://docs.kernel.org/userspace-api/iommufd.html> and
//! <https://docs.kernel.org/driver-api/vfio.html#vfio-device-cdev>.

use super::device::{Origin, VfioDevice};
use super::explain::{FailedMap, gone, no_remapping, unmapped};
use super::group::not_viable;
use super::info::ascending;
use super::ioctl::{DeviceFile, Iommufd};
use super::probe::Probe;
use super::{PIECE, view};
use crate::error::{Error, ErrorKind, Result};
use crate::holders;
use crate::kernel::KernelRecord;
use crate::record::KeptSpace;
use crate::sysfs::{PciFunction, Sysfs};
use crate::transport::{MapError, Mapper, Pinning};
use jitney_host::{Caller, Root};
use jitney_memory::Memfd;
use rustix::io::Errno;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The node of iommufd.
pub(crate) const IOMMU: &str = "/dev/iommu";

/// An address space of an iommufd.
#[derive(Debug)]
pub(crate) struct Ioas {
    iommufd: Iommufd,
    id: u32,
    name: String,
    ranges: Vec<RangeInclusive<u64>>,
    granule: u64,
    node: Option<u32>,
    /// Whether this kernel has turned out to map no files.
    views_only: AtomicBool,
}

/// Opens `functions`, all in one address space.
///
/// # Errors
/// [`ErrorKind::Held`] if somebody else has a card, with who; [`ErrorKind::Unsupported`] if the kernel has no iommufd;
/// what the kernel says. Nothing stays open.
pub(crate) fn open(functions: &[PciFunction], sysfs: &Sysfs) -> Result<(Vec<VfioDevice>, Arc<Ioas>)> {
    let iommufd = Iommufd::open(Path::new(IOMMU)).map_err(|errno| {
        let error = Error::from_errno(errno, format!("opening {IOMMU}"));
        match errno {
            Errno::NOENT | Errno::NODEV => {
                Error::new(ErrorKind::Unsupported, format!("{IOMMU} is not there"))
                    .with_errno(errno)
                    .with_remedy(
                        "load the module (sudo modprobe iommufd), or use groups: this kernel may not have it",
                    )
            }
            Errno::ACCESS | Errno::PERM => error.with_remedy(format!("sudo chown $USER {IOMMU}")),
            _ => error,
        }
    })?;
    let id = iommufd
        .make_ioas()
        .map_err(|errno| Error::from_errno(errno, "making an address space of iommufd"))?;
    let files =
        functions.iter().map(|function| attach(&iommufd, id, function, sysfs)).collect::<Result<Vec<_>>>()?;
    let cards: Vec<String> = functions.iter().map(|function| function.address.to_string()).collect();
    let ioas = Arc::new(Ioas::new(iommufd, id, &cards.join(", "), sysfs.common_node(functions))?);
    let all: Vec<_> = functions.iter().map(|function| function.address).collect();
    let devices = functions.iter().zip(files);
    let devices = devices
        .map(|(function, file)| {
            VfioDevice::new(function.address.to_string(), file, Origin::Cdev, all.clone())
        })
        .collect::<Result<_>>()?;
    Ok((devices, ioas))
}

/// Opens a card's cdev, binds it and gives it the address space `id`.
fn attach(iommufd: &Iommufd, id: u32, function: &PciFunction, sysfs: &Sysfs) -> Result<DeviceFile> {
    let address = function.address;
    let path = sysfs.cdev(address)?.ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, format!("card {address} has no device node of its own"))
            .with_remedy(
                "use groups: this kernel was built without VFIO_DEVICE_CDEV, or the machine has no IOMMU",
            )
    })?;
    let file = DeviceFile::open(&path).map_err(|errno| {
        let error = Error::from_errno(errno, format!("opening {} (card {address})", path.display()));
        match errno {
            Errno::ACCESS | Errno::PERM => error.with_remedy(format!(
                "sudo chown $USER {}, or for good the udev rule of this crate's documentation",
                path.display()
            )),
            _ => error,
        }
    })?;
    if let Err(errno) = file.bind(iommufd) {
        // Ours is closed first, so that it is not found as one of the holders.
        drop(file);
        return Err(not_bound(function, path, errno, sysfs));
    }
    file.attach(id).map_err(|errno| {
        let error = Error::from_errno(errno, format!("giving card {address} its address space"));
        match errno {
            Errno::INVAL | Errno::BUSY => error.with_remedy(
                "if the IOMMU does not let the cards share one address space, give each its own (isolate)",
            ),
            Errno::PERM => error.with_remedy(no_remapping("iommufd")),
            _ => error,
        }
    })?;
    Ok(file)
}

/// A card that somebody else has is EINVAL here, or EBUSY if they have it by its group. One whose group is not viable is EPERM,
/// and so is a machine without interrupt remapping.
fn not_bound(function: &PciFunction, path: PathBuf, errno: Errno, sysfs: &Sysfs) -> Error {
    let address = function.address;
    let files: Vec<PathBuf> = function
        .iommu_group
        .map(|group| PathBuf::from(format!("/dev/vfio/{group}")))
        .into_iter()
        .chain([path])
        .collect();
    let all_is_free = |group| sysfs.blockers(group).is_ok_and(|blockers| blockers.is_empty());
    match (errno, function.iommu_group) {
        (Errno::PERM, Some(group)) if all_is_free(group) => {
            let error = Error::from_errno(errno, format!("binding card {address} to iommufd"));
            error.with_remedy(no_remapping("iommufd"))
        }
        (Errno::PERM, Some(group)) => not_viable(group, sysfs).with_errno(errno),
        (Errno::INVAL | Errno::BUSY, _) => {
            let holder = holders::explain(&files);
            Error::new(ErrorKind::Held, format!("card {address} is already owned by {holder}"))
                .with_errno(errno)
                .with_remedy("end it, or start both programs under one broker")
        }
        _ => Error::from_errno(errno, format!("binding card {address} to iommufd")),
    }
}

impl Ioas {
    /// The address space with all its cards, which decide what can be mapped; `node` is where memory is best taken.
    fn new(iommufd: Iommufd, id: u32, cards: &str, node: Option<u32>) -> Result<Self> {
        let name = format!("the address space of {cards}");
        let what = || format!("asking for the addresses of {name}");
        let (ranges, alignment) = iommufd.ranges(id).map_err(|errno| Error::from_errno(errno, what()))?;
        let ranges = ascending(ranges)
            .map_err(|error| Error::new(ErrorKind::Protocol, format!("{}: {error}", what())))?;
        let granule = alignment.max(rustix::param::page_size() as u64);
        Ok(Self { iommufd, id, name, ranges, granule, node, views_only: AtomicBool::new(false) })
    }

    /// One that another process has made. From now on what is pinned counts for this process, where the kernel can do that
    /// and all that is mapped is files; else it counts for the process before, which has ended, until it is unmapped.
    pub(super) fn resumed(file: OwnedFd, id: u32, cards: &[&str], node: Option<u32>) -> Result<Self> {
        let ioas = Self::new(Iommufd::kept(file), id, &cards.join(", "), node)?;
        // Who may lock as much as it likes is counted, and not asked. The kernel (seen with 7.3) then lets the count stay where it
        // was, and yet takes what is unmapped later off the new process's, which ends below zero.
        let at_will = Caller::of(&Root::default()).is_ok_and(|own| own.locks_at_will());
        if !at_will && let Err(error) = ioas.iommufd.change_process() {
            tracing::debug!(%error, space = ioas.name, "pinned memory still counts for the process before");
        }
        Ok(ioas)
    }

    fn try_map(&self, memory: &Memfd, offset: u64, iova: u64, size: u64) -> Result<()> {
        let failed = |errno| {
            let (space, granule, ranges) = (self.name.as_str(), self.granule, &self.ranges[..]);
            FailedMap { space, iova, size, granule, ranges, guessed: false, available: None }.explain(errno)
        };
        if !self.views_only.load(Ordering::Relaxed) {
            match self.iommufd.map_file(self.id, memory, offset, iova, size) {
                // Linux before 6.13.
                Err(Errno::NOTTY) => self.views_only.store(true, Ordering::Relaxed),
                outcome => return outcome.map_err(failed),
            }
        }
        let (view, start) = view(memory, offset, size)?;
        self.iommufd.map(self.id, &view, start, iova, size).map_err(failed)
    }
}

impl Mapper for Ioas {
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

    fn map(&self, memory: &Memfd, offset: u64, iova: u64, size: u64) -> std::result::Result<(), MapError> {
        Ok(self.try_map(memory, offset, iova, size)?)
    }

    fn unmap(&self, iova: u64, size: u64) -> std::result::Result<(), MapError> {
        Ok(unmapped(self.iommufd.unmap(self.id, iova, size), &self.name, iova, size)?)
    }

    fn unmap_if_mapped(&self, iova: u64, size: u64) -> std::result::Result<(), MapError> {
        let (iommufd, granule) = (&self.iommufd, self.granule);
        let outcome = match iommufd.unmap(self.id, iova, size) {
            // Nothing is mapped there, or more than that.
            Err(Errno::NOENT) => Probe { iova, size, granule }.finds_nothing(
                |view, at| iommufd.map(self.id, view, 0, at, granule),
                |at, size| iommufd.unmap(self.id, at, size),
            ),
            outcome => outcome.map(drop),
        };
        Ok(gone(outcome, &self.name, iova, size)?)
    }

    fn kept(&self) -> Option<KeptSpace<'_>> {
        let kernel = KernelRecord::Iommufd { ioas: self.id, node: self.node };
        Some(KeptSpace { kernel, space: self.iommufd.as_fd(), groups: Vec::new() })
    }
}
