//! The free ranges, ordered by address, with the question "where is the highest one that fits?" answered in O(log n).
//!
//! An index by size could not answer it: the best range by size may be misaligned or lie above the request's top
//! address, and so may the next thousand. Here each subtree knows, for each alignment, how much any of its ranges
//! offers from an aligned address on. A subtree that cannot fit a request is skipped, and one that can is entered
//! without coming back empty-handed.
//!
//! The tree is a B+ tree: ranges in the leaves, all leaves at one depth, a node that becomes too full is cut into
//! halves. A node goes when it is empty; thin ones are not joined, which costs some memory and never depth.

use serde::{Deserialize, Serialize};
use std::ops::Range;

/// From the smallest granule, 4 KiB, to the largest alignment, 1 GiB: all powers of two.
pub(crate) const ALIGNMENTS: usize = 19;

/// The most ranges or subtrees in a node.
const CAPACITY: usize = 32;

/// The most granules that one range offers from an aligned address on; index `k` is for the alignment `granule << k`.
///
/// More than 32 bits hold (16 TiB in pages of 4 KiB) count as `u32::MAX`: a search for so much may look into subtrees in
/// vain, which are few at that size, and in return the tree is half as large, which is what its speed depends on.
type Room = [u32; ALIGNMENTS];

/// Free ranges that are disjoint, not empty, made of whole granules, and not adjacent to each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct FreeRanges {
    root: Tree,
    granule: u64,
}

/// A subtree, with what its parent asks about it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Tree {
    /// Where the lowest range starts.
    first: u64,
    room: Room,
    node: Node,
}

/// In order by address, and only in the root possibly empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Node {
    Leaf(Vec<Range<u64>>),
    Fork(Vec<Tree>),
}

/// What is looked for. `align` is a power of two and `granule` at least.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fit {
    pub(crate) size: u64,
    pub(crate) align: u64,
    /// The first address that may not be used.
    pub(crate) limit: u64,
}

impl FreeRanges {
    pub(crate) fn new(granule: u64) -> Self {
        Self { root: Tree::new(Node::Leaf(Vec::new()), granule), granule }
    }

    /// Adds a range that overlaps no other, joined with those that it touches.
    pub(crate) fn release(&mut self, mut range: Range<u64>) {
        // The range below is in the same leaf, and so is the one above unless it is the first of the next leaf.
        if self.root.leaf(range.start).last().is_none_or(|last| last.start < range.start)
            && let Some(above) = self.at_or_below(range.end).filter(|above| above.start == range.end)
        {
            range.end = above.end;
            self.edit(above.start, |ranges| {
                ranges.remove(0);
            });
        }
        self.edit(range.start, |ranges| {
            let place = ranges.partition_point(|other| other.start < range.start);
            if ranges.get(place).is_some_and(|above| above.start == range.end) {
                range.end = ranges.remove(place).end;
            }
            match place.checked_sub(1).map(|below| &mut ranges[below]) {
                Some(below) if below.end == range.start => below.end = range.end,
                _ => ranges.insert(place, range),
            }
        });
    }

    /// Takes `range` out of the free range that contains it and starts at `start`.
    pub(crate) fn take(&mut self, range: Range<u64>, start: u64) {
        self.edit(start, |ranges| {
            let place = ranges.partition_point(|other| other.start < start);
            let end = std::mem::replace(&mut ranges[place].end, range.start);
            if range.end < end {
                ranges.insert(place + 1, range.end..end);
            }
            if range.start == start {
                ranges.remove(place);
            }
        });
    }

    /// The range with the highest start at or below `address`.
    pub(crate) fn at_or_below(&self, address: u64) -> Option<Range<u64>> {
        let leaf = self.root.leaf(address);
        let above = leaf.partition_point(|range| range.start <= address);
        above.checked_sub(1).map(|place| leaf[place].clone())
    }

    /// The highest address that fits, and the free range it is in.
    pub(crate) fn highest(&self, fit: Fit) -> Option<(u64, Range<u64>)> {
        let class = (fit.align / self.granule).trailing_zeros() as usize;
        self.root.highest(fit, class, granules(fit.size, self.granule))
    }

    /// The largest range; the highest of several, and those of 2^32 granules and more count as equal.
    pub(crate) fn largest(&self) -> Option<Range<u64>> {
        let size = u64::from(self.root.room[0]) * self.granule;
        let fit = Fit { size, align: self.granule, limit: u64::MAX };
        self.highest(fit).map(|(_, range)| range)
    }

    /// All ranges, from the lowest up.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        let mut pending = vec![&self.root];
        std::iter::from_fn(move || {
            loop {
                match &pending.pop()?.node {
                    Node::Leaf(ranges) => return Some(ranges.iter().cloned()),
                    Node::Fork(trees) => pending.extend(trees.iter().rev()),
                }
            }
        })
        .flatten()
    }

    /// Changes the leaf that has, or should get, the range that starts at `start`.
    fn edit(&mut self, start: u64, change: impl FnOnce(&mut Vec<Range<u64>>)) {
        let (_, upper_half) = self.root.edit(start, self.granule, change);
        let mut trees = match (&mut self.root.node, upper_half) {
            (Node::Leaf(_), None) => return,
            (Node::Fork(trees), None) if trees.len() > 1 => return,
            (Node::Fork(trees), None) => std::mem::take(trees),
            (_, Some(upper_half)) => {
                let empty = Tree::new(Node::Leaf(Vec::new()), self.granule);
                vec![std::mem::replace(&mut self.root, empty), upper_half]
            }
        };
        // A root with one subtree is one level too many.
        self.root = match trees.len() {
            0 => Tree::new(Node::Leaf(Vec::new()), self.granule),
            1 => trees.remove(0),
            _ => Tree::new(Node::Fork(trees), self.granule),
        };
    }
}

impl Tree {
    fn new(node: Node, granule: u64) -> Self {
        let mut tree = Self { first: 0, room: [0; ALIGNMENTS], node };
        tree.update(granule);
        tree
    }

    /// Computes `first` and `room` again after a change of `node`, and returns whether they changed.
    fn update(&mut self, granule: u64) -> bool {
        let mut room = [0; ALIGNMENTS];
        let first = match &self.node {
            Node::Leaf(ranges) => {
                ranges.iter().for_each(|range| add_room(&mut room, range, granule));
                ranges.first().map(|range| range.start)
            }
            Node::Fork(trees) => {
                for tree in trees {
                    room.iter_mut().zip(&tree.room).for_each(|(most, room)| *most = (*most).max(*room));
                }
                trees.first().map(|tree| tree.first)
            }
        }
        .unwrap_or(0);
        let changed = first != self.first || room != self.room;
        (self.first, self.room) = (first, room);
        changed
    }

    /// Does the same where only the subtree at `place` of a fork changed, without a look at the others unless it had the
    /// most room `before` and now has less.
    fn update_one(&mut self, place: usize, before: &Room) -> bool {
        let Node::Fork(trees) = &self.node else { return false };
        let mut changed = trees[0].first != self.first;
        self.first = trees[0].first;
        for (class, (most, before)) in self.room.iter_mut().zip(before).enumerate() {
            let now = trees[place].room[class];
            let new = if now >= *most {
                now
            } else if before == most {
                trees.iter().map(|tree| tree.room[class]).max().unwrap_or(0)
            } else {
                continue;
            };
            changed |= new != *most;
            *most = new;
        }
        changed
    }

    /// The leaf that has, or should get, a range that starts at `address`.
    fn leaf(&self, address: u64) -> &[Range<u64>] {
        match &self.node {
            Node::Leaf(ranges) => ranges,
            Node::Fork(trees) => trees[place(trees, address)].leaf(address),
        }
    }

    /// Only the subtree across `fit.limit` can offer less than its room promises, and there is one at each depth, so
    /// this visits at most two nodes of each.
    fn highest(&self, fit: Fit, class: usize, wanted: u32) -> Option<(u64, Range<u64>)> {
        match &self.node {
            Node::Leaf(ranges) => {
                ranges.iter().rev().find_map(|range| Some((highest_in(range, fit)?, range.clone())))
            }
            Node::Fork(trees) => trees
                .iter()
                .rev()
                .filter(|tree| tree.room[class] >= wanted && tree.first < fit.limit)
                .find_map(|tree| tree.highest(fit, class, wanted)),
        }
    }

    /// Does [`FreeRanges::edit`] for this subtree. Returns whether `first` or `room` changed, and the upper half of the
    /// subtree if it became too large for one node.
    fn edit(
        &mut self,
        start: u64,
        granule: u64,
        change: impl FnOnce(&mut Vec<Range<u64>>),
    ) -> (bool, Option<Self>) {
        let mut upper_half = None;
        match &mut self.node {
            Node::Leaf(ranges) => {
                change(ranges);
                if ranges.len() > CAPACITY {
                    upper_half = Some(Node::Leaf(ranges.split_off(CAPACITY / 2)));
                }
            }
            Node::Fork(trees) => {
                let place = place(trees, start);
                let before = trees[place].room;
                match trees[place].edit(start, granule, change) {
                    (false, None) => return (false, None),
                    (true, None) if trees[place].node.is_empty() => {
                        trees.remove(place);
                    }
                    (true, None) => return (self.update_one(place, &before), None),
                    (_, Some(upper)) => trees.insert(place + 1, upper),
                }
                if trees.len() > CAPACITY {
                    upper_half = Some(Node::Fork(trees.split_off(CAPACITY / 2)));
                }
            }
        }
        (self.update(granule), upper_half.map(|node| Self::new(node, granule)))
    }
}

impl Node {
    fn is_empty(&self) -> bool {
        match self {
            Self::Leaf(ranges) => ranges.is_empty(),
            Self::Fork(trees) => trees.is_empty(),
        }
    }
}

/// Which of the subtrees has, or should get, a range that starts at `address`.
fn place(trees: &[Tree], address: u64) -> usize {
    trees.partition_point(|tree| tree.first <= address).saturating_sub(1)
}

/// Raises `room` to what `range` offers.
fn add_room(room: &mut Room, range: &Range<u64>, granule: u64) {
    let size = range.end - range.start;
    for (class, most) in room.iter_mut().enumerate() {
        let to_aligned = range.start.wrapping_neg() & ((granule << class) - 1);
        if to_aligned >= size {
            break; // and so for all larger alignments
        }
        *most = granules(size - to_aligned, granule).max(*most);
    }
}

/// Whole granules in `size`, as far as [`Room`] counts.
fn granules(size: u64, granule: u64) -> u32 {
    u32::try_from(size >> granule.trailing_zeros()).unwrap_or(u32::MAX)
}

fn highest_in(range: &Range<u64>, fit: Fit) -> Option<u64> {
    let start = range.end.min(fit.limit).checked_sub(fit.size)? & !(fit.align - 1);
    (start >= range.start).then_some(start)
}
