//! A client's connection: its socket, the replies that wait for it, and a descriptor of its process.

use super::{PROCESS, peer_of};
use crate::machine::{ClientId, Peer};
use crate::protocol::{self, Reply, Request};
use jitney_memory::descriptors::{self, Wait};
use jitney_vfio::{Error, ErrorKind, Result};
use rustix::event::epoll;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The most replies that wait for a client to read them. One that lets more pile up is dropped.
const MAX_WAITING: usize = 128;

pub(super) struct Connection {
    socket: OwnedFd,
    client: ClientId,
    /// A client is gone when its socket hangs up, and also when its process ends while a child of it still has the
    /// socket open.
    process: Option<OwnedFd>,
    waiting: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    /// What epoll watches the socket for.
    watched: epoll::EventFlags,
}

pub(super) enum Incoming {
    Nothing,
    Gone,
    Nonsense(Error),
    Request { number: u64, request: Request, descriptor: Option<OwnedFd> },
}

impl Connection {
    pub(super) fn new(socket: OwnedFd, poll: impl AsFd, client: ClientId) -> Result<(Self, Peer)> {
        let peer = peer_of(&socket)?;
        let system = |errno| Error::from_errno(errno, format!("client of pid {}", peer.pid));
        // Outside of our pid namespace a process has no pid; then the socket's hang-up has to do.
        let process = match Pid::from_raw(peer.pid.cast_signed()) {
            Some(pid) => Some(pidfd_open(pid, PidfdFlags::empty()).map_err(system)?),
            None => None,
        };
        let flags = epoll::EventFlags::IN;
        epoll::add(&poll, &socket, epoll::EventData::new_u64(client.0), flags).map_err(system)?;
        if let Some(process) = &process {
            epoll::add(&poll, process, epoll::EventData::new_u64(client.0 | PROCESS), flags)
                .map_err(system)?;
        }
        Ok((Self { socket, client, process, waiting: VecDeque::new(), watched: flags }, peer))
    }

    /// Takes the next message, if there is one.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Incoming {
        let received =
            match descriptors::receive(&self.socket, buffer, protocol::MAX_DESCRIPTORS, Wait::Never) {
                Ok(received) if received.len == 0 => return Incoming::Gone,
                Ok(received) => received,
                Err(error) if error.would_block() => return Incoming::Nothing,
                Err(error) if error.peer_gone() => return Incoming::Gone,
                Err(error) => return Incoming::Nonsense(Error::new(ErrorKind::Protocol, error.to_string())),
            };
        match protocol::decode_request(&buffer[..received.len]) {
            Ok((number, request)) => {
                Incoming::Request { number, request, descriptor: received.descriptors.into_iter().next() }
            }
            Err(error) => Incoming::Nonsense(error.into()),
        }
    }

    /// Sends a reply, or lets it wait until the client has read others. False if the client has to be dropped.
    pub(super) fn reply(
        &mut self,
        poll: impl AsFd,
        number: u64,
        reply: &Result<Reply>,
        descriptors: Vec<OwnedFd>,
    ) -> bool {
        let message = protocol::encode_reply(number, reply)
            .or_else(|error| protocol::encode_reply(number, &Err(error)));
        let Ok(message) = message else { return false };
        self.waiting.push_back((message, descriptors));
        self.flush(poll) && self.waiting.len() <= MAX_WAITING
    }

    /// Sends what waits, as far as the client takes it, and watches for when it takes more. False if it is gone.
    pub(super) fn flush(&mut self, poll: impl AsFd) -> bool {
        let alive = self.send_waiting();
        let wanted = match self.waiting.is_empty() {
            true => epoll::EventFlags::IN,
            false => epoll::EventFlags::IN | epoll::EventFlags::OUT,
        };
        if wanted == self.watched {
            return alive;
        }
        self.watched = wanted;
        let data = epoll::EventData::new_u64(self.client.0);
        match epoll::modify(&poll, &self.socket, data, wanted) {
            Ok(()) => alive,
            Err(errno) => {
                tracing::error!(client = self.client.0, %errno, "a connection cannot be watched");
                false
            }
        }
    }

    /// Sends what waits, as far as the client takes it. False if it is gone.
    fn send_waiting(&mut self) -> bool {
        while let Some((message, with)) = self.waiting.front() {
            let with: Vec<BorrowedFd<'_>> = with.iter().map(AsFd::as_fd).collect();
            match descriptors::send(&self.socket, &[IoSlice::new(message)], &with, Wait::Never) {
                Ok(_) => {
                    self.waiting.pop_front();
                }
                Err(error) if error.would_block() => return true,
                Err(_) => return false,
            }
        }
        true
    }

    /// Ends the connection.
    pub(super) fn close(mut self, poll: impl AsFd) {
        self.send_waiting();
        // Another process may have a copy of the socket, and epoll would go on reporting it.
        for descriptor in [Some(&self.socket), self.process.as_ref()].into_iter().flatten() {
            if let Err(errno) = epoll::delete(&poll, descriptor) {
                tracing::error!(client = self.client.0, %errno, "a connection cannot be forgotten");
            }
        }
        // So that a child of the client that has the socket open sees the end, too.
        if let Err(errno) = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both) {
            tracing::debug!(client = self.client.0, %errno, "the connection was gone already");
        }
    }
}
