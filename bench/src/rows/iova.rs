//! Allocating and freeing IOVA with many live ranges, beside the same with few.

use super::Wish;
use crate::figure::{Bar, Figure, Unit};
use crate::rounds::Rounds;
use jitney_iova::{Allocator, Error, Request};
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

const MANY: usize = 100_000;
const FEW: usize = 100;

/// Sizes are whole pages, from one to this many.
const PAGE: u64 = 4096;
const MOST_PAGES: u64 = 256;

/// Pairs of a free and an allocation per measurement.
const PAIRS: usize = 20_000;

pub(super) fn measure(wish: Wish) -> anyhow::Result<Vec<Figure>> {
    let (mut many, mut few) = (Space::new(MANY)?, Space::new(FEW)?);
    let rounds = Rounds::measure(
        "IOVA allocations",
        wish.rounds(100),
        [&mut || many.churn(PAIRS), &mut || few.churn(PAIRS)],
    )?;
    let each = |side| rounds.seconds(side) * 1e9 / PAIRS as f64;
    Ok(vec![Figure {
        what: "IOVA allocated and freed with 100 000 live ranges ÷ with 100".into(),
        measured: rounds.ratio(0, 1),
        unit: Unit::Ratio,
        bar: Bar::AtMost(4.0),
        detail: format!("{:.0} and {:.0} ns of processor time", each(0), each(1)),
    }])
}

/// An allocator and what is live in it.
struct Space {
    allocator: Allocator,
    live: Vec<u64>,
    random: Random,
}

impl Space {
    /// A space as a machine with 39 address bits has it, with so many live ranges, and in use for a while already.
    fn new(live: usize) -> anyhow::Result<Self> {
        let allocator = Allocator::new([0..=0xfedf_ffff, 0xfef0_0000..=0x7f_ffff_ffff], PAGE)?;
        let mut space = Self { allocator, live: Vec::with_capacity(live), random: Random(1) };
        for _ in 0..live {
            let iova = space.allocate()?;
            space.live.push(iova);
        }
        space.churn(3 * live)?;
        Ok(space)
    }

    /// Frees one at random and allocates another, so many times. Returns the time that this thread was running.
    fn churn(&mut self, pairs: usize) -> anyhow::Result<Duration> {
        let start = processor_time();
        for _ in 0..pairs {
            let index = self.random.below(self.live.len() as u64);
            #[expect(clippy::cast_possible_truncation, reason = "it is below a length")]
            let index = index as usize;
            self.allocator.free(self.live[index])?;
            self.live[index] = self.allocate()?;
        }
        Ok(processor_time().saturating_sub(start))
    }

    fn allocate(&mut self) -> Result<u64, Error> {
        let pages = 1 + self.random.below(MOST_PAGES);
        Ok(self.allocator.allocate(Request::new(pages * PAGE))?.start)
    }
}

/// Numbers without a pattern that matters here (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end.max(1)
    }
}

/// The time that this thread has been running on a processor.
fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}
