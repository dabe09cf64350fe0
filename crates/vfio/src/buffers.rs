//! DMA buffers of an address space: the memory, the IOVA and the map, in that order, and back in the reverse order.

use crate::address_space::{AddressSpace, NotMapped};
use crate::dma::{DmaBuffer, DmaPlace, DmaRequest};
use crate::error::{Error, ErrorKind, Result};
use crate::keeper::{Handed, Keeper};
use jitney_iova::{Allocator, Request};
use jitney_memory::Memfd;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An address space and its allocator, which it has in common with the spaces that it is joined of.
pub(crate) struct Buffers {
    space: AddressSpace,
    allocator: Arc<Mutex<Allocator>>,
}

/// How many addresses are tried for one buffer.
const TRIES: usize = 8;

/// What becomes of an IOVA that is no longer allocated.
#[derive(Debug, Clone, Copy)]
enum End {
    /// It may be used again.
    Free,
    /// Something that is not ours is mapped there: it is used again when there is nothing else.
    Quarantine,
    /// It may still be mapped: a late access must not meet another buffer.
    Lose,
}

impl Buffers {
    pub(crate) fn new(space: AddressSpace) -> Result<Self> {
        let allocator = Arc::new(Mutex::new(Allocator::new(space.ranges(), space.granule())?));
        Ok(Self { space, allocator })
    }

    /// Buffers of `part`, one of the spaces that this one is joined of, at IOVAs that nothing else of this one has.
    pub(crate) fn of_part(&self, part: AddressSpace) -> Self {
        Self { space: part, allocator: Arc::clone(&self.allocator) }
    }

    pub(crate) fn make(self: &Arc<Self>, request: DmaRequest) -> Result<DmaBuffer> {
        let (memory, iova) = match self.space.physical() {
            Some(physical) => {
                let (memory, iova) = physical.make(&request)?;
                self.allocator().reserve(iova..iova.saturating_add(memory.size()))?;
                self.map(&memory, iova)?;
                (memory, iova)
            }
            None => self.make_where_it_fits(request)?,
        };
        let size = memory.size();
        DmaBuffer::new(memory, DmaPlace { iova, size }, Arc::clone(self) as _)
    }

    /// Memory that is mapped at an IOVA of the allocator's choice, or the next one where something that is not ours is
    /// mapped already.
    fn make_where_it_fits(&self, request: DmaRequest) -> Result<(Memfd, u64)> {
        let align = match request.align.is_power_of_two() {
            true => request.align.max(request.pages.bytes()),
            // For the allocator to refuse.
            false => request.align,
        };
        let wanted = Request { size: request.rounded_size()?, align, top: request.top };
        let mut made = None;
        let mut tries = TRIES;
        loop {
            // Not across the map: mapping much memory takes long.
            let range = self.allocator().allocate(wanted)?;
            let memory = match made.take() {
                Some(memory) => memory,
                None => {
                    Memfd::create("jitney-dma", range.end - range.start, request.pages).inspect_err(|_| {
                        self.end(range.start, End::Free);
                    })?
                }
            };
            tries -= 1;
            match self.map(&memory, range.start) {
                Ok(()) => return Ok((memory, range.start)),
                Err(error) if is_taken(&error) && tries > 0 => {
                    tracing::warn!(%error, "other addresses are tried");
                    made = Some(memory);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Maps all of `memory` at `iova`, or nothing; then the IOVA is no longer allocated.
    fn map(&self, memory: &Memfd, iova: u64) -> Result<()> {
        for (offset, length) in pieces(memory.size(), self.space.piece()) {
            if let Err(NotMapped { error, left_behind }) =
                self.space.map(memory, offset, iova + offset, length)
            {
                let undone = self.unmap(iova, offset);
                if let Err(second) = &undone {
                    tracing::warn!(iova, size = offset, error = %second, "a map could not be undone");
                }
                let end = match left_behind || undone.is_err() {
                    true => End::Lose,
                    false if is_taken(&error) => End::Quarantine,
                    false => End::Free,
                };
                self.end(iova, end);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Unmaps in the pieces in which it was mapped: vfio-user wants each unmap to match a map. All are tried.
    fn unmap(&self, iova: u64, size: u64) -> Result<()> {
        pieces(size, self.space.piece())
            .map(|(offset, length)| self.space.unmap(iova + offset, length))
            .fold(Ok(()), Result::and)
    }

    fn end(&self, iova: u64, end: End) {
        let mut allocator = self.allocator();
        let ended = match end {
            End::Free => allocator.free(iova).map(drop),
            // Nobody absolves it: whose it is, and for how long, is not known here.
            End::Quarantine => allocator.quarantine(iova).map(drop),
            End::Lose => allocator.lose(iova).map(drop),
        };
        if let Err(error) = ended {
            tracing::error!(iova, %error, "the books on DMA buffers do not agree with their allocator");
        }
    }

    fn allocator(&self) -> MutexGuard<'_, Allocator> {
        // The allocator's own operations do not panic half-way, and nothing else happens under the lock.
        self.allocator.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper for Buffers {
    /// If a card cannot let go of the memory its IOVA is never used again: a late access must not meet another buffer.
    fn take_back(&self, what: Handed) -> Result<()> {
        let Handed::Buffer { iova } = what else {
            return Err(Error::new(ErrorKind::Invalid, format!("{what:?} is no buffer")));
        };
        let range =
            self.allocator().containing(iova).filter(|range| range.start == iova).ok_or_else(|| {
                Error::new(ErrorKind::NotFound, format!("there is no DMA buffer at IOVA {iova:#x}"))
            })?;
        let unmapped = self.unmap(iova, range.end - range.start);
        self.end(iova, if unmapped.is_ok() { End::Free } else { End::Lose });
        unmapped
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffers").field("space", &self.space).finish_non_exhaustive()
    }
}

/// `size` bytes in pieces of at most `piece`: offset and length of each.
fn pieces(size: u64, piece: u64) -> impl Iterator<Item = (u64, u64)> {
    let piece = piece.max(1);
    let mut offset = 0;
    std::iter::from_fn(move || {
        let length = piece.min(size - offset);
        let this = (offset, length);
        offset += length;
        (length > 0).then_some(this)
    })
}

/// Whether something else is mapped at these addresses, so that others may do. Not so where the whole address space is
/// somebody else's, which a board says with EPERM.
fn is_taken(error: &Error) -> bool {
    error.kind() == ErrorKind::Held && error.errno() != Some(rustix::io::Errno::PERM)
}

#[cfg(test)]
mod tests {
    use super::pieces;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_cover_all_once(size in 0..1_000_000_u64, piece in prop_oneof![1000..100_000_u64, Just(u64::MAX)]) {
            let mut end = 0;
            for (offset, length) in pieces(size, piece) {
                prop_assert_eq!(offset, end);
                prop_assert!(length > 0 && length <= piece);
                end += length;
            }
            prop_assert_eq!(end, size);
        }
    }
}
