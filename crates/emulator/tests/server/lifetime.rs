//! Connections and the server: who opens, who closes, what it costs.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use jitney_emulator::{InterruptKinds, Options, ServerError};
use jitney_memory::EventFd;
use jitney_vfio_user::{IrqAction, IrqData};

use crate::client::{Client, Fixture, eventually};
use crate::toy::{self, Toy};

#[test]
fn the_last_one_out_resets() {
    let server = Fixture::new();
    let (mut one, two) = (server.open(), server.open());
    one.set(toy::SCRATCH, 5);
    one.write(7, 4, &[6, 0]).unwrap();
    drop(two);
    // Whoever comes next waits until those who have gone are cleared away.
    let mut three = server.open();
    assert_eq!((three.get(toy::RESETS), three.get(toy::SCRATCH)), (0, 5));
    drop((one, three));
    for resets in 1..50 {
        let mut next = Client::to(&server.path);
        assert_eq!((next.get(toy::RESETS), next.get(toy::SCRATCH)), (resets, 0));
        assert_eq!(next.get(toy::BUS_MASTER), 0);
        next.set(toy::SCRATCH, 6);
    }
}

#[test]
fn a_connection_that_never_opens_the_board_resets_nothing() {
    let server = Fixture::new();
    let mut client = server.open();
    drop(server.connect());
    drop(UnixStream::connect(&server.path).unwrap());
    assert_eq!(client.get(toy::RESETS), 0);
}

#[test]
fn a_connection_that_ends_takes_its_wires_along() {
    let server = Fixture::new();
    let (mut one, mut two) = (server.open(), server.open());
    let wires = [EventFd::new().unwrap(), EventFd::new().unwrap()];
    let arm = |client: &mut Client, vector: u32| {
        let wire = [wires[vector as usize].as_fd()];
        client.interrupts((2, vector, 1), IrqAction::Trigger, IrqData::Eventfds, &wire).unwrap();
    };
    arm(&mut one, 0);
    arm(&mut two, 1);
    drop(one);
    eventually("the wire is still armed", || {
        two.set(toy::LOWER, 0);
        two.set(toy::RAISE, 0);
        wires[0].take().unwrap() == 0
    });
    two.set(toy::RAISE, 1);
    assert_eq!(wires[1].take().unwrap(), 1);
}

#[test]
fn stopping_ends_everything() {
    let mut server = Fixture::new();
    let mut clients: Vec<Client> = (0..4).map(|_| server.open()).collect();
    clients[0].memory_at = 0;
    server.stop();
    assert!(!server.path.exists());
    assert!(clients.iter_mut().all(|client| client.receive().is_none()));
}

#[test]
fn more_connections_than_may_be_are_hung_up_on() {
    let server = Fixture::with_options(|options| options.connections = 4);
    let mut clients: Vec<Client> = (0..4).map(|_| server.open()).collect();
    for _ in 0..20 {
        assert!(server.connect().receive().is_none());
    }
    assert!(clients.iter_mut().all(|client| client.get(toy::ID) == toy::ID_VALUE));
    clients.pop();
    // One that goes makes room.
    eventually("no room was made", || {
        let mut client = server.connect();
        client.try_open() && client.get(toy::ID) == toy::ID_VALUE
    });
}

#[test]
fn who_says_nothing_does_not_keep_others_out() {
    let server = Fixture::with_options(|options| options.connections = 4);
    let mut open = server.open();
    let silent: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    // One of them begins to speak, and takes its time.
    std::io::Write::write_all(&mut &silent[0].socket, &[1, 0]).unwrap();
    eventually("they keep their places", || {
        let mut client = server.connect();
        client.try_open() && client.get(toy::ID) == toy::ID_VALUE
    });
    // As long as its time to speak once more: who has spoken may be silent.
    std::thread::sleep(std::time::Duration::from_millis(600));
    assert_eq!(open.get(toy::ID), toy::ID_VALUE);
    drop(silent);
}

#[test]
fn a_socket_of_a_live_server_is_taken() {
    let server = Fixture::new();
    let again = Toy::serve(&server.path, Options::default(), InterruptKinds::default());
    assert!(matches!(again, Err(ServerError::Taken { .. })));
    assert_eq!(server.open().get(toy::ID), toy::ID_VALUE);
}

#[test]
fn a_client_that_does_not_read_is_dropped_alone() {
    let server = Fixture::new();
    let (mut deaf, mut bystander) = (server.open(), server.open());
    let mut message = Vec::new();
    let access = jitney_vfio_user::RegionAccess { region: 2, offset: 0, count: 0x4000 };
    jitney_vfio_user::Request::RegionRead(access).encode(1, &mut message);
    deaf.socket.set_write_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    let sent =
        (0..10_000).take_while(|_| std::io::Write::write_all(&mut deaf.socket, &message).is_ok()).count();
    assert!(sent < 10_000, "the server took everything");
    assert_eq!(bystander.get(toy::ID), toy::ID_VALUE);
}

#[test]
fn an_idle_connection_costs_little() {
    Fixture::alone(|server| {
        let resident = || -> usize {
            let status = std::fs::read_to_string("/proc/self/statm").unwrap();
            status.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
        };
        let warm: Vec<Client> = (0..8).map(|_| server.open()).collect();
        let before = resident();
        let mut clients: Vec<Client> = (0..64).map(|_| server.open()).collect();
        for client in &mut clients {
            // A large message, after which the buffers are given back.
            client.write(2, 0, &[0; 0x4000]).unwrap();
            client.read(2, 0, 0x4000).unwrap();
            client.get(toy::ID);
        }
        let each = resident().saturating_sub(before) / clients.len();
        assert!(each <= 64 << 10, "{each} bytes");
        drop(warm);
    });
}
