//! Memory that clients share: the same bytes at the same IOVA for all, and who may do what to them.

use crate::buffers::broker_of;
use crate::raw::Raw;
use crate::rig::{Rig, Serving, XDMA, eventually};
use jitney_broker::protocol::{Offered, Reply, Request};
use jitney_broker::{Bus, Offer, Token};
use jitney_memory::{Access, Mapping, Memfd, PageSize};
use jitney_vfio::{ErrorKind, FakeHost};
use jitney_xdma::Xdma;
use rustix::io::Errno;
use std::os::fd::AsFd;
use std::time::Duration;

fn broker(host: &FakeHost) -> Serving {
    broker_of(host, Duration::ZERO)
}

#[test]
fn all_who_have_it_and_the_card_see_the_same_bytes_at_the_same_place() {
    let host = FakeHost::new();
    let broker = broker(&host);
    let (maker, writer, reader, other) = (broker.bus(), broker.bus(), broker.bus(), broker.bus());
    let buffer = maker.dma_buffer(8192).unwrap();
    let token = maker.share(&buffer, Offer::to_writers().named("frames")).unwrap();
    // As it travels between programs.
    let token: Token = token.to_string().parse().unwrap();
    let written = writer.attach(&token).unwrap();
    let read = reader.view("frames").unwrap();
    assert_eq!((written.iova(), written.size()), (buffer.iova(), 8192));
    assert_eq!((read.iova(), read.size()), (buffer.iova(), 8192));
    assert_eq!(host.mapped().len(), 1, "it is mapped once");
    let seen = |offset| {
        let mut bytes = [[0]; 3];
        buffer.read(offset, &mut bytes[0]).unwrap();
        written.read(offset, &mut bytes[1]).unwrap();
        read.read(offset, &mut bytes[2]).unwrap();
        assert!(bytes.iter().all(|byte| *byte == bytes[0]), "{bytes:?}");
        bytes[0][0]
    };
    buffer.write(1, &[1]).unwrap();
    written.write(2, &[2]).unwrap();
    assert_eq!([seen(0), seen(1), seen(2)], [0, 1, 2]);
    let usage = other.usage().unwrap();
    let has = |buffers, bytes| {
        usage.iter().filter(|one| (one.buffers, one.buffer_bytes) == (buffers, bytes)).count()
    };
    assert_eq!((has(1, 8192), has(0, 0)), (3, 1), "it counts for each");

    // Whoever made it: it is there until the last has let go.
    drop((buffer, maker));
    assert!(read.is_offered().unwrap(), "who may write to it goes on offering it");
    drop(written);
    writer.usage().unwrap();
    // Also who only looks at it: to the broker it could write.
    drop(other.view("frames").unwrap());
    let mut byte = [0];
    read.read(2, &mut byte).unwrap();
    assert_eq!(byte, [2]);
    assert!(read.read(8192, &mut byte).is_err());
    // Whoever asks now has everything that came before behind it.
    other.usage().unwrap();
    assert_eq!(host.mapped().len(), 1);
    drop(read);
    eventually("memory is mapped", || host.mapped().is_empty());
}

#[test]
fn a_reader_gets_nothing_by_which_it_could_write() {
    let host = FakeHost::new();
    let broker = broker(&host);
    let maker = broker.bus();
    let buffer = maker.dma_buffer(4096).unwrap();
    let token = maker.share(&buffer, Offer::to_readers().named("frames")).unwrap();
    let reader = broker.bus();
    let error = reader.attach(&token).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    // What did not work was given back.
    let view = reader.view(&token).unwrap();
    assert!(view.view().store32(0, 1).is_err());
    assert!(view.is_offered().unwrap());

    // The descriptor itself, by a client that is not ours, and what can be opened through it.
    let mut raw = Raw::new(broker.socket());
    raw.say(&Request::Attach { offered: Offered::Name("frames".into()) });
    let (reply, memory) = raw.hear().unwrap();
    assert!(matches!(reply, Reply::Attached { writable: false, .. }), "{reply:?}");
    let memory = memory.unwrap();
    let map =
        |file: &std::os::fd::OwnedFd| Mapping::shared(file, 0, 4096, Access::ReadWrite).unwrap_err().errno();
    assert_eq!(map(&memory), Some(Errno::ACCESS));
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&memory));
    let again = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    assert_eq!(map(&again.into()), Some(Errno::PERM), "the memory is sealed");

    // Who wrote to it does so still; there is no way back to writers.
    buffer.write(0, &[7]).unwrap();
    let mut byte = [0];
    view.read(0, &mut byte).unwrap();
    assert_eq!(byte, [7]);
    maker.unshare(&buffer).unwrap();
    assert!(!view.is_offered().unwrap());
    let error = maker.share(&buffer, Offer::to_writers()).unwrap_err();
    assert!(error.to_string().contains("shared for reading before"), "{error}");
    maker.share(&buffer, Offer::to_readers()).unwrap();
    assert_eq!(maker.unshare(&maker.dma_buffer(4096).unwrap()).unwrap_err().kind(), ErrorKind::Invalid);
}

/// The card writes although the memory is sealed, and another client has it read from the same place.
#[test]
fn a_card_goes_on_writing_where_readers_look_and_reads_for_whoever_has_it() {
    let rig = Rig::new();
    let (maker, reader, other) = (rig.broker.bus(), rig.broker.bus(), rig.broker.bus());
    let xdma = |bus: &Bus| Xdma::identify(bus.card("10ee:7011").unwrap(), XDMA).unwrap();
    let buffer = maker.dma_buffer(8192).unwrap();
    maker.share(&buffer, Offer::to_readers().named("frames")).unwrap();
    let view = reader.view("frames").unwrap();
    let data: Vec<u8> = (0..8192u32).map(|at| (at * 7 % 251).to_le_bytes()[0]).collect();
    let source = maker.dma_buffer(8192).unwrap();
    source.write(0, &data).unwrap();
    xdma(&maker).h2c(0).unwrap().write(&source, 0).unwrap();
    xdma(&maker).c2h(0).unwrap().read(&buffer, 0).unwrap();
    let mut seen = vec![0; 8192];
    view.read(0, &mut seen).unwrap();
    assert_eq!(seen, data);

    // What is offered to writers is a buffer as any other, for another's channels too.
    maker.share(&source, Offer::to_writers().named("source")).unwrap();
    let attached = other.attach("source").unwrap();
    attached.write(0, &[0xee; 64]).unwrap();
    xdma(&other).h2c(0).unwrap().write(&attached, 0x4000).unwrap();
    drop((source, attached));
    xdma(&maker).c2h(0).unwrap().read(&buffer, 0x4000).unwrap();
    view.read(0, &mut seen).unwrap();
    assert_eq!((&seen[..64], &seen[64..]), (&[0xee; 64][..], &data[64..]));
}

#[test]
fn only_the_memory_itself_can_be_shared_in_its_name() {
    let host = FakeHost::new();
    let broker = broker(&host);
    let mut raw = Raw::new(broker.socket());
    raw.say(&Request::Allocate { card: None, size: 4096, align: 1, top: u64::MAX, page_shift: 12 });
    let (Reply::Allocated { iova, .. }, Some(memory)) = raw.hear().unwrap() else { panic!() };
    let other = Memfd::create("other", 4096, PageSize::Normal).unwrap();
    let share = Request::Share { iova, name: None, writable: true };
    raw.say_with(&share, &[other.as_fd()]);
    let error = raw.hear().unwrap_err();
    assert!(error.to_string().contains("not that of the DMA buffer"), "{error}");
    raw.say(&share);
    assert_eq!(raw.hear().unwrap_err().kind(), ErrorKind::Invalid, "no memory came along");
    raw.say_with(&share, &[memory.as_fd()]);
    let (Reply::Shared { token }, None) = raw.hear().unwrap() else { panic!() };
    assert!(broker.bus().attach(&token_of(token)).is_ok());
    // What is no memory is nonsense, as with a vector.
    let (pipe, _writer) = rustix::pipe::pipe().unwrap();
    raw.say_with(&share, &[pipe.as_fd()]);
    assert_eq!(raw.last_word().kind(), ErrorKind::Protocol);
}

fn token_of(bytes: [u8; 16]) -> Token {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.concat().parse().unwrap()
}

#[test]
fn tokens_are_never_the_same() {
    let host = FakeHost::new();
    let broker = broker(&host);
    let bus = broker.bus();
    let buffer = bus.dma_buffer(4096).unwrap();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..50 {
        assert!(seen.insert(bus.share(&buffer, Offer::to_readers()).unwrap()));
        bus.unshare(&buffer).unwrap();
    }
    for token in seen {
        assert_eq!(broker.bus().view(&token).unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[test]
fn who_owns_its_cards_alone_is_told_what_to_do() {
    let bus = Bus::alone(&[]).unwrap();
    let error = bus.view("frames").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("start jitney broker"), "{error}");
}

/// The broker keeps a descriptor of what is offered, and no longer than that.
#[test]
fn what_is_offered_keeps_no_descriptor_afterwards() {
    let host = FakeHost::new();
    let broker = broker(&host);
    // The broker is this process.
    let of_shared = || {
        let links = std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        links.filter(|link| link.to_string_lossy().contains("memfd:jitney-dma")).count()
    };
    let before = of_shared();
    let bus = broker.bus();
    for round in 0..3 {
        let buffer = bus.dma_buffer(4096).unwrap();
        bus.share(&buffer, Offer::to_readers().named("frames")).unwrap();
        let view = broker.bus().view("frames").unwrap();
        match round {
            0 => bus.unshare(&buffer).unwrap(),
            1 => drop(view),
            _ => {}
        }
    }
    drop(bus);
    eventually("a descriptor is kept", || of_shared() <= before);
}
