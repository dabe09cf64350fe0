//! A client that speaks the protocol itself, and can go without a goodbye.

use jitney_broker::CardId;
use jitney_broker::protocol::{self, Message, Reply, Request};
use jitney_memory::descriptors::{self, Wait};
use jitney_vfio::{Error, LeaseRequest};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The first card of a broker.
pub(crate) const CARD: CardId = CardId(0);

/// The request for a lease on the first card.
pub(crate) fn lease(request: LeaseRequest) -> Request {
    let LeaseRequest { part, mode, will } = request;
    Request::Lease { card: CARD, part: part.to_string(), mode, will }
}

/// A connection that says what a test wants. Dropping it is what the death of a process is to the broker.
pub(crate) struct Raw {
    socket: OwnedFd,
    number: u64,
}

impl Raw {
    /// Connects and says hello.
    pub(crate) fn new(broker: &Path) -> Self {
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        connect(&socket, &SocketAddrUnix::new(broker).unwrap()).unwrap();
        let mut raw = Self { socket, number: 0 };
        raw.ask(&Request::Hello { program: "a raw client".into() }).unwrap();
        raw
    }

    /// Sends a request and does not wait for its reply.
    pub(crate) fn say(&mut self, request: &Request) {
        self.number += 1;
        let message = protocol::encode_request(self.number, request).unwrap();
        descriptors::send(&self.socket, &[IoSlice::new(&message)], &[], Wait::Block).unwrap();
    }

    /// The next reply and what came with it.
    pub(crate) fn hear(&mut self) -> Result<(Reply, Option<OwnedFd>), Error> {
        let mut buffer = vec![0; protocol::MAX_MESSAGE];
        loop {
            let received =
                descriptors::receive(&self.socket, &mut buffer, protocol::MAX_DESCRIPTORS, Wait::Block)
                    .unwrap();
            let Message::Reply(number, reply) = protocol::decode_message(&buffer[..received.len]).unwrap()
            else {
                continue;
            };
            assert_eq!(number, self.number);
            return Ok((reply?, received.descriptors.into_iter().next()));
        }
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
