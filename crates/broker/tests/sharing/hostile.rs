//! Clients that send what nobody asked for, or more than anybody may have.

use crate::raw::{self, CARD, Raw, lease};
use crate::rig::{Rig, eventually};
use jitney_broker::Limits;
use jitney_broker::protocol::{Reply, Request};
use jitney_memory::EventFd;
use jitney_vfio::{ErrorKind, LeaseRequest, Mode};
use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How many descriptors this process, and so the broker in it, has open.
fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A socket whose last `close(2)` takes as long as its owner has set.
fn lingering(seconds: u64) -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (receiver, _) = listener.accept().unwrap();
    rustix::net::sockopt::set_socket_linger(&sender, Some(Duration::from_secs(seconds))).unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.write(&[0; 65536]).is_ok() {}
    (sender.into(), receiver)
}

/// core.md A3: closing what came would have held up everybody for as long as the sender likes.
#[test]
fn what_a_stranger_sends_is_closed_without_anybody_waiting() {
    let rig = Rig::new();
    let good = rig.broker.bus();
    for (request, hello) in [
        (Request::Wire { card: CARD, vector: 0 }, true),
        (Request::Cards { after: None }, true),
        (Request::Hello { program: "early".into() }, false),
    ] {
        let (slow, _receiver) = lingering(8);
        let mut rude = if hello { Raw::new(rig.broker.socket()) } else { Raw::silent(rig.broker.socket()) };
        rude.say_with(&request, &[slow.as_fd()]);
        drop(slow);
        let since = Instant::now();
        for _ in 0..50 {
            good.usage().unwrap();
        }
        assert!(since.elapsed() < Duration::from_secs(4), "{request:?}: {:?}", since.elapsed());
        rude.is_dropped();
    }
}

/// What was sent and not read yet is closed with the connection.
#[test]
fn what_waits_in_a_dead_clients_socket_holds_up_nobody() {
    let rig = Rig::new();
    let good = rig.broker.bus();
    let (slow, _receiver) = lingering(8);
    let mut rude = Raw::silent(rig.broker.socket());
    rude.talk_nonsense();
    for _ in 0..3 {
        rude.try_say_with(&Request::Cards { after: None }, &[slow.as_fd()]);
    }
    drop(slow);
    drop(rude);
    let since = Instant::now();
    for _ in 0..50 {
        good.usage().unwrap();
    }
    assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
}

#[test]
fn descriptors_of_every_kind_and_number_are_refused_and_none_stays_open() {
    let rig = Rig::new();
    let good = rig.broker.bus();
    let card = good.card("*").unwrap();
    let mut strangers: Vec<OwnedFd> = vec![
        File::open("/dev/null").unwrap().into(),
        File::open("/").unwrap().into(),
        TcpListener::bind("127.0.0.1:0").unwrap().into(),
    ];
    let (read, write) = std::io::pipe().unwrap();
    strangers.extend([OwnedFd::from(read), OwnedFd::from(write)]);
    let event: OwnedFd = EventFd::new().unwrap().into();
    drop(card.interrupt(3).unwrap());
    let before = open_files();
    for stranger in &strangers {
        let mut rude = Raw::new(rig.broker.socket());
        rude.ask(&Request::Open { card: CARD }).unwrap();
        rude.ask(&lease(LeaseRequest::exclusive("irq4".parse().unwrap()))).unwrap();
        rude.say_with(&Request::Wire { card: CARD, vector: 4 }, &[stranger.as_fd()]);
        assert!(rude.last_word().to_string().contains("eventfd"));
    }
    for count in [2, 3, 16, 253] {
        let mut rude = Raw::new(rig.broker.socket());
        let many = vec![event.as_fd(); count];
        rude.say_with(&Request::Wire { card: CARD, vector: 4 }, &many);
        assert!(rude.last_word().to_string().contains("more than one descriptor"), "{count}");
    }
    eventually("descriptors are left", || open_files() <= before);
    assert_eq!(good.usage().unwrap().len(), 1);
}

/// conformance.md D2: grants for somebody who was gone stayed open.
#[test]
fn grants_for_who_is_gone_are_closed() {
    let rig = Rig::new();
    let good = rig.broker.bus();
    let _card = good.card("*").unwrap();
    let before = open_files();
    for _ in 0..100 {
        let mut rude = Raw::new(rig.broker.socket());
        rude.ask(&Request::Open { card: CARD }).unwrap();
        rude.say(&Request::Reset { card: CARD });
        rude.say(&Request::Close { card: CARD });
        for _ in 0..10 {
            rude.say(&Request::Open { card: CARD });
        }
    }
    eventually("clients are left", || good.usage().unwrap().len() == 1);
    eventually("descriptors are left", || open_files() <= before);
}

/// core.md C2.
#[test]
fn a_user_cannot_have_endlessly_many_connections() {
    let rig = Rig::new();
    let good = rig.broker.bus();
    let most = Limits::default().connections_of_user;
    let mut crowd: Vec<Raw> = (1..most).map(|_| Raw::silent(rig.broker.socket())).collect();
    eventually("all are in", || good.usage().unwrap().len() == most);
    let mut one_more = Raw::silent(rig.broker.socket());
    let refused = one_more.last_word();
    assert_eq!(refused.kind(), ErrorKind::Exhausted);
    assert!(refused.to_string().contains(&format!("at most {most}")), "{refused}");
    crowd.pop();
    eventually("there is room again", || good.usage().unwrap().len() == most - 1);
    Raw::new(rig.broker.socket());
}

/// core.md C1: with a shared lease two clients took each other's vector.
#[test]
fn a_vector_is_wired_under_an_exclusive_lease_only() {
    let rig = Rig::new();
    let event = EventFd::new().unwrap();
    let mut raw = Raw::new(rig.broker.socket());
    raw.ask(&Request::Open { card: CARD }).unwrap();
    let shared = LeaseRequest { mode: Mode::Shared, ..LeaseRequest::exclusive("irq4".parse().unwrap()) };
    raw.ask(&lease(shared)).unwrap();
    raw.say_with(&Request::Wire { card: CARD, vector: 4 }, &[event.as_fd()]);
    let refused = raw.hear().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.to_string().contains("exclusively"), "{refused}");
}

/// core.md C6: the descriptor of a request that waited was lost.
#[test]
fn a_vector_can_be_wired_behind_a_reset() {
    let rig = Rig::new();
    let event = EventFd::new().unwrap();
    let mut raw = Raw::new(rig.broker.socket());
    raw.ask(&Request::Open { card: CARD }).unwrap();
    raw.ask(&lease(LeaseRequest::exclusive("irq4".parse().unwrap()))).unwrap();
    raw.say(&Request::Reset { card: CARD });
    raw.say_with(&Request::Wire { card: CARD, vector: 4 }, &[event.as_fd()]);
    let answers = [raw.hear_any(), raw.hear_any()];
    assert!(answers.iter().all(|(_, reply)| *reply == Ok(Reply::Done)), "{answers:?}");
}

/// core.md C3: a list of much was refused to everybody.
#[test]
fn long_lists_come_in_parts() {
    let rig = Rig::new();
    let good = rig.broker.bus();
    let crowd: Vec<Raw> = (0..12)
        .map(|client| {
            let mut raw = Raw::new(rig.broker.socket());
            raw.ask(&Request::Open { card: CARD }).unwrap();
            for number in 0..Limits::default().leases_of_client {
                let part = format!("a-part-with-a-long-name-{client}-{number}");
                raw.ask(&lease(LeaseRequest::exclusive(part.parse().unwrap()))).unwrap();
            }
            raw
        })
        .collect();
    let usage = good.usage().unwrap();
    assert_eq!(usage.len(), crowd.len() + 1);
    assert_eq!(usage.iter().map(|client| client.leases.len()).sum::<usize>(), 12 * 256);
}

/// conformance.md D7: a mistake is answered, and whoever made it stays.
#[test]
fn a_mistake_in_a_request_is_answered_like_any_other() {
    let rig = Rig::new();
    let mut raw = Raw::new(rig.broker.socket());
    raw.ask(&Request::Open { card: CARD }).unwrap();
    let wrong = Request::Lease {
        card: CARD,
        part: "H2C".into(),
        mode: Mode::Exclusive,
        will: jitney_vfio::Will::none(),
        wait: 0,
    };
    let refused = raw.ask(&wrong).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.to_string().contains("\"H2C\" cannot name a part"), "{refused}");
    let number = raw.say_bytes(&[6, 0, 2, b'a', b'b', 9, 0]);
    let (answered, reply) = raw.hear_any();
    assert_eq!((answered, reply.unwrap_err().kind()), (number, ErrorKind::Invalid));
    raw.ask(&raw::lease(LeaseRequest::exclusive("h2c0".parse().unwrap()))).unwrap();
}
