//! A process that ends and another that goes on with its connection, as a server sees them: descriptors of the first are
//! kept, and all that it knew is gone but for the record.

use super::test_server::{DATA, Fault, Seen, TestServer};
use super::tests::listen;
use crate::{
    AddressSpace, CardAddress, ErrorKind, InterruptKind, OpenOptions, OpenedCard, OpenedSpace, Result,
    SpaceRecord, open_all_with, open_connected,
};
use jitney_memory::{EventFd, Memfd, PageSize, descriptors};
use jitney_vfio_user::{RegionQuery, Request};
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// What a keeper has when the process that opened the cards is gone.
struct Left {
    record: SpaceRecord,
    descriptors: BTreeMap<String, OwnedFd>,
}

impl Left {
    /// Keeps what `opened` has, and ends it as a process ends: what it mapped and wired is not undone.
    fn by(opened: OpenedSpace, number: usize) -> Self {
        let (record, descriptors) = opened.record(number).unwrap();
        let keep = |(name, descriptor): (String, std::os::fd::BorrowedFd<'_>)| {
            (name, descriptor.try_clone_to_owned().unwrap())
        };
        let descriptors = descriptors.into_iter().map(keep).collect();
        let record = postcard::from_bytes(&postcard::to_stdvec(&record).unwrap()).unwrap();
        drop(opened);
        Self { record, descriptors }
    }

    fn resume(&mut self, number: usize) -> Result<OpenedSpace> {
        OpenedSpace::resume(&self.record, number, &mut self.descriptors)
    }

    /// Something that a process had asked before it ended, and whose reply nobody has read.
    fn ask(&self, name: &str, request: &Request<'_>, id: u16) {
        let mut out = Vec::new();
        request.encode(id, &mut out);
        descriptors::send_all(&self.descriptors[name], &[IoSlice::new(&out)], &[]).unwrap();
    }
}

fn open(server: TestServer) -> (OpenedSpace, Arc<Mutex<Seen>>) {
    let seen = Arc::clone(&server.seen);
    (open_connected(server.start().0, "vfio-user:/test".into()).unwrap(), seen)
}

fn only(opened: OpenedSpace) -> (OpenedCard, AddressSpace) {
    let OpenedSpace { mut cards, space } = opened;
    (cards.pop().unwrap(), space)
}

fn page() -> Memfd {
    Memfd::create("buffer", 0x1000, PageSize::Normal).unwrap()
}

#[test]
fn what_was_mapped_and_wired_stays_and_the_card_is_not_touched() {
    let (opened, seen) = open(TestServer::new(Fault::None));
    let (before, bars) = (opened.cards[0].identity().clone(), *opened.cards[0].bars());
    let event = EventFd::new().unwrap();
    opened.space.map(&page(), 0, 0x1000, 0x1000).unwrap();
    opened.cards[0].set_bus_master(true).unwrap();
    opened.cards[0].wire(1, Some(event.as_fd())).unwrap();
    let enabled = opened.cards[0].enabled_vectors();
    assert_eq!(enabled, Some(4));

    let mut left = Left::by(opened, 7);
    assert_eq!(left.descriptors.keys().collect::<Vec<_>>(), ["s7c0"]);
    assert_eq!(left.record.descriptor_names(7).unwrap(), ["s7c0"]);
    let wired = seen.lock().unwrap().set_irqs.len();
    let opened = left.resume(7).unwrap();
    assert!(left.descriptors.is_empty());
    assert_eq!(opened.record(7).unwrap().0, left.record, "it can be gone on with once more");
    let (card, space) = only(opened);
    let card = card.with_enabled_vectors(enabled);
    assert_eq!((card.identity(), card.bars(), card.vectors()), (&before, &bars, 4));
    {
        let seen = seen.lock().unwrap();
        assert_eq!(seen.asked_last, Some(Request::SetIrqs(wiring(1)).command()), "nothing was said yet");
        assert_eq!((seen.maps.len(), seen.set_irqs.len(), seen.resets, seen.command), (1, wired, 0, 4));
    }
    assert_eq!(card.read_register(0, 0).unwrap(), 0x0403_0201);
    assert!(card.device().bar(2).unwrap().registers().is_some());
    seen.lock().unwrap().wires[&1].signal().unwrap();
    assert!(event.wait(Some(SECOND)).unwrap());
    // The next wire does not silence the one that is live.
    let other = EventFd::new().unwrap();
    card.wire(3, Some(other.as_fd())).unwrap();
    assert_eq!(seen.lock().unwrap().set_irqs.len(), wired + 1);
    seen.lock().unwrap().wires[&1].signal().unwrap();

    space.map(&page(), 0, 0x2000, 0x1000).unwrap();
    space.unmap(0x1000, 0x1000).unwrap();
    space.unmap_if_mapped(0x1000, 0x1000).unwrap();
    space.unmap_if_mapped(0x2000, 0x1000).unwrap();
    assert!(seen.lock().unwrap().maps.is_empty());
    assert!(space.unmap(0x1000, 0x1000).is_err());
    assert_eq!(card.grant().unwrap_err().kind(), ErrorKind::Unsupported, "it has no path");
}

fn wiring(start: u32) -> jitney_vfio_user::SetIrqs<'static> {
    jitney_vfio_user::SetIrqs {
        index: InterruptKind::MsiX as u32,
        start,
        count: 1,
        action: jitney_vfio_user::IrqAction::Trigger,
        data: jitney_vfio_user::IrqData::Eventfds,
    }
}

#[test]
fn replies_to_the_process_before_are_skipped_with_their_descriptors() {
    let server = TestServer::new(Fault::None);
    let memory = Arc::clone(&server.memory);
    let open_files = || {
        let inode = rustix::fs::fstat(&*memory).unwrap();
        let files = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        let same = |file: &std::fs::Metadata| (file.ino(), file.dev()) == (inode.st_ino, inode.st_dev);
        files.filter_map(|file| std::fs::metadata(file.path()).ok()).filter(same).count()
    };
    let (opened, _seen) = open(server);
    let mut left = Left::by(opened, 0);
    let before = open_files();
    for id in 0..40 {
        left.ask("s0c0", &Request::RegionInfo(RegionQuery::new(2)), id);
        left.ask("s0c0", &Request::RegionRead(DATA), 20 * id);
        left.ask("s0c0", &Request::DeviceInfo, 3 * id);
    }
    let (card, space) = only(left.resume(0).unwrap());
    assert_eq!(card.read_register(0, 0).unwrap(), 0x0403_0201);
    assert_eq!(card.read_register(0, 4).unwrap(), 0x0403_0201);
    space.map(&page(), 0, 0x1000, 0x1000).unwrap();
    assert_eq!(open_files(), before);
}

/// A server that breaks the order of things later is not forgiven for having had another client.
#[test]
fn only_the_first_exchange_skips_anything() {
    let (opened, _seen) = open(TestServer::new(Fault::WrongId));
    let mut left = Left::by(opened, 0);
    let (card, _space) = only(left.resume(0).unwrap());
    assert_eq!(card.read_register(0, 4).unwrap(), 0x0403_0201);
    assert_eq!(card.read_register(0, 0).unwrap_err().kind(), ErrorKind::Protocol);
}

#[test]
fn a_board_that_is_gone_fails_when_it_is_used_and_does_not_keep_others_from_going_on() {
    let directory = tempfile::tempdir().unwrap();
    let server = TestServer::new(Fault::None);
    let seen = Arc::clone(&server.seen);
    let path = listen(directory.path(), server);
    let (ours, theirs) = UnixStream::pair().unwrap();
    let dying = TestServer::new(Fault::None);
    let board = std::thread::spawn(move || dying.serve(&ours));
    let dead = open_connected(theirs.into(), "vfio-user:/dead".into()).unwrap();
    let well = open_all_with(&[CardAddress::VfioUser(path.clone())], OpenOptions::default()).unwrap();
    let well = well.into_iter().next().unwrap();
    let space = AddressSpace::joined([&dead.space, &well.space]);
    let cards = dead.cards.into_iter().chain(well.cards).collect();
    let opened = OpenedSpace { cards, space };
    opened.space.map(&page(), 0, 0x1000, 0x1000).unwrap();
    let mut left = Left::by(opened, 1);
    rustix::net::shutdown(&left.descriptors["s1c0"], rustix::net::Shutdown::Both).unwrap();
    board.join().unwrap();

    for missing in [false, true] {
        let mut descriptors = BTreeMap::new();
        for (name, descriptor) in &left.descriptors {
            descriptors.insert(name.clone(), descriptor.try_clone().unwrap());
        }
        if missing {
            // As a service manager does with a socket whose peer hung up.
            descriptors.remove("s1c0");
        }
        let opened = OpenedSpace::resume(&left.record, 1, &mut descriptors).unwrap();
        let [dead, well] = &opened.cards[..] else { unreachable!() };
        assert_eq!((dead.identity().vendor, dead.bars(), dead.vectors()), (0x10ee, well.bars(), 4));
        assert_eq!(dead.read_register(0, 0).unwrap_err().kind(), ErrorKind::LinkDown);
        assert_eq!(well.read_register(0, 0).unwrap(), 0x0403_0201);
        opened.space.map(&page(), 0, 0x2000, 0x1000).unwrap();
        opened.space.unmap(0x2000, 0x1000).unwrap();
    }
    let opened = left.resume(1).unwrap();
    opened.space.unmap(0x1000, 0x1000).unwrap();
    assert!(seen.lock().unwrap().maps.is_empty());
    // A connection for somebody else, by the path.
    let grant = opened.cards[1].grant().unwrap().open("vfio-user:/theirs".into()).unwrap();
    assert_eq!(grant.bar(0).unwrap().read32(0).unwrap(), 0x0403_0201);
}

#[test]
fn what_no_other_process_can_go_on_with_is_said() {
    let (opened, _seen) = open(TestServer::new(Fault::None));
    let (elsewhere, _other) = open(TestServer::new(Fault::None));
    let strange = OpenedSpace { cards: opened.cards, space: elsewhere.space };
    assert_eq!(strange.record(0).unwrap_err().kind(), ErrorKind::Unsupported);
}
