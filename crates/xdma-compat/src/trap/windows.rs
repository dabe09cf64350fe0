//! Where registers are mapped in this process.
//!
//! The table is read in a signal handler and lives on in a forked child, so nothing in it is locked.

#![expect(unsafe_code, reason = "address ranges without memory")]

use super::Wanted;
use crate::failure::{Failure, Outcome};
use crate::node::{Kind, Node};
use rustix::io::Errno;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

pub(super) const PAGE: usize = 4096;
/// How many mappings there can be at once.
const MOST: usize = 256;

/// How a mapping reaches registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// They are there.
    Mapped,
    /// By faults.
    Trapped,
}

/// A mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) base: usize,
    pub(super) length: usize,
    pub(super) node: Node,
    /// Where in the BAR it begins.
    pub(super) offset: u64,
    pub(super) way: Way,
}

impl Window {
    fn has(&self, address: usize) -> bool {
        address.checked_sub(self.base).is_some_and(|at| at < self.length)
    }
}

/// A place in the table. What it says counts while its length is not zero.
struct Place {
    taken: AtomicBool,
    base: AtomicUsize,
    length: AtomicUsize,
    offset: AtomicU64,
    card: AtomicU8,
    kind: AtomicU8,
    trapped: AtomicBool,
}

impl Place {
    const fn free_one() -> Self {
        Self {
            taken: AtomicBool::new(false),
            base: AtomicUsize::new(0),
            length: AtomicUsize::new(0),
            offset: AtomicU64::new(0),
            card: AtomicU8::new(0),
            kind: AtomicU8::new(0),
            trapped: AtomicBool::new(false),
        }
    }

    fn set(&self, window: Window) {
        self.base.store(window.base, Ordering::Relaxed);
        self.offset.store(window.offset, Ordering::Relaxed);
        self.card.store(window.node.card, Ordering::Relaxed);
        self.kind.store(window.node.kind.number(), Ordering::Relaxed);
        self.trapped.store(window.way == Way::Trapped, Ordering::Relaxed);
        self.length.store(window.length, Ordering::Release);
    }

    fn get(&self) -> Option<Window> {
        let length = self.length.load(Ordering::Acquire);
        let kind = Kind::of_number(self.kind.load(Ordering::Relaxed))?;
        (length > 0).then(|| Window {
            base: self.base.load(Ordering::Relaxed),
            length,
            node: Node { card: self.card.load(Ordering::Relaxed), kind },
            offset: self.offset.load(Ordering::Relaxed),
            way: if self.trapped.load(Ordering::Relaxed) { Way::Trapped } else { Way::Mapped },
        })
    }

    fn free(&self) {
        self.length.store(0, Ordering::Release);
        self.taken.store(false, Ordering::Release);
    }
}

static TABLE: [Place; MOST] = [const { Place::free_one() }; MOST];
/// Whether there was ever one: most programs have none, and their calls need not look.
static ANY: AtomicBool = AtomicBool::new(false);

/// Adds a mapping.
///
/// # Errors
/// ENOMEM if there are too many.
pub(super) fn add(base: usize, length: usize, node: Node, offset: u64, way: Way) -> Outcome<()> {
    let window = Window { base, length, node, offset, way };
    // The same registers are at the same place however often they are mapped.
    if way == Way::Mapped && TABLE.iter().any(|place| place.get() == Some(window)) {
        return Ok(());
    }
    let place = TABLE.iter().find(|place| !place.taken.swap(true, Ordering::AcqRel));
    match place {
        Some(place) => {
            ANY.store(true, Ordering::Release);
            place.set(window);
            Ok(())
        }
        None => Err(Failure::new(
            Errno::NOMEM,
            format!("{MOST} mappings of registers is as many as there can be"),
        )),
    }
}

/// The mapping that an address lies in.
pub(super) fn at(address: usize) -> Option<Window> {
    if !ANY.load(Ordering::Acquire) {
        return None;
    }
    TABLE.iter().filter_map(Place::get).find(|window| window.has(address))
}

/// Sets addresses aside for a mapping by faults; where they are.
///
/// # Errors
/// What the kernel says.
pub(super) fn reserve(wanted: Wanted, length: usize, node: Node, offset: u64) -> Outcome<usize> {
    let fixed = wanted.flags & (libc::MAP_FIXED | libc::MAP_FIXED_NOREPLACE);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | fixed;
    let hint = std::ptr::with_exposed_provenance_mut(wanted.address);
    // SAFETY: a new mapping where the kernel likes, or, with MAP_FIXED, where the program has said that nothing of it is.
    let base = unsafe { crate::real::mmap(hint, length, libc::PROT_NONE, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        let errno =
            std::io::Error::last_os_error().raw_os_error().map_or(Errno::NOMEM, Errno::from_raw_os_error);
        return Err(Failure::new(errno, "no addresses could be set aside for the registers"));
    }
    let base = base.expose_provenance();
    match add(base, length, node, offset, Way::Trapped) {
        Ok(()) => Ok(base),
        Err(failure) => {
            // SAFETY: it was made above, and nobody knows of it.
            unsafe { crate::real::munmap(std::ptr::with_exposed_provenance_mut(base), length) };
            Err(failure)
        }
    }
}

/// Whether registers are mapped somewhere in the range.
pub(crate) fn is_window(address: usize, length: usize) -> bool {
    ANY.load(Ordering::Acquire)
        && TABLE.iter().filter_map(Place::get).any(|window| overlaps(&window, address, length))
}

fn overlaps(window: &Window, address: usize, length: usize) -> bool {
    address < window.base.saturating_add(window.length) && window.base < address.saturating_add(length)
}

/// Takes a range out of the table. Whether there is anything left for the real `munmap` to do: registers that
/// are mapped stay so, as others of this process may use them.
pub(crate) fn unmap(address: usize, length: usize) -> bool {
    if !ANY.load(Ordering::Acquire) {
        return true;
    }
    let end = address.saturating_add(length.next_multiple_of(PAGE));
    let mut stays = false;
    for place in &TABLE {
        let Some(window) = place.get().filter(|window| overlaps(window, address, end - address)) else {
            continue;
        };
        stays |= window.way == Way::Mapped;
        place.free();
        let window_end = window.base + window.length;
        // What is in front of the range, and what is behind it.
        for (from, to) in [(window.base, address), (end, window_end)] {
            if from < to && from >= window.base && to <= window_end {
                let offset = window.offset + (from - window.base) as u64;
                // There is room for one, which was just freed; a second that finds none cannot be reached any more.
                let _ = add(from, to - from, window.node, offset, window.way);
            }
        }
    }
    !stays
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_mapping_can_go() {
        let node = Node { card: 1, kind: Kind::User };
        let base = 0x1000_0000;
        add(base, 0x4000, node, 0x1000, Way::Trapped).unwrap();
        assert_eq!(at(base + 0x3fff).unwrap().offset, 0x1000);
        assert_eq!(at(base + 0x4000), None);
        assert!(unmap(base + 0x1000, 0x1000));
        assert_eq!(at(base + 0x1000), None);
        let behind = at(base + 0x2000).unwrap();
        assert_eq!((behind.base, behind.length, behind.offset), (base + 0x2000, 0x2000, 0x3000));
        assert!(at(base).is_some_and(|window| window.length == 0x1000));
        assert!(unmap(base, 0x4000));
        assert!(!is_window(base, 0x4000));
        add(base, 0x1000, node, 0, Way::Mapped).unwrap();
        assert!(!unmap(base, 0x1000), "what is mapped stays so");
    }
}
