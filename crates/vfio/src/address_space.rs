//! One IOVA space that one or more cards share.

use crate::error::Result;
use crate::transport::Mapper;
use jitney_memory::Memfd;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// One IOVA space that one or more cards share: a container, an IOAS, or the same map repeated to vfio-user servers.
///
/// It maps where it is told. Which addresses are free is for its one allocator to know: the [`Owner`](crate::Owner)'s,
/// or a broker's.
#[derive(Debug, Clone, Default)]
pub struct AddressSpace {
    mappers: Vec<Arc<dyn Mapper>>,
}

impl AddressSpace {
    /// The space that `mappers` make together.
    #[must_use]
    pub fn new(mappers: Vec<Arc<dyn Mapper>>) -> Self {
        Self { mappers }
    }

    /// The IOVA ranges that every card of the space can use, ascending.
    #[must_use]
    pub fn ranges(&self) -> Vec<RangeInclusive<u64>> {
        let mut common = vec![0..=u64::MAX];
        for mapper in &self.mappers {
            let ranges = mapper.ranges();
            common = common.iter().flat_map(|a| ranges.iter().filter_map(|b| intersection(a, b))).collect();
        }
        common
    }

    /// The smallest page that every card of the space can map, in bytes.
    #[must_use]
    pub fn granule(&self) -> u64 {
        self.mappers.iter().map(|mapper| mapper.granule()).max().unwrap_or(4096)
    }

    /// The most bytes that one map should cover, so that it does not hold up others.
    #[must_use]
    pub fn piece(&self) -> u64 {
        self.mappers.iter().map(|mapper| mapper.piece()).min().unwrap_or(u64::MAX)
    }

    /// Maps `size` bytes of `memory` from `offset` on at `iova` for every card. On an error none has it mapped.
    pub fn map(&self, memory: &Memfd, offset: u64, iova: u64, size: u64) -> Result<()> {
        for (done, mapper) in self.mappers.iter().enumerate() {
            if let Err(error) = mapper.map(memory, offset, iova, size) {
                for earlier in &self.mappers[..done] {
                    if let Err(second) = earlier.unmap(iova, size) {
                        tracing::warn!(iova, size, error = %second, "a map could not be undone");
                    }
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Unmaps exactly `size` bytes at `iova` for every card. All are tried; the first error is returned.
    pub fn unmap(&self, iova: u64, size: u64) -> Result<()> {
        self.mappers.iter().map(|mapper| mapper.unmap(iova, size)).fold(Ok(()), Result::and)
    }
}

fn intersection(a: &RangeInclusive<u64>, b: &RangeInclusive<u64>) -> Option<RangeInclusive<u64>> {
    let both = *a.start().max(b.start())..=*a.end().min(b.end());
    (!both.is_empty()).then_some(both)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_intersect() {
        assert_eq!(intersection(&(0..=10), &(5..=20)), Some(5..=10));
        assert_eq!(intersection(&(0..=4), &(5..=20)), None);
        assert_eq!(intersection(&(0..=u64::MAX), &(5..=5)), Some(5..=5));
    }
}
