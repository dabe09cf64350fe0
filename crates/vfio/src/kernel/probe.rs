//! Whether anything is mapped at some addresses, where the kernel does not say.

use jitney_memory::Mapping;
use rustix::io::{Errno, Result};

/// Addresses that one map may cover, or none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Probe {
    pub(super) iova: u64,
    pub(super) size: u64,
    /// The smallest page, in bytes.
    pub(super) granule: u64,
}

impl Probe {
    /// That neither the first nor the last page is mapped: both can be mapped for a moment, with memory of no use. A card that
    /// is told to go there meanwhile does no harm.
    ///
    /// # Errors
    /// `EEXIST` if one is mapped; what else the kernel says.
    pub(super) fn finds_nothing(
        self,
        map: impl Fn(&Mapping, u64) -> Result<()>,
        unmap: impl Fn(u64, u64) -> Result<u64>,
    ) -> Result<()> {
        let Self { iova, size, granule } = self;
        let length = usize::try_from(granule).map_err(|_| Errno::TOOBIG)?;
        let memory = Mapping::anonymous(length).map_err(|error| error.errno().unwrap_or(Errno::NOMEM))?;
        for at in [iova, iova.saturating_add(size.saturating_sub(granule))] {
            map(&memory, at)?;
            unmap(at, granule)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn both_ends_are_looked_at_and_nothing_stays() {
        let probe = Probe { iova: 0x1000, size: 0x4000, granule: 0x1000 };
        for (mapped, finds) in
            [(None, Ok(())), (Some(0x1000), Err(Errno::EXIST)), (Some(0x4000), Err(Errno::EXIST))]
        {
            let now = RefCell::new(Vec::from_iter(mapped));
            let map = |_: &Mapping, at| {
                let mut now = now.borrow_mut();
                if now.contains(&at) {
                    return Err(Errno::EXIST);
                }
                now.push(at);
                Ok(())
            };
            let unmap = |at, size| {
                now.borrow_mut().retain(|other| *other != at);
                Ok(size)
            };
            assert_eq!(probe.finds_nothing(map, unmap), finds);
            assert_eq!(*now.borrow(), Vec::from_iter(mapped));
        }
    }
}
