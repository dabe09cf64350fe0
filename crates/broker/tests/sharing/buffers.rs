//! DMA memory: where it lies, how much there is, and that much of it holds up nobody.

use crate::raw::Raw;
use crate::rig::{Serving, eventually};
use jitney_broker::Limits;
use jitney_broker::protocol::{Reply, Request};
use jitney_memory::Memfd;
use jitney_vfio::{AddressSpace, DmaRequest, ErrorKind, FakeCard, FakeHost, MapError, Mapper, OpenedSpace};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Maps as slowly as a kernel that pins page by page.
#[derive(Debug)]
struct Slow {
    host: FakeHost,
    delay: Duration,
}

impl Mapper for Slow {
    fn ranges(&self) -> Vec<RangeInclusive<u64>> {
        self.host.ranges()
    }

    fn granule(&self) -> u64 {
        self.host.granule()
    }

    fn piece(&self) -> u64 {
        16 << 20
    }

    fn map(&self, memory: &Memfd, offset: u64, iova: u64, size: u64) -> std::result::Result<(), MapError> {
        assert!(size <= self.piece());
        std::thread::sleep(self.delay);
        self.host.map(memory, offset, iova, size)
    }

    fn unmap(&self, iova: u64, size: u64) -> std::result::Result<(), MapError> {
        std::thread::sleep(self.delay);
        self.host.unmap(iova, size)
    }
}

pub(crate) fn broker_of(host: &FakeHost, delay: Duration) -> Serving {
    let card = FakeCard::builder(host, 0x10ee, 0x7011).bar(0, 4096, Nothing).open().unwrap();
    let mapper = Arc::new(Slow { host: host.clone(), delay });
    Serving::new(vec![OpenedSpace { cards: vec![card], space: AddressSpace::new(vec![mapper]) }])
}

struct Nothing;

impl jitney_vfio::FakeBar for Nothing {
    fn read32(&self, _: u64) -> u32 {
        0
    }

    fn write32(&self, _: u64, _: u32) {}
}

fn allocate(size: u64) -> Request {
    Request::Allocate { card: None, size, align: 1, top: u64::MAX, page_shift: 12 }
}

#[test]
fn much_memory_for_one_does_not_hold_up_the_others() {
    let host = FakeHost::new();
    let broker = broker_of(&host, Duration::from_millis(10));
    let other = broker.bus();
    let mut large = Raw::new(broker.socket());
    let since = Instant::now();
    large.say(&allocate(1 << 30));
    let mut slowest = Duration::ZERO;
    let mut served = 0;
    while host.mapped().iter().map(|place| place.size).sum::<u64>() < 1 << 30 {
        let asked = Instant::now();
        // A map of its own, which takes its turn between the pieces.
        drop(other.dma_buffer(4096).unwrap());
        slowest = slowest.max(asked.elapsed());
        served += 1;
        assert!(since.elapsed() < Duration::from_secs(20));
    }
    assert!(since.elapsed() > Duration::from_millis(640), "it took as long as 64 pieces take");
    assert!(served > 5, "{served}");
    assert!(slowest < Duration::from_millis(300), "one waited {slowest:?}");
    assert!(matches!(large.hear().unwrap(), (Reply::Allocated { .. }, Some(_))));
    // The same when it goes.
    drop(large);
    let asked = Instant::now();
    other.usage().unwrap();
    assert!(asked.elapsed() < Duration::from_millis(300), "{:?}", asked.elapsed());
    eventually("memory is mapped", || host.mapped().is_empty());
}

#[test]
fn a_client_that_dies_while_its_memory_is_mapped_leaves_none() {
    let host = FakeHost::new();
    let broker = broker_of(&host, Duration::from_millis(2));
    for wait in [0, 5, 40] {
        let mut dying = Raw::new(broker.socket());
        dying.say(&allocate(1 << 29));
        std::thread::sleep(Duration::from_millis(wait));
        drop(dying);
        eventually("memory is mapped", || {
            host.mapped().is_empty() && broker.bus().usage().unwrap().len() == 1
        });
    }
    // All of the address space is free again.
    drop(broker.bus().dma_buffer(1 << 30).unwrap());
}

#[test]
fn buffers_lie_where_they_are_of_use() {
    let host = FakeHost::new();
    let broker = broker_of(&host, Duration::ZERO);
    let bus = broker.bus();
    let low = bus.dma_buffer(DmaRequest::new(4096).below(0xffff_ffff)).unwrap();
    assert!(low.iova() + low.size() <= 1 << 32);
    let high = bus.dma_buffer(4096).unwrap();
    assert!(high.iova() >= 1 << 32, "what need not be below 4 GiB leaves that to those who need it");
    let large = bus.dma_buffer(2 << 20).unwrap();
    assert!(large.iova().is_multiple_of(2 << 20), "for large pages");
    let aligned = bus.dma_buffer(DmaRequest::new(4096).aligned(1 << 30)).unwrap();
    assert!(aligned.iova().is_multiple_of(1 << 30));
    let odd = bus.dma_buffer(5).unwrap();
    assert_eq!(odd.size(), 4096, "whole pages");
    assert_eq!(host.mapped().len(), 5);
    [low, high, large, aligned, odd].into_iter().for_each(|buffer| buffer.free().unwrap());
    assert!(host.mapped().is_empty(), "a free is over when it is answered");
}

#[test]
fn buffers_that_are_dropped_go_back_without_a_wait_and_all_of_them() {
    let host = FakeHost::new();
    let broker = broker_of(&host, Duration::from_millis(1));
    let bus = broker.bus();
    // More than may be on their way at once.
    let buffers: Vec<_> = (0..50).map(|_| bus.dma_buffer(4096).unwrap()).collect();
    drop(buffers);
    let last = bus.dma_buffer(4096).unwrap();
    eventually("memory is mapped", || host.mapped().len() == 1);
    last.free().unwrap();
    let usage = bus.usage().unwrap();
    assert_eq!((usage[0].buffers, host.mapped().len()), (0, 0));
}

#[test]
fn what_a_dropped_buffer_had_can_be_had_at_once() {
    let host = FakeHost::new();
    let broker = broker_of(&host, Duration::from_millis(1));
    let bus = broker.bus();
    // There is room for one at a time, and it takes a while until it is gone.
    let all_of_it = DmaRequest::new(1 << 30).below((1 << 30) - 1);
    for _ in 0..3 {
        drop(bus.dma_buffer(all_of_it).unwrap());
    }
    let buffer = bus.dma_buffer(all_of_it).unwrap();
    assert_eq!(bus.dma_buffer(all_of_it).unwrap_err().kind(), ErrorKind::Exhausted);
    drop(buffer);
}

#[test]
fn what_cannot_be_had_is_refused_with_a_reason() {
    let host = FakeHost::new();
    let broker = broker_of(&host, Duration::ZERO);
    let bus = broker.bus();
    let kind = |request: DmaRequest| bus.dma_buffer(request).unwrap_err().kind();
    assert_eq!(kind(DmaRequest::new(0)), ErrorKind::Invalid);
    assert_eq!(kind(DmaRequest::new(u64::MAX)), ErrorKind::Invalid);
    assert_eq!(kind(DmaRequest::new(1 << 62)), ErrorKind::Exhausted);
    assert_eq!(kind(DmaRequest::new(4096).below(0xffe)), ErrorKind::Exhausted);
    let error = bus.dma_buffer(DmaRequest::new(4096).aligned(3)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("power of two"), "{error}");
    assert!(host.mapped().is_empty());
    // Nothing of all that was lost.
    drop(bus.dma_buffer(1 << 30).unwrap());
}

#[test]
fn one_client_cannot_have_endlessly_many() {
    let host = FakeHost::new();
    let broker = broker_of(&host, Duration::ZERO);
    let mut greedy = Raw::new(broker.socket());
    let most = Limits::default().buffers_of_client;
    for _ in 0..most {
        greedy.ask(&allocate(4096)).unwrap();
    }
    let error = greedy.ask(&allocate(4096)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert!(error.to_string().contains(&most.to_string()), "{error}");
    let other = broker.bus();
    let buffer = other.dma_buffer(4096).unwrap();
    drop(greedy);
    eventually("memory is mapped", || host.mapped().len() == 1);
    drop(buffer);
}

#[test]
fn nobody_frees_what_is_not_its_own() {
    let host = FakeHost::new();
    let broker = broker_of(&host, Duration::ZERO);
    let (mut owner, mut thief) = (Raw::new(broker.socket()), Raw::new(broker.socket()));
    let Reply::Allocated { iova, .. } = owner.ask(&allocate(8192)).unwrap() else { panic!() };
    for at in [iova, iova + 4096, 0, u64::MAX] {
        assert_eq!(thief.ask(&Request::Free { iova: at }).unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert_eq!(owner.ask(&Request::Free { iova: iova + 4096 }).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(owner.ask(&Request::Free { iova }), Ok(Reply::Done));
    assert_eq!(owner.ask(&Request::Free { iova }).unwrap_err().kind(), ErrorKind::Invalid, "not twice");
}
