//! Leases that are waited for, by clients with threads and sockets of their own.

use crate::raw::{CARD, Raw};
use crate::rig::{Rig, eventually};
use jitney_broker::Bus;
use jitney_broker::protocol::{Notice, Reply, Request};
use jitney_vfio::{Card, ErrorKind, LeaseRequest, Mode, Will};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

fn exclusive(part: &str) -> LeaseRequest {
    LeaseRequest::exclusive(part.parse().unwrap())
}

fn awaits(part: &str, wait: u32) -> Request {
    Request::Lease { card: CARD, part: part.into(), mode: Mode::Exclusive, will: Will::none(), wait }
}

fn card(bus: &Bus) -> Arc<dyn Card> {
    bus.card("*").unwrap()
}

/// How many wait for something.
fn waiting(bus: &Bus) -> usize {
    bus.usage().unwrap().iter().map(|client| client.waits.len()).sum()
}

#[test]
fn a_lease_comes_when_its_holder_ends_it() {
    let rig = Rig::new();
    let (first, second) = (rig.broker.bus(), rig.broker.bus());
    let (one, other) = (card(&first), card(&second));
    let held = one.lease(exclusive("h2c0")).unwrap();
    let asked = thread::spawn(move || other.lease(exclusive("h2c0").waiting(Duration::MAX)).unwrap());
    eventually("nobody stands in line", || waiting(&first) == 1);
    assert!(!asked.is_finished());
    drop(held);
    let lease = asked.join().unwrap();
    assert_eq!(one.lease(exclusive("h2c0")).unwrap_err().kind(), ErrorKind::Held);
    drop(lease);
}

#[test]
fn a_lease_comes_when_its_holder_dies() {
    let rig = Rig::new();
    let bus = rig.broker.bus();
    let mut holder = Raw::new(rig.broker.socket());
    holder.ask(&Request::Open { card: CARD }).unwrap();
    holder.ask(&awaits("whole", 0)).unwrap();
    let other = card(&bus);
    let asked = thread::spawn(move || {
        let lease = other.lease(exclusive("h2c0").waiting(Duration::from_secs(50))).unwrap();
        drop(lease);
        Instant::now()
    });
    let looking = rig.broker.bus();
    eventually("nobody stands in line", || waiting(&looking) == 1);
    drop(holder);
    asked.join().unwrap();
}

#[test]
fn who_has_waited_long_enough_hears_who_has_it() {
    let rig = Rig::new();
    let (first, second) = (rig.broker.bus(), rig.broker.bus());
    let (one, other) = (card(&first), card(&second));
    let _held = one.lease(exclusive("h2c0")).unwrap();
    let began = Instant::now();
    let error = other.lease(exclusive("h2c0").waiting(Duration::from_millis(80))).unwrap_err();
    assert!(began.elapsed() >= Duration::from_millis(80));
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains(&format!("h2c0 is held by pid {} (", std::process::id())), "{error}");
    assert_eq!(waiting(&first), 0);
    // Its place is nobody's, and the client goes on as before.
    let _other = other.lease(exclusive("c2h0")).unwrap();
}

#[test]
fn a_bus_can_say_it_for_all_leases() {
    let rig = Rig::new();
    let first = rig.broker.bus();
    let second = Bus::options().broker(rig.broker.socket()).wait(Duration::from_millis(30)).open().unwrap();
    let (one, other) = (card(&first), card(&second));
    let _held = one.lease(exclusive("h2c0")).unwrap();
    assert_eq!(other.lease(exclusive("h2c0")).unwrap_err().kind(), ErrorKind::TimedOut);
    // A lease that says it itself is not waited for.
    let error = other.lease(exclusive("h2c0").waiting(Duration::ZERO)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Held);
}

#[test]
fn threads_of_a_client_go_on_while_one_waits() {
    let rig = Rig::new();
    let (first, second) = (rig.broker.bus(), rig.broker.bus());
    let (one, other) = (card(&first), card(&second));
    let held = one.lease(exclusive("h2c0")).unwrap();
    let asking = Arc::clone(&other);
    let asked = thread::spawn(move || asking.lease(exclusive("h2c0").waiting(Duration::MAX)).unwrap());
    eventually("nobody stands in line", || waiting(&first) == 1);
    let buffer = second.dma_buffer(4096).unwrap();
    drop(other.lease(exclusive("c2h0")).unwrap());
    drop((buffer, held));
    asked.join().unwrap();
}

#[test]
fn notices_of_a_line_say_how_far_it_is() {
    let rig = Rig::new();
    let mut clients: Vec<Raw> = (0..3).map(|_| Raw::new(rig.broker.socket())).collect();
    for client in &mut clients {
        client.ask(&Request::Open { card: CARD }).unwrap();
    }
    clients[0].ask(&awaits("h2c0", 0)).unwrap();
    clients[1].say(&awaits("h2c0", u32::MAX));
    let first = clients[1].hear_notice();
    clients[2].say(&awaits("whole", u32::MAX));
    let second = clients[2].hear_notice();
    let place = |notice| match notice {
        Notice::InLine { place, behind, .. } => (place, behind),
        other => panic!("{other:?}"),
    };
    let (place_of_first, behind) = place(first);
    assert!(place_of_first == 1 && behind.contains("h2c0 is held by pid"), "{behind}");
    assert_eq!(place(second).0, 2);
    clients.remove(0);
    let (_, reply) = clients[0].hear_any();
    assert!(matches!(reply, Ok(Reply::Leased(_))), "{reply:?}");
    assert_eq!(place(clients[1].hear_notice()).0, 1);
}
