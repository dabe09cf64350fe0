//! Whether the memory that an engine comes to lies in a cache: how much it has moved since it was there last.

/// So much is in no cache any more when its end is moved: what follows is copied past them.
const MANY: u64 = 16 << 20;

/// How an engine goes through host memory.
///
/// Transfers that follow one another in memory are a sweep, however short each is and however long the engine rests between
/// them: what it comes to is as cold as in the middle of one that is long. Where it begins anew within its last sweep, it was
/// there a whole sweep ago.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sweep {
    now: Range,
    before: Range,
}

/// From the first address to behind the last one.
#[derive(Debug, Clone, Copy, Default)]
struct Range {
    first: u64,
    end: u64,
}

impl Range {
    fn is_many(self) -> bool {
        self.end - self.first >= MANY
    }
}

impl Sweep {
    /// Goes on to `length` bytes at `address`; whether they are too long ago for any cache.
    pub(super) fn go_to(&mut self, address: u64, length: u64) -> bool {
        if address != self.now.end {
            self.before = self.now;
            self.now = Range { first: address, end: address };
        }
        let was_there = self.before.first <= address && address < self.before.end;
        let is_cold = self.now.is_many() || was_there && self.before.is_many();
        self.now.end = address.saturating_add(length);
        is_cold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 4096;

    /// How many of so many pages in a row, from the first one at `address` on, are cold.
    fn cold(sweep: &mut Sweep, address: u64, pages: u64) -> u64 {
        (0..pages).map(|page| u64::from(sweep.go_to(address + page * PAGE, PAGE))).sum()
    }

    #[test]
    fn what_follows_much_is_cold_and_so_is_where_it_began() {
        let mut sweep = Sweep::default();
        let many = MANY / PAGE;
        assert_eq!(cold(&mut sweep, 0x10_0000, many), 0);
        assert_eq!(cold(&mut sweep, 0x10_0000 + MANY, 10), 10);
        // Once more from the beginning, and on behind what was swept.
        assert_eq!(cold(&mut sweep, 0x10_0000, many + 10), many + 10);
    }

    #[test]
    fn what_was_there_a_moment_ago_is_not() {
        let mut sweep = Sweep::default();
        for _ in 0..10 {
            assert_eq!(cold(&mut sweep, 0x10_0000, MANY / PAGE - 1), 0);
        }
        let mut sweep = Sweep::default();
        assert_eq!(cold(&mut sweep, 0, 2 * MANY / PAGE), MANY / PAGE);
        // Elsewhere, and again in a small part of what was swept.
        assert_eq!(cold(&mut sweep, 1 << 40, 10), 0);
        assert_eq!(cold(&mut sweep, 0, 10), 0);
        assert!(!sweep.go_to(u64::MAX - 1, u64::MAX));
        assert!(!sweep.go_to(0, u64::MAX));
    }
}
