//! The address map of an AXI bus: several targets, each in a range of its own.

use super::{AxiError, AxiTarget, MemorySpan};
use std::fmt;
use std::sync::Arc;

/// Targets by address. Where none is, the answer is a decode error.
#[derive(Default)]
pub struct AddressMap(Vec<Place>);

/// A target at its place.
struct Place {
    first: u64,
    /// The last byte, so that a range may end with the address space.
    last: u64,
    name: Arc<str>,
    target: Arc<dyn AxiTarget>,
}

/// Why a target cannot be where it was put.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// Its range has no bytes, or goes on beyond 2^64.
    #[error(
        "{name} cannot have {size:#x} bytes at {base:#x}: give a size that is not zero and does not reach beyond 2^64"
    )]
    Range {
        /// The target.
        name: Arc<str>,
        /// Where it was to begin.
        base: u64,
        /// How many bytes it was to have.
        size: u64,
    },
    /// It overlaps another one.
    #[error("{name} at {base:#x} overlaps {other}: give each a range of its own")]
    Overlap {
        /// The target.
        name: Arc<str>,
        /// Where it was to begin.
        base: u64,
        /// What is there already.
        other: Arc<str>,
    },
}

impl fmt::Debug for AddressMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|place| (place.first, &place.name))).finish()
    }
}

impl AddressMap {
    /// A bus with nothing on it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a target at `size` bytes from `base` on; `name` stands in messages.
    ///
    /// # Errors
    /// A range that is empty, wraps around or is not free.
    pub fn add(
        &mut self,
        base: u64,
        size: u64,
        name: impl Into<Arc<str>>,
        target: Arc<dyn AxiTarget>,
    ) -> Result<(), MapError> {
        let name = name.into();
        let last = size.checked_sub(1).and_then(|length| base.checked_add(length));
        let Some(last) = last else { return Err(MapError::Range { name, base, size }) };
        if let Some(place) = self.0.iter().find(|place| place.first <= last && base <= place.last) {
            return Err(MapError::Overlap { name, base, other: Arc::clone(&place.name) });
        }
        let at = self.0.partition_point(|place| place.first < base);
        self.0.insert(at, Place { first: base, last, name, target });
        Ok(())
    }

    /// What answers at an address, and how many bytes of `length` it answers there; none if nothing does.
    fn find(&self, address: u64, length: u64) -> Option<(&Place, u64)> {
        let at = self.0.partition_point(|place| place.last < address);
        let place = self.0.get(at).filter(|place| place.first <= address)?;
        Some((place, length.min((place.last - address).saturating_add(1))))
    }

    /// Does `step` for each target that an access touches: its own address, and which bytes of the data.
    fn each(
        &self,
        address: u64,
        length: usize,
        mut step: impl FnMut(&dyn AxiTarget, u64, std::ops::Range<usize>) -> Result<(), AxiError>,
    ) -> Result<(), AxiError> {
        let mut done = 0;
        while done < length {
            let at = address.checked_add(done as u64).ok_or(AxiError::Decode)?;
            let (place, there) = self.find(at, (length - done) as u64).ok_or(AxiError::Decode)?;
            let end = done + usize::try_from(there).unwrap_or(usize::MAX);
            step(&*place.target, at - place.first, done..end)?;
            done = end;
        }
        Ok(())
    }
}

impl AxiTarget for AddressMap {
    fn memory(&self, address: u64, length: u64) -> Option<MemorySpan<'_>> {
        let (place, there) = self.find(address, length)?;
        place.target.memory(address - place.first, there)
    }

    fn read(&self, address: u64, data: &mut [u8]) -> Result<(), AxiError> {
        self.each(address, data.len(), |target, at, range| target.read(at, &mut data[range]))
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), AxiError> {
        self.each(address, data.len(), |target, at, range| target.write(at, &data[range]))
    }

    fn reset(&self) {
        for place in &self.0 {
            place.target.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::CardMemory;
    use super::*;
    use proptest::prelude::*;

    fn memory(size: u64) -> Arc<CardMemory> {
        Arc::new(CardMemory::new(size).unwrap())
    }

    #[test]
    fn each_address_has_its_target_and_some_have_none() {
        let (low, high) = (memory(0x1000), memory(0x2000));
        let mut map = AddressMap::new();
        map.add(0x8_0000_0000, 0x2000, "HBM", high.clone()).unwrap();
        map.add(0x1000, 0x1000, "DDR", low.clone()).unwrap();
        map.write(0x1ffc, &[1, 2, 3, 4]).unwrap();
        map.write(0x8_0000_0000, &[5]).unwrap();
        let mut byte = [0];
        low.read(0xfff, &mut byte).unwrap();
        assert_eq!(byte, [4]);
        high.read(0, &mut byte).unwrap();
        assert_eq!(byte, [5]);
        for nowhere in [0xfff, 0x2000, 0x7_ffff_ffff, 0x8_0000_2000, u64::MAX] {
            assert_eq!(map.read(nowhere, &mut byte), Err(AxiError::Decode), "{nowhere:#x}");
            assert!(map.memory(nowhere, 1).is_none());
        }
        let span = map.memory(0x1ff0, 0x100).unwrap();
        assert_eq!((span.offset, span.length), (0xff0, 0x10));
        assert!(std::ptr::eq(span.memory, &raw const *low));
    }

    #[test]
    fn an_access_may_cross_from_one_target_into_the_next() {
        let mut map = AddressMap::new();
        map.add(0, 0x1000, "first", memory(0x1000)).unwrap();
        map.add(0x1000, 0x1000, "second", memory(0x1000)).unwrap();
        map.write(0xffe, &[1, 2, 3, 4]).unwrap();
        let mut data = [0; 6];
        map.read(0xffd, &mut data).unwrap();
        assert_eq!(data, [0, 1, 2, 3, 4, 0]);
        assert_eq!(map.read(0x1ffe, &mut data), Err(AxiError::Decode));
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let mut map = AddressMap::new();
        map.add(0x1000, 0x1000, "DDR", memory(0x1000)).unwrap();
        for (base, size) in [(0x0, 0x1001), (0x1fff, 1), (0x1800, 8), (0, u64::MAX)] {
            let error = map.add(base, size, "HBM", memory(0x1000)).unwrap_err();
            assert!(error.to_string().contains("overlaps DDR"), "{error}");
        }
        for (base, size) in [(0x4000, 0), (u64::MAX, 2)] {
            assert!(matches!(map.add(base, size, "HBM", memory(0x1000)), Err(MapError::Range { .. })));
        }
        map.add(u64::MAX - 0xfff, 0x1000, "HBM", memory(0x1000)).unwrap();
        map.write(u64::MAX, &[1]).unwrap();
        assert_eq!(map.write(u64::MAX, &[1, 2]), Err(AxiError::Decode), "beyond the last address");
    }

    proptest! {
        /// Whatever was put together, an address is answered by the one target that has it.
        #[test]
        fn lookup_agrees_with_the_ranges(
            wanted in proptest::collection::vec((0u64..64, 1u64..16), 0..12),
            address in 0u64..96,
        ) {
            let mut map = AddressMap::new();
            let mut placed = Vec::new();
            for (base, size) in wanted {
                let fits = placed.iter().all(|(b, s)| base + size <= *b || b + s <= base);
                prop_assert_eq!(map.add(base, size, "x", Arc::new(super::super::NoAnswer)).is_ok(), fits);
                if fits {
                    placed.push((base, size));
                }
            }
            let expected = if placed.iter().any(|(base, size)| (*base..base + size).contains(&address)) {
                AxiError::Hung
            } else {
                AxiError::Decode
            };
            prop_assert_eq!(map.read(address, &mut [0]), Err(expected));
        }
    }
}
