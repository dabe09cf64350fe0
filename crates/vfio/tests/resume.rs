//! A process that owns an emulated board is killed while it uses it, and another one goes on: the board finds the memory that
//! the dead process has mapped, its interrupt reaches the event of then, and what was half done can be undone.

#![expect(clippy::unwrap_used, reason = "in tests, where a panic is the failure")]

use jitney_emulator::{
    BarDescription, Description, Function, Host, InterruptKinds, Mappable, Msix, Options, Server, ServerError,
};
use jitney_memory::descriptors::{Wait, receive_all, send};
use jitney_memory::{Access, EventFd, Mapping, Memfd, PageSize};
use jitney_vfio::{CardAddress, OpenOptions, OpenedSpace, SpaceRecord, open_all_with};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::io::{IoSlice, stdin};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Where the first process finds the board; it is told nothing else.
const BOARD: &str = "JITNEY_TEST_RESUME_BOARD";
const ROUNDS: u32 = 20;
const SECOND: Duration = Duration::from_secs(1);

const PAGE: u64 = 4096;
const KEPT_IOVA: u64 = 0x10_0000;
/// What the first process maps and unmaps all the time.
const BUSY_IOVA: u64 = 0x20_0000;
const NEW_IOVA: u64 = 0x30_0000;
const SPACE: usize = 12;

/// Registers of BAR 0.
const SCRATCH: u64 = 0x00;
/// A word is written there, one more than what is there, and vector 1 fires. 1 is read back if it could be.
const COUNT_UP_AT: u64 = 0x04;
const VECTOR: u16 = 1;

/// A board that counts up a word of the host's memory.
struct Counter {
    description: Description,
    host: Arc<dyn Host>,
    scratch: AtomicU32,
    done: AtomicU32,
}

impl Counter {
    fn new(host: Arc<dyn Host>) -> Self {
        let bar = Some(BarDescription { size: 0x1_0000, is_64bit: false, prefetchable: false });
        let msix = Some(Msix { vectors: 4, bar: 0, table: 0x8000, pending: 0x8800 });
        let description = Description {
            ids: [0x10ee, 0x7011, 2, 0x15],
            revision: 1,
            class: [5, 0, 0],
            bars: [bar, None, None, None, None, None],
            interrupts: InterruptKinds { line: false, msi: 0, msix },
            link: (2, 4),
            slot_lanes: None,
            serial: None,
        };
        Self { description, host, scratch: AtomicU32::new(0), done: AtomicU32::new(0) }
    }

    fn count_up(&self, iova: u64) -> bool {
        let mut word = [0; 4];
        let read = self.host.read(iova, &mut word, &|| true);
        let write = |()| self.host.write_word(iova, u32::from_le_bytes(word) + 1, &|| true);
        let done = read.and_then(write).is_ok();
        self.host.set_interrupt(VECTOR, true);
        self.host.set_interrupt(VECTOR, false);
        done
    }
}

impl Function for Counter {
    fn description(&self) -> &Description {
        &self.description
    }

    fn read(&self, _: usize, offset: u64, data: &mut [u8]) {
        let register = if offset == SCRATCH { &self.scratch } else { &self.done };
        let value = register.load(Ordering::SeqCst).to_le_bytes();
        data.iter_mut().zip(value).for_each(|(byte, value)| *byte = value);
    }

    fn write(&self, _: usize, offset: u64, data: &[u8]) {
        let value = data.try_into().map_or(0, u32::from_le_bytes);
        match offset {
            SCRATCH => self.scratch.store(value, Ordering::SeqCst),
            _ => self.done.store(self.count_up(value.into()).into(), Ordering::SeqCst),
        }
    }

    fn mappable(&self, _: usize) -> Option<Mappable<'_>> {
        None
    }

    fn reset(&self) {
        self.scratch.store(0, Ordering::SeqCst);
    }
}

fn page() -> Memfd {
    Memfd::create("resume", PAGE, PageSize::Normal).unwrap()
}

fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

/// The process that is killed. As a test, it does nothing.
#[test]
fn first_process() {
    let Some(board) = std::env::var_os(BOARD) else { return };
    let address = CardAddress::VfioUser(board.into());
    let opened = open_all_with(&[address], OpenOptions::default()).unwrap().pop().unwrap();
    let (memory, event, busy) = (page(), EventFd::new().unwrap(), page());
    opened.space.map(&memory, 0, KEPT_IOVA, PAGE).unwrap();
    let card = &opened.cards[0];
    card.set_bus_master(true).unwrap();
    card.wire(VECTOR, Some(event.as_fd())).unwrap();
    let (record, kept) = opened.record(SPACE).unwrap();
    let left = postcard::to_stdvec(&(record, card.enabled_vectors())).unwrap();
    let (names, mut descriptors): (Vec<_>, Vec<_>) = kept.into_iter().unzip();
    assert_eq!(names, ["s12c0"]);
    descriptors.extend([memory.as_fd(), event.as_fd()]);
    send(stdin(), &[IoSlice::new(&left)], &descriptors, Wait::Block).unwrap();
    for value in 0.. {
        card.write_register(0, SCRATCH, value).unwrap();
        assert_eq!(card.read_register(0, SCRATCH).unwrap(), value);
        opened.space.map(&busy, 0, BUSY_IOVA, PAGE).unwrap();
        opened.space.unmap(BUSY_IOVA, PAGE).unwrap();
    }
}

fn start_first(board: &Path) -> (Child, OwnedFd) {
    let (ours, theirs) = pair();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "first_process", "--nocapture"]).env(BOARD, board);
    (command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).spawn().unwrap(), ours)
}

#[test]
fn a_killed_owner_is_gone_on_from() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("board.sock");
    let server = Server::bind(&path, Options::default(), |host| {
        Ok::<_, ServerError>(Arc::new(Counter::new(host)) as Arc<dyn Function>)
    });
    let server = server.unwrap();
    let stop = server.stop_handle();
    let board = std::thread::spawn(move || server.serve());
    let mut half_done = 0;
    for round in 0..ROUNDS {
        half_done += u32::from(kill_and_go_on(&path, Duration::from_micros(u64::from(round) * 137)));
    }
    println!(
        "{half_done} of {ROUNDS} processes were killed with memory mapped that nobody would have unmapped"
    );
    stop.stop().unwrap();
    board.join().unwrap().unwrap();
}

/// Returns whether the first process was killed between map and unmap.
fn kill_and_go_on(board: &Path, after: Duration) -> bool {
    let (mut first, socket) = start_first(board);
    let mut message = [0; 4096];
    let came = receive_all(&socket, &mut message, Wait::Block).unwrap();
    let mut descriptors = came.descriptors;
    let (event, memory) = (descriptors.pop().unwrap(), descriptors.pop().unwrap());
    let event = EventFd::try_from(event).unwrap();
    let memory = Mapping::shared(memory, 0, 4096, Access::ReadWrite).unwrap();
    // Not to wait for anything: each is killed somewhere else in what it does.
    std::thread::sleep(after);
    first.kill().unwrap();
    first.wait().unwrap();

    let (record, enabled): (SpaceRecord, Option<u32>) = postcard::from_bytes(&message[..came.len]).unwrap();
    assert_eq!(enabled, Some(4));
    let names = record.descriptor_names(SPACE).unwrap();
    let mut kept = names.into_iter().zip(descriptors).collect();
    let OpenedSpace { mut cards, space } = OpenedSpace::resume(&record, SPACE, &mut kept).unwrap();
    let card = cards.pop().unwrap().with_enabled_vectors(enabled);
    let count_up = |iova: u64| {
        card.write_register(0, COUNT_UP_AT, iova.try_into().unwrap()).unwrap();
        card.read_register(0, COUNT_UP_AT).unwrap() == 1
    };
    memory.store32(0, 41).unwrap();
    assert!(count_up(KEPT_IOVA), "what a dead process has mapped is reached");
    assert_eq!(memory.load32(0).unwrap(), 42);
    assert!(event.wait(Some(SECOND)).unwrap(), "its event is signalled");
    event.take().unwrap();

    let half_done = count_up(BUSY_IOVA);
    space.unmap_if_mapped(BUSY_IOVA, PAGE).unwrap();
    assert!(!count_up(BUSY_IOVA));
    let more = page();
    space.map(&more, 0, NEW_IOVA, PAGE).unwrap();
    assert!(count_up(NEW_IOVA));
    // Another vector is wired, and the live one is not silenced.
    card.wire(0, Some(EventFd::new().unwrap().as_fd())).unwrap();
    event.take().unwrap();
    assert!(count_up(KEPT_IOVA) && event.wait(Some(SECOND)).unwrap());
    for iova in [NEW_IOVA, KEPT_IOVA] {
        space.unmap(iova, PAGE).unwrap();
        assert!(!count_up(iova));
    }
    // A client's connection reaches the card and cannot map: the role is still with the first connection.
    let theirs = card.grant().unwrap().open("vfio-user:theirs".into()).unwrap();
    theirs.bar(0).unwrap().write32(SCRATCH, 7).unwrap();
    assert_eq!(card.read_register(0, SCRATCH).unwrap(), 7);
    half_done
}
