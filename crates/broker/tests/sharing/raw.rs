//! A client that speaks the protocol itself, and can go without a goodbye.

use jitney_broker::CardId;
use jitney_broker::protocol::{self, Message, Notice, Reply, Request};
use jitney_memory::descriptors::{self, Wait};
use jitney_vfio::{Error, LeaseRequest};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::io::IoSlice;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

/// The first card of a broker.
pub(crate) const CARD: CardId = CardId(0);

/// The request for a lease on the first card.
pub(crate) fn lease(request: LeaseRequest) -> Request {
    let LeaseRequest { part, mode, will, .. } = request;
    Request::Lease { card: CARD, part: part.to_string(), mode, will, wait: 0 }
}

/// A connection that says what a test wants. Dropping it is what the death of a process is to the broker.
pub(crate) struct Raw {
    socket: OwnedFd,
    number: u64,
}

impl Raw {
    /// Connects and says hello.
    pub(crate) fn new(broker: &Path) -> Self {
        let mut raw = Self::silent(broker);
        raw.ask(&Request::Hello { program: "a raw client".into() }).unwrap();
        raw
    }

    /// Connects and says nothing.
    pub(crate) fn silent(broker: &Path) -> Self {
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        connect(&socket, &SocketAddrUnix::new(broker).unwrap()).unwrap();
        Self { socket, number: 0 }
    }

    /// Sends a request and does not wait for its reply.
    pub(crate) fn say(&mut self, request: &Request) {
        self.number += 1;
        let message = protocol::encode_request(self.number, request).unwrap();
        descriptors::send(&self.socket, &[IoSlice::new(&message)], &[], Wait::Block).unwrap();
    }

    /// Sends a request with descriptors.
    pub(crate) fn say_with(&mut self, request: &Request, with: &[BorrowedFd<'_>]) {
        assert!(self.try_say_with(request, with));
    }

    /// The same, for somebody who may have been hung up on; false if so.
    pub(crate) fn try_say_with(&mut self, request: &Request, with: &[BorrowedFd<'_>]) -> bool {
        self.number += 1;
        let message = protocol::encode_request(self.number, request).unwrap();
        descriptors::send(&self.socket, &[IoSlice::new(&message)], with, Wait::Block).is_ok()
    }

    /// Sends a request with this body, and says its number.
    pub(crate) fn say_bytes(&mut self, body: &[u8]) -> u64 {
        self.number += 1;
        let mut message = protocol::encode_request(self.number, &Request::Goodbye).unwrap();
        message.truncate(protocol::HEADER_SIZE);
        message.extend(body);
        let size = u32::try_from(message.len()).unwrap();
        message[..4].copy_from_slice(&size.to_le_bytes());
        descriptors::send(&self.socket, &[IoSlice::new(&message)], &[], Wait::Block).unwrap();
        self.number
    }

    /// The next reply, to whichever request.
    pub(crate) fn hear_any(&mut self) -> (u64, Result<Reply, Error>) {
        let (number, reply, _) = self.next();
        (number, reply)
    }

    /// What the broker says before it hangs up.
    pub(crate) fn last_word(&mut self) -> Error {
        let (number, reply, _) = self.next();
        assert_eq!(number, 0, "{reply:?}");
        reply.unwrap_err()
    }

    /// The broker hangs up, with a last word or, if it would not even take what was sent, without.
    pub(crate) fn is_dropped(&mut self) {
        let mut buffer = vec![0; protocol::MAX_MESSAGE];
        loop {
            match descriptors::receive(&self.socket, &mut buffer, protocol::MAX_DESCRIPTORS, Wait::Block) {
                Ok(received) if received.len == 0 => return,
                Ok(received) => {
                    let said = protocol::decode_message(&buffer[..received.len]).unwrap();
                    assert!(matches!(said, Message::Reply(0, Err(_))), "{said:?}");
                }
                Err(error) => return assert!(error.peer_gone(), "{error}"),
            }
        }
    }

    fn next(&mut self) -> (u64, Result<Reply, Error>, Option<OwnedFd>) {
        let mut buffer = vec![0; protocol::MAX_MESSAGE];
        loop {
            let received =
                descriptors::receive(&self.socket, &mut buffer, protocol::MAX_DESCRIPTORS, Wait::Block)
                    .unwrap();
            if let Message::Reply(number, reply) = protocol::decode_message(&buffer[..received.len]).unwrap()
            {
                return (number, reply, received.descriptors.into_iter().next());
            }
        }
    }

    /// The next notice; replies that come before it are forgotten.
    pub(crate) fn hear_notice(&mut self) -> Notice {
        let mut buffer = vec![0; protocol::MAX_MESSAGE];
        loop {
            let received = descriptors::receive(&self.socket, &mut buffer, 0, Wait::Block).unwrap();
            match protocol::decode_message(&buffer[..received.len]).unwrap() {
                Message::Notice(notice) => return notice.unwrap(),
                Message::Reply(..) => {}
            }
        }
    }

    /// The next reply and what came with it.
    pub(crate) fn hear(&mut self) -> Result<(Reply, Option<OwnedFd>), Error> {
        let (number, reply, descriptor) = self.next();
        assert_eq!(number, self.number);
        Ok((reply?, descriptor))
    }

    /// Asks and waits for the answer; what comes with it is closed.
    pub(crate) fn ask(&mut self, request: &Request) -> Result<Reply, Error> {
        self.say(request);
        Ok(self.hear()?.0)
    }
}

impl Raw {
    /// Wires a vector to `event`.
    pub(crate) fn wire(&mut self, vector: u16, event: &jitney_memory::EventFd) {
        use std::os::fd::AsFd;
        self.number += 1;
        let request = Request::Wire { card: CARD, vector };
        let message = protocol::encode_request(self.number, &request).unwrap();
        let with = [event.as_fd()];
        descriptors::send(&self.socket, &[IoSlice::new(&message)], &with, Wait::Block).unwrap();
        assert_eq!(self.hear().unwrap().0, Reply::Done);
    }
}

impl Raw {
    /// Sends something that is no message.
    pub(crate) fn talk_nonsense(&mut self) {
        descriptors::send(&self.socket, &[IoSlice::new(b"nonsense")], &[], Wait::Block).unwrap();
    }
}
