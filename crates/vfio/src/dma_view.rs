//! Memory that another process and its cards write to, and this one reads.

use crate::dma::DmaPlace;
use crate::error::{Error, ErrorKind, Result};
use crate::keeper::{Handed, Keeper};
use jitney_memory::{Access, Mapping};
use std::fmt;
use std::os::fd::AsFd;
use std::sync::Arc;

/// A DMA buffer of another process, to be read: it was attached to by a token or a name, and there is no way to write to it. Cards have
/// it at the same [`iova`](Self::iova).
///
/// A clone is the same memory; it is let go of when the last clone is gone. Its bytes may change at any time, so they are copied out
/// and read by single words, never through a slice.
#[derive(Clone)]
pub struct DmaView {
    inner: Arc<Inner>,
}

struct Inner {
    place: DmaPlace,
    offer: u64,
    view: Mapping,
    keeper: Arc<dyn Keeper>,
}

impl DmaView {
    /// The buffer at `place`, seen through a new mapping of `memory`, which `keeper` takes back; it came by this offer.
    ///
    /// # Errors
    /// What `mmap` says; then the buffer goes back.
    pub fn new(memory: impl AsFd, place: DmaPlace, offer: u64, keeper: Arc<dyn Keeper>) -> Result<Self> {
        let mapped = usize::try_from(place.size)
            .map_err(|_| Error::new(ErrorKind::Invalid, format!("{:#x} bytes do not fit", place.size)))
            .and_then(|length| Ok(Mapping::shared(&memory, 0, length, Access::ReadOnly)?));
        match mapped {
            Ok(view) => Ok(Self { inner: Arc::new(Inner { place, offer, view, keeper }) }),
            Err(error) => {
                keeper.take_back_soon(Handed::Buffer { iova: place.iova });
                Err(error)
            }
        }
    }

    /// Where cards see its first byte.
    #[must_use]
    pub fn iova(&self) -> u64 {
        self.inner.place.iova
    }

    /// Its size in bytes, whole pages.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.inner.place.size
    }

    /// This process's view of it, which refuses to be written to.
    #[must_use]
    pub fn view(&self) -> &Mapping {
        &self.inner.view
    }

    /// Copies bytes out of the buffer.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfBounds`] for a range outside of it.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        Ok(self.inner.view.read(offset, bytes)?)
    }

    /// Whether who offers it still does: it has not withdrawn the offer, let go of the buffer, or ended in whatever way. The memory is
    /// there in any case.
    ///
    /// # Errors
    /// [`ErrorKind::Disconnected`] if the broker is gone.
    pub fn is_offered(&self) -> Result<bool> {
        self.inner.keeper.is_offered(self.inner.offer)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.keeper.take_back_soon(Handed::Buffer { iova: self.place.iova });
    }
}

impl fmt::Debug for DmaView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DmaView({:#x} bytes at IOVA {:#x})", self.size(), self.iova())
    }
}
