//! Which addresses of the host a function may reach: the maps of all connections, by IOVA.
//!
//! Pure: a table knows where a map leads only as a value (`B`) that it hands back. Ranges are kept with their last
//! address, not their end, because the sweep that QEMU sends when it attaches ends exactly at 2^64.

use std::collections::BTreeMap;

/// Who made a map: a connection's number, unique as long as the board lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// A range of addresses that is not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    /// First address.
    pub(crate) first: u64,
    /// Last address.
    pub(crate) last: u64,
}

impl Range {
    /// The `size` bytes from `first` on; nothing if there are none or the last one lies beyond 2^64.
    pub(crate) fn new(first: u64, size: u64) -> Option<Self> {
        let last = first.checked_add(size.checked_sub(1)?)?;
        Some(Self { first, last })
    }

    /// All addresses.
    pub(crate) const ALL: Self = Self { first: 0, last: u64::MAX };

    /// Whether the two share an address.
    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// What a map allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// The function may read.
    pub(crate) read: bool,
    /// The function may write.
    pub(crate) write: bool,
}

/// What a DMA wants to do with host memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Read it.
    Read,
    /// Write it.
    Write,
}

impl Allowed {
    fn permits(self, direction: Direction) -> bool {
        match direction {
            Direction::Read => self.read,
            Direction::Write => self.write,
        }
    }
}

/// One map.
#[derive(Debug, Clone)]
struct Map<B> {
    last: u64,
    allowed: Allowed,
    owner: ConnectionId,
    backing: B,
}

/// Part of one map that a DMA reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece<B> {
    /// Where it starts in the host's addresses.
    pub(crate) iova: u64,
    /// Its length in bytes, not zero.
    pub(crate) length: u64,
    /// Where it starts in its map, in bytes.
    pub(crate) offset: u64,
    /// Where the map leads.
    pub(crate) backing: B,
    /// Who made the map.
    pub(crate) owner: ConnectionId,
}

/// Why a map or unmap was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TableError {
    /// A map is in the way.
    #[error("the range overlaps a map that exists")]
    Exists,
    /// The table holds as many maps as it may.
    #[error("the board has as many DMA maps as it can hold")]
    Full,
    /// The map is another connection's.
    #[error("the map was made by another connection")]
    Foreign,
    /// A part of a map cannot be taken away.
    #[error("the range cuts a map")]
    Cut,
}

/// The maps of a board. No two overlap.
#[derive(Debug)]
pub(crate) struct DmaTable<B> {
    maps: BTreeMap<u64, Map<B>>,
}

/// A million maps of 4 KiB reach 4 GiB; more is a peer that wants to fill our memory.
const MAX_MAPS: usize = 1 << 20;

impl<B: Clone> DmaTable<B> {
    /// A table without maps.
    pub(crate) const fn new() -> Self {
        Self { maps: BTreeMap::new() }
    }

    /// How many maps there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.maps.len()
    }

    /// Adds a map of `range` that leads to `backing`.
    pub(crate) fn insert(
        &mut self,
        range: Range,
        allowed: Allowed,
        owner: ConnectionId,
        backing: B,
    ) -> Result<(), TableError> {
        // Maps do not overlap, so only the last one that starts within or before the range can reach into it.
        if self.maps.range(..=range.last).next_back().is_some_and(|(_, map)| map.last >= range.first) {
            return Err(TableError::Exists);
        }
        if self.maps.len() >= MAX_MAPS {
            return Err(TableError::Full);
        }
        self.maps.insert(range.first, Map { last: range.last, allowed, owner, backing });
        Ok(())
    }

    /// Removes every map of `owner` that lies inside `range`, and returns what they led to.
    ///
    /// QEMU unmaps by power-of-two ranges that hold many maps or none, so finding nothing is no error, and other
    /// connections' maps inside a range stay. A range that is exactly another connection's map is refused, and so is one
    /// that cuts a map, as the kernel does it (`VFIO_IOMMU_UNMAP_DMA` of type1 v2); then nothing is changed.
    pub(crate) fn remove(&mut self, range: Range, owner: ConnectionId) -> Result<Vec<B>, TableError> {
        if self.maps.get(&range.first).is_some_and(|map| map.last == range.last && map.owner != owner) {
            return Err(TableError::Foreign);
        }
        // Maps do not overlap: only the last one before the range, and the last one in it, can reach out of it.
        let before =
            self.maps.range(..range.first).next_back().is_some_and(|(_, map)| map.last >= range.first);
        let behind = self
            .maps
            .range(range.first..=range.last)
            .next_back()
            .is_some_and(|(_, map)| map.last > range.last);
        if before || behind {
            return Err(TableError::Cut);
        }
        let inside: Vec<u64> = self
            .maps
            .range(range.first..=range.last)
            .filter(|(_, map)| map.last <= range.last && map.owner == owner)
            .map(|(first, _)| *first)
            .collect();
        Ok(inside.iter().filter_map(|first| self.maps.remove(first)).map(|map| map.backing).collect())
    }

    /// Removes every map of `owner`, and returns what they led to.
    pub(crate) fn remove_owner(&mut self, owner: ConnectionId) -> Vec<B> {
        self.maps.extract_if(.., |_, map| map.owner == owner).map(|(_, map)| map.backing).collect()
    }

    /// How many of the `length` bytes from `iova` on come before the first that a map with this direction covers.
    pub(crate) fn gap(&self, iova: u64, length: u64, direction: Direction) -> u64 {
        let Some(range) = Range::new(iova, length) else { return length };
        let start = self.maps.range(..=iova).next_back().map_or(iova, |(first, _)| *first);
        self.maps
            .range(start..=range.last)
            .find(|(_, map)| map.last >= iova && map.allowed.permits(direction))
            .map_or(length, |(first, _)| first.saturating_sub(iova))
    }

    /// Finds what lies at `iova` and the `length` bytes from there, in order, and appends it to `pieces`.
    ///
    /// Returns how many bytes were found before the first address that no map with this direction covers. Stops as
    /// well when `pieces` holds as many as its capacity.
    pub(crate) fn find(
        &self,
        iova: u64,
        length: u64,
        direction: Direction,
        pieces: &mut Vec<Piece<B>>,
    ) -> u64 {
        let Some(range) = Range::new(iova, length) else { return 0 };
        let start = self.maps.range(..=iova).next_back().map_or(iova, |(first, _)| *first);
        let mut next = iova;
        for (&first, map) in self.maps.range(start..=range.last) {
            if first > next
                || map.last < next
                || !map.allowed.permits(direction)
                || pieces.len() == pieces.capacity()
            {
                break;
            }
            let last = map.last.min(range.last);
            // The length cannot overflow: `length` is at most 2^64 - 1 and this is a part of it.
            let piece = Piece {
                iova: next,
                length: last - next + 1,
                offset: next - first,
                backing: map.backing.clone(),
                owner: map.owner,
            };
            next = next.wrapping_add(piece.length);
            pieces.push(piece);
            if last == range.last {
                return length;
            }
        }
        next - iova
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOTH: Allowed = Allowed { read: true, write: true };
    const ONE: ConnectionId = ConnectionId(1);
    const TWO: ConnectionId = ConnectionId(2);

    fn range(first: u64, size: u64) -> Range {
        Range::new(first, size).unwrap()
    }

    fn found(table: &DmaTable<u32>, iova: u64, length: u64) -> u64 {
        table.find(iova, length, Direction::Read, &mut Vec::with_capacity(64))
    }

    #[test]
    fn ranges_may_end_at_the_top_but_not_beyond() {
        assert_eq!(Range::new(0xFFFF_F000, 0), None);
        assert_eq!(Range::new(u64::MAX, 1), Some(Range { first: u64::MAX, last: u64::MAX }));
        assert_eq!(Range::new(u64::MAX, 2), None);
        assert_eq!(Range::new(1 << 63, 1 << 63).unwrap().last, u64::MAX);
    }

    #[test]
    fn a_map_at_the_very_top_is_found_and_swept() {
        let mut table = DmaTable::new();
        table.insert(range(u64::MAX - 0xFFF, 0x1000), BOTH, ONE, 7).unwrap();
        assert_eq!(found(&table, u64::MAX - 0xFFF, 0x1000), 0x1000);
        assert_eq!(found(&table, u64::MAX, 2), 0);
        assert_eq!(table.remove(Range::ALL, ONE), Ok(vec![7]));
        assert_eq!(table.remove(Range::ALL, ONE), Ok(vec![]));
    }

    #[test]
    fn an_unmap_takes_only_its_owners_maps() {
        let mut table = DmaTable::new();
        table.insert(range(0x1000, 0x1000), BOTH, ONE, 1).unwrap();
        table.insert(range(0x2000, 0x1000), BOTH, TWO, 2).unwrap();
        assert_eq!(table.remove(range(0x2000, 0x1000), ONE), Err(TableError::Foreign));
        assert_eq!(table.remove(range(0, 0x1_0000), ONE), Ok(vec![1]));
        assert_eq!(table.remove_owner(ONE), Vec::<u32>::new());
        assert_eq!(table.remove_owner(TWO), vec![2]);
    }

    #[test]
    fn a_range_that_cuts_a_map_is_refused_and_changes_nothing() {
        let mut table = DmaTable::new();
        table.insert(range(0x1000, 0x2000), BOTH, ONE, 1).unwrap();
        table.insert(range(0x4000, 0x1000), BOTH, ONE, 2).unwrap();
        for (first, size) in [(0x1000, 0x1000), (0x2000, 0x1000), (0x1800, 1), (0, 0x1001), (0x2FFF, 0x3000)]
        {
            assert_eq!(table.remove(range(first, size), ONE), Err(TableError::Cut), "{first:#x}");
        }
        assert_eq!((found(&table, 0x1000, 0x2000), table.len()), (0x2000, 2));
        assert_eq!(table.remove(range(0, 0x1000), ONE), Ok(vec![]));
        assert_eq!(table.remove(range(0x3000, 0x1000), ONE), Ok(vec![]));
        assert_eq!(table.remove(range(0, 0x8000), ONE), Ok(vec![1, 2]));
    }

    #[test]
    fn a_direction_that_is_not_allowed_ends_the_search() {
        let mut table = DmaTable::new();
        table.insert(range(0, 0x1000), BOTH, ONE, 1).unwrap();
        table.insert(range(0x1000, 0x1000), Allowed { read: true, write: false }, ONE, 2).unwrap();
        let mut pieces = Vec::with_capacity(4);
        assert_eq!(table.find(0x800, 0x1800, Direction::Write, &mut pieces), 0x800);
        assert_eq!(pieces, [Piece { iova: 0x800, length: 0x800, offset: 0x800, backing: 1, owner: ONE }]);
        assert_eq!(found(&table, 0x800, 0x1800), 0x1800);
    }

    #[test]
    fn no_more_pieces_than_there_is_room_for() {
        let mut table = DmaTable::new();
        for page in 0..16 {
            table.insert(range(page * 0x1000, 0x1000), BOTH, ONE, 0).unwrap();
        }
        let mut pieces = Vec::with_capacity(4);
        assert_eq!(table.find(0, 0x1_0000, Direction::Read, &mut pieces), 0x1000 * pieces.len() as u64);
        assert_eq!(pieces.len(), pieces.capacity());
    }

    /// The plain model: an owner and a backing for each of 64 addresses.
    const WORLD: u64 = 64;

    #[derive(Debug, Clone)]
    enum Step {
        Map { first: u64, size: u64, owner: u64, write: bool },
        Unmap { first: u64, size: u64, owner: u64 },
        Leave { owner: u64 },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let place = (0..WORLD, 1..12_u64, 0..3_u64);
        let step = prop_oneof![
            4 => (place.clone(), any::<bool>())
                .prop_map(|((first, size, owner), write)| Step::Map { first, size, owner, write }),
            3 => place.prop_map(|(first, size, owner)| Step::Unmap { first, size, owner }),
            1 => (0..3_u64).prop_map(|owner| Step::Leave { owner }),
        ];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        #[test]
        fn behaves_as_a_list_of_maps(steps in steps()) {
            let mut table = DmaTable::new();
            let mut model: Vec<(Range, u64, bool, u32)> = Vec::new();
            let mut serial = 0;
            for step in steps {
                match step {
                    Step::Map { first, size, owner, write } => {
                        serial += 1;
                        let range = range(first, size);
                        let free = !model.iter().any(|map| map.0.overlaps(range));
                        let allowed = Allowed { read: true, write };
                        prop_assert_eq!(
                            table.insert(range, allowed, ConnectionId(owner), serial).is_ok(), free
                        );
                        if free {
                            model.push((range, owner, write, serial));
                        }
                    }
                    Step::Unmap { first, size, owner } => {
                        let range = range(first, size);
                        let foreign = model.iter().any(|map| map.0 == range && map.1 != owner);
                        let removed = table.remove(range, ConnectionId(owner));
                        let cut = model.iter().any(|map| {
                            map.0.overlaps(range) && (map.0.first < range.first || map.0.last > range.last)
                        });
                        prop_assert_eq!(removed.is_err(), foreign || cut);
                        if !foreign && !cut {
                            let (gone, left): (Vec<_>, Vec<_>) = model.into_iter().partition(|map| {
                                map.1 == owner && map.0.first >= range.first && map.0.last <= range.last
                            });
                            model = left;
                            let mut removed = removed.unwrap();
                            let mut gone: Vec<u32> = gone.iter().map(|map| map.3).collect();
                            removed.sort_unstable();
                            gone.sort_unstable();
                            prop_assert_eq!(removed, gone);
                        }
                    }
                    Step::Leave { owner } => {
                        table.remove_owner(ConnectionId(owner));
                        model.retain(|map| map.1 != owner);
                    }
                }
                prop_assert_eq!(table.len(), model.len());
                for (direction, writing) in [(Direction::Read, false), (Direction::Write, true)] {
                    let at = |address: u64| model.iter().find(|map| {
                        map.0.first <= address && address <= map.0.last && (map.2 || !writing)
                    });
                    let expected = (0..WORLD + 16).take_while(|address| at(*address).is_some()).count() as u64;
                    let mut pieces = Vec::with_capacity(100);
                    let found = table.find(0, WORLD + 16, direction, &mut pieces);
                    prop_assert_eq!(found, expected);
                    let gap = (0..WORLD + 16).take_while(|address| at(*address).is_none()).count() as u64;
                    prop_assert_eq!(table.gap(0, WORLD + 16, direction), gap);
                    let gap = (7..WORLD).take_while(|address| at(*address).is_none()).count() as u64;
                    prop_assert_eq!(table.gap(7, WORLD - 7, direction), gap);
                    for piece in &pieces {
                        let map = at(piece.iova).unwrap();
                        prop_assert_eq!((map.3, map.0.first), (piece.backing, piece.iova - piece.offset));
                    }
                }
            }
        }
    }
}
