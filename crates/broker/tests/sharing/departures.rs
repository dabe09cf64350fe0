//! Clients that are gone without a goodbye: what the broker does for them, and in which order.

use crate::raw::{CARD, Raw, lease};
use crate::rig::{H2C0_CONTROL, H2C0_CONTROL_CLEAR, H2C0_STATUS, Rig, XDMA, eventually};
use jitney_broker::protocol::{Reply, Request};
use jitney_vfio::{LeaseRequest, Will, WillStep};
use jitney_xdma::Xdma;
use std::sync::Arc;
use std::time::{Duration, Instant};

const RUN: u32 = 1;

/// A client with a buffer and a lease on `h2c0`, whose will clears RUN.
fn client_with_a_will(rig: &Rig) -> Raw {
    let mut raw = Raw::new(rig.broker.socket());
    raw.ask(&Request::Open { card: CARD }).unwrap();
    let stop = WillStep::write(2, H2C0_CONTROL_CLEAR, RUN);
    let request = LeaseRequest::exclusive("h2c0".parse().unwrap()).with_will(Will(vec![stop]));
    raw.ask(&lease(request)).unwrap();
    let allocate = Request::Allocate { card: None, size: 1 << 20, align: 1, top: u64::MAX, page_shift: 12 };
    assert!(matches!(raw.ask(&allocate), Ok(Reply::Allocated { .. })));
    raw
}

#[test]
fn the_will_of_a_client_that_is_gone_stops_its_engine() {
    let rig = Rig::new();
    let bus = rig.broker.bus();
    // This one has the card open as well, so that no reset does what the will has to do.
    let card = bus.card("*").unwrap();
    let registers = card.bar(XDMA).unwrap();
    rig.emulated.board.inject("hang:h2c0".parse().unwrap());
    let raw = client_with_a_will(&rig);
    registers.write32(H2C0_CONTROL, RUN).unwrap();
    eventually("the engine runs", || registers.read32(H2C0_STATUS).unwrap() & 1 == 1);
    drop(raw);
    eventually("the client is there", || bus.usage().unwrap().len() == 1);
    assert_eq!(registers.read32(H2C0_CONTROL).unwrap() & RUN, 0);
    assert_eq!(bus.usage().unwrap()[0].buffers, 0);
}

#[test]
fn after_a_release_there_is_no_will() {
    let rig = Rig::new();
    let bus = rig.broker.bus();
    let card = bus.card("*").unwrap();
    let registers = card.bar(XDMA).unwrap();
    rig.emulated.board.inject("hang:h2c0".parse().unwrap());
    registers.write32(H2C0_CONTROL, RUN).unwrap();
    let mut raw = Raw::new(rig.broker.socket());
    raw.ask(&Request::Open { card: CARD }).unwrap();
    let stop = WillStep::write(2, H2C0_CONTROL_CLEAR, RUN);
    let request = LeaseRequest::exclusive("h2c0".parse().unwrap()).with_will(Will(vec![stop]));
    let Reply::Leased(lease) = raw.ask(&lease(request)).unwrap() else { panic!() };
    raw.ask(&Request::Release { card: CARD, lease, will: false }).unwrap();
    drop(raw);
    eventually("the client is there", || bus.usage().unwrap().len() == 1);
    assert_eq!(registers.read32(H2C0_CONTROL).unwrap() & RUN, RUN, "it was nobody's to stop");
}

#[test]
fn what_is_asked_for_at_once_waits_for_the_dead_to_be_cleared_away() {
    let rig = Rig::new();
    let bus = rig.broker.bus();
    let card: Arc<_> = bus.card("*").unwrap();
    for _ in 0..50 {
        let raw = client_with_a_will(&rig);
        drop(raw);
        let h2c = Xdma::identify(Arc::clone(&card), XDMA).unwrap().h2c(0).unwrap();
        let buffer = bus.dma_buffer(1 << 16).unwrap();
        h2c.write(&buffer, 0).unwrap();
    }
}

#[test]
fn a_client_that_talks_nonsense_is_cleared_away_like_a_dead_one() {
    let rig = Rig::new();
    let bus = rig.broker.bus();
    let card = bus.card("*").unwrap();
    let registers = card.bar(XDMA).unwrap();
    rig.emulated.board.inject("hang:h2c0".parse().unwrap());
    let mut raw = client_with_a_will(&rig);
    registers.write32(H2C0_CONTROL, RUN).unwrap();
    raw.talk_nonsense();
    eventually("the client is there", || bus.usage().unwrap().len() == 1);
    assert_eq!(registers.read32(H2C0_CONTROL).unwrap() & RUN, 0, "its will was carried out");
}

/// A lease that is still held at a goodbye is one that somebody has forgotten.
#[test]
fn a_goodbye_with_a_lease_in_hand_carries_out_its_will() {
    let rig = Rig::new();
    let bus = rig.broker.bus();
    let card = bus.card("*").unwrap();
    let registers = card.bar(XDMA).unwrap();
    rig.emulated.board.inject("hang:h2c0".parse().unwrap());
    registers.write32(H2C0_CONTROL, RUN).unwrap();
    let mut raw = client_with_a_will(&rig);
    assert_eq!(raw.ask(&Request::Goodbye), Ok(Reply::Done));
    assert_eq!(registers.read32(H2C0_CONTROL).unwrap() & RUN, 0);
}

/// Unwinding drops leases one by one, and says goodbye: none of that may be taken for an orderly end.
#[test]
fn a_panic_is_no_goodbye() {
    let rig = Rig::new();
    let staying = rig.broker.bus();
    let registers = staying.card("*").unwrap().bar(XDMA).unwrap();
    rig.emulated.board.inject("hang:h2c0".parse().unwrap());
    let bus = rig.broker.bus();
    let panics = std::thread::spawn(move || {
        let card = bus.card("*").unwrap();
        let stop = WillStep::write(2, H2C0_CONTROL_CLEAR, RUN);
        let request = LeaseRequest::exclusive("h2c0".parse().unwrap()).with_will(Will(vec![stop]));
        let _lease = card.lease(request).unwrap();
        card.bar(XDMA).unwrap().write32(H2C0_CONTROL, RUN).unwrap();
        panic!("of the test");
    });
    assert!(panics.join().is_err());
    assert_eq!(registers.read32(H2C0_CONTROL).unwrap() & RUN, 0);
}

/// A step that fails does not keep the others from being carried out, and a wait that never ends does not last.
#[test]
fn all_of_a_will_is_carried_out() {
    let rig = Rig::new();
    let bus = rig.broker.bus();
    let card = bus.card("*").unwrap();
    let registers = card.bar(XDMA).unwrap();
    rig.emulated.board.inject("hang:h2c0".parse().unwrap());
    registers.write32(H2C0_CONTROL, RUN).unwrap();
    let mut raw = Raw::new(rig.broker.socket());
    raw.ask(&Request::Open { card: CARD }).unwrap();
    let never = WillStep::WaitUntil { bar: 2, offset: 0, mask: u32::MAX, value: 1, within_ms: 20 };
    let will = Will(vec![never, never, WillStep::write(2, H2C0_CONTROL_CLEAR, RUN)]);
    raw.ask(&lease(LeaseRequest::exclusive("h2c0".parse().unwrap()).with_will(will))).unwrap();
    let since = Instant::now();
    drop(raw);
    eventually("the client is there", || bus.usage().unwrap().len() == 1);
    assert!(since.elapsed() >= Duration::from_millis(40), "{:?}", since.elapsed());
    assert_eq!(registers.read32(H2C0_CONTROL).unwrap() & RUN, 0);
}

/// Others of the same card are served while a will waits.
#[test]
fn a_will_that_waits_holds_up_nobody() {
    let rig = Rig::new();
    let bus = rig.broker.bus();
    let card = bus.card("*").unwrap();
    let mut raw = Raw::new(rig.broker.socket());
    raw.ask(&Request::Open { card: CARD }).unwrap();
    let never = WillStep::WaitUntil { bar: 2, offset: 0, mask: u32::MAX, value: 1, within_ms: 2000 };
    raw.ask(&lease(LeaseRequest::exclusive("h2c0".parse().unwrap()).with_will(Will(vec![never])))).unwrap();
    drop(raw);
    let since = Instant::now();
    for _ in 0..20 {
        drop(card.interrupt(4).unwrap());
        drop(card.lease(LeaseRequest::exclusive("c2h0".parse().unwrap())).unwrap());
        drop(bus.dma_buffer(4096).unwrap());
    }
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    assert_eq!(bus.usage().unwrap().len(), 2, "the will still waits, or this has shown nothing");
}

/// What an engine may still write to is nobody's until it is seen quiet.
#[test]
fn the_addresses_of_who_was_killed_are_in_quarantine() {
    let rig = Rig::new();
    let bus = rig.broker.bus();
    let _card = bus.card("*").unwrap();
    let mut raw = Raw::new(rig.broker.socket());
    raw.ask(&Request::Open { card: CARD }).unwrap();
    // Three quarters of what there is below 4 GiB: without quarantine the highest fit would be in it.
    let size = 3 << 30;
    let most = Request::Allocate { card: None, size, align: 1, top: u32::MAX.into(), page_shift: 12 };
    let Ok(Reply::Allocated { iova, .. }) = raw.ask(&most) else { panic!("no memory") };
    drop(raw);
    eventually("the client is there", || bus.usage().unwrap().len() == 1);
    let small = || bus.dma_buffer(jitney_vfio::DmaRequest::new(1 << 29).below(u32::MAX.into())).unwrap();
    let first = small();
    assert!(first.iova() + first.size() <= iova, "{:#x} of {iova:#x}", first.iova());
    // Only when there is nothing else.
    let second = small();
    assert!(second.iova() >= iova, "{:#x} of {iova:#x}", second.iova());
}
