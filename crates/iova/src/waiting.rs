//! What is nobody's and still not to be handed out: ranges that rest, and ranges in quarantine. Each kind in the order in
//! which it came, since both go back oldest first.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

/// A stay in quarantine, from [`Allocator::quarantine`](crate::Allocator::quarantine). Never the same twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QuarantineId(u64);

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub(crate) struct Waiting {
    resting: VecDeque<Range<u64>>,
    /// Bytes in `resting`.
    resting_bytes: u64,
    /// Start to end (exclusive). A stay has several ranges once a reservation was cut out of it.
    quarantined: BTreeMap<(QuarantineId, u64), u64>,
    next: u64,
}

impl Waiting {
    pub(crate) fn rest(&mut self, range: Range<u64>) {
        self.resting_bytes += range.end - range.start;
        self.resting.push_back(range);
    }

    /// Ends the longest rest if there are more than so many ranges, or several of more than so many bytes in all.
    pub(crate) fn rested(&mut self, most: usize, most_bytes: u64) -> Option<Range<u64>> {
        let too_many = self.resting.len() > most;
        let too_large = self.resting.len() > 1 && self.resting_bytes > most_bytes;
        if too_many || too_large { self.wake(0) } else { None }
    }

    pub(crate) fn quarantine(&mut self, range: Range<u64>) -> QuarantineId {
        let id = QuarantineId(self.next);
        self.next += 1;
        self.quarantined.insert((id, range.start), range.end);
        id
    }

    /// A stay of nothing.
    pub(crate) const fn empty_stay(&mut self) -> QuarantineId {
        let id = QuarantineId(self.next);
        self.next += 1;
        id
    }

    /// Takes the next range of that stay out of quarantine, if there is one left.
    pub(crate) fn absolve(&mut self, id: QuarantineId) -> Option<Range<u64>> {
        let (&key, &end) = self.quarantined.range((id, 0)..).next().filter(|((of, _), _)| *of == id)?;
        self.quarantined.remove(&key);
        Some(key.1..end)
    }

    /// Takes out what rests longest and starts below `limit`; if nothing does, what is in quarantine longest.
    pub(crate) fn oldest(&mut self, limit: u64) -> Option<Range<u64>> {
        if let Some(place) = self.resting.iter().position(|range| range.start < limit) {
            return self.wake(place);
        }
        let (&key, &end) = self.quarantined.iter().find(|((_, start), _)| *start < limit)?;
        self.quarantined.remove(&key);
        Some(key.1..end)
    }

    /// Takes all of `range` out of the ranges here and returns what there was of it; the rest of them stays.
    pub(crate) fn cut(&mut self, range: &Range<u64>) -> Vec<Range<u64>> {
        let resting = std::mem::take(&mut self.resting);
        let quarantined = std::mem::take(&mut self.quarantined);
        let mut taken = Vec::new();
        self.resting_bytes = 0;
        for whole in resting {
            taken.extend(common(&whole, range));
            outside(&whole, range).for_each(|left| self.rest(left));
        }
        for ((id, start), end) in quarantined {
            taken.extend(common(&(start..end), range));
            self.quarantined.extend(outside(&(start..end), range).map(|left| ((id, left.start), left.end)));
        }
        taken
    }

    /// What rests, oldest first.
    pub(crate) fn resting(&self) -> impl Iterator<Item = Range<u64>> {
        self.resting.iter().cloned()
    }

    /// What is in quarantine, oldest first.
    pub(crate) fn quarantined(&self) -> impl Iterator<Item = (QuarantineId, Range<u64>)> {
        self.quarantined.iter().map(|(&(id, start), &end)| (id, start..end))
    }

    fn wake(&mut self, place: usize) -> Option<Range<u64>> {
        let range = self.resting.remove(place)?;
        self.resting_bytes -= range.end - range.start;
        Some(range)
    }
}

fn common(one: &Range<u64>, other: &Range<u64>) -> Option<Range<u64>> {
    let range = one.start.max(other.start)..one.end.min(other.end);
    (!range.is_empty()).then_some(range)
}

/// What `whole` has below and above `cut`.
fn outside(whole: &Range<u64>, cut: &Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let below = whole.start..whole.end.min(cut.start);
    let above = whole.start.max(cut.end)..whole.end;
    [below, above].into_iter().filter(|range| !range.is_empty())
}
