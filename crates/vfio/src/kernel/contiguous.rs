//! Memory that is one piece in the machine: what a card needs that sees physical addresses.
//!
//! Only huge pages stay where they are, and only one huge page is certain to be in one piece. Of several, the kernel hands
//! out first what came back to it last. So a buffer that comes out in the wrong order often comes out right when it is made
//! once more; and if not, all free pages are taken, a run of them is looked for, and given back in such an order that the
//! next buffer gets them. Where it got its pages is looked at in each case.

use super::pagemap;
use crate::dma::DmaRequest;
use crate::error::{Error, ErrorKind, Result};
use jitney_memory::{HugePool, Memfd, PageSize};
use rustix::fs::{FallocateFlags, fallocate};
use std::ops::Range;

/// How often to begin anew when pages did not come out as expected: other programs take and give back pages, too.
const ATTEMPTS: usize = 3;

/// Makes memory in one piece and says at which physical address it begins. Normal pages are served from those of 2 MiB.
///
/// # Errors
/// [`ErrorKind::Exhausted`] if there are not enough huge pages, or not in one piece where the request wants it;
/// [`ErrorKind::Denied`] without CAP_SYS_ADMIN.
pub(super) fn make(request: &DmaRequest) -> Result<(Memfd, u64)> {
    let wanted = Wanted::of(request)?;
    for _ in 0..2 {
        if let Some(made) = wanted.attempt()? {
            return Ok(made);
        }
    }
    for _ in 0..ATTEMPTS {
        let _others = wanted.arrange()?;
        if let Some(made) = wanted.attempt()? {
            return Ok(made);
        }
    }
    Err(Error::new(
        ErrorKind::Exhausted,
        format!("{}: the kernel hands out other pages each time", wanted.name()),
    )
    .with_remedy("try again when no other program takes huge pages, or use buffers of one page"))
}

/// What a buffer has to be.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    pages: PageSize,
    size: u64,
    align: u64,
    top: u64,
}

impl Wanted {
    fn of(request: &DmaRequest) -> Result<Self> {
        let pages = match request.pages {
            PageSize::Normal => PageSize::Huge2M,
            huge => huge,
        };
        let &DmaRequest { align, top, .. } = request;
        if !align.is_power_of_two() || align > jitney_iova::MAX_ALIGN {
            return Err(jitney_iova::Error::Alignment { align }.into());
        }
        let size = request.of(pages).rounded_size()?;
        Ok(Self { pages, size, align: align.max(pages.bytes()), top })
    }

    /// A buffer of the pages that the kernel hands out next, if they are in one piece and in the right place.
    fn attempt(&self) -> Result<Option<(Memfd, u64)>> {
        let memory = Memfd::create("jitney-dma", self.size, self.pages)?;
        let addresses = pagemap::addresses(&memory)?;
        let start = addresses[0];
        let in_order = addresses.windows(2).all(|pair| pair[0] + self.pages.bytes() == pair[1]);
        Ok((in_order && self.allows(start)).then_some((memory, start)))
    }

    /// Has the kernel hand out next what is wanted, in the right order, if there is such a run among the free pages. What
    /// is returned keeps the other free pages until then.
    fn arrange(&self) -> Result<Memfd> {
        let page = self.pages.bytes();
        let free = HugePool::of(self.pages).free.max(1);
        let all = Memfd::create("jitney-all-free", free.saturating_mul(page), self.pages)?;
        // Address and offset of each.
        let mut places: Vec<(u64, u64)> = (0..)
            .map(|index| index * page)
            .zip(pagemap::addresses(&all)?)
            .map(|(offset, address)| (address, offset))
            .collect();
        places.sort_unstable();
        let ascending: Vec<u64> = places.iter().map(|(address, _)| *address).collect();
        let run = self.highest(&ascending).ok_or_else(|| self.not_there(&ascending))?;
        for (_, offset) in places.iter().rev().filter(|(address, _)| run.contains(address)) {
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(&all, hole, *offset, page)
                .map_err(|errno| Error::from_errno(errno, "giving a huge page back"))?;
        }
        Ok(all)
    }

    /// Whether a buffer may begin at this address.
    fn allows(&self, start: u64) -> bool {
        start.is_multiple_of(self.align)
            && start.checked_add(self.size - 1).is_some_and(|last| last <= self.top)
    }

    /// The highest place for the buffer in pages with these addresses: that leaves the low ones to cards that need them.
    fn highest(&self, ascending: &[u64]) -> Option<Range<u64>> {
        let fit = |run: Range<u64>| {
            let end = run.end.min(self.top.saturating_add(1));
            let start = end.checked_sub(self.size)? & !(self.align - 1);
            (start >= run.start).then_some(start..start + self.size)
        };
        runs(ascending, self.pages.bytes()).filter_map(fit).last()
    }

    fn not_there(&self, ascending: &[u64]) -> Error {
        let page = self.pages.bytes();
        let longest = runs(ascending, page).map(|run| run.end - run.start).max().unwrap_or(0);
        let lowest = ascending.first().copied().unwrap_or(0);
        let pool = HugePool::of(self.pages).total.saturating_add(self.size / page);
        Error::new(
            ErrorKind::Exhausted,
            format!(
                "{}: of {} free huge pages of {} the longest piece has {longest:#x} bytes, and the lowest page is at \
                 {lowest:#x}",
                self.name(),
                ascending.len(),
                self.pages
            ),
        )
        .with_remedy(format!(
            "reserve more, best when the machine has just started ({}; or hugepages={pool} on the kernel's command line), \
             or use smaller buffers",
            HugePool::command(self.pages, pool)
        ))
    }

    fn name(&self) -> String {
        let Self { size, align, top, pages } = self;
        let aligned = if *align > pages.bytes() { format!(" aligned to {align:#x}") } else { String::new() };
        let below = if *top < u64::MAX { format!(" up to address {top:#x}") } else { String::new() };
        format!("a DMA buffer of {size:#x} bytes in one piece of physical memory{aligned}{below}")
    }
}

/// The ranges that pages with these addresses make, the lowest first.
fn runs(ascending: &[u64], page: u64) -> impl Iterator<Item = Range<u64>> {
    let pieces = ascending.chunk_by(move |a, b| a + page == *b);
    pieces.map(move |piece| piece[0]..piece[0] + piece.len() as u64 * page)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 2 << 20;

    fn wanted(size: u64, align: u64, top: u64) -> Wanted {
        Wanted::of(&DmaRequest::new(size).aligned(align).below(top)).unwrap()
    }

    /// Addresses of pages by their numbers.
    fn pages(numbers: &[u64]) -> Vec<u64> {
        numbers.iter().map(|number| number * PAGE).collect()
    }

    #[test]
    fn the_highest_run_that_fits_is_taken() {
        let free = pages(&[3, 4, 5, 7, 8, 9, 10, 12]);
        let highest = |size, align, top| wanted(size, align, top).highest(&free).map(|run| run.start / PAGE);
        assert_eq!(highest(1, 1, u64::MAX), Some(12));
        assert_eq!(highest(PAGE + 1, 1, u64::MAX), Some(9));
        assert_eq!(highest(4 * PAGE, 1, u64::MAX), Some(7));
        assert_eq!(highest(5 * PAGE, 1, u64::MAX), None);
        // Aligned, and below a limit that is no page's end.
        assert_eq!(highest(2 * PAGE, 4 * PAGE, u64::MAX), Some(8));
        assert_eq!(highest(3 * PAGE, 4 * PAGE, u64::MAX), Some(8));
        assert_eq!(highest(2 * PAGE, 1, 9 * PAGE), Some(7));
        assert_eq!(highest(PAGE, 1, 4 * PAGE - 2), None);
    }

    #[test]
    fn a_run_ends_where_a_page_is_missing() {
        let runs: Vec<_> = runs(&pages(&[1, 2, 4, 6, 7, 8]), PAGE).collect();
        assert_eq!(runs, [PAGE..3 * PAGE, 4 * PAGE..5 * PAGE, 6 * PAGE..9 * PAGE]);
        assert_eq!(super::runs(&[], PAGE).count(), 0);
    }

    #[test]
    fn what_is_missing_is_said_in_numbers() {
        let error = wanted(4 * PAGE, 1, 0xffff_ffff).not_there(&pages(&[3, 4, 9]));
        assert_eq!(error.kind(), ErrorKind::Exhausted);
        let text = error.to_string();
        for part in [
            "0x800000 bytes",
            "up to address 0xffffffff",
            "of 3 free",
            "0x400000 bytes",
            "at 0x600000",
            "nr_hugepages",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_buffer_begins_where_the_card_can_see_it() {
        assert!(wanted(1, 1, 4 * PAGE - 1).allows(3 * PAGE));
        assert!(!wanted(1, 1, 4 * PAGE - 2).allows(3 * PAGE));
        assert!(!wanted(1, 2 * PAGE, u64::MAX).allows(3 * PAGE));
        assert!(!wanted(2 * PAGE, 1, u64::MAX).allows(u64::MAX - PAGE));
        assert!(Wanted::of(&DmaRequest::new(1).aligned(3)).is_err());
        assert!(Wanted::of(&DmaRequest::new(0)).is_err());
    }
}
