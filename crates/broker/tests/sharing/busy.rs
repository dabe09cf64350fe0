//! An address space that is busy, as long as a kernel may be with one piece of a map, keeps nobody from what needs it not, and
//! others in it wait for one piece.

use crate::raw::{CARD, Raw};
use crate::rig::{Emulated, Serving, eventually};
use jitney_broker::CardId;
use jitney_broker::protocol::{Reply, Request};
use jitney_memory::Memfd;
use jitney_vfio::{AddressSpace, FakeHost, MapError, Mapper, OpenOptions, OpenedSpace, open_all_with};
use std::ops::RangeInclusive;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

const OTHER: CardId = CardId(1);
const PIECE: u64 = 1 << 20;

/// What was done in a space, as far as it has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Map(u64),
    Unmap(u64),
}

/// A space in which nothing is over while its gate is closed.
#[derive(Debug, Default)]
struct Gated {
    host: FakeHost,
    closed: Mutex<bool>,
    opened: Condvar,
    done: Mutex<Vec<Done>>,
}

impl Gated {
    fn close(&self) {
        *self.closed.lock().unwrap() = true;
    }

    fn open(&self) {
        *self.closed.lock().unwrap() = false;
        self.opened.notify_all();
    }

    fn pass(&self, done: Done) {
        self.done.lock().unwrap().push(done);
        let limit = Duration::from_secs(20);
        let closed = self.closed.lock().unwrap();
        let (_closed, timeout) = self.opened.wait_timeout_while(closed, limit, |closed| *closed).unwrap();
        assert!(!timeout.timed_out(), "the test has forgotten to open the gate");
    }
}

impl Mapper for Gated {
    fn ranges(&self) -> Vec<RangeInclusive<u64>> {
        self.host.ranges()
    }

    fn granule(&self) -> u64 {
        self.host.granule()
    }

    fn piece(&self) -> u64 {
        PIECE
    }

    fn map(&self, memory: &Memfd, offset: u64, iova: u64, size: u64) -> Result<(), MapError> {
        self.pass(Done::Map(iova));
        self.host.map(memory, offset, iova, size)
    }

    fn unmap(&self, iova: u64, size: u64) -> Result<(), MapError> {
        self.pass(Done::Unmap(iova));
        self.host.unmap(iova, size)
    }
}

/// A broker of two boards, each in a space of its own.
struct Busy {
    broker: Serving,
    spaces: [Arc<Gated>; 2],
    _boards: [Emulated; 2],
}

fn busy() -> Busy {
    let boards = [Emulated::new(), Emulated::new()];
    let spaces = [Arc::new(Gated::default()), Arc::new(Gated::default())];
    let opened = boards.iter().zip(&spaces).flat_map(|(board, gated)| {
        let opened = open_all_with(std::slice::from_ref(&board.address), OpenOptions::default()).unwrap();
        opened.into_iter().map(|OpenedSpace { cards, .. }| OpenedSpace {
            cards,
            space: AddressSpace::new(vec![Arc::clone(gated) as _]),
        })
    });
    Busy { broker: Serving::new(opened.collect()), spaces, _boards: boards }
}

fn allocate(card: CardId, size: u64) -> Request {
    Request::Allocate { card: Some(card), size, align: 1, top: u64::MAX, page_shift: 12 }
}

/// A client that has both cards open and, in the space of each, a page of memory.
fn client(broker: &Serving) -> (Raw, [u64; 2]) {
    let mut client = Raw::new(broker.socket());
    let iovas = [CARD, OTHER].map(|card| {
        client.ask(&Request::Open { card }).unwrap();
        match client.ask(&allocate(card, 4096)).unwrap() {
            Reply::Allocated { iova, .. } => iova,
            other => panic!("{other:?}"),
        }
    });
    (client, iovas)
}

/// Somebody maps 1 GiB in the first space, which is at the first piece from here on.
fn keep_busy(broker: &Serving, space: &Gated) -> Raw {
    let mut large = Raw::new(broker.socket());
    large.ask(&Request::Open { card: CARD }).unwrap();
    space.close();
    space.done.lock().unwrap().clear();
    large.say(&allocate(CARD, 1 << 30));
    eventually("the map has not begun", || !space.done.lock().unwrap().is_empty());
    large
}

#[test]
fn core_c8_a_busy_space_keeps_nobody_from_freeing_in_another() {
    let Busy { broker, spaces: [busy, free], .. } = &busy();
    let (mut client, [_, iova]) = client(broker);
    let (dying, _) = self::client(broker);
    assert_eq!(free.host.mapped().len(), 2);
    let _large = keep_busy(broker, busy);

    assert_eq!(client.ask(&Request::Free { iova }), Ok(Reply::Done));
    drop(dying);
    eventually("the memory of the dead is still mapped where nothing is busy", || {
        free.host.mapped().is_empty()
    });
    client.ask(&allocate(OTHER, 4096)).unwrap();
    client.ask(&Request::Usage { after: None }).unwrap();
    assert_eq!(busy.done.lock().unwrap().len(), 1, "it was at one piece all the time");
    busy.open();
}

#[test]
fn core_c8_in_a_busy_space_who_frees_waits_for_one_piece() {
    let Busy { broker, spaces: [busy, _], .. } = &busy();
    let (mut client, [iova, _]) = client(broker);
    let _large = keep_busy(broker, busy);

    client.say(&Request::Free { iova });
    // Answered first, so that the broker has seen the other one.
    assert!(matches!(client.ask(&Request::Usage { after: None }), Ok(Reply::Usage { .. })));
    busy.open();
    assert_eq!(client.hear_any().1, Ok(Reply::Done));
    let done = busy.done.lock().unwrap();
    assert!(
        matches!(done[..], [Done::Map(_), Done::Unmap(at), ..] if at == iova),
        "{:?}",
        &done[..done.len().min(4)]
    );
}
