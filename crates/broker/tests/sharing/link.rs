//! What a client's own process does with its link: many threads, cards that are asked for twice.

use crate::buffers::broker_of;
use crate::rig::{Rig, eventually};
use jitney_vfio::{DmaRequest, FakeHost, LeaseRequest};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// One thread's large map does not hold up another thread of the same client.
#[test]
fn threads_of_a_client_do_not_wait_for_each_other() {
    let host = FakeHost::new();
    let broker = broker_of(&host, Duration::from_millis(10));
    let bus = Arc::new(broker.bus());
    let done = Arc::new(AtomicBool::new(false));
    let large = {
        let (bus, done) = (Arc::clone(&bus), Arc::clone(&done));
        std::thread::spawn(move || {
            let buffer = bus.dma_buffer(1 << 30).unwrap();
            done.store(true, Ordering::SeqCst);
            buffer
        })
    };
    eventually("the map has begun", || !host.mapped().is_empty());
    let mut served = 0;
    while !done.load(Ordering::SeqCst) {
        let since = Instant::now();
        bus.usage().unwrap();
        drop(bus.dma_buffer(4096).unwrap());
        assert!(since.elapsed() < Duration::from_millis(500), "{:?}", since.elapsed());
        served += 1;
    }
    assert!(served > 10, "{served}");
    drop(large.join().unwrap());
}

#[test]
fn many_threads_each_get_their_own_answers() {
    let rig = Rig::new();
    let bus = Arc::new(rig.broker.bus());
    let card = bus.card("*").unwrap();
    let threads: Vec<_> = (0..80)
        .map(|thread: u32| {
            let (bus, card) = (Arc::clone(&bus), Arc::clone(&card));
            std::thread::spawn(move || {
                for round in 0..20 {
                    let part = format!("thread-{thread}");
                    let lease = card.lease(LeaseRequest::exclusive(part.parse().unwrap())).unwrap();
                    assert_eq!(lease.part().name(), part);
                    let size = u64::from(1 + (thread + round) % 7) * 4096;
                    let buffer = bus.dma_buffer(size).unwrap();
                    assert_eq!(buffer.size(), size);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    // What was dropped is on its way.
    eventually("something is left", || {
        let usage = bus.usage().unwrap();
        (usage[0].buffers, usage[0].leases.len()) == (0, 0)
    });
}

/// A card is opened once, however often a program asks for it, and closed when the last of it is gone.
#[test]
fn a_card_that_is_asked_for_twice_is_open_once() {
    let rig = Rig::new();
    let bus = rig.broker.bus();
    let cards = || bus.usage().unwrap()[0].cards.len();
    for _ in 0..20 {
        let (one, two) = (bus.card("*").unwrap(), bus.card("*").unwrap());
        let lease = one.lease(LeaseRequest::exclusive("h2c0".parse().unwrap())).unwrap();
        drop(one);
        two.bar(0).unwrap().read32(0).unwrap();
        drop(two);
        assert_eq!(cards(), 1, "the lease keeps it");
        let again = bus.card("*").unwrap();
        drop((lease, again));
        assert_eq!(cards(), 0);
    }
}

/// What was freed goes to somebody else as late as possible.
#[test]
fn addresses_are_used_again_late() {
    let host = FakeHost::new();
    let broker = broker_of(&host, Duration::ZERO);
    let bus = broker.bus();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..200 {
        let buffer = bus.dma_buffer(DmaRequest::new(4096)).unwrap();
        assert!(seen.insert(buffer.iova()), "{:#x} again", buffer.iova());
        buffer.free().unwrap();
    }
}
