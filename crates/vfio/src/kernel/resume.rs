//! Going on with an address space of the kernel's that another process has made.
//!
//! The kernel sees the same open files. What it is asked again changes nothing: which addresses can be mapped, and, where it
//! can, to count pinned memory for this process from now on.

use super::device::{DeviceRecord, Origin, VfioDevice};
use super::group::{Groups, Kind};
use super::iommufd::Ioas;
use super::noiommu::NoIommu;
use super::type1::Type1;
use crate::error::Result;
use crate::transport::Mapper;
use jitney_pci::Address;
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Which interface it is, and what has no descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum KernelRecord {
    /// A container with the type1 IOMMU: its groups, and the NUMA node where memory is best taken.
    Type1 { groups: Vec<u32>, node: Option<u32> },
    /// An iommufd: the number of its address space, and the node.
    Iommufd { ioas: u32, node: Option<u32> },
    /// A container without an IOMMU: its groups.
    NoIommu { groups: Vec<u32> },
}

impl KernelRecord {
    /// How many groups have a descriptor.
    pub(crate) fn groups(&self) -> usize {
        match self {
            Self::Type1 { groups, .. } | Self::NoIommu { groups } => groups.len(),
            Self::Iommufd { .. } => 0,
        }
    }
}

/// An address space that is gone on with.
pub(crate) struct KernelResumed {
    pub(crate) mapper: Arc<dyn Mapper>,
    /// None with iommufd.
    groups: Option<Arc<Groups>>,
    /// The cards that were opened together.
    all: Vec<Address>,
}

impl KernelResumed {
    /// The address space behind `space`, the container or the iommufd, for the cards at `addresses`. As many `groups` as
    /// the record has.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`](crate::ErrorKind::Protocol) if `space` is something else; what the kernel says.
    pub(crate) fn new(
        record: &KernelRecord,
        space: OwnedFd,
        groups: Vec<OwnedFd>,
        addresses: &[&str],
    ) -> Result<Self> {
        // An address that another process wrote down is one.
        let all = addresses.iter().filter_map(|address| address.parse().ok()).collect();
        let numbered = |numbers: &[u32], groups: Vec<OwnedFd>| numbers.iter().copied().zip(groups).collect();
        Ok(match record {
            KernelRecord::Type1 { groups: numbers, node } => {
                let groups = Arc::new(Groups::resumed(Kind::Type1, space, numbered(numbers, groups))?);
                let mapper = Arc::new(Type1::new(Arc::clone(&groups), *node)?);
                Self { mapper, groups: Some(groups), all }
            }
            KernelRecord::NoIommu { groups: numbers } => {
                let groups = Arc::new(Groups::resumed(Kind::NoIommu, space, numbered(numbers, groups))?);
                let mapper = Arc::new(NoIommu::resumed(Arc::clone(&groups)));
                Self { mapper, groups: Some(groups), all }
            }
            KernelRecord::Iommufd { ioas, node } => {
                let mapper = Arc::new(Ioas::resumed(space, *ioas, addresses, *node)?);
                Self { mapper, groups: None, all }
            }
        })
    }

    /// A card of this address space behind its open file.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`](crate::ErrorKind::Protocol) if the file is no VFIO device's.
    pub(crate) fn device(&self, record: &DeviceRecord, file: OwnedFd, address: String) -> Result<VfioDevice> {
        let origin = match &self.groups {
            Some(groups) => Origin::Group(Arc::clone(groups) as _),
            None => Origin::Cdev,
        };
        VfioDevice::resumed(record, file, address, origin, self.all.clone())
    }
}
