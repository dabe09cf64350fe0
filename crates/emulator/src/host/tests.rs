//! The host against real memory and concurrent engines.

#![expect(clippy::cast_possible_truncation, reason = "sizes in tests are small")]

use super::*;
use crate::function::{CardRange, InterruptKind};
use jitney_memory::{Access, Mapping, Memfd, PageSize};
use std::os::fd::AsFd;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

const ONE: ConnectionId = ConnectionId(1);
const BOTH: Allowed = Allowed { read: true, write: true };

fn memory(size: u64) -> (Mapping, OwnedFd) {
    let file = Memfd::create("host-test", size, PageSize::Normal).unwrap();
    let mapping = Mapping::shared(&file, 0, size as usize, Access::ReadWrite).unwrap();
    (mapping, file.into_fd())
}

/// A host that refuses writes aloud, of a function that may master the bus.
fn host() -> BoardHost {
    let host = BoardHost::new(Kindness { strict_writes: true, ignore_bus_master: false });
    host.set_bus_master(true);
    host
}

const LIVE: Live<'_> = &|| true;

fn range(first: u64, size: u64) -> Range {
    Range::new(first, size).unwrap()
}

#[test]
fn a_transfer_crosses_maps_in_any_order_of_the_file() {
    let host = host();
    let (mine, file) = memory(0x10000);
    // Sixteen pages, the last of the file first.
    for page in 0..16 {
        host.map_file(range(page * 0x1000, 0x1000), BOTH, ONE, &file, 0xF000 - page * 0x1000).unwrap();
    }
    let card = Mapping::anonymous(0x20000).unwrap();
    for word in 0..0x4000 {
        card.store32(4 * word, word as u32).unwrap();
    }
    host.write_from(0x234, CardRange::new(&card, 0x234, 0xFA00), LIVE).unwrap();
    assert_eq!(mine.load32(0xF234).unwrap(), 0x234 / 4);
    assert_eq!(mine.load32(0x0C30).unwrap(), 0xFC30 / 4);
    assert_eq!(mine.load32(0xF230).unwrap(), 0);
    host.read_to(0x234, CardRange::new(&card, 0x10000, 0xFA00), LIVE).unwrap();
    let (mut sent, mut back) = (vec![0; 0xFA00], vec![0; 0xFA00]);
    card.read(0x234, &mut sent).unwrap();
    card.read(0x10000, &mut back).unwrap();
    assert!(sent == back);

    let mut small = [0; 8];
    host.read(0x0FFC, &mut small, LIVE).unwrap();
    assert_eq!(small, [0xFF, 3, 0, 0, 0, 4, 0, 0]);
    host.write(0x0FFE, &[1, 2, 3, 4], LIVE).unwrap();
    host.write_word(0x1004, 0xC0FF_EE00, LIVE).unwrap();
    host.read(0x0FFC, &mut small, LIVE).unwrap();
    assert_eq!(small, [0xFF, 3, 1, 2, 3, 4, 0, 0]);
    assert_eq!(mine.load32(0xE004).unwrap(), 0xC0FF_EE00);

    // What goes past the caches lies where it would else.
    host.write_past_caches(0x234, &sent, LIVE).unwrap();
    host.read(0x234, &mut back, LIVE).unwrap();
    assert!(sent == back);
    let fault = Err(DmaFault::Unmapped { iova: 0x1_0000 });
    assert_eq!(host.write_past_caches(0xFFFE, &sent, LIVE), fault);
}

#[test]
fn the_first_address_that_cannot_be_reached_is_named() {
    let host = host();
    let (_mine, file) = memory(0x4000);
    host.map_file(range(0x1000, 0x2000), BOTH, ONE, &file, 0).unwrap();
    host.map_file(range(0x3000, 0x1000), Allowed { read: true, write: false }, ONE, &file, 0x2000).unwrap();
    let card = Mapping::anonymous(0x10000).unwrap();
    let fault = |iova| Err(DmaFault::Unmapped { iova });
    assert_eq!(host.write_from(0x1800, CardRange::new(&card, 0, 0x2000), LIVE), fault(0x3000));
    assert_eq!(host.read_to(0x1800, CardRange::new(&card, 0, 0x4000), LIVE), fault(0x4000));
    assert_eq!(host.read_to(0, CardRange::new(&card, 0, 0x4000), LIVE), fault(0));
    assert_eq!(host.read(u64::MAX, &mut [0; 2], LIVE), fault(u64::MAX));
    assert_eq!(host.write_word(0x3000, 0, LIVE), fault(0x3000));
    assert_eq!(host.read_to(0x9000, CardRange::new(&card, 0, 0), LIVE), Ok(()));
    // Outside of the card's memory.
    assert!(host.read_to(0x1000, CardRange::new(&card, 0xF001, 0x1000), LIVE).is_err());
    assert!(host.read_to(0x1000, CardRange::new(&card, u64::MAX, 0x1000), LIVE).is_err());
}

#[test]
fn an_unmap_waits_for_the_burst_it_touches_and_no_longer() {
    let host = Arc::new(host());
    let (_mine, file) = memory(BURST);
    host.map_file(range(0, BURST), BOTH, ONE, &file, 0).unwrap();
    host.map_file(range(1 << 30, 0x1000), BOTH, ONE, &file, 0).unwrap();
    let mut pieces = Vec::with_capacity(4);
    let landing = host.take_off(0, 0x1000, Direction::Read, &mut pieces).unwrap();

    // Elsewhere: at once.
    host.unmap(range(1 << 30, 0x1000), ONE).unwrap();
    // Here: when the burst has ended, though others cannot begin already.
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            host.unmap(range(0, BURST), ONE).unwrap();
            assert!(ended.load(Ordering::SeqCst), "unmapped under a copy");
        });
        let start = Instant::now();
        while host.read(0, &mut [0], LIVE).is_ok() {
            assert!(start.elapsed() < Duration::from_secs(10), "the map is still there");
        }
        std::thread::sleep(Duration::from_millis(20));
        ended.store(true, Ordering::SeqCst);
        drop(landing);
        waiting.join().unwrap();
    });
}

#[test]
fn engines_and_unmaps_at_once() {
    let host = host();
    let (_mine, file) = memory(16 << 20);
    let stop = AtomicBool::new(false);
    let copied = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for engine in 0..2 {
            let (host, stop, copied) = (&host, &stop, &copied);
            scope.spawn(move || {
                let card = Mapping::anonymous(16 << 20).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let done = if engine == 0 {
                        host.read_to(0, CardRange::new(&card, 0, 16 << 20), LIVE)
                    } else {
                        host.write_from(0, CardRange::new(&card, 0, 16 << 20), LIVE)
                    };
                    copied.fetch_add(u64::from(done.is_ok()), Ordering::Relaxed);
                }
            });
        }
        let mut rounds = 0;
        let start = Instant::now();
        while (rounds < 100 || copied.load(Ordering::Relaxed) == 0)
            && start.elapsed() < Duration::from_secs(20)
        {
            rounds += 1;
            for part in 0..16 {
                host.map_file(range(part << 20, 1 << 20), BOTH, ONE, &file, part << 20).unwrap();
            }
            std::thread::sleep(Duration::from_millis(if rounds % 10 == 0 { 20 } else { 0 }));
            host.unmap(Range::ALL, ONE).unwrap();
            let dma = host.dma();
            assert_eq!((dma.table.len(), dma.flights.len()), (0, 0));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(copied.load(Ordering::Relaxed) > 0, "no copy ever came through");
    assert!(host.dma().flights.is_empty());
}

#[test]
fn a_quarter_of_a_million_pages_of_one_file_are_one_mapping() {
    let host = host();
    let pages = 1 << 18;
    let (_mine, file) = memory(pages << 12);
    let before = mappings();
    for page in 0..pages {
        host.map_file(range(page << 12, 1 << 12), BOTH, ONE, &file, page << 12).unwrap();
    }
    assert!(mappings() < before + 64, "one mapping per map");
    let card = Mapping::anonymous(1 << 20).unwrap();
    host.read_to(0x7FF_F800, CardRange::new(&card, 0, 1 << 20), LIVE).unwrap();
    host.release(ONE);
    assert_eq!(host.dma().table.len(), 0);
}

fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

#[test]
fn a_connection_takes_its_maps_and_wires_along() {
    let host = host();
    let (_mine, file) = memory(0x2000);
    let two = ConnectionId(2);
    host.map_file(range(0, 0x1000), BOTH, ONE, &file, 0).unwrap();
    host.map_file(range(0x1000, 0x1000), BOTH, two, &file, 0).unwrap();
    assert_eq!(host.map_file(range(0xFFF, 2), BOTH, two, &file, 0), Err(Errno::EXIST));
    let event = jitney_memory::EventFd::new().unwrap();
    let copy = event.as_fd().try_clone_to_owned().unwrap();
    host.interrupts().arm(InterruptKind::MsiX, 0, vec![copy.try_into().unwrap()], ONE);
    host.release(ONE);
    assert!(host.read(0, &mut [0], LIVE).is_err());
    assert!(host.read(0x1000, &mut [0], LIVE).is_ok());
    host.set_interrupt(0, true);
    assert_eq!(event.take().unwrap(), 0);
}

#[test]
fn a_posted_write_is_dropped_where_it_is_refused_and_arrives_elsewhere() {
    let host = BoardHost::new(Kindness::default());
    host.set_bus_master(true);
    let (mine, file) = memory(0x3000);
    let read_only = Allowed { read: true, write: false };
    // A page, a hole, a page that may not be written, a page.
    host.map_file(range(0x1000, 0x1000), BOTH, ONE, &file, 0).unwrap();
    host.map_file(range(0x3000, 0x1000), read_only, ONE, &file, 0x1000).unwrap();
    host.map_file(range(0x4000, 0x1000), BOTH, ONE, &file, 0x2000).unwrap();
    let card = Mapping::anonymous(0x10000).unwrap();
    card.fill(0, 0x10000, 9).unwrap();
    host.write_from(0, CardRange::new(&card, 0, 0x6000), LIVE).unwrap();
    let seen: Vec<u8> = (0..3).map(|page| mine.load8(page * 0x1000).unwrap()).collect();
    assert_eq!((seen, host.dropped()), (vec![9, 0, 9], 0x4000));
    host.write_word(0x2000, 1, LIVE).unwrap();
    host.write(0x2FFF, &[1, 2], LIVE).unwrap();
    assert_eq!(host.dropped(), 0x4006);
    // Reads are not posted.
    assert_eq!(
        host.read_to(0x1000, CardRange::new(&card, 0, 0x2000), LIVE),
        Err(DmaFault::Unmapped { iova: 0x2000 })
    );
}

#[test]
fn a_posted_write_to_memory_that_was_taken_away_is_dropped() {
    let host = BoardHost::new(Kindness::default());
    host.set_bus_master(true);
    let file = rustix::fs::memfd_create("shrinks", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&file, 0x4000).unwrap();
    host.map_file(range(0, 0x4000), BOTH, ONE, &file, 0).unwrap();
    rustix::fs::ftruncate(&file, 0x1000).unwrap();
    let card = Mapping::anonymous(0x4000).unwrap();
    host.write_from(0, CardRange::new(&card, 0, 0x4000), LIVE).unwrap();
    assert!(host.dropped() > 0);
    assert_eq!(host.read(0x1000, &mut [0], LIVE), Err(DmaFault::Unmapped { iova: 0x1000 }));
}

#[test]
fn without_bus_mastering_nothing_moves() {
    for strict_writes in [false, true] {
        let host = BoardHost::new(Kindness { strict_writes, ignore_bus_master: false });
        let (mine, file) = memory(0x1000);
        host.map_file(range(0, 0x1000), BOTH, ONE, &file, 0).unwrap();
        assert_eq!(host.read(0, &mut [0], LIVE), Err(DmaFault::BusMasterOff));
        let refused = if strict_writes { Err(DmaFault::BusMasterOff) } else { Ok(()) };
        assert_eq!(host.write(0, &[7], LIVE), refused);
        assert_eq!(mine.load8(0).unwrap(), 0);
        host.set_bus_master(true);
        host.write(0, &[7], LIVE).unwrap();
        assert_eq!(mine.load8(0).unwrap(), 7);
    }
    let kind = BoardHost::new(Kindness { strict_writes: true, ignore_bus_master: true });
    let (_mine, file) = memory(0x1000);
    kind.map_file(range(0, 0x1000), BOTH, ONE, &file, 0).unwrap();
    kind.write(0, &[7], LIVE).unwrap();
}

#[test]
fn bus_mastering_is_off_when_nothing_moves_any_more() {
    let host = Arc::new(host());
    let (_mine, file) = memory(0x1000);
    host.map_file(range(0, 0x1000), BOTH, ONE, &file, 0).unwrap();
    let landing = host.take_off(0, 0x1000, Direction::Read, &mut Vec::with_capacity(4)).unwrap();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            host.set_bus_master(false);
            assert!(ended.load(Ordering::SeqCst), "off under a copy");
        });
        std::thread::sleep(Duration::from_millis(20));
        ended.store(true, Ordering::SeqCst);
        drop(landing);
        waiting.join().unwrap();
    });
}

/// An engine that was told to go on before a reset, and comes to its copy only after it: the reset has waited for
/// nothing, and the memory may be somebody else's by now.
#[test]
fn who_was_reset_before_it_took_off_copies_nothing() {
    let host = host();
    let (mine, file) = memory(0x1000);
    host.map_file(range(0, 0x1000), BOTH, ONE, &file, 0).unwrap();
    let card = Mapping::anonymous(0x1000).unwrap();
    card.fill(0, 0x1000, 9).unwrap();
    let dead: Live<'_> = &|| {
        // Looked at when the copy is entered already, so that a reset from here on waits for it.
        assert_eq!(host.dma().flights.len(), 1);
        false
    };
    assert_eq!(host.write_from(0, CardRange::new(&card, 0, 0x1000), dead), Err(DmaFault::Stopped));
    assert_eq!(host.write_word(0, 9, dead), Err(DmaFault::Stopped));
    assert_eq!((mine.load8(0).unwrap(), host.dma().flights.len()), (0, 0));
}
