//! Messages with descriptors, over both types of Unix socket.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use jitney_memory::descriptors::{
    MAX_DESCRIPTORS, Missing, Wait, receive, receive_all, receive_exact, send, send_all,
};
use jitney_memory::{Error, EventFd, Memfd, PageSize};
use rustix::io::{Errno, FdFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

fn pair(kind: SocketType) -> (OwnedFd, OwnedFd) {
    rustix::net::socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap()
}

const BOTH: [SocketType; 2] = [SocketType::STREAM, SocketType::SEQPACKET];

fn send_bytes(socket: &OwnedFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<usize, Error> {
    send(socket, &[IoSlice::new(bytes)], descriptors, Wait::Never)
}

/// Asserts that all copies of the write end of a pipe are closed, which its reader sees as the end of the file.
fn assert_all_closed(reader: &OwnedFd) {
    rustix::io::ioctl_fionbio(reader, true).unwrap();
    assert_eq!(rustix::io::read(reader, &mut [0_u8; 1][..]), Ok(0), "a descriptor leaked");
}

#[test]
fn bytes_arrive_in_order_and_without_descriptors() {
    for kind in BOTH {
        let (a, b) = pair(kind);
        assert_eq!(send(&a, &[IoSlice::new(b"head"), IoSlice::new(b"tail")], &[], Wait::Block).unwrap(), 8);
        let mut buffer = [0; 64];
        let received = receive(&b, &mut buffer, 3, Wait::Block).unwrap();
        assert_eq!(&buffer[..received.len], b"headtail");
        assert_eq!(received.descriptors.capacity(), 0, "nothing was allocated");
    }
}

#[test]
fn descriptors_travel_and_are_closed_on_exec() {
    let ways = [Wait::Block, Wait::Interruptible, Wait::Never];
    for (kind, wait) in BOTH.into_iter().flat_map(|kind| ways.map(|wait| (kind, wait))) {
        let (a, b) = pair(kind);
        let memory = Memfd::create("travels", 4096, PageSize::Normal).unwrap();
        let event = EventFd::new().unwrap();
        send_bytes(&a, b"two", &[memory.as_fd(), event.as_fd()]).unwrap();
        let received = receive(&b, &mut [0; 16], 2, wait).unwrap();
        assert_eq!((received.len, received.descriptors.len()), (3, 2));
        for descriptor in &received.descriptors {
            assert!(rustix::io::fcntl_getfd(descriptor).unwrap().contains(FdFlags::CLOEXEC));
        }
        let [memory, theirs] = <[OwnedFd; 2]>::try_from(received.descriptors).unwrap();
        Memfd::adopt(memory, 4096).unwrap();
        EventFd::try_from(theirs).unwrap().signal().unwrap();
        assert_eq!(event.take().unwrap(), 1);
    }
}

#[test]
fn the_most_descriptors_of_one_message_travel() {
    for kind in BOTH {
        let (a, b) = pair(kind);
        let event = EventFd::new().unwrap();
        let many = [event.as_fd(); MAX_DESCRIPTORS + 1];
        send_bytes(&a, b"x", &many[1..]).unwrap();
        let received = receive(&b, &mut [0; 1], MAX_DESCRIPTORS, Wait::Block).unwrap();
        assert_eq!(received.descriptors.len(), MAX_DESCRIPTORS);
        assert!(matches!(send_bytes(&a, b"x", &many), Err(Error::Unsendable { .. })));
        assert!(matches!(send_bytes(&a, b"", &many[..1]), Err(Error::Unsendable { .. })));
    }
}

#[test]
fn more_descriptors_than_allowed_are_an_error_and_closed() {
    for kind in BOTH {
        for (sent, allowed) in [(1, 0), (2, 1), (3, 1), (8, 1), (3, 2), (253, 2)] {
            let (a, b) = pair(kind);
            let (reader, writer) = rustix::pipe::pipe().unwrap();
            send_bytes(&a, b"x", &vec![writer.as_fd(); sent]).unwrap();
            drop(writer);
            let error = receive(&b, &mut [0; 16], allowed, Wait::Block).unwrap_err();
            assert!(matches!(error, Error::DescriptorsTruncated { .. }), "{sent} for {allowed}: {error:?}");
            assert_all_closed(&reader);
        }
    }
}

#[test]
fn a_packet_longer_than_the_buffer_is_an_error_and_its_descriptors_are_closed() {
    let (a, b) = pair(SocketType::SEQPACKET);
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    send_bytes(&a, &[1; 17], &[writer.as_fd()]).unwrap();
    send_bytes(&a, &[2; 16], &[]).unwrap();
    drop(writer);
    let mut buffer = [0; 16];
    let error = receive(&b, &mut buffer, 1, Wait::Block).unwrap_err();
    assert!(matches!(error, Error::MessageTruncated { capacity: 16 }), "{error:?}");
    assert_all_closed(&reader);
    assert_eq!(receive(&b, &mut buffer, 1, Wait::Block).unwrap().len, 16);
    assert_eq!(buffer, [2; 16]);
}

/// The last close of a stranger's file may take as long as the stranger likes: it must not happen in here.
#[test]
fn descriptors_that_do_not_belong_are_the_callers_to_close() {
    for kind in BOTH {
        let (a, b) = pair(kind);
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        send_bytes(&a, b"x", &[writer.as_fd(); MAX_DESCRIPTORS]).unwrap();
        if kind == SocketType::SEQPACKET {
            send_bytes(&a, &[1; 17], &[writer.as_fd()]).unwrap();
        }
        drop(writer);
        let received = receive_all(&b, &mut [0; 16], Wait::Never).unwrap();
        assert_eq!((received.len, received.missing), (1, None));
        assert_eq!(received.descriptors.len(), MAX_DESCRIPTORS);
        for descriptor in &received.descriptors {
            assert!(rustix::io::fcntl_getfd(descriptor).unwrap().contains(FdFlags::CLOEXEC));
        }
        if kind == SocketType::SEQPACKET {
            let long = receive_all(&b, &mut [0; 16], Wait::Never).unwrap();
            assert_eq!((long.len, long.missing), (16, Some(Missing::Bytes)));
            assert_eq!(long.descriptors.len(), 1);
            drop(received);
            rustix::io::ioctl_fionbio(&reader, true).unwrap();
            assert_eq!(rustix::io::read(&reader, &mut [0_u8; 1][..]), Err(Errno::AGAIN), "it is still open");
        } else {
            drop(received);
        }
        assert_all_closed(&reader);
    }
}

#[test]
fn a_closed_peer_is_the_end_or_an_error_never_a_signal() {
    for kind in BOTH {
        let (a, b) = pair(kind);
        send_bytes(&a, b"last", &[]).unwrap();
        drop(a);
        assert_eq!(receive(&b, &mut [0; 16], 0, Wait::Block).unwrap().len, 4);
        assert_eq!(receive(&b, &mut [0; 16], 0, Wait::Block).unwrap().len, 0);
        let error = send_bytes(&b, b"to nobody", &[]).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::PIPE));
        assert!(error.peer_gone());
        assert_eq!(error.to_string(), "sendmsg to a peer: EPIPE (Broken pipe)");
    }
}

#[test]
fn never_waiting_says_so() {
    for kind in BOTH {
        let (a, b) = pair(kind);
        assert!(receive(&b, &mut [0; 16], 1, Wait::Never).unwrap_err().would_block());
        let error = loop {
            if let Err(error) = send_bytes(&a, &[0; 4096], &[]) {
                break error;
            }
        };
        assert!(error.would_block() && !error.peer_gone(), "{error}");
    }
}

#[test]
fn all_of_a_long_message_goes_through_a_stream_with_its_descriptors() {
    let (a, b) = pair(SocketType::STREAM);
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let event = EventFd::new().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (head, tail) = bytes.split_at(16);
            send_all(&a, &[IoSlice::new(head), IoSlice::new(&[]), IoSlice::new(tail)], &[event.as_fd()])
                .unwrap();
        });
        let mut buffer = vec![0; bytes.len()];
        let descriptors = receive_exact(&b, &mut buffer, 1).unwrap().unwrap();
        assert_eq!(descriptors.len(), 1);
        assert!(buffer == bytes);
    });
    send_bytes(&a, b"half", &[]).unwrap();
    drop(a);
    let error = receive_exact(&b, &mut [0; 8], 0).unwrap_err();
    assert!(matches!(error, Error::Closed { received: 4, expected: 8 }) && error.peer_gone(), "{error:?}");
    assert!(receive_exact(&b, &mut [0; 8], 0).unwrap().is_none());
}

#[test]
fn parts_of_a_message_may_not_add_up_to_more_descriptors_than_allowed() {
    let (a, b) = pair(SocketType::STREAM);
    let event = EventFd::new().unwrap();
    send_bytes(&a, b"1234", &[event.as_fd()]).unwrap();
    send_bytes(&a, b"5678", &[event.as_fd()]).unwrap();
    let error = receive_exact(&b, &mut [0; 8], 1).unwrap_err();
    assert!(matches!(error, Error::DescriptorsTruncated { .. }), "{error:?}");
}
