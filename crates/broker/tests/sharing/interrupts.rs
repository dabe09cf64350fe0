//! Interrupt vectors: each to the client that leased it, and to nobody afterwards.

use crate::raw::{CARD, Raw, lease};
use crate::rig::{Rig, USER_ENABLE, USER_VECTORS, XDMA, eventually};
use jitney_broker::protocol::Request;
use jitney_vfio::{Card, ErrorKind, LeaseRequest};
use std::sync::Arc;
use std::time::Duration;

const SOON: Option<Duration> = Some(Duration::from_secs(5));
const NEVER: Option<Duration> = Some(Duration::from_millis(50));

/// Routes user interrupt 0 to vector 4 and user interrupt 1 to vector 9.
fn route(card: &Arc<dyn Card>) {
    let xdma = card.bar(XDMA).unwrap();
    xdma.write32(USER_VECTORS, 0x0904).unwrap();
    xdma.write32(USER_ENABLE, 0b11).unwrap();
}

fn pulse(rig: &Rig, interrupt: u8) {
    rig.emulated.board.set_user_interrupt(interrupt, true);
    rig.emulated.board.set_user_interrupt(interrupt, false);
}

#[test]
fn each_client_gets_its_own_vector() {
    let rig = Rig::new();
    let (first, second) = (rig.broker.bus(), rig.broker.bus());
    let (first, second) = (first.card("10ee:7011").unwrap(), second.card("10ee:7011").unwrap());
    route(&first);
    let (four, nine) = (first.interrupt(4).unwrap(), second.interrupt(9).unwrap());
    pulse(&rig, 0);
    assert!(four.wait(SOON).unwrap());
    assert!(!nine.wait(NEVER).unwrap());
    pulse(&rig, 1);
    assert!(nine.wait(SOON).unwrap());
    assert!(!four.wait(NEVER).unwrap());

    let error = second.interrupt(4).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Held);
    assert!(error.to_string().contains(&format!("held by pid {}", std::process::id())), "{error}");
    drop(four);
    let four = second.interrupt(4).unwrap();
    pulse(&rig, 0);
    assert!(four.wait(SOON).unwrap());
    assert_eq!(second.interrupt(5000).unwrap_err().kind(), ErrorKind::NotFound);
    // The attempt has left no lease behind.
    assert_eq!(first.interrupt(5000).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_vector_is_silent_and_free_after_its_client_is_gone() {
    let rig = Rig::new();
    let staying = rig.broker.bus();
    let card = staying.card("10ee:7011").unwrap();
    route(&card);

    let mut going = Raw::new(rig.broker.socket());
    going.ask(&Request::Open { card: CARD }).unwrap();
    let request = LeaseRequest::exclusive("irq4".parse().unwrap());
    going.ask(&lease(request)).unwrap();
    assert_eq!(card.interrupt(4).unwrap_err().kind(), ErrorKind::Held);
    let refused = going.ask(&Request::Wire { card: CARD, vector: 4 }).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "no eventfd came with it");
    let refused = going.ask(&Request::Wire { card: CARD, vector: 9 }).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "not its vector");
    drop(going);

    let four = card.interrupt(4).unwrap();
    pulse(&rig, 0);
    assert!(four.wait(SOON).unwrap());
}

#[test]
fn a_killed_clients_eventfd_gets_nothing_more() {
    let rig = Rig::new();
    let staying = rig.broker.bus();
    let card = staying.card("10ee:7011").unwrap();
    route(&card);
    let mut going = Raw::new(rig.broker.socket());
    going.ask(&Request::Open { card: CARD }).unwrap();
    let request = LeaseRequest::exclusive("irq4".parse().unwrap());
    going.ask(&lease(request)).unwrap();
    let event = jitney_memory::EventFd::new().unwrap();
    going.wire(4, &event);
    pulse(&rig, 0);
    assert!(event.wait(SOON).unwrap());
    event.take().unwrap();
    drop(going);
    eventually("the client is still there", || staying.usage().unwrap().len() == 1);
    pulse(&rig, 0);
    assert!(!event.wait(NEVER).unwrap());
}
