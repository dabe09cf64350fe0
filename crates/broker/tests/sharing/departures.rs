//! Clients that are gone without a goodbye: what the broker does for them, and in which order.

use crate::raw::Raw;
use crate::rig::{H2C0_CONTROL, H2C0_CONTROL_CLEAR, H2C0_STATUS, Rig, XDMA, eventually};
use jitney_broker::protocol::{Reply, Request};
use jitney_vfio::{LeaseRequest, Will, WillStep};
use jitney_xdma::Xdma;
use std::sync::Arc;

const RUN: u32 = 1;

/// A client with a buffer and a lease on `h2c0`, whose will clears RUN.
fn client_with_a_will(rig: &Rig) -> Raw {
    let mut raw = Raw::new(rig.broker.socket());
    raw.ask(&Request::Open { card: 0 }).unwrap();
    let stop = WillStep::write(2, H2C0_CONTROL_CLEAR, RUN);
    let request = LeaseRequest::exclusive("h2c0".parse().unwrap()).with_will(Will(vec![stop]));
    raw.ask(&Request::Lease { card: 0, request }).unwrap();
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
fn after_a_goodbye_or_a_release_there_is_no_will() {
    let rig = Rig::new();
    let bus = rig.broker.bus();
    let card = bus.card("*").unwrap();
    let registers = card.bar(XDMA).unwrap();
    rig.emulated.board.inject("hang:h2c0".parse().unwrap());
    registers.write32(H2C0_CONTROL, RUN).unwrap();
    let mut raw = client_with_a_will(&rig);
    assert_eq!(raw.ask(&Request::Goodbye), Ok(Reply::Done));
    drop(raw);

    let mut raw = Raw::new(rig.broker.socket());
    raw.ask(&Request::Open { card: 0 }).unwrap();
    let stop = WillStep::write(2, H2C0_CONTROL_CLEAR, RUN);
    let request = LeaseRequest::exclusive("h2c0".parse().unwrap()).with_will(Will(vec![stop]));
    let Reply::Leased(lease) = raw.ask(&Request::Lease { card: 0, request }).unwrap() else { panic!() };
    raw.ask(&Request::Release { card: 0, lease }).unwrap();
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
        let mut h2c = Xdma::identify(Arc::clone(&card), XDMA).unwrap().h2c(0).unwrap();
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
