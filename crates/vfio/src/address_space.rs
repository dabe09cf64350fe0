//! One IOVA space that one or more cards share.

use crate::error::{Error, ErrorKind, Result};
use crate::transport::{MapError, Mapper, PhysicalMemory, Pinning};
use jitney_memory::Memfd;
use std::ops::RangeInclusive;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One IOVA space that one or more cards share: a container, an IOAS, or the same map repeated to vfio-user servers.
///
/// It maps where it is told. Which addresses are free is for its one allocator to know: the [`Owner`](crate::Owner)'s,
/// or a broker's.
///
/// A card that dies does not take the others with it: from the moment when its mapper cannot reach it any more it is
/// left out, for good, since memory that was mapped meanwhile is unknown to it.
#[derive(Debug, Clone, Default)]
pub struct AddressSpace {
    members: Arc<[Arc<Member>]>,
}

/// Why memory was not mapped, and what that means for the addresses that it should have had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct NotMapped {
    /// Why. [`ErrorKind::Held`] means that something that is not ours is mapped there, so that other addresses may do.
    pub error: Error,
    /// A card that had it mapped already could not be brought to unmap it: the addresses must not be used again.
    pub left_behind: bool,
}

impl From<Error> for NotMapped {
    fn from(error: Error) -> Self {
        Self { error, left_behind: false }
    }
}

impl From<NotMapped> for Error {
    fn from(failed: NotMapped) -> Self {
        failed.error
    }
}

/// A mapper, and whether what it maps for is gone.
#[derive(Debug)]
struct Member {
    mapper: Arc<dyn Mapper>,
    gone: AtomicBool,
}

impl AddressSpace {
    /// The space that `mappers` make together.
    #[must_use]
    pub fn new(mappers: Vec<Arc<dyn Mapper>>) -> Self {
        let member = |mapper| Arc::new(Member { mapper, gone: AtomicBool::new(false) });
        Self { members: mappers.into_iter().map(member).collect() }
    }

    /// All of `spaces` as one: what is mapped in it is mapped in each of them, at the same IOVA.
    #[must_use]
    pub fn joined<'a>(spaces: impl IntoIterator<Item = &'a Self>) -> Self {
        Self { members: spaces.into_iter().flat_map(|space| space.members.iter().cloned()).collect() }
    }

    /// The IOVA ranges that every card of the space can use, ascending.
    #[must_use]
    pub fn ranges(&self) -> Vec<RangeInclusive<u64>> {
        let mut common = vec![0..=u64::MAX];
        for mapper in self.mappers() {
            let ranges = mapper.ranges();
            common = common.iter().flat_map(|a| ranges.iter().filter_map(|b| intersection(a, b))).collect();
        }
        common
    }

    /// The smallest page that every card of the space can map, in bytes.
    #[must_use]
    pub fn granule(&self) -> u64 {
        self.mappers().map(|mapper| mapper.granule()).max().unwrap_or(4096)
    }

    /// The most bytes that one map should cover, so that it does not hold up others.
    #[must_use]
    pub fn piece(&self) -> u64 {
        self.mappers().map(|mapper| mapper.piece()).min().unwrap_or(u64::MAX)
    }

    /// Who makes memory for this space, if a card of it sees physical addresses: such memory can be mapped only where it
    /// lies.
    #[must_use]
    pub fn physical(&self) -> Option<&dyn PhysicalMemory> {
        self.mappers().find_map(|mapper| mapper.physical())
    }

    /// Set if a card of the space has memory pinned, with what suits all of those that do.
    #[must_use]
    pub fn pinning(&self) -> Option<Pinning> {
        let there = self.members.iter().filter(|member| !member.gone.load(Ordering::Relaxed));
        there.filter_map(|member| member.mapper.pinning()).reduce(Pinning::and)
    }

    /// Maps `size` bytes of `memory` from `offset` on at `iova` for every card that is still there. On an error none has
    /// it mapped, unless it says so.
    ///
    /// Memory that will be pinned is put near the cards and on large pages before, as far as that can be had. No other is:
    /// what no card uses of it is never taken.
    ///
    /// # Errors
    /// What a mapper says. That a card is gone is an error only if all are.
    pub fn map(
        &self,
        memory: &Memfd,
        offset: u64,
        iova: u64,
        size: u64,
    ) -> std::result::Result<(), NotMapped> {
        if let Some(Pinning { node }) = self.pinning()
            && let Err(error) = memory.settle(offset, size, node)
        {
            // Any pages from anywhere will do.
            tracing::debug!(%error, iova, size, "memory is mapped as it is");
        }
        let mut last_gone = None;
        let mut reached = self.members.is_empty();
        for (done, member) in self.members.iter().enumerate() {
            if member.gone.load(Ordering::Relaxed) {
                continue;
            }
            match member.mapper.map(memory, offset, iova, size) {
                Ok(()) => reached = true,
                Err(MapError::Gone(error)) => {
                    member.is_gone(&error);
                    last_gone = Some(error);
                }
                Err(MapError::Failed(error)) => {
                    let mut left_behind = false;
                    for earlier in &self.members[..done] {
                        if let Err(second) = earlier.unmap(iova, size) {
                            tracing::warn!(iova, size, error = %second, "a map could not be undone");
                            left_behind = true;
                        }
                    }
                    return Err(NotMapped { error, left_behind });
                }
            }
        }
        match last_gone {
            _ if reached => Ok(()),
            Some(error) => Err(error.into()),
            None => {
                let what = format!(
                    "mapping {size:#x} bytes at IOVA {iova:#x}: every card that could reach them is gone"
                );
                Err(Error::new(ErrorKind::LinkDown, what).into())
            }
        }
    }

    /// From now on leaves out what `mapper` maps for: the last of its cards has been closed, because it is being unplugged. What
    /// is mapped there can still be unmapped; if the kernel has done so itself, that is no error.
    pub fn leave_out(&self, mapper: &Arc<dyn Mapper>) {
        let same = |member: &&Arc<Member>| ptr::addr_eq(Arc::as_ptr(&member.mapper), Arc::as_ptr(mapper));
        for member in self.members.iter().filter(same) {
            member.gone.store(true, Ordering::Relaxed);
        }
    }

    /// Unmaps exactly `size` bytes at `iova` for every card. All are tried; the first error is returned. Of a card that
    /// is gone nothing is left to unmap.
    ///
    /// # Errors
    /// What a mapper says.
    pub fn unmap(&self, iova: u64, size: u64) -> Result<()> {
        self.members.iter().map(|member| member.unmap(iova, size)).fold(Ok(()), Result::and)
    }

    /// Unmaps `size` bytes at `iova` that may be mapped just so for every card, for some or for none: what the process
    /// before this one had begun, to map or to unmap. Not being mapped is no error. `iova` and `size` are those that it
    /// called [`map`](Self::map) with: of memory that was mapped in pieces, a piece.
    ///
    /// # Errors
    /// What a mapper says. All are tried; the first error is returned.
    pub fn unmap_if_mapped(&self, iova: u64, size: u64) -> Result<()> {
        let unmap = |mapper: &dyn Mapper| mapper.unmap_if_mapped(iova, size);
        self.members.iter().map(|member| member.unmap_by(unmap)).fold(Ok(()), Result::and)
    }

    /// Says that `size` bytes of `memory` from `offset` on are mapped at `iova` already, by the process before this one.
    /// Only a space that makes [physical](Self::physical) memory needs to be told: without an IOMMU no kernel keeps the
    /// memory of a client that ends, and this space does from now on.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the memory does not lie there.
    pub fn adopt(&self, memory: &Memfd, offset: u64, iova: u64, size: u64) -> Result<()> {
        self.mappers().try_for_each(|mapper| Ok(mapper.adopt(memory, offset, iova, size)?))
    }

    pub(crate) fn mappers(&self) -> impl Iterator<Item = &Arc<dyn Mapper>> {
        self.members.iter().map(|member| &member.mapper)
    }
}

impl Member {
    /// A mapper that reached nobody has hung up, and the card's side of its maps ends with that.
    fn unmap(&self, iova: u64, size: u64) -> Result<()> {
        self.unmap_by(|mapper| mapper.unmap(iova, size))
    }

    /// The same by another way to unmap.
    fn unmap_by(&self, unmap: impl FnOnce(&dyn Mapper) -> std::result::Result<(), MapError>) -> Result<()> {
        match unmap(&*self.mapper) {
            Ok(()) => Ok(()),
            Err(MapError::Gone(error)) => {
                self.is_gone(&error);
                Ok(())
            }
            Err(MapError::Failed(_)) if self.gone.load(Ordering::Relaxed) => Ok(()),
            Err(MapError::Failed(error)) => Err(error),
        }
    }

    /// What this mapper maps for is gone; told once.
    fn is_gone(&self, error: &Error) {
        if !self.gone.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "a card is gone; memory is no longer mapped for it");
        }
    }
}

fn intersection(a: &RangeInclusive<u64>, b: &RangeInclusive<u64>) -> Option<RangeInclusive<u64>> {
    let both = *a.start().max(b.start())..=*a.end().min(b.end());
    (!both.is_empty()).then_some(both)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jitney_memory::PageSize;
    use std::sync::Mutex;

    /// Fails with `error`, or keeps account and fails to unmap if it is `sticky`.
    #[derive(Debug, Default)]
    struct Scripted {
        error: Option<MapError>,
        sticky: bool,
        pinning: Option<Pinning>,
        mapped: Mutex<Vec<u64>>,
    }

    fn error(kind: ErrorKind) -> Error {
        Error::new(kind, "the test says no")
    }

    impl Scripted {
        fn failing(kind: ErrorKind) -> Arc<Self> {
            Arc::new(Self { error: Some(MapError::Failed(error(kind))), ..Self::default() })
        }

        fn gone() -> Arc<Self> {
            Arc::new(Self { error: Some(MapError::Gone(error(ErrorKind::LinkDown))), ..Self::default() })
        }

        fn outcome(&self) -> std::result::Result<(), MapError> {
            self.error.clone().map_or(Ok(()), Err)
        }
    }

    impl Mapper for Scripted {
        fn ranges(&self) -> Vec<RangeInclusive<u64>> {
            vec![0..=u64::MAX]
        }

        fn granule(&self) -> u64 {
            4096
        }

        fn pinning(&self) -> Option<Pinning> {
            self.pinning
        }

        fn map(&self, _: &Memfd, _: u64, iova: u64, _: u64) -> std::result::Result<(), MapError> {
            self.outcome()?;
            self.mapped.lock().unwrap().push(iova);
            Ok(())
        }

        fn unmap(&self, iova: u64, _: u64) -> std::result::Result<(), MapError> {
            self.outcome()?;
            if self.sticky {
                return Err(error(ErrorKind::System).into());
            }
            self.mapped.lock().unwrap().retain(|other| *other != iova);
            Ok(())
        }
    }

    fn kind(outcome: std::result::Result<(), NotMapped>) -> ErrorKind {
        outcome.unwrap_err().error.kind()
    }

    fn page() -> Memfd {
        Memfd::create("test", 4096, PageSize::Normal).unwrap()
    }

    #[test]
    fn a_dead_card_does_not_take_the_others_with_it() {
        let healthy = Arc::new(Scripted::default());
        let space = AddressSpace::new(vec![Scripted::gone(), Arc::clone(&healthy) as _]);
        space.map(&page(), 0, 0x1000, 4096).unwrap();
        assert_eq!(*healthy.mapped.lock().unwrap(), [0x1000]);
        space.unmap(0x1000, 4096).unwrap();
        assert!(healthy.mapped.lock().unwrap().is_empty());
    }

    /// A server that is well may answer with any errno: that does not make it a dead one, whose memory may be used again.
    #[test]
    fn no_kind_of_error_makes_a_card_a_dead_one() {
        for no in [ErrorKind::LinkDown, ErrorKind::TimedOut, ErrorKind::Disconnected, ErrorKind::System] {
            let space = AddressSpace::new(vec![Scripted::failing(no), Arc::default() as Arc<Scripted>]);
            for _ in 0..2 {
                assert_eq!(kind(space.map(&page(), 0, 0x1000, 4096)), no);
                assert_eq!(space.unmap(0x1000, 4096).unwrap_err().kind(), no);
            }
        }
    }

    #[test]
    fn when_all_cards_are_dead_nothing_can_be_mapped() {
        let space = AddressSpace::new(vec![Scripted::gone()]);
        assert_eq!(kind(space.map(&page(), 0, 0, 4096)), ErrorKind::LinkDown);
        assert_eq!(kind(space.map(&page(), 0, 0, 4096)), ErrorKind::LinkDown);
        space.unmap(0, 4096).unwrap();
    }

    #[test]
    fn what_was_left_out_is_no_longer_mapped_for_and_may_be_unmapped_already() {
        let (leaving, staying) = (Scripted::failing(ErrorKind::Invalid), Arc::new(Scripted::default()));
        let leaving: Arc<dyn Mapper> = leaving;
        let parts = [Arc::clone(&leaving), Arc::clone(&staying) as _].map(|one| AddressSpace::new(vec![one]));
        let all = AddressSpace::joined(&parts);
        assert_eq!(kind(all.map(&page(), 0, 0, 4096)), ErrorKind::Invalid);
        all.leave_out(&leaving);
        all.map(&page(), 0, 0, 4096).unwrap();
        assert_eq!(*staying.mapped.lock().unwrap(), [0]);
        all.unmap(0, 4096).unwrap();
        assert_eq!(kind(parts[0].map(&page(), 0, 0, 4096)), ErrorKind::LinkDown);
        assert!(staying.mapped.lock().unwrap().is_empty());
    }

    #[test]
    fn a_card_that_refuses_undoes_the_map_of_the_others_and_says_where_that_failed() {
        for sticky in [false, true] {
            let other = Arc::new(Scripted { sticky, ..Scripted::default() });
            let refusing = Scripted::failing(ErrorKind::Exhausted);
            let space = AddressSpace::new(vec![Arc::clone(&other) as _, refusing]);
            let failed = space.map(&page(), 0, 0, 4096).unwrap_err();
            assert_eq!((failed.error.kind(), failed.left_behind), (ErrorKind::Exhausted, sticky));
            assert_eq!(other.mapped.lock().unwrap().is_empty(), !sticky);
        }
    }

    #[test]
    fn a_joined_space_maps_for_all_and_its_parts_for_their_own() {
        let mappers: [Arc<Scripted>; 2] = Default::default();
        let spaces = mappers.each_ref().map(|mapper| AddressSpace::new(vec![Arc::clone(mapper) as _]));
        let mapped = || mappers.each_ref().map(|mapper| mapper.mapped.lock().unwrap().clone());
        spaces[1].map(&page(), 0, 0x1000, 4096).unwrap();
        assert_eq!(mapped(), [vec![], vec![0x1000]]);
        AddressSpace::joined(&spaces).map(&page(), 0, 0x2000, 4096).unwrap();
        assert_eq!(mapped(), [vec![0x2000], vec![0x1000, 0x2000]]);
    }

    /// A mapper that pins, near a node.
    fn pins(node: Option<u32>) -> Arc<dyn Mapper> {
        Arc::new(Scripted { pinning: Some(Pinning { node }), ..Scripted::default() })
    }

    #[test]
    fn memory_is_taken_near_all_cards_that_pin_it_or_anywhere() {
        let node = |mappers: &[Arc<dyn Mapper>]| {
            AddressSpace::new(mappers.to_vec()).pinning().map(|pinning| pinning.node)
        };
        let emulated: Arc<dyn Mapper> = Arc::new(Scripted::default());
        assert_eq!(node(&[Arc::clone(&emulated)]), None);
        assert_eq!(node(&[pins(Some(1)), emulated, pins(Some(1))]), Some(Some(1)));
        assert_eq!(node(&[pins(Some(1)), pins(Some(0))]), Some(None));
        assert_eq!(node(&[pins(Some(0)), pins(None), pins(Some(0))]), Some(None));
        let (near, far) = (pins(Some(0)), pins(Some(1)));
        let space = AddressSpace::new(vec![Arc::clone(&near), far]);
        space.leave_out(&near);
        assert_eq!(space.pinning(), Some(Pinning { node: Some(1) }));
    }

    #[test]
    fn only_memory_that_will_be_pinned_is_taken_before() {
        const SIZE: u64 = 4 << 20;
        let taken = |mapper| {
            let memory = Memfd::create("test", SIZE, PageSize::Normal).unwrap();
            AddressSpace::new(vec![mapper]).map(&memory, 0, 0, SIZE).unwrap();
            rustix::fs::fstat(&memory).unwrap().st_blocks > 0
        };
        assert!(!taken(Arc::new(Scripted::default())), "an emulated board's memory stays sparse");
        assert!(taken(pins(None)));
        // A node that is not there, and whatever else does not work, is no reason not to map.
        assert!(taken(pins(Some(1023))));
    }

    #[test]
    fn ranges_intersect() {
        assert_eq!(intersection(&(0..=10), &(5..=20)), Some(5..=10));
        assert_eq!(intersection(&(0..=4), &(5..=20)), None);
        assert_eq!(intersection(&(0..=u64::MAX), &(5..=5)), Some(5..=5));
    }
}
