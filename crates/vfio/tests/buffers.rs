//! What becomes of addresses where a map, or the way back from it, did not work.

#![expect(clippy::unwrap_used, reason = "in tests, where a panic is the failure")]

use jitney_memory::Memfd;
use jitney_vfio::{
    AddressSpace, DmaRequest, Error, ErrorKind, FakeCard, FakeHost, MapError, Mapper, OpenedSpace, Owner,
};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

const PAGE: u64 = 4096;
const TOP: u64 = 16 * PAGE - 1;

type Outcome = Result<(), MapError>;

/// A space of 16 pages that maps one page at a time.
#[derive(Debug, Default)]
struct Odd {
    host: FakeHost,
    /// Where something else is mapped.
    taken: Mutex<Vec<u64>>,
    /// Where nothing can be mapped for another reason.
    broken: Mutex<Vec<u64>>,
    /// All addresses are another owner's.
    foreign: AtomicBool,
    /// Where nothing is unmapped.
    sticky: Mutex<Vec<u64>>,
    /// Where it was asked to map, in pages.
    asked: Mutex<Vec<u64>>,
}

impl Mapper for Odd {
    fn ranges(&self) -> Vec<RangeInclusive<u64>> {
        vec![0..=TOP]
    }

    fn granule(&self) -> u64 {
        PAGE
    }

    fn piece(&self) -> u64 {
        PAGE
    }

    fn map(&self, memory: &Memfd, offset: u64, iova: u64, size: u64) -> Outcome {
        self.asked.lock().unwrap().push(iova / PAGE);
        if self.foreign.load(Ordering::Relaxed) {
            let error = Error::new(ErrorKind::Held, "somebody else maps all memory here");
            return Err(error.with_errno(rustix::io::Errno::PERM).into());
        }
        if self.taken.lock().unwrap().contains(&(iova / PAGE)) {
            return Err(Error::new(ErrorKind::Held, "something is there").into());
        }
        if self.broken.lock().unwrap().contains(&(iova / PAGE)) {
            return Err(Error::new(ErrorKind::System, "it does not want to").into());
        }
        self.host.map(memory, offset, iova, size)
    }

    fn unmap(&self, iova: u64, size: u64) -> Outcome {
        if self.sticky.lock().unwrap().contains(&(iova / PAGE)) {
            return Err(Error::new(ErrorKind::System, "it sticks").into());
        }
        self.host.unmap(iova, size)
    }
}

fn owner(odd: &Arc<Odd>) -> Owner {
    let card = FakeCard::builder(&odd.host, 1, 2).open().unwrap();
    let space = AddressSpace::new(vec![Arc::clone(odd) as _]);
    Owner::of(vec![OpenedSpace { cards: vec![card], space }]).unwrap()
}

fn odd() -> (Arc<Odd>, Owner) {
    let odd = Arc::new(Odd::default());
    let owner = owner(&odd);
    (odd, owner)
}

#[test]
fn addresses_where_something_else_is_mapped_are_passed_over() {
    let (odd, owner) = odd();
    *odd.taken.lock().unwrap() = vec![15, 13];
    let buffer = owner.dma_buffer(2 * PAGE).unwrap();
    assert_eq!(buffer.iova() / PAGE, 10);
    assert_eq!(*odd.asked.lock().unwrap(), [14, 15, 12, 13, 10, 11]);
    assert_eq!(odd.host.mapped().len(), 2, "what was mapped below them is mapped no longer");

    // They come last, when nothing else is left, and may be free by then.
    buffer.free().unwrap();
    odd.taken.lock().unwrap().clear();
    let next = || {
        let buffer = owner.dma_buffer(2 * PAGE).unwrap();
        let iova = buffer.iova() / PAGE;
        std::mem::forget(buffer);
        iova
    };
    assert_eq!((0..8).map(|_| next()).collect::<Vec<_>>(), [8, 6, 4, 2, 0, 10, 14, 12]);
}

#[test]
fn not_for_ever() {
    let (odd, owner) = odd();
    odd.taken.lock().unwrap().extend(0..16);
    assert_eq!(owner.dma_buffer(PAGE).unwrap_err().kind(), ErrorKind::Held);
    assert_eq!(odd.asked.lock().unwrap().len(), 8);
    assert!(odd.host.mapped().is_empty());
}

#[test]
fn where_all_addresses_are_another_owners_no_others_are_tried() {
    let (odd, owner) = odd();
    odd.foreign.store(true, Ordering::Relaxed);
    let error = owner.dma_buffer(PAGE).unwrap_err();
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Held, Some(rustix::io::Errno::PERM)));
    assert_eq!(*odd.asked.lock().unwrap(), [15]);
}

#[test]
fn what_cannot_be_unmapped_is_never_used_again() {
    let (odd, owner) = odd();
    let buffer = owner.dma_buffer(PAGE).unwrap();
    assert_eq!(buffer.iova() / PAGE, 15);
    odd.sticky.lock().unwrap().push(15);
    assert_eq!(buffer.free().unwrap_err().kind(), ErrorKind::System);

    odd.sticky.lock().unwrap().clear();
    odd.asked.lock().unwrap().clear();
    for _ in 0..64 {
        owner.dma_buffer(PAGE).unwrap();
    }
    assert!(!odd.asked.lock().unwrap().contains(&15));
    let all = DmaRequest::new(16 * PAGE);
    assert_eq!(owner.dma_buffer(all).unwrap_err().kind(), ErrorKind::Exhausted);
}

#[test]
fn nor_is_what_could_not_be_undone() {
    let (odd, owner) = odd();
    odd.broken.lock().unwrap().push(15);
    odd.sticky.lock().unwrap().push(14);
    assert_eq!(owner.dma_buffer(2 * PAGE).unwrap_err().kind(), ErrorKind::System);

    odd.broken.lock().unwrap().clear();
    odd.asked.lock().unwrap().clear();
    for _ in 0..64 {
        owner.dma_buffer(PAGE).unwrap();
    }
    let asked = odd.asked.lock().unwrap();
    assert!(!asked.contains(&14) && !asked.contains(&15), "{asked:?}");
}

/// Two cards of which the second refuses, and the first does not let go.
#[test]
fn nor_is_what_another_card_kept() {
    let (first, second) = (Arc::new(Odd::default()), Arc::new(Odd::default()));
    let card = FakeCard::builder(&first.host, 1, 2).open().unwrap();
    let space = AddressSpace::new(vec![Arc::clone(&first) as _, Arc::clone(&second) as _]);
    let owner = Owner::of(vec![OpenedSpace { cards: vec![card], space }]).unwrap();
    second.broken.lock().unwrap().push(15);
    first.sticky.lock().unwrap().push(15);
    assert_eq!(owner.dma_buffer(PAGE).unwrap_err().kind(), ErrorKind::System);
    second.broken.lock().unwrap().clear();
    first.asked.lock().unwrap().clear();
    for _ in 0..64 {
        owner.dma_buffer(PAGE).unwrap();
    }
    assert!(!first.asked.lock().unwrap().contains(&15));
}

/// What fails for another reason may be tried again there, before what something else has.
#[test]
fn addresses_of_a_map_that_failed_are_free_again() {
    let (odd, owner) = odd();
    odd.taken.lock().unwrap().push(15);
    odd.broken.lock().unwrap().push(7);
    let buffer = owner.dma_buffer(8 * PAGE).unwrap_err();
    assert_eq!(buffer.kind(), ErrorKind::System, "the upper half is taken, the lower one broken");
    assert!(odd.host.mapped().is_empty());
    odd.taken.lock().unwrap().clear();
    odd.broken.lock().unwrap().clear();
    assert_eq!(owner.dma_buffer(8 * PAGE).unwrap().iova(), 0);
    assert_eq!(owner.dma_buffer(16 * PAGE).unwrap().iova(), 0);
}
