//! Memory: maps, unmaps, and what an engine reaches.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use jitney_memory::Memfd;
use jitney_vfio_user::{DmaMapFlags, DmaUnmap, Request};

use crate::client::{Client, EEXIST, EINVAL, Fixture, memory};
use crate::toy::{self, DONE, FAULT, FROM_HOST, TO_HOST, TO_HOST_FOREVER, WORD};

#[test]
fn an_engine_copies_both_ways_and_sees_unmaps() {
    let server = Fixture::new();
    let mut client = server.open();
    let (file, view) = memory(4 << 20);
    client.map(Some(&file), 0, 1 << 32, 4 << 20).unwrap();
    for word in 0..(1 << 20) {
        view.store32(4 * word, (word as u32).wrapping_mul(0x9E37_79B9)).unwrap();
    }
    assert_eq!(client.dma(FROM_HOST, 1 << 32, 4 << 20), DONE);
    view.fill(0, 4 << 20, 0).unwrap();
    assert_eq!(client.dma(TO_HOST, (1 << 32) + 4, (4 << 20) - 4), DONE);
    assert_eq!(view.load32(0).unwrap(), 0);
    assert_eq!(view.load32(4 * 1000).unwrap(), 999_u32.wrapping_mul(0x9E37_79B9));
    assert_eq!(client.dma(WORD, (1 << 32) + 8, 0xC0FFEE), DONE);
    assert_eq!(view.load32(8).unwrap(), 0xC0FFEE);
    assert_eq!(client.dma(TO_HOST, (1 << 32) + 4, 4 << 20), FAULT);
    client.unmap(1 << 32, 4 << 20).unwrap();
    assert_eq!(client.dma(FROM_HOST, 1 << 32, 4), FAULT);
}

#[test]
fn overlaps_and_empty_and_endless_ranges_are_refused() {
    let server = Fixture::new();
    let mut one = server.open();
    let (file, _) = memory(0x20000);
    one.map(Some(&file), 0, 0x10000, 0x2000).unwrap();
    for (address, size) in
        [(0x10000, 0x2000), (0xF000, 0x2000), (0x11FFF, 1), (0, 0x10001), (0x11000, 0x3000)]
    {
        assert_eq!(one.map(Some(&file), 0, address, size), Err(EEXIST), "{address:#x}");
    }
    one.map(Some(&file), 0, 0x12000, 0x1000).unwrap();
    assert_eq!(one.map(Some(&file), 0, 0x20000, 0), Err(EINVAL));
    assert_eq!(one.map(Some(&file), 0, u64::MAX, 2), Err(EINVAL));
    assert_eq!(one.map(Some(&file), u64::MAX, 0x20000, 0x1000), Err(EINVAL));
    one.map(Some(&file), 0, u64::MAX - 0xFFF, 0x1000).unwrap();
    assert_eq!(one.dma(FROM_HOST, u64::MAX - 0xFFF, 0x1000), DONE);
    assert_eq!(one.dma(FROM_HOST, u64::MAX - 0xFFF, 0x1001), FAULT);
}

#[test]
fn more_than_the_file_holds_is_refused() {
    let server = Fixture::new();
    let mut client = server.open();
    let (file, _) = memory(0x2000);
    assert_eq!(client.map(Some(&file), 0, 0, 0x3000), Err(EINVAL));
    assert_eq!(client.map(Some(&file), 0x1000, 0, 0x2000), Err(EINVAL));
    let (pipe, _writer) = rustix::pipe::pipe().unwrap();
    assert_eq!(client.map(Some(&pipe), 0, 0, 0x1000), Err(EINVAL));
    client.map(Some(&file), 0x1000, 0, 0x1000).unwrap();
    assert_eq!(client.dma(TO_HOST, 0, 0x1000), DONE);
}

#[test]
fn memory_for_reading_is_not_written() {
    let server = Fixture::new();
    let mut client = server.open();
    let (file, _) = memory(0x1000);
    client.map_as(DmaMapFlags::new().with_read(true), Some(&file), 0, 0, 0x1000).unwrap();
    assert_eq!(client.dma(FROM_HOST, 0, 0x1000), DONE);
    assert_eq!(client.dma(TO_HOST, 0, 4), FAULT);
}

#[test]
fn unmaps_need_not_match_maps() {
    let server = Fixture::new();
    let mut client = server.open();
    let (file, _) = memory(0x10000);
    // Nothing there; the sweep that ends at 2^64.
    client.unmap(0x5000, 0x1000).unwrap();
    client.unmap(1 << 63, 1 << 63).unwrap();
    for page in 0..16 {
        client.map(Some(&file), page << 12, page << 12, 0x1000).unwrap();
    }
    client.unmap(0, 0x8000).unwrap();
    assert_eq!(client.dma(FROM_HOST, 0x7000, 4), FAULT);
    assert_eq!(client.dma(FROM_HOST, 0x8000, 0x8000), DONE);
    assert_eq!(client.unmap(0x8000, 0), Err(EINVAL));
    // But a map is not cut.
    assert_eq!(client.unmap(0x8800, 0x1000), Err(EINVAL));
    assert_eq!(client.unmap(0x8000, 0x800), Err(EINVAL));
    assert_eq!(client.dma(FROM_HOST, 0x8000, 0x8000), DONE);
    // "All" and a range contradict each other.
    for unmap in [
        DmaUnmap { all: true, address: 0x8000, size: 0 },
        DmaUnmap { all: true, address: 0, size: 0x1000 },
        DmaUnmap { all: true, address: 0, size: 1 << 40 },
    ] {
        assert_eq!(client.ask(&Request::DmaUnmap(unmap)).err(), Some(EINVAL));
    }
    assert_eq!(client.dma(FROM_HOST, 0x8000, 0x8000), DONE);
    client.ask(&Request::DmaUnmap(DmaUnmap { all: true, address: 0, size: 0 })).unwrap();
    assert_eq!(client.dma(FROM_HOST, 0x8000, 4), FAULT);
}

#[test]
fn a_posted_write_that_is_refused_is_not_heard_of() {
    let server = Fixture::with_options(|options| options.strict_writes = false);
    let mut client = server.open();
    let (file, view) = memory(0x2000);
    client.map(Some(&file), 0, 0, 0x1000).unwrap();
    client.map_as(DmaMapFlags::new().with_read(true), Some(&file), 0x1000, 0x1000, 0x1000).unwrap();
    view.fill(0, 0x2000, 5).unwrap();
    assert_eq!(client.dma(TO_HOST, 0, 0x3000), DONE);
    assert_eq!((view.load8(0xFFF), view.load8(0x1000)), (Ok(0), Ok(5)));
    assert_eq!(client.dma(WORD, 0x8000, 1), DONE);
    assert_eq!(client.dma(FROM_HOST, 0, 0x3000), FAULT);
}

#[test]
fn without_bus_mastering_there_is_no_dma() {
    let server = Fixture::new();
    let mut client = server.open();
    let (file, view) = memory(8 << 20);
    client.map(Some(&file), 0, 0, 8 << 20).unwrap();
    client.start(TO_HOST_FOREVER, 0, 8 << 20);
    std::thread::sleep(Duration::from_millis(2));
    client.write(7, 4, &[2, 0]).unwrap();
    // It is off when that is answered.
    view.fill(0, 8 << 20, 0xA5).unwrap();
    assert_eq!(client.outcome(), FAULT);
    assert!((0..8 << 20).step_by(4096).all(|at| view.load8(at) == Ok(0xA5)));
    assert_eq!(client.dma(FROM_HOST, 0, 4), FAULT);
    client.write(7, 4, &[6, 0]).unwrap();
    assert_eq!(client.dma(FROM_HOST, 0, 4), DONE);

    let server = Fixture::with_options(|options| options.ignore_bus_master = true);
    let mut client = Client::to(&server.path);
    client.map(Some(&file), 0, 0, 8 << 20).unwrap();
    assert_eq!(client.dma(FROM_HOST, 0, 4), DONE);
}

#[test]
fn a_connection_may_be_cut_while_an_engine_copies() {
    let server = Fixture::new();
    for _ in 0..20 {
        let mut client = server.open();
        let mut bystander = server.open();
        let (file, _) = memory(8 << 20);
        client.map(Some(&file), 0, 0, 8 << 20).unwrap();
        client.start(TO_HOST_FOREVER, 0, 8 << 20);
        drop(client);
        assert_eq!(bystander.outcome(), FAULT);
    }
}

#[test]
fn an_unmap_is_answered_when_nothing_touches_the_memory_any_more() {
    let server = Fixture::new();
    let mut client = server.open();
    let (file, view) = memory(8 << 20);
    for round in 0..20 {
        client.map(Some(&file), 0, 0, 8 << 20).unwrap();
        client.start(TO_HOST_FOREVER, 0, 8 << 20);
        std::thread::sleep(Duration::from_millis(round % 5));
        client.unmap(0, 8 << 20).unwrap();
        // The card's memory is all zero: a write after the answer would show.
        view.fill(0, 8 << 20, 0xA5).unwrap();
        assert_eq!(client.outcome(), FAULT);
        for at in (0..8 << 20).step_by(4096) {
            assert_eq!(view.load8(at).unwrap(), 0xA5, "round {round}, {at:#x}");
        }
    }
}

#[test]
fn a_reset_is_answered_when_nothing_touches_the_memory_any_more() {
    let server = Fixture::new();
    let mut client = server.open();
    let (file, view) = memory(1 << 20);
    client.map(Some(&file), 0, 0, 1 << 20).unwrap();
    for _ in 0..20 {
        client.start(TO_HOST_FOREVER, 0, 1 << 20);
        std::thread::sleep(Duration::from_millis(1));
        client.ask(&Request::DeviceReset).unwrap();
        client.outcome();
        view.fill(0, 1 << 20, 0xA5).unwrap();
        assert!((0..1 << 20).step_by(4096).all(|at| view.load8(at) == Ok(0xA5)));
    }
}

#[test]
fn memory_without_a_descriptor_is_reached_through_its_client() {
    let server = Fixture::new();
    let mut client = server.open();
    client.memory = (0..3_000_000_u32).map(|at| (at / 7) as u8).collect();
    client.memory_at = 0x8000;
    let before = client.memory.clone();
    client.map(None::<&OwnedFd>, 0, 0x8000, 3_000_000).unwrap();
    assert_eq!(client.dma(FROM_HOST, 0x8000, 3_000_000), DONE);
    // At most 1 MiB at a time.
    assert!((3..=5).contains(&client.asked), "{}", client.asked);
    client.memory.fill(0);
    assert_eq!(client.dma(TO_HOST, 0x8000, 3_000_000), DONE);
    assert!(client.memory == before);
    assert_eq!(client.dma(WORD, 0x8004, 0x0403_0201), DONE);
    assert_eq!(client.memory[4..8], [1, 2, 3, 4]);
}

#[test]
fn a_transfer_crosses_memory_with_and_without_a_descriptor() {
    let server = Fixture::new();
    let mut client = server.open();
    let (file, view) = memory(0x2000);
    view.fill(0, 0x2000, 7).unwrap();
    client.memory = vec![9; 0x1000];
    client.memory_at = 0x1000;
    client.map(Some(&file), 0, 0, 0x1000).unwrap();
    client.map(None::<&OwnedFd>, 0, 0x1000, 0x1000).unwrap();
    client.map(Some(&file), 0x1000, 0x2000, 0x1000).unwrap();
    assert_eq!(client.dma(FROM_HOST, 0x800, 0x2000), DONE);
    view.fill(0, 0x2000, 0).unwrap();
    client.memory.fill(0);
    assert_eq!(client.dma(TO_HOST, 0x800, 0x2000), DONE);
    assert_eq!(client.memory, [9; 0x1000]);
    assert_eq!(
        [view.load8(0x7FF), view.load8(0x800), view.load8(0x17FF), view.load8(0x1800)],
        [Ok(0), Ok(7), Ok(7), Ok(0)]
    );
}

#[test]
fn a_client_that_does_not_answer_costs_a_fault_and_no_more() {
    let server = Fixture::new();
    let (mut client, mut bystander) = (server.open(), server.open());
    client.answers = false;
    client.map(None::<&OwnedFd>, 0, 0, 0x1000).unwrap();
    let start = Instant::now();
    assert_eq!(client.dma(FROM_HOST, 0, 4), FAULT);
    assert!(start.elapsed() < Duration::from_secs(5));
    // Unmapping it does not wait for it.
    client.start(FROM_HOST, 0, 4);
    let start = Instant::now();
    client.unmap(0, 0x1000).unwrap();
    assert!(start.elapsed() < Duration::from_millis(400));
    assert_eq!(bystander.outcome(), FAULT);
    // Nor does the end of its connection.
    client.map(None::<&OwnedFd>, 0, 0, 0x1000).unwrap();
    client.start(FROM_HOST, 0, 4);
    drop(client);
    assert_eq!(bystander.outcome(), FAULT);
    assert_eq!(bystander.get(toy::ID), toy::ID_VALUE);
}

#[test]
fn many_small_maps_of_one_file() {
    let server = Fixture::new();
    let mut client = server.open();
    let (file, view) = memory(65_536 << 12);
    for page in 0..65_536_u64 {
        // As a guest's kernel lays them out: pages in no order.
        let place = page.wrapping_mul(40_503) % 65_536;
        client.map(Some(&file), place << 12, page << 12, 0x1000).unwrap();
    }
    view.store32(40_503 << 12, 0x1234).unwrap();
    assert_eq!(client.dma(FROM_HOST, 0, 8 << 20), DONE);
    view.store32(40_503 << 12, 0).unwrap();
    assert_eq!(client.dma(TO_HOST, 0, 8 << 20), DONE);
    assert_eq!(view.load32(40_503 << 12).unwrap(), 0x1234);
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let ours = maps.lines().filter(|line| line.contains("memfd:client")).count();
    assert!(ours < 64, "{ours} mappings");
    client.unmap(0, 65_536 << 12).unwrap();
    assert_eq!(client.dma(FROM_HOST, 0, 4), FAULT);
    drop::<Memfd>(file);
}
