//! The MSI-X table and pending bits, which lie in a BAR among the function's registers.
//!
//! Interrupts travel by eventfd, so nothing is sent to the addresses in the table and its mask bits hold nothing back: a
//! kernel, or QEMU, keeps a table of its own for its guest and masks there. What software writes is kept all the same, and
//! the pending bits are true.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::function::{Description, Msix};
use crate::host::Interrupts;

const ENTRY: usize = 16;
/// Vector Control is the last word of an entry; its bit 0 masks the vector and is set after reset.
const CONTROL: usize = 12;

/// The table of a function with MSI-X.
#[derive(Debug)]
pub(crate) struct MsixTable {
    bar: usize,
    table: Range<u64>,
    pending: Range<u64>,
    vectors: u16,
    bytes: Mutex<Vec<u8>>,
}

impl MsixTable {
    /// The table that the description asks for, if it does.
    pub(crate) fn new(description: &Description) -> Option<Self> {
        let Msix { vectors, bar, table, pending } = description.interrupts.msix?;
        let range = |start: u32, length: u64| u64::from(start)..u64::from(start) + length;
        let this = Self {
            bar: bar.into(),
            table: range(table, ENTRY as u64 * u64::from(vectors)),
            pending: range(pending, 8 * u64::from(vectors.div_ceil(64))),
            vectors,
            bytes: Mutex::new(vec![0; ENTRY * usize::from(vectors)]),
        };
        this.reset();
        Some(this)
    }

    /// Empties the table and masks all vectors.
    pub(crate) fn reset(&self) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in bytes.chunks_exact_mut(ENTRY) {
            entry.fill(0);
            entry[CONTROL] = 1;
        }
    }

    /// Reads, if the access lies in the table or the pending bits; says whether it does.
    pub(crate) fn read(&self, bar: usize, offset: u64, data: &mut [u8], interrupts: &Interrupts) -> bool {
        if let Some(range) = within(bar == self.bar, &self.table, offset, data.len()) {
            data.copy_from_slice(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)[range]);
            return true;
        }
        let Some(range) = within(bar == self.bar, &self.pending, offset, data.len()) else { return false };
        for (byte, at) in data.iter_mut().zip(range) {
            *byte = (0..8).fold(0, |bits, bit| {
                let vector = u16::try_from(8 * at + bit).ok().filter(|vector| *vector < self.vectors);
                bits | u8::from(vector.is_some_and(|vector| interrupts.pending(vector))) << bit
            });
        }
        true
    }

    /// Writes, if the access lies in the table or the pending bits, which are read-only; says whether it does.
    pub(crate) fn write(&self, bar: usize, offset: u64, data: &[u8]) -> bool {
        if let Some(range) = within(bar == self.bar, &self.table, offset, data.len()) {
            self.bytes.lock().unwrap_or_else(PoisonError::into_inner)[range].copy_from_slice(data);
            return true;
        }
        within(bar == self.bar, &self.pending, offset, data.len()).is_some()
    }
}

/// Where in `area` the access is, if all of it is.
fn within(here: bool, area: &Range<u64>, offset: u64, length: usize) -> Option<Range<usize>> {
    let end = offset.checked_add(length as u64)?;
    let inside = here && area.start <= offset && end <= area.end;
    let start = usize::try_from(offset.checked_sub(area.start)?).ok()?;
    inside.then_some(start..start + length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::{BarDescription, InterruptKinds};

    fn table() -> MsixTable {
        let bar = BarDescription { size: 0x1_0000, is_64bit: false, prefetchable: false };
        MsixTable::new(&Description {
            ids: [0; 4],
            revision: 0,
            class: [0; 3],
            bars: [None, Some(bar), None, None, None, None],
            interrupts: InterruptKinds {
                msix: Some(Msix { vectors: 66, bar: 1, table: 0x8000, pending: 0x8FE0 }),
                ..InterruptKinds::default()
            },
            link: (1, 1),
            slot_lanes: None,
            serial: None,
        })
        .unwrap()
    }

    #[test]
    fn entries_are_kept_and_masked_after_reset() {
        let table = table();
        let interrupts = Interrupts::new();
        let mut word = [0; 4];
        assert!(table.read(1, 0x801C, &mut word, &interrupts));
        assert_eq!(word, [1, 0, 0, 0]);
        assert!(table.write(1, 0x801C, &[0; 4]) && table.write(1, 0x8010, &[5; 8]));
        assert!(table.read(1, 0x8014, &mut word, &interrupts));
        assert_eq!(word, [5; 4]);
        table.reset();
        assert!(table.read(1, 0x8014, &mut word, &interrupts));
        assert_eq!(word, [0; 4]);
    }

    #[test]
    fn pending_bits_are_those_of_requests_without_a_wire() {
        let table = table();
        let interrupts = Interrupts::new();
        interrupts.set(65, true);
        interrupts.set(3, true);
        let mut bits = [0; 8];
        assert!(table.read(1, 0x8FE0, &mut bits, &interrupts));
        assert_eq!(bits, [8, 0, 0, 0, 0, 0, 0, 0]);
        assert!(table.write(1, 0x8FE8, &[0; 4]));
        assert!(table.read(1, 0x8FE8, &mut bits, &interrupts));
        assert_eq!(bits, [2, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn registers_around_it_are_not_its_own() {
        let table = table();
        let interrupts = Interrupts::new();
        for (bar, offset) in [(0, 0x8000), (1, 0x7FFE), (1, 0x8000 + 66 * 16 - 2), (1, 0x8FF0), (1, u64::MAX)]
        {
            assert!(!table.read(bar, offset, &mut [0; 4], &interrupts), "{bar} {offset:#x}");
            assert!(!table.write(bar, offset, &[0; 4]));
        }
    }
}
