//! Memory that a process and the cards of an address space both see.

use crate::error::{Error, ErrorKind, Result};
use crate::keeper::{Handed, Keeper};
use crate::own_buffer::OwnBuffer;
use crate::still_used::StillUsed;
use jitney_memory::{Access, Mapping, Memfd, PageSize};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a DMA buffer has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DmaRequest {
    /// Size in bytes; rounded up to whole pages.
    pub size: u64,
    /// Alignment of its IOVA in bytes, a power of two up to 1 GiB; 1 if it does not matter.
    pub align: u64,
    /// The highest IOVA that the card can reach, as `0xffff_ffff` for a card with 32-bit addresses.
    pub top: u64,
    /// Which pages to make it of.
    pub pages: PageSize,
}

impl DmaRequest {
    /// A buffer of `size` bytes of normal pages anywhere in a 64-bit address space.
    #[must_use]
    pub const fn new(size: u64) -> Self {
        Self { size, align: 1, top: u64::MAX, pages: PageSize::Normal }
    }

    /// The same in an address space that ends at `top`.
    #[must_use]
    pub const fn below(mut self, top: u64) -> Self {
        self.top = top;
        self
    }

    /// The same with its IOVA at a multiple of `align`.
    #[must_use]
    pub const fn aligned(mut self, align: u64) -> Self {
        self.align = align;
        self
    }

    /// The same of other pages.
    #[must_use]
    pub const fn of(mut self, pages: PageSize) -> Self {
        self.pages = pages;
        self
    }

    /// The size rounded up to whole pages.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the size is zero, or so large that it cannot be rounded up.
    pub fn rounded_size(&self) -> Result<u64> {
        match self.size.checked_next_multiple_of(self.pages.bytes()) {
            Some(size) if size > 0 && i64::try_from(size).is_ok() => Ok(size),
            _ => Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "a DMA buffer cannot have {} bytes; ask for at least 1 and less than 2^63",
                    self.size
                ),
            )),
        }
    }
}

impl From<u64> for DmaRequest {
    fn from(size: u64) -> Self {
        Self::new(size)
    }
}

/// A buffer's place in its address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct DmaPlace {
    /// Where cards see its first byte.
    pub iova: u64,
    /// Its size in bytes, whole pages.
    pub size: u64,
}

/// Memory that this process and every card of an address space see, the card at [`iova`](Self::iova).
///
/// A clone is the same memory; it is unmapped when the last clone is gone, so whoever starts a transfer keeps one until
/// the engine has stopped. Cards and other processes may write to it at any time: it is read and written by copies and
/// single volatile accesses, never through a slice.
#[derive(Clone)]
pub struct DmaBuffer {
    inner: Arc<Inner>,
}

struct Inner {
    place: DmaPlace,
    view: Mapping,
    memory: Memfd,
    /// Whether the memory itself was handed out, so that there may be other views of it.
    handed_out: AtomicBool,
    keeper: Option<Arc<dyn Keeper>>,
}

impl DmaBuffer {
    /// The buffer that `keeper` mapped at `place`, seen through a new mapping of `memory`.
    pub fn new(memory: Memfd, place: DmaPlace, keeper: Arc<dyn Keeper>) -> Result<Self> {
        let length = usize::try_from(place.size)
            .map_err(|_| Error::new(ErrorKind::Invalid, format!("{:#x} bytes do not fit", place.size)))?;
        let view = match Mapping::shared(&memory, 0, length, Access::ReadWrite) {
            Ok(view) => view,
            Err(error) => {
                // Nobody will ever hold this buffer, so it goes back at once; the first error is the one that matters.
                if let Err(second) = keeper.take_back(Handed::Buffer { iova: place.iova }) {
                    tracing::warn!(iova = place.iova, error = %second, "a DMA buffer could not be given back");
                }
                return Err(error.into());
            }
        };
        let handed_out = AtomicBool::new(false);
        Ok(Self { inner: Arc::new(Inner { place, view, memory, handed_out, keeper: Some(keeper) }) })
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

    /// How many of its bytes are on pages of 2 MiB or more: all, if it was asked to be [of](DmaRequest::of) huge pages; else those
    /// that the kernel could put on large pages when it pinned them (Linux 6.1 and later). Memory that no kernel pinned, as for an
    /// emulated board, has none of them as a rule.
    ///
    /// # Errors
    /// What the system says instead.
    pub fn on_large_pages(&self) -> Result<u64> {
        Ok(self.inner.memory.on_large_pages()?)
    }

    /// This process's view of it.
    #[must_use]
    pub fn view(&self) -> &Mapping {
        &self.inner.view
    }

    /// The memory itself, to hand to another process.
    #[must_use]
    pub fn memory(&self) -> &Memfd {
        self.inner.handed_out.store(true, Ordering::Release);
        &self.inner.memory
    }

    /// [`iova`](Self::iova) for a card with addresses of 32 bits.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the buffer does not end below 4 GiB: ask for one [below](DmaRequest::below) `0xffff_ffff`.
    pub fn iova32(&self) -> Result<u32> {
        let last = self.iova().saturating_add(self.size() - 1);
        let fits = u32::try_from(last).is_ok();
        u32::try_from(self.iova()).ok().filter(|_| fits).ok_or_else(|| {
            let what = format!("the DMA buffer at IOVA {:#x} ends beyond what 32 bits address", self.iova());
            Error::new(ErrorKind::Invalid, what).with_remedy("ask for one below 0xffff_ffff")
        })
    }

    /// The buffer as one that is this program's alone, whose bytes are a slice, if there is no other handle of it: no clone, no
    /// transfer under way, and nobody was given its [memory](Self::memory). Else it comes back as it is.
    ///
    /// # Errors
    /// The buffer itself.
    pub fn into_own(mut self) -> std::result::Result<OwnBuffer, Self> {
        if Arc::strong_count(&self.inner) > 1 {
            StillUsed::look_everywhere();
        }
        let only = Arc::get_mut(&mut self.inner).is_some_and(|inner| !*inner.handed_out.get_mut());
        if only { Ok(OwnBuffer::new(self)) } else { Err(self) }
    }

    /// Its view, for whoever has the only handle.
    pub(crate) fn view_mut(&mut self) -> Option<&mut Mapping> {
        Arc::get_mut(&mut self.inner).map(|inner| &mut inner.view)
    }

    /// Copies bytes out of the buffer.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        Ok(self.inner.view.read(offset, bytes)?)
    }

    /// Copies bytes into the buffer.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        Ok(self.inner.view.write(offset, bytes)?)
    }

    /// Gives the buffer back, waits until no card reaches it any more, and says whether that worked. Dropping the last
    /// clone does the same but need not wait, and can only log.
    ///
    /// # Errors
    /// [`ErrorKind::Held`] if another clone is alive; then nothing was done to the memory and that clone stays valid.
    pub fn free(self) -> Result<()> {
        if Arc::strong_count(&self.inner) > 1 {
            StillUsed::look_everywhere();
        }
        match Arc::try_unwrap(self.inner) {
            Ok(mut inner) => match inner.keeper.take() {
                Some(keeper) => keeper.take_back(Handed::Buffer { iova: inner.place.iova }),
                None => Ok(()),
            },
            Err(shared) => Err(Error::new(
                ErrorKind::Held,
                format!("the DMA buffer at IOVA {:#x} is still in use, by a clone of it", shared.place.iova),
            )),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.take_back_soon(Handed::Buffer { iova: self.place.iova });
        }
    }
}

impl fmt::Debug for DmaBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DmaBuffer({:#x} bytes at IOVA {:#x})", self.size(), self.iova())
    }
}
