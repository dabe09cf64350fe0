//! What a transport has to do: reach a card's regions and interrupts, and map memory for it.
//!
//! There are several (the kernel's group, cdev and NOIOMMU; vfio-user); everything above this file is the same for all of them.

use crate::dma::DmaRequest;
use crate::error::{Error, ErrorKind, Result};
use crate::grant::Grant;
use crate::record::{KeptCard, KeptSpace};
use jitney_memory::{Memfd, Registers};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::RangeInclusive;
use std::os::fd::BorrowedFd;

/// A way to reach one card.
///
/// Regions and interrupt indexes are numbered as VFIO numbers them for PCI (`VFIO_PCI_BAR0_REGION_INDEX` …).
pub trait Transport: fmt::Debug + Send + Sync {
    /// What the region is; size 0 if it is not there.
    fn region(&self, index: u32) -> Result<RegionInfo>;

    /// Reads from a region.
    fn read(&self, region: u32, offset: u64, data: &mut [u8]) -> Result<()>;

    /// Writes to a region.
    fn write(&self, region: u32, offset: u64, data: &[u8]) -> Result<()>;

    /// Maps a whole region whose [`RegionInfo::mappable`] is set.
    fn map(&self, region: u32) -> Result<Registers>;

    /// How many vectors the card has of this kind; 0 if it has none.
    fn interrupt_count(&self, kind: InterruptKind) -> Result<u32>;

    /// Enables interrupts of `kind`, all silent, so that as many of the first `count` vectors as possible can be wired, and
    /// says how many these are: a machine may have fewer to give than a card has. Called before [`arm`](Self::arm), and
    /// again after [`disarm`](Self::disarm).
    ///
    /// # Errors
    /// What the transport says, if there is not even one.
    fn enable(&self, kind: InterruptKind, count: u32) -> Result<u32> {
        let silent = vec![None; usize::try_from(count).unwrap_or(usize::MAX)];
        self.arm(kind, 0, &silent)?;
        Ok(count)
    }

    /// Wires vectors of `kind` to eventfds, from vector `first` on; `None` leaves a vector silent.
    fn arm(&self, kind: InterruptKind, first: u32, events: &[Option<BorrowedFd<'_>>]) -> Result<()>;

    /// Disables interrupts of `kind`.
    fn disarm(&self, kind: InterruptKind) -> Result<()>;

    /// Lets a vector fire again that masks itself each time, as the interrupt line ([`InterruptKind::Intx`]) does; at once
    /// if its request is still up.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] unless the transport says otherwise.
    fn unmask(&self, kind: InterruptKind, vector: u32) -> Result<()> {
        Err(Error::new(ErrorKind::Unsupported, format!("{self:?} cannot unmask {kind:?} interrupt {vector}")))
    }

    /// Resets the card and waits until it can be used again.
    fn reset(&self) -> Result<()>;

    /// Something to hand to another process so that it reaches the card.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] unless the transport says otherwise.
    fn grant(&self) -> Result<Grant> {
        Err(Error::new(ErrorKind::Unsupported, format!("{self:?} cannot be shared with another process")))
    }

    /// Whether the card is out of reach for good, as was found when something was asked of it: the process that emulates it has
    /// ended or did not answer. A card that can come back has not ended.
    fn has_ended(&self) -> bool {
        false
    }

    /// What another process needs to go on with the card when this one is gone; none if no other can.
    fn kept(&self) -> Option<KeptCard<'_>> {
        None
    }
}

/// A region as the transport describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RegionInfo {
    /// Size in bytes.
    pub size: u64,
    /// Whether all of it can be mapped.
    pub mappable: bool,
}

/// The kinds of interrupt a PCI card can have, with the index that VFIO gives each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u32)]
pub enum InterruptKind {
    /// One level-triggered line.
    Intx = 0,
    /// Message signalled.
    Msi = 1,
    /// Message signalled, with a table.
    MsiX = 2,
    /// The card reports an error.
    Error = 3,
    /// Somebody wants the card back: it is being unplugged or unbound.
    Request = 4,
}

/// Something that maps memory for cards: a type1 container, an iommufd IOAS, or one vfio-user server.
pub trait Mapper: fmt::Debug + Send + Sync {
    /// The IOVA ranges that may be mapped, ascending.
    fn ranges(&self) -> Vec<RangeInclusive<u64>>;

    /// The smallest page it maps, in bytes: IOVAs and sizes are multiples of it.
    fn granule(&self) -> u64;

    /// The most bytes that one [`map`](Self::map) should cover, so that it does not hold up others for long: mapping
    /// pinned memory through the kernel takes time by the page.
    fn piece(&self) -> u64 {
        u64::MAX
    }

    /// Set if mapping pins memory: all of it is there from then on, and stays where it is.
    fn pinning(&self) -> Option<Pinning> {
        None
    }

    /// Set if IOVAs are physical addresses: there is no IOMMU, so that memory can be mapped nowhere but where it lies, and
    /// no allocator has a choice.
    fn physical(&self) -> Option<&dyn PhysicalMemory> {
        None
    }

    /// Maps `size` bytes of `memory` from `offset` on at `iova`, readable and writable by the card.
    fn map(&self, memory: &Memfd, offset: u64, iova: u64, size: u64) -> std::result::Result<(), MapError>;

    /// Unmaps exactly `size` bytes at `iova`. When it returns without an error, no card touches that memory any more.
    fn unmap(&self, iova: u64, size: u64) -> std::result::Result<(), MapError>;

    /// Unmaps `size` bytes at `iova` that may be mapped just so, or not at all: what a process before this one had begun.
    /// When it returns without an error, no card touches that memory any more.
    fn unmap_if_mapped(&self, iova: u64, size: u64) -> std::result::Result<(), MapError> {
        match self.unmap(iova, size) {
            Err(MapError::Failed(error)) if error.kind() == ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }

    /// Says that `size` bytes of `memory` from `offset` on are mapped at `iova` already, by a process before this one. Only
    /// a mapper that itself keeps memory from being freed needs to know: [`physical`](Self::physical).
    fn adopt(&self, memory: &Memfd, offset: u64, iova: u64, size: u64) -> std::result::Result<(), MapError> {
        let _ = (memory, offset, iova, size);
        Ok(())
    }

    /// What another process needs to go on with this address space when this one is gone; none if no other can, or if what
    /// is kept of the card is all that it needs.
    fn kept(&self) -> Option<KeptSpace<'_>> {
        None
    }
}

/// That a [`Mapper`] pins what it maps, and what it would like to pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pinning {
    /// The NUMA node that its cards are near to; none if it does not matter.
    pub node: Option<u32>,
}

impl Pinning {
    /// What suits both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { node: self.node.filter(|_| self == other) }
    }
}

/// Why a [`Mapper`] did not map or unmap.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// It never will again: what it maps for is gone, and with it all that was mapped. Only the mapper knows that; no
    /// kind of error and no errno says it, since a peer that is well may answer with any.
    #[error("{0}")]
    Gone(Error),
    /// It failed, and what was mapped before still is.
    #[error("{0}")]
    Failed(Error),
}

impl From<Error> for MapError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<jitney_memory::Error> for MapError {
    fn from(error: jitney_memory::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<MapError> for Error {
    fn from(error: MapError) -> Self {
        match error {
            MapError::Gone(error) | MapError::Failed(error) => error,
        }
    }
}

/// Who makes memory that cards see at its physical address.
pub trait PhysicalMemory {
    /// Makes memory that is one piece in the machine and where `request` wants it, and says at which address that is. Its
    /// size is that of the request or more.
    fn make(&self, request: &DmaRequest) -> Result<(Memfd, u64)>;
}
