//! Streams of emulated boards, over vfio-user: packets there and back, on every design that has them.

#![expect(clippy::unwrap_used, reason = "in tests, where a panic is the failure")]

use jitney::boards::{Board, Interface, identify};
use jitney::ring::{Receiving, Shape};
use jitney::vfio::{CardAddress, DmaBuffer};
use jitney::xdma::{C2h, Error, H2c, Overrun};
use jitney::{Bus, boards};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const SOON: Option<Duration> = Some(Duration::from_secs(30));

/// An emulated board in a process of its own, which ends with it.
struct Emulated {
    folder: TempDir,
    process: Child,
}

impl Drop for Emulated {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Emulated {
    fn new(board: &str) -> Self {
        let folder = tempfile::tempdir_in("/tmp").unwrap();
        let socket = folder.path().join("board");
        let mut command = Command::new(env!("CARGO_BIN_EXE_jitney"));
        command
            .args(format!("emulate {board} --with-parent --socket {}", socket.display()).split_whitespace());
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("serving")), "{board}");
        Self { folder, process }
    }

    fn open(&self) -> (Bus, Board) {
        let bus = Bus::alone(&[CardAddress::VfioUser(self.folder.path().join("board"))]).unwrap();
        let board = identify(&bus.card("*").unwrap()).unwrap();
        (bus, board)
    }
}

/// Both channels of a board whose switch, if it has one, routes each H2C to the C2H of the other number.
fn crossed(board: &Board) -> (H2c, C2h) {
    if let Ok(switch) = board.stream_switch() {
        let routes: Vec<_> = (0..switch.ports()).map(|port| Some(port ^ 1)).collect();
        let leased = switch.lease().unwrap();
        leased.set_routes(&routes).unwrap();
        assert_eq!(leased.switch().routes().unwrap(), routes);
    }
    let xdma = board.xdma().unwrap();
    (xdma.h2c(0).unwrap(), xdma.c2h(1).unwrap())
}

fn bytes(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at * 7 + seed) % 251).unwrap()).collect()
}

fn contents(buffer: &DmaBuffer, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(length).unwrap()];
    buffer.read(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn packets_arrive_whole_and_in_order_with_their_lengths() {
    let emulated = Emulated::new("NiteFury_dma_stream_loopback");
    let (bus, board) = emulated.open();
    let (h2c, c2h) = crossed(&board);
    let lengths = [1_u64, 15, 16, 17, 64, 100, 4095, 4096, 4097, 0x1_0000];
    let buffers: Vec<_> = lengths.iter().map(|_| bus.dma_buffer(0x1_0000).unwrap()).collect();
    let armed: Vec<_> = buffers.iter().map(|buffer| c2h.receive(buffer, 0..0x1_0000).unwrap()).collect();
    let source = bus.dma_buffer(0x1_0000).unwrap();
    for (seed, length) in lengths.iter().enumerate() {
        source.write(0, &bytes(seed, usize::try_from(*length).unwrap())).unwrap();
        assert_eq!(h2c.write_range(&source, 0..*length, 0).unwrap().bytes, *length);
    }
    for (seed, ((length, buffer), pending)) in lengths.iter().zip(&buffers).zip(armed).enumerate() {
        let done = pending.wait().unwrap();
        assert_eq!((done.bytes, done.ends_packet), (*length, true));
        assert_eq!(contents(buffer, *length), bytes(seed, usize::try_from(*length).unwrap()));
    }
}

#[test]
fn a_packet_longer_than_its_buffer_goes_on_in_the_next() {
    let emulated = Emulated::new("NiteFury_dma_stream_loopback");
    let (bus, board) = emulated.open();
    let (h2c, c2h) = crossed(&board);
    let received = bus.dma_buffer(3 * 4096).unwrap();
    let armed: Vec<_> =
        (0..3).map(|page| c2h.receive(&received, page * 4096..(page + 1) * 4096).unwrap()).collect();
    h2c.write_bytes(&bytes(5, 8192 + 100), 0).unwrap();
    let done: Vec<_> = armed.into_iter().map(|pending| pending.wait().unwrap()).collect();
    assert_eq!(done.iter().map(|done| done.bytes).collect::<Vec<_>>(), [4096, 4096, 100]);
    assert_eq!(done.iter().map(|done| done.ends_packet).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(contents(&received, 8192 + 100), bytes(5, 8192 + 100));
}

#[test]
fn nothing_is_lost_while_nobody_receives() {
    let emulated = Emulated::new("NiteFury_dma_stream_loopback");
    let (bus, board) = emulated.open();
    let (h2c, c2h) = crossed(&board);
    // More than there is room for between the two.
    let length = 4 << 20;
    let source = bus.dma_buffer(length).unwrap();
    source.write(0, &bytes(1, usize::try_from(length).unwrap())).unwrap();
    let waiting = h2c.submit(&source, 0..length, 0).unwrap();
    assert!(waiting.wait_for(Duration::from_millis(100)).unwrap().is_none(), "the card pushes back");
    let target = bus.dma_buffer(length).unwrap();
    assert_eq!(c2h.receive(&target, 0..length).unwrap().wait().unwrap().bytes, length);
    waiting.wait().unwrap();
    assert!(contents(&target, length) == bytes(1, usize::try_from(length).unwrap()));
    // One that is armed and gets nothing is given up at once.
    assert!(c2h.receive(&target, 0..4096).unwrap().cancel().unwrap().is_none());
}

#[test]
fn a_capture_that_waits_loses_nothing() {
    let emulated = Emulated::new("NiteFury_dma_stream_loopback");
    let (_bus, board) = emulated.open();
    let (h2c, c2h) = crossed(&board);
    let mut capture = c2h.capture(4, 1024, Overrun::Wait).unwrap();
    let mut block = vec![0; capture.block_size()];
    assert!(capture.read(&mut block, Some(Duration::ZERO)).unwrap().is_none());
    std::thread::scope(|scope| {
        scope.spawn(|| (0..300).for_each(|seed| h2c.write_bytes(&bytes(seed, 1 + seed), 0).unwrap()));
        for seed in 0..300 {
            if seed % 50 == 0 {
                std::thread::sleep(Duration::from_millis(10));
            }
            let captured = capture.read(&mut block, SOON).unwrap().unwrap();
            assert_eq!((captured.sequence, captured.lost, captured.ends_packet), (seed as u64, 0, true));
            assert_eq!(block[..captured.bytes], bytes(seed, 1 + seed));
        }
    });
    let short = capture.read(&mut block[..100], SOON).unwrap_err();
    assert!(matches!(short, Error::Range { .. }), "{short}");
}

#[test]
fn a_capture_that_overwrites_says_exactly_what_it_lost() {
    let emulated = Emulated::new("NiteFury_dma_stream_loopback");
    let (_bus, board) = emulated.open();
    let (h2c, c2h) = crossed(&board);
    let xdma = board.xdma().unwrap();
    let registers = xdma.card().bar(xdma.bar()).unwrap();
    // The completed count of C2H 1 (PG195): what was sent takes a moment to come back.
    let received = || usize::try_from(registers.read32(0x1148).unwrap()).unwrap();
    let mut capture = c2h.capture(8, 1024, Overrun::Overwrite).unwrap();
    let mut block = vec![0; capture.block_size()];
    let (mut next, mut lost) = (0, 0);
    for round in 0..20 {
        // Sometimes fewer than there is room for, sometimes many more.
        let until = next + if round % 2 == 0 { 5 } else { 40 };
        (next..until).for_each(|seed| h2c.write_bytes(&bytes(seed, 1 + seed % 1000), 0).unwrap());
        while received() < until {
            std::thread::yield_now();
        }
        let mut expected = next;
        // The last is there in any case.
        while expected < until {
            let captured = capture.read(&mut block, SOON).unwrap().unwrap();
            let seed = usize::try_from(captured.sequence).unwrap();
            assert_eq!(captured.lost, (seed - expected) as u64, "in a row, but for what is said to be lost");
            assert_eq!(block[..captured.bytes], bytes(seed, 1 + seed % 1000));
            lost += captured.lost;
            expected = seed + 1;
        }
        assert_eq!(expected, until);
        next = until;
    }
    assert!(lost >= 10 * 32 && capture.lost() == lost, "{lost}");
    drop(capture);
    let c2h = board.xdma().unwrap().c2h(1).unwrap();
    assert!(c2h.read_bytes(&mut block, 0).is_err());
}

/// The engine fails at its sixth block, before anybody has looked at the first.
#[test]
fn what_came_before_a_failure_is_in_the_ring() {
    let emulated = Emulated::new("NiteFury_dma_stream_fixed_data --fault descriptor-fetch:c2h0@6");
    let (bus, board) = emulated.open();
    let shape = Shape::new(64, 4096).unwrap();
    let buffer = bus.dma_buffer(shape.request()).unwrap();
    let mut stream = Receiving::start(board.xdma().unwrap().c2h(0).unwrap(), &buffer, shape).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let error = (0..10).find_map(|_| stream.publish(Duration::from_secs(10)).err()).unwrap();
    assert!(matches!(&error, jitney::ring::Error::Card(_)), "{error}");
    assert_eq!((stream.published().blocks, stream.published().bytes), (5, 5 * 4096));
}

#[test]
fn a_crc_comes_for_each_packet() {
    let emulated = Emulated::new("NiteFury_dma_stream_crc64");
    let (bus, board) = emulated.open();
    let (h2c, c2h) = (board.xdma().unwrap().h2c(1).unwrap(), board.xdma().unwrap().c2h(1).unwrap());
    let target = bus.dma_buffer(4096).unwrap();
    // What the boards answer, by a program that nobody here wrote.
    let ascending: Vec<u8> = (0..64).collect();
    for (packet, crc) in [
        (&[0; 16][..], 0x165e_c0e8_0495_dc9c_u64),
        (&[0; 64], 0x21ab_855a_e9cf_dbfd),
        (&ascending[..16], 0x859b_1bde_4967_aca9),
        (&ascending, 0x2f67_1964_f46c_0db4),
    ] {
        let pending = c2h.receive(&target, 0..4096).unwrap();
        h2c.write_bytes(packet, 0).unwrap();
        let done = pending.wait().unwrap();
        assert_eq!((done.bytes, done.ends_packet), (8, true));
        assert_eq!(contents(&target, 8), crc.to_le_bytes());
    }
}

#[test]
fn the_switch_is_one_programs_and_refuses_what_it_cannot() {
    let emulated = Emulated::new("NiteFury_dma_stream_loopback");
    let (bus, board) = emulated.open();
    let switch = board.stream_switch().unwrap();
    assert_eq!(switch.routes().unwrap(), [None, None], "as after a reset");
    let leased = switch.clone().lease().unwrap();
    assert!(switch.lease().unwrap_err().to_string().contains("stream-switch"));
    for (routes, says) in [
        (vec![Some(0)], "1 were given"),
        (vec![Some(0), Some(2)], "C2H 1 from H2C 2"),
        (vec![Some(1), Some(1)], "H2C 1 would feed two channels"),
    ] {
        let error = leased.set_routes(&routes).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("2 ports"), "{error}");
    }
    // Each to its own.
    leased.set_routes(&[Some(0), Some(1)]).unwrap();
    let (h2c, c2h) = (board.xdma().unwrap().h2c(0).unwrap(), board.xdma().unwrap().c2h(0).unwrap());
    let target = bus.dma_buffer(4096).unwrap();
    let pending = c2h.receive(&target, 0..4096).unwrap();
    h2c.write_bytes(b"straight", 0).unwrap();
    assert_eq!(pending.wait().unwrap().bytes, 8);
    assert_eq!(contents(&target, 8), b"straight");
}

#[test]
fn every_design_with_streams_moves_them() {
    let catalogue = boards::Catalogue::built_in();
    let designs = catalogue.designs().filter(|design| {
        design
            .dma
            .is_some_and(|dma| dma.ip == boards::DmaIp::Xdma && dma.interface == Some(Interface::Stream))
    });
    let mut moved = 0;
    for design in designs {
        let emulated = Emulated::new(&design.name);
        let (bus, board) = emulated.open();
        assert_eq!(board.design().name, design.name);
        let xdma = board.xdma().unwrap();
        let (target, packet) = (bus.dma_buffer(4096).unwrap(), bytes(3, 256));
        if design.name.contains("loopback") {
            let (h2c, c2h) = crossed(&board);
            let pending = c2h.receive(&target, 0..4096).unwrap();
            h2c.write_bytes(&packet, 0).unwrap();
            assert_eq!(pending.wait().unwrap().bytes, 256, "{}", design.name);
            assert_eq!(contents(&target, 256), packet);
        } else if design.name.contains("crc64") {
            let pending = xdma.c2h(0).unwrap().receive(&target, 0..4096).unwrap();
            xdma.h2c(0).unwrap().write_bytes(&packet, 0).unwrap();
            assert_eq!(pending.wait().unwrap().bytes, 8, "{}", design.name);
        } else if design.name.contains("fixed_data") {
            let pending = xdma.c2h(0).unwrap().receive(&target, 0..4096).unwrap();
            assert_eq!(pending.wait().unwrap().bytes, 4096, "{}", design.name);
            xdma.h2c(0).unwrap().write_bytes(&packet, 0).unwrap();
        } else {
            // Ethernet without a cable: nothing comes, and nothing can be sent.
            let c2h = xdma.c2h(0).unwrap();
            assert!(c2h.receive(&target, 0..4096).unwrap().cancel().unwrap().is_none(), "{}", design.name);
        }
        moved += 1;
    }
    assert!(moved >= 15, "{moved}");
}
