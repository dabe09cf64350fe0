//! One connection says which memory the board reaches.

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use jitney_memory::descriptors::{self, Wait};
use jitney_vfio_user::{DmaUnmap, Request};

use crate::client::{Client, EPERM, Fixture, eventually, memory};
use crate::toy::{DONE, FAULT, FROM_HOST};

#[test]
fn the_first_that_opens_the_board_maps_and_no_other() {
    let server = Fixture::new();
    // One that has only connected owns nothing.
    let _silent = server.connect();
    let (mut owner, mut guest) = (server.open(), server.open());
    let (file, _) = memory(0x2000);
    assert_eq!(guest.map(Some(&file), 0, 0, 0x1000), Err(EPERM));
    owner.map(Some(&file), 0, 0, 0x1000).unwrap();
    assert_eq!(guest.map(None::<&OwnedFd>, 0, 0x1000, 0x1000), Err(EPERM));
    assert_eq!(guest.unmap(0, 0x1000), Err(EPERM));
    assert_eq!(guest.unmap(1 << 63, 1 << 63), Err(EPERM));
    let all = Request::DmaUnmap(DmaUnmap { all: true, address: 0, size: 0 });
    assert!(matches!(guest.ask(&all), Err(EPERM)));
    assert_eq!(owner.dma(FROM_HOST, 0, 0x1000), DONE);
    // Registers are everybody's.
    assert_eq!(guest.dma(FROM_HOST, 0, 0x1000), DONE);
}

#[test]
fn a_guest_stays_a_guest_and_the_next_to_come_owns_the_board() {
    let server = Fixture::new();
    let (mut owner, mut guest) = (server.open(), server.open());
    let (file, _) = memory(0x2000);
    owner.map(Some(&file), 0, 0, 0x1000).unwrap();
    drop(owner);
    // As a broker that starts anew at once, while a client of the one before still has its grant.
    let mut owner = server.open();
    assert_eq!(guest.map(Some(&file), 0, 0, 0x1000), Err(EPERM));
    owner.map(Some(&file), 0, 0, 0x1000).unwrap();
    assert_eq!(guest.dma(FROM_HOST, 0, 0x1000), DONE);
    drop(owner);
    eventually("the map is still there", || guest.dma(FROM_HOST, 0, 4) == FAULT);
    assert_eq!(guest.map(Some(&file), 0, 0, 0x1000), Err(EPERM));
}

#[test]
fn who_holds_a_connection_of_an_owner_that_ended_does_not_inherit() {
    let server = Fixture::new();
    let (file, _) = memory(0x2000);
    for _ in 0..20 {
        let mut owner = server.open();
        owner.map(Some(&file), 0, 0, 0x1000).expect("who comes next maps");
        // As a broker hands them out: two that wait for their time, and one that was begun. They are accepted in order.
        let (mut early, mut late, mut begun) = (server.connect(), server.connect(), server.open());
        drop(owner);
        eventually("the map is still there", || begun.dma(FROM_HOST, 0, 4) == FAULT);
        assert!(early.try_open());
        assert_eq!(early.map(Some(&file), 0, 0, 0x1000), Err(EPERM));
        assert_eq!(begun.map(Some(&file), 0, 0, 0x1000), Err(EPERM));
        // The owner that is started again does, although they are still there.
        let mut next = server.open();
        next.map(Some(&file), 0, 0, 0x1000).unwrap();
        drop(next);
        eventually("the map is still there", || begun.dma(FROM_HOST, 0, 4) == FAULT);
        assert!(late.try_open());
        assert_eq!(late.map(Some(&file), 0, 0, 0x1000), Err(EPERM));
    }
}

const SOCKET: &str = "JITNEY_TEST_CONNECT_TO";

/// What a broker connects in its last moments may be accepted when the broker is gone.
#[test]
fn a_connection_whose_maker_has_ended_maps_nothing() {
    // A child has the descriptors of all tests until it is another program: none of them may wait for a hang-up.
    Fixture::alone(|server| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let maker = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "owner::connect_for_somebody_else", "--ignored"])
            .env(SOCKET, &server.path)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(maker.success());
        let came = descriptors::receive(&ours, &mut [0], 1, Wait::Block).unwrap();
        let mut heir = Client::over(came.descriptors.into_iter().next().unwrap().into());
        assert!(heir.try_open());
        let (file, _) = memory(0x1000);
        assert_eq!(heir.map(Some(&file), 0, 0, 0x1000), Err(EPERM));
        server.open().map(Some(&file), 0, 0, 0x1000).unwrap();
    });
}

#[test]
#[ignore = "other tests start it in processes of its own"]
fn connect_for_somebody_else() {
    let Some(path) = std::env::var_os(SOCKET) else { return };
    let made = UnixStream::connect(path).unwrap();
    descriptors::send_all(std::io::stdin(), &[IoSlice::new(&[0])], &[made.as_fd()]).unwrap();
}
