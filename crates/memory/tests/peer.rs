//! Who is at the other end of a socket.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use jitney_memory::{Peer, PeerCredentials};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, FdFlags};
use rustix::net::{AddressFamily, SocketType, socket};

fn has_ended(process: &OwnedFd, within: Duration) -> bool {
    let limit = Timespec::try_from(within).unwrap();
    poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&limit)).unwrap() == 1
}

#[test]
fn a_peer_is_known_by_its_process_user_and_groups() {
    let (a, _b) = UnixStream::pair().unwrap();
    let peer = Peer::of(&a).unwrap();
    let mut groups: Vec<u32> =
        rustix::process::getgroups().unwrap().iter().map(|group| group.as_raw()).collect();
    let mut theirs = peer.credentials.groups.clone();
    groups.sort_unstable();
    theirs.sort_unstable();
    assert_eq!(theirs, groups);
    assert_eq!(peer.credentials.pid, NonZero::new(std::process::id()));
    assert_eq!(peer.credentials.uid, rustix::process::geteuid().as_raw());
    assert_eq!(peer.credentials.gid, rustix::process::getegid().as_raw());
    let process = peer.process.unwrap();
    assert!(rustix::io::fcntl_getfd(&process).unwrap().contains(FdFlags::CLOEXEC));
    assert!(!has_ended(&process, Duration::ZERO));
}

/// rustix reads the user of such a socket as the errno of a failure.
#[test]
fn a_socket_that_was_never_connected_has_no_peer() {
    for kind in [SocketType::STREAM, SocketType::SEQPACKET] {
        let lone = socket(AddressFamily::UNIX, kind, None).unwrap();
        let error = PeerCredentials::of(&lone).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::NOTCONN), "{error}");
        assert_eq!(Peer::of(&lone).unwrap_err().errno(), Some(Errno::NOTCONN));
    }
    let file = std::fs::File::open("/dev/null").unwrap();
    assert_eq!(Peer::of(&file).unwrap_err().errno(), Some(Errno::NOTSOCK));
}

/// A program that connects to a socket and waits until its standard input ends.
fn client(path: &std::path::Path) -> std::process::Child {
    let program =
        "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\nsys.stdin.read()";
    Command::new("python3").arg("-c").arg(program).arg(path).stdin(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_peers_end_is_seen_and_one_that_has_ended_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();

    let mut child = client(&path);
    let (connection, _) = listener.accept().unwrap();
    let peer = Peer::of(&connection).unwrap();
    assert_eq!(peer.credentials.pid, NonZero::new(child.id()));
    let process = peer.process.unwrap();
    assert!(!has_ended(&process, Duration::ZERO));
    child.kill().unwrap();
    assert!(has_ended(&process, Duration::from_secs(30)));
    child.wait().unwrap();
    match Peer::of(&connection) {
        Err(error) => assert_eq!(error.errno(), Some(Errno::SRCH), "{error}"),
        // Linux from 6.16 on keeps it.
        Ok(peer) => assert!(has_ended(&peer.process.unwrap(), Duration::ZERO)),
    }
}
