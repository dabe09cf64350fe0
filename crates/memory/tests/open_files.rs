//! A receiver that has no descriptor left. In a program of its own, because the limit is the whole process's.

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};

use jitney_memory::EventFd;
use jitney_memory::descriptors::{Missing, Wait, receive, receive_all, send};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn a_receiver_at_its_limit_of_open_files_is_told_so_and_not_that_the_peer_is_wrong() {
    let (a, b) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .unwrap();
    let event = EventFd::new().unwrap();
    for _ in 0..2 {
        send(&a, &[IoSlice::new(b"three")], &[event.as_fd(); 3], Wait::Never).unwrap();
    }
    let limit = Rlimit { current: Some(64), maximum: getrlimit(Resource::Nofile).maximum };
    setrlimit(Resource::Nofile, limit).unwrap();
    let mut taken: Vec<OwnedFd> = std::iter::from_fn(|| event.as_fd().try_clone_to_owned().ok()).collect();
    taken.truncate(taken.len() - 2);

    let error = receive(&b, &mut [0; 16], 3, Wait::Never).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::MFILE));
    let text = error.to_string();
    assert!(text.contains("EMFILE") && text.contains("ulimit -n"), "{text}");

    let received = receive_all(&b, &mut [0; 16], Wait::Never).unwrap();
    assert_eq!((received.len, received.missing), (5, Some(Missing::Descriptors)));
    assert_eq!(received.descriptors.len(), 2);
}
