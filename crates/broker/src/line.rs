//! The line from a client to its broker: requests go out with numbers, replies come back with the same.

use crate::protocol::{self, Reply, Request};
use jitney_memory::descriptors::{self, Wait};
use jitney_vfio::{Error, ErrorKind, Result};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use std::io::IoSlice;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

/// The most requests to whose replies nobody listens. The broker refuses 64 that are under way and drops a client that
/// lets 128 replies wait.
const MOST_POSTED: u32 = 16;

pub(crate) struct Line {
    socket: OwnedFd,
    next_number: u64,
    /// Requests whose replies are on the way and nobody waits for.
    posted: u32,
    buffer: Vec<u8>,
}

struct Answer {
    number: u64,
    reply: Result<Reply>,
    descriptors: Vec<OwnedFd>,
}

impl Line {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, next_number: 1, posted: 0, buffer: vec![0; protocol::MAX_MESSAGE] }
    }

    /// Sets how long a reply may take; without a limit it may take for ever.
    pub(crate) fn limit_waiting(&self, limit: Option<Duration>) -> Result<()> {
        set_socket_timeout(&self.socket, Timeout::Recv, limit)
            .map_err(|errno| Error::from_errno(errno, "the time limit of the link to the broker"))
    }

    /// Sends a request and waits for its reply.
    pub(crate) fn exchange(
        &mut self,
        request: &Request,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(Reply, Vec<OwnedFd>)> {
        let number = self.send(request, descriptor)?;
        loop {
            let answer = self.receive()?;
            if answer.number == number {
                return Ok((answer.reply?, answer.descriptors));
            }
            self.settle(answer)?;
        }
    }

    /// Sends a request for memory and waits for its reply.
    pub(crate) fn allocate(&mut self, request: &Request) -> Result<(Reply, Vec<OwnedFd>)> {
        let some_on_the_way_back = self.posted > 0;
        match self.exchange(request, None) {
            // What is short may be what they still had.
            Err(error) if some_on_the_way_back && error.kind() == ErrorKind::Exhausted => {
                self.settle_all()?;
                self.exchange(request, None)
            }
            outcome => outcome,
        }
    }

    /// Sends a request whose reply nobody waits for. If it is a failure it is logged when it comes.
    pub(crate) fn post(&mut self, request: &Request) -> Result<()> {
        while self.posted >= MOST_POSTED {
            let answer = self.receive()?;
            self.settle(answer)?;
        }
        self.send(request, None)?;
        self.posted += 1;
        Ok(())
    }

    fn send(&mut self, request: &Request, descriptor: Option<BorrowedFd<'_>>) -> Result<u64> {
        let number = self.next_number;
        self.next_number += 1;
        let message = protocol::encode_request(number, request)?;
        let with: &[BorrowedFd<'_>] = descriptor.as_slice();
        descriptors::send(&self.socket, &[IoSlice::new(&message)], with, Wait::Block).map_err(gone)?;
        Ok(number)
    }

    fn receive(&mut self) -> Result<Answer> {
        let received =
            descriptors::receive(&self.socket, &mut self.buffer, protocol::MAX_DESCRIPTORS, Wait::Block)
                .map_err(gone)?;
        if received.len == 0 {
            return Err(ended());
        }
        let (number, reply) = protocol::decode_reply(&self.buffer[..received.len])?;
        Ok(Answer { number, reply, descriptors: received.descriptors })
    }

    fn settle_all(&mut self) -> Result<()> {
        while self.posted > 0 {
            let answer = self.receive()?;
            self.settle(answer)?;
        }
        Ok(())
    }

    /// Takes note of a reply that nobody waits for.
    fn settle(&mut self, answer: Answer) -> Result<()> {
        // Number 0 is the broker's last word to somebody whom it did not understand.
        match answer.reply {
            Err(last_word) if answer.number == 0 => return Err(last_word),
            Err(error) => tracing::warn!(%error, "the broker could not take something back"),
            Ok(_) => {}
        }
        self.posted = self.posted.saturating_sub(1);
        Ok(())
    }
}

fn gone(error: jitney_memory::Error) -> Error {
    if error.peer_gone() { ended() } else { error.into() }
}

fn ended() -> Error {
    Error::new(ErrorKind::Disconnected, "the broker is gone, or has ended this connection")
        .with_errno(Errno::PIPE)
        .with_remedy("start the program again, under a broker that runs")
}
