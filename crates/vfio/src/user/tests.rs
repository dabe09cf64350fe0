//! The client against servers that behave, misbehave, and die.

use super::connect::negotiate_within;
use super::test_server::{BAR2_SIZE, DATA, Fault, TestServer};
use super::{Connection, connect, negotiate};
use crate::{
    AddressSpace, Card, CardAddress, DmaRequest, Error, ErrorKind, Grant, InterruptKind, LeaseRequest,
    MapError, Mapper, Owner, Part, Result, Transport, open,
};
use jitney_memory::{Memfd, PageSize};
use jitney_vfio_user::{Header, MmapArea, errno};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn connection(fault: Fault) -> Result<Connection> {
    serve(TestServer::new(fault))
}

fn serve(server: TestServer) -> Result<Connection> {
    let (socket, _) = server.start();
    negotiate(socket, "vfio-user:/test".into())
}

fn read(connection: &Connection) -> Result<[u8; 4]> {
    let mut bytes = [0; 4];
    connection.read(DATA.region, DATA.offset, &mut bytes)?;
    Ok(bytes)
}

/// The error of the first read, and that of the next.
fn failed_reads(fault: Fault) -> (Error, Error) {
    let connection = connection(fault).unwrap();
    (read(&connection).unwrap_err(), read(&connection).unwrap_err())
}

/// A server at a path, for as many connections as come.
pub(super) fn listen(directory: &Path, server: TestServer) -> PathBuf {
    let path = directory.join("board.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        std::thread::scope(|scope| {
            for socket in listener.incoming() {
                let server = &server;
                scope.spawn(move || server.serve(&socket.unwrap()));
            }
        });
    });
    path
}

#[test]
fn reads_and_writes_registers() {
    let server = TestServer::new(Fault::None);
    let seen = Arc::clone(&server.seen);
    let connection = serve(server).unwrap();
    assert_eq!(read(&connection).unwrap(), [1, 2, 3, 4]);
    let mut byte = [0];
    connection.read(0, 3, &mut byte).unwrap();
    assert_eq!(byte, [1]);
    connection.write(0, 0x40, &[5, 6, 7, 8]).unwrap();
    assert_eq!(seen.lock().unwrap().written[&0x40], [5, 6, 7, 8]);
    let mut much = vec![0; 100_000];
    connection.read(0, 8, &mut much).unwrap();
    assert_eq!(&much[..3], [1, 2, 3]);
}

#[test]
fn an_access_has_a_size() {
    let connection = connection(Fault::None).unwrap();
    assert_eq!(connection.read(0, 0, &mut []).unwrap_err().kind(), ErrorKind::Invalid);
    let mut large = vec![0; (1 << 20) + 1];
    assert_eq!(connection.read(0, 0, &mut large).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(connection.write(0, 0, &large).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn a_server_that_dies_is_link_down_from_then_on() {
    for fault in [Fault::Dies, Fault::DiesWithin] {
        let (first, second) = failed_reads(fault);
        assert_eq!(first.kind(), ErrorKind::LinkDown, "{fault:?}: {first}");
        assert!(
            first.to_string().contains("vfio-user:/test: the process that emulates it is gone"),
            "{first}"
        );
        assert_eq!(first, second);
    }
}

#[test]
fn a_server_that_lost_its_place_is_not_believed_again() {
    for fault in [Fault::WrongId, Fault::BadSize] {
        let (first, second) = failed_reads(fault);
        assert_eq!(first.kind(), ErrorKind::Protocol, "{fault:?}: {first}");
        assert_eq!(first, second);
    }
}

#[test]
fn a_reply_that_does_not_fit_is_an_error() {
    for fault in [Fault::Short, Fault::OtherOffset] {
        let (first, _) = failed_reads(fault);
        assert_eq!(first.kind(), ErrorKind::Protocol, "{fault:?}: {first}");
    }
}

#[test]
fn the_errno_of_the_server_is_named() {
    for (number, name) in [(22, "EINVAL"), (5, "EIO"), (4095, "unknown errno")] {
        let (first, _) = failed_reads(Fault::Errno(number));
        assert_eq!(first.errno().map(Errno::raw_os_error), i32::try_from(number).ok());
        assert!(first.to_string().contains(name), "{first}");
        assert!(first.to_string().contains("REGION_READ"), "{first}");
    }
    for number in [0, 4096, u32::MAX] {
        let (first, _) = failed_reads(Fault::Errno(number));
        assert_eq!((first.kind(), first.errno()), (ErrorKind::System, None), "{first}");
    }
}

#[test]
fn a_refusal_does_not_end_the_connection() {
    let connection = connection(Fault::None).unwrap();
    let MapError::Failed(refused) = connection.unmap(0x1000, 0x1000).unwrap_err() else {
        unreachable!("a server that answers is not gone")
    };
    assert_eq!(refused.errno(), Some(Errno::INVAL), "{refused}");
    assert_eq!(read(&connection).unwrap(), [1, 2, 3, 4]);
}

#[test]
fn a_silent_server_times_out() {
    let (socket, _) = TestServer::new(Fault::Silent).start();
    let connection = negotiate_within(socket, "vfio-user:/test".into(), Duration::from_millis(50)).unwrap();
    let start = Instant::now();
    let first = read(&connection).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(first.kind(), ErrorKind::TimedOut, "{first}");
    assert_eq!(read(&connection).unwrap_err(), first);
}

#[test]
fn a_server_that_never_negotiates_times_out() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let short = Duration::from_millis(50);
    let error = negotiate_within(ours.into(), "vfio-user:/test".into(), short).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
}

#[test]
fn a_reply_in_pieces_is_put_together() {
    let connection = connection(Fault::Dribbles).unwrap();
    assert_eq!(read(&connection).unwrap(), [1, 2, 3, 4]);
    assert_eq!(read(&connection).unwrap(), [1, 2, 3, 4]);
}

#[test]
fn what_the_server_asks_is_refused_and_the_reply_still_found() {
    let server = TestServer::new(Fault::Asks);
    let seen = Arc::clone(&server.seen);
    let connection = serve(server).unwrap();
    assert_eq!(read(&connection).unwrap(), [1, 2, 3, 4]);
    // The next reply comes after the server has seen our answer.
    assert_eq!(read(&connection).unwrap(), [1, 2, 3, 4]);
    let answer: Header = seen.lock().unwrap().answer.unwrap();
    assert!(answer.is_reply() && answer.flags.error());
    assert_eq!((answer.id, answer.error), (99, errno::ENOTSUP));
}

#[test]
fn another_protocol_is_unsupported() {
    for fault in [Fault::Major, Fault::NotPci] {
        let error = connection(fault).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{fault:?}: {error}");
    }
}

#[test]
fn a_socket_that_was_set_not_to_block_is_used_all_the_same() {
    let (socket, _) = TestServer::new(Fault::None).start();
    rustix::fs::fcntl_setfl(&socket, rustix::fs::OFlags::NONBLOCK).unwrap();
    assert_eq!(read(&negotiate(socket, "x".into()).unwrap()).unwrap(), [1, 2, 3, 4]);
}

#[test]
fn regions_are_mapped_by_their_descriptor() {
    let server = TestServer::new(Fault::None);
    let memory = Arc::clone(&server.memory);
    let connection = serve(server).unwrap();
    assert!(!connection.region(0).unwrap().mappable);
    assert_eq!(Transport::map(&connection, 0).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(connection.region(2).unwrap(), crate::RegionInfo { size: BAR2_SIZE, mappable: true });
    let theirs =
        jitney_memory::Mapping::shared(&*memory, 0, 0x4000, jitney_memory::Access::ReadWrite).unwrap();
    let ours = Transport::map(&connection, 2).unwrap();
    theirs.store32(0x3ffc, 7).unwrap();
    assert_eq!((ours.len(), ours.load32(0x3ffc)), (0x4000, Ok(7)));
    assert_eq!(connection.region(1).unwrap().size, 0);
    assert_eq!(connection.region(100).unwrap().size, 0);
}

#[test]
fn only_a_region_that_can_be_mapped_as_a_whole_is() {
    let area = |offset, size| MmapArea { offset, size };
    for (areas, mappable) in [
        (vec![area(0, BAR2_SIZE)], true),
        (vec![area(0, 0), area(0, BAR2_SIZE)], true),
        (vec![area(0, 0x1000), area(0x2000, 0x2000)], false),
        (vec![], false),
        // Longer than the answer that is asked for at first.
        ((0..0x400).map(|page| area(page * 16, 16)).collect(), false),
    ] {
        let server = TestServer { areas: Some(areas), ..TestServer::new(Fault::None) };
        assert_eq!(serve(server).unwrap().region(2).unwrap().mappable, mappable);
    }
}

#[test]
fn memory_that_the_server_could_shrink_is_not_mapped() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(BAR2_SIZE).unwrap();
    assert!(!super::transport::keeps_its_size(&OwnedFd::from(file)));
    let sealed = Memfd::create("sealed", 0x1000, PageSize::Normal).unwrap();
    assert!(super::transport::keeps_its_size(&sealed.into_fd()));

    // What is neither file nor device is nobody's promise.
    let (pipe, _) = rustix::pipe::pipe().unwrap();
    assert!(!super::transport::keeps_its_size(&pipe));
    assert!(super::transport::keeps_its_size(&std::fs::File::open("/dev/null").unwrap().into()));
}

/// Holes can be punched into a sealed file, and with the pool empty the next touch is SIGBUS.
#[test]
fn memory_of_huge_pages_that_the_server_could_punch_out_is_not_mapped() {
    let flags = MemfdFlags::HUGETLB | MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC;
    let huge = match memfd_create("huge", flags) {
        Ok(huge) => huge,
        Err(error) => return println!("skipped: this kernel has no huge pages: {error}"),
    };
    fcntl_add_seals(&huge, SealFlags::SHRINK).unwrap();
    assert!(!super::transport::keeps_its_size(&huge));
}

#[test]
fn memory_is_mapped_and_unmapped() {
    let server = TestServer::new(Fault::None);
    let seen = Arc::clone(&server.seen);
    let connection = serve(server).unwrap();
    let memory = Memfd::create("buffer", 0x3000, PageSize::Normal).unwrap();
    Mapper::map(&connection, &memory, 0x1000, 0x10_0000, 0x2000).unwrap();
    assert_eq!(seen.lock().unwrap().maps, [(0x10_0000, 0x2000)].into());

    let taken = Error::from(Mapper::map(&connection, &memory, 0, 0x10_1000, 0x1000).unwrap_err());
    assert_eq!((taken.kind(), taken.errno()), (ErrorKind::Held, Some(Errno::EXIST)));
    assert!(taken.to_string().contains("0x101000") && taken.to_string().contains("EEXIST"), "{taken}");
    assert!(taken.remedy().unwrap().contains("broker"));

    connection.unmap(0x10_0000, 0x2000).unwrap();
    assert!(seen.lock().unwrap().maps.is_empty());
}

#[test]
fn addresses_that_no_machine_has_are_refused() {
    let connection = connection(Fault::None).unwrap();
    let memory = Memfd::create("buffer", 0x10_0000, PageSize::Normal).unwrap();
    for (iova, size) in [
        (0xfee0_0000, 0x1000),
        (0xfedf_f000, 0x2000),
        (0xfeef_f000, 0x2000),
        (1 << 39, 0x1000),
        (u64::MAX - 0xfff, 0x1000),
        (u64::MAX - 0xfff, 0x2000),
        (0x1000, 0),
        (0x1800, 0x1000),
        (0x1000, 0x800),
    ] {
        let error = Error::from(Mapper::map(&connection, &memory, 0, iova, size).unwrap_err());
        assert_eq!(error.kind(), ErrorKind::Invalid, "{iova:#x}, {size:#x}: {error}");
    }
    Mapper::map(&connection, &memory, 0, 0xfedf_f000, 0x1000).unwrap();
    Mapper::map(&connection, &memory, 0, 0xfef0_0000, 0x1000).unwrap();
}

#[test]
fn who_is_not_the_owner_of_a_board_is_told_so() {
    let connection = connection(Fault::MapErrno(Errno::PERM.raw_os_error().unsigned_abs())).unwrap();
    let memory = Memfd::create("buffer", 0x1000, PageSize::Normal).unwrap();
    let error = Error::from(Mapper::map(&connection, &memory, 0, 0x1000, 0x1000).unwrap_err());
    assert_eq!((error.kind(), error.errno()), (ErrorKind::Held, Some(Errno::PERM)));
    assert!(error.to_string().contains("another program owns the board"), "{error}");
}

#[test]
fn an_unmap_that_did_less_is_noticed() {
    let connection = connection(Fault::UnmapsLess).unwrap();
    let memory = Memfd::create("buffer", 0x1000, PageSize::Normal).unwrap();
    Mapper::map(&connection, &memory, 0, 0x1000, 0x1000).unwrap();
    let MapError::Failed(error) = connection.unmap(0x1000, 0x1000).unwrap_err() else { unreachable!() };
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

#[test]
fn a_server_that_is_gone_has_nothing_mapped() {
    let connection = connection(Fault::Dies).unwrap();
    let memory = Memfd::create("buffer", 0x1000, PageSize::Normal).unwrap();
    Mapper::map(&connection, &memory, 0, 0x1000, 0x1000).unwrap();
    read(&connection).unwrap_err();
    assert!(matches!(connection.unmap(0x1000, 0x1000), Err(MapError::Gone(_))));
    assert!(matches!(Mapper::map(&connection, &memory, 0, 0x1000, 0x1000), Err(MapError::Gone(_))));
    AddressSpace::new(vec![Arc::new(connection)]).unmap(0x1000, 0x1000).unwrap();
}

/// Each of these once meant that the card is gone, so that memory that the server had mapped was used again.
#[test]
fn a_server_that_answers_with_a_suspicious_errno_is_not_gone() {
    for number in [Errno::AGAIN, Errno::TIMEDOUT, Errno::NODEV, Errno::PIPE] {
        let connection = connection(Fault::MapErrno(number.raw_os_error().unsigned_abs())).unwrap();
        let memory = Memfd::create("buffer", 0x1000, PageSize::Normal).unwrap();
        let MapError::Failed(error) = Mapper::map(&connection, &memory, 0, 0x1000, 0x1000).unwrap_err()
        else {
            unreachable!("{number:?}")
        };
        assert_eq!(error.errno(), Some(number), "{error}");
        assert_eq!(read(&connection).unwrap(), [1, 2, 3, 4]);
    }
}

#[test]
fn vectors_are_armed_in_as_many_descriptors_as_the_server_takes() {
    let server = TestServer::new(Fault::None);
    let seen = Arc::clone(&server.seen);
    let connection = serve(server).unwrap();
    assert_eq!(connection.interrupt_count(InterruptKind::MsiX).unwrap(), 4);
    assert_eq!(connection.interrupt_count(InterruptKind::Msi).unwrap(), 0);
    let event = jitney_memory::EventFd::new().unwrap();
    let event = std::os::fd::AsFd::as_fd(&event);
    let wired = Some(event);
    connection.arm(InterruptKind::MsiX, 0, &[None, wired, wired, wired]).unwrap();
    assert_eq!(seen.lock().unwrap().set_irqs, [(0, 1, 0), (1, 2, 2), (3, 1, 1)]);
    connection.arm(InterruptKind::MsiX, 0, &[]).unwrap();
    connection.disarm(InterruptKind::MsiX).unwrap();
    assert!(seen.lock().unwrap().wires.is_empty());
}

#[test]
fn a_path_that_leads_nowhere_is_explained() {
    let directory = tempfile::tempdir().unwrap();
    let error = |path: &Path| connect(path).unwrap_err();

    let absent = error(&directory.path().join("absent"));
    assert_eq!((absent.kind(), absent.errno()), (ErrorKind::NotFound, Some(Errno::NOENT)), "{absent}");

    let path = directory.path().join("closed");
    drop(UnixListener::bind(&path).unwrap());
    let closed = error(&path);
    assert_eq!(closed.kind(), ErrorKind::NotFound);
    assert!(closed.to_string().contains("nobody listens"), "{closed}");

    let path = directory.path().join("packets");
    let kind = rustix::net::SocketType::SEQPACKET;
    let packets = rustix::net::socket(rustix::net::AddressFamily::UNIX, kind, None).unwrap();
    rustix::net::bind(&packets, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&packets, 1).unwrap();
    assert_eq!(error(&path).kind(), ErrorKind::Invalid);

    let long = error(&PathBuf::from(format!("/tmp/{}", "x".repeat(103))));
    assert_eq!(long.kind(), ErrorKind::Invalid);
    assert!(long.to_string().contains("108 bytes, 107"), "{long}");
    let longest = error(&PathBuf::from(format!("/tmp/{}", "x".repeat(102))));
    assert_eq!(longest.kind(), ErrorKind::NotFound);
}

#[test]
fn a_card_is_opened_and_handed_on() {
    let directory = tempfile::tempdir().unwrap();
    let server = TestServer::new(Fault::None);
    let path = listen(directory.path(), server);
    let address = CardAddress::VfioUser(path);
    let card = open(&address).unwrap();
    let identity = card.identity();
    assert_eq!((identity.vendor, identity.device, identity.revision), (0x10ee, 0x7011, 3));
    assert_eq!((identity.class, identity.address.clone()), (0x05_8000, address.to_string()));
    assert!(card.device().bar(2).unwrap().registers().is_some());

    let grant = card.grant().unwrap();
    let kind = grant.kind();
    let received = Grant::from_parts(kind, grant.into()).unwrap();
    let client = received.open(address.to_string()).unwrap();
    client.bar(2).unwrap().write32(0x10, 42).unwrap();
    assert_eq!(card.device().bar(2).unwrap().read32(0x10).unwrap(), 42);
    assert_eq!(client.bar(0).unwrap().read32(0).unwrap(), 0x0403_0201);

    assert_eq!(client.transport().grant().unwrap_err().kind(), ErrorKind::Unsupported);
    let (socket, _) = UnixStream::pair().unwrap();
    assert_eq!(Grant::from_parts(200, socket.into()).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn an_owner_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let server = TestServer::new(Fault::None);
    let seen = Arc::clone(&server.seen);
    let address = CardAddress::VfioUser(listen(directory.path(), server));
    let owner = Owner::open(std::slice::from_ref(&address)).unwrap();
    let card = &owner.cards()[0];
    assert_eq!(seen.lock().unwrap().command, 1 << 2, "bus master");

    let buffer = owner.dma_buffer(1).unwrap();
    let large = card.dma_buffer(DmaRequest::new(3 << 20).below(u32::MAX.into())).unwrap();
    assert_eq!((buffer.size(), large.iova() % (2 << 20)), (4096, 0));
    assert!(large.iova() + large.size() <= 1 << 32);
    assert_eq!(seen.lock().unwrap().maps.len(), 2);

    let first = card.interrupt(1).unwrap();
    let second = card.interrupt(3).unwrap();
    assert_eq!(seen.lock().unwrap().set_irqs, [(0, 4, 0), (1, 1, 1), (3, 1, 1)]);
    assert_eq!(card.interrupt(1).unwrap_err().kind(), ErrorKind::Held);
    assert_eq!(card.interrupt(4).unwrap_err().kind(), ErrorKind::NotFound);
    seen.lock().unwrap().wires[&3].signal().unwrap();
    assert!(second.wait(Some(Duration::from_secs(1))).unwrap());
    assert!(!first.wait(Some(Duration::ZERO)).unwrap());
    assert_eq!(card.reset().unwrap_err().kind(), ErrorKind::Held);
    drop(first);
    assert!(second.lease().part() == &Part::interrupt(3));
    seen.lock().unwrap().wires[&3].signal().unwrap();
    assert!(second.wait(Some(Duration::from_secs(1))).unwrap(), "the other vector was not disturbed");
    drop(second);
    card.reset().unwrap();
    {
        let seen = seen.lock().unwrap();
        assert_eq!((seen.resets, seen.command, seen.wires.len()), (1, 1 << 2, 0));
    }
    drop(card.lease(LeaseRequest::exclusive(Part::whole())).unwrap());

    drop((buffer, large, owner));
    assert!(seen.lock().unwrap().maps.is_empty());
}

#[test]
fn a_card_is_opened_once_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let address = CardAddress::VfioUser(directory.path().join("absent"));
    let twice = Owner::open(&[address.clone(), address.clone()]).unwrap_err();
    assert!(twice.to_string().contains("named twice"), "{twice}");
    assert_eq!(Owner::open(&[address]).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(Owner::open(&[]).unwrap_err().kind(), ErrorKind::Invalid);
    let pci = open(&"ffff:ff:1f.7".parse().unwrap()).unwrap_err();
    assert_eq!(pci.kind(), ErrorKind::NotFound);
}
