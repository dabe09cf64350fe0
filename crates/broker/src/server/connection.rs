//! A client's connection: its socket, what waits to be sent to it, and a descriptor of its process.

use super::closer::{Closer, Source};
use super::token::Token;
use crate::machine::{ClientId, Peer, Way};
use crate::protocol::{self, DecodeError, Request};
use jitney_memory::MemoryId;
use jitney_memory::descriptors::{self, Missing, Wait};
use jitney_vfio::{Error, ErrorKind, Result};
use rustix::event::epoll;
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::num::NonZero;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// The most messages that wait for a client to read them. One that lets more pile up is dropped.
const MAX_WAITING: usize = 128;
/// The most bytes of them.
const MAX_WAITING_BYTES: usize = 256 * 1024;

pub(super) struct Connection {
    socket: OwnedFd,
    client: ClientId,
    source: Source,
    /// A client is gone when its socket hangs up, and also when its process ends while a child of it still has the
    /// socket open.
    process: Option<OwnedFd>,
    waiting: VecDeque<(Vec<u8>, Vec<Arc<OwnedFd>>)>,
    waiting_bytes: usize,
    /// What epoll watches the socket for; `None` when nobody listens to the client any more.
    watched: Option<epoll::EventFlags>,
}

pub(super) enum Incoming {
    Nothing,
    Gone,
    Nonsense(Error),
    /// A request of this number that cannot be read.
    Unreadable(u64, Error),
    Request {
        number: u64,
        request: Request,
        descriptor: Option<OwnedFd>,
    },
}

/// How a connection is after something was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    Good,
    /// Too many descriptors are on their way to processes (ETOOMANYREFS): to be tried again soon. That is no fault of this
    /// client's.
    Crowded,
    /// The client is gone, or reads nothing: it has to be dropped.
    Bad,
}

impl Connection {
    /// Takes in a client. If that fails its socket goes to `closer`: there may be descriptors in it already.
    pub(super) fn new(
        socket: OwnedFd,
        poll: impl AsFd,
        client: ClientId,
        way: Way,
        closer: &Closer,
    ) -> Result<(Self, Peer)> {
        let (peer, process) = match watched(&socket, &poll, client, way) {
            Ok(watched) => watched,
            Err(error) => {
                closer.strange(Source::Unknown, vec![socket]);
                return Err(error);
            }
        };
        let connection = Self {
            socket,
            client,
            source: match way {
                Way::Listener => Source::User(peer.uid),
                Way::Door => Source::Door,
            },
            process,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            watched: Some(epoll::EventFlags::IN),
        };
        Ok((connection, peer))
    }

    /// Goes on with a client of a broker before this one. If that fails its socket goes to `closer`.
    pub(super) fn resume(
        socket: OwnedFd,
        process: Option<OwnedFd>,
        poll: impl AsFd,
        (client, peer): (ClientId, &Peer),
        closer: &Closer,
    ) -> Result<Self> {
        let source = match peer.way {
            Way::Listener => Source::User(peer.uid),
            Way::Door => Source::Door,
        };
        if let Err(error) = watch(&socket, process.as_ref(), poll, client) {
            closer.strange(source, vec![socket]);
            return Err(error);
        }
        let (waiting, watched) = (VecDeque::new(), Some(epoll::EventFlags::IN));
        Ok(Self { socket, client, source, process, waiting, waiting_bytes: 0, watched })
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn process(&self) -> Option<BorrowedFd<'_>> {
        self.process.as_ref().map(AsFd::as_fd)
    }

    /// Whether messages wait here until the client has read others.
    pub(super) fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The number of the request that comes next, if one has come.
    pub(super) fn next_number(&self, buffer: &mut [u8]) -> Option<u64> {
        match descriptors::peek(&self.socket, buffer) {
            Ok(Some((len, _))) => protocol::number_of(&buffer[..len]),
            Ok(None) | Err(_) => None,
        }
    }

    /// Takes the next message, if there is one, after its number was said to `takes`. Descriptors that nobody asked for go to
    /// `closer`.
    pub(super) fn receive(&self, buffer: &mut [u8], closer: &Closer, takes: impl FnOnce(u64)) -> Incoming {
        let looked = descriptors::peek(&self.socket, buffer);
        if let Ok(Some((len, _))) = looked {
            protocol::number_of(&buffer[..len]).map(takes);
        }
        match looked {
            Ok(None) => return Incoming::Nothing,
            Ok(Some((len, true))) => {
                // Nothing is taken in that has to be closed again, if that can be avoided.
                let decoded = protocol::decode_request(&buffer[..len]);
                let wanted = matches!(
                    &decoded,
                    Ok((_, request)) if request.takes_descriptor()
                ) || matches!(decoded, Err(DecodeError::Body { .. }));
                if !wanted {
                    let what = "a descriptor came with a message that needs none";
                    return Incoming::Nonsense(Error::new(ErrorKind::Protocol, what));
                }
                if let Err(error) = closer.check(self.source) {
                    return Incoming::Nonsense(error);
                }
            }
            Ok(Some((_, false))) | Err(_) => {}
        }
        let received = match descriptors::receive_all(&self.socket, buffer, Wait::Never) {
            Ok(received) => received,
            Err(error) if error.would_block() => return Incoming::Nothing,
            Err(error) if error.peer_gone() => return Incoming::Gone,
            Err(error) => return Incoming::Nonsense(Error::new(ErrorKind::Protocol, error.to_string())),
        };
        let nonsense = |what: &str, descriptors| {
            closer.strange(self.source, descriptors);
            Incoming::Nonsense(Error::new(ErrorKind::Protocol, what))
        };
        let mut descriptors = received.descriptors;
        if received.len == 0 {
            closer.strange(self.source, descriptors);
            return Incoming::Gone;
        }
        match received.missing {
            Some(Missing::Bytes) => return nonsense("a message is longer than 65536 bytes", descriptors),
            _ if descriptors.len() > protocol::MAX_DESCRIPTORS => {
                return nonsense("more than one descriptor came with a request", descriptors);
            }
            // If the broker has no descriptor left the request is refused as one that came without.
            Some(Missing::Descriptors) | None => {}
        }
        match protocol::decode_request(&buffer[..received.len]) {
            Ok((number, request)) => {
                if !request.takes_descriptor() && !descriptors.is_empty() {
                    return nonsense("a descriptor came with a request that needs none", descriptors);
                }
                let descriptor = descriptors.pop();
                let wrong = descriptor.as_ref().and_then(|descriptor| wrong_kind(&request, descriptor));
                if let Some(what) = wrong {
                    return nonsense(what, descriptor.into_iter().collect());
                }
                Incoming::Request { number, request, descriptor }
            }
            Err(error @ DecodeError::Body { number, .. }) if descriptors.is_empty() => {
                Incoming::Unreadable(number, error.into())
            }
            Err(error) => {
                closer.strange(self.source, descriptors);
                Incoming::Nonsense(Error::new(ErrorKind::Protocol, error.to_string()))
            }
        }
    }

    /// Sends a message, or lets it wait until the client has read others.
    pub(super) fn send(
        &mut self,
        poll: impl AsFd,
        message: Vec<u8>,
        descriptors: Vec<Arc<OwnedFd>>,
        closer: &Closer,
    ) -> Health {
        self.waiting_bytes += message.len();
        self.waiting.push_back((message, descriptors));
        let health = self.flush(poll, closer);
        match self.waiting.len() > MAX_WAITING || self.waiting_bytes > MAX_WAITING_BYTES {
            true => Health::Bad,
            false => health,
        }
    }

    /// Sends what waits, as far as the client takes it, and watches for when it takes more.
    pub(super) fn flush(&mut self, poll: impl AsFd, closer: &Closer) -> Health {
        let health = self.send_waiting(closer);
        let wanted = match self.waiting.is_empty() || health == Health::Crowded {
            true => epoll::EventFlags::IN,
            false => epoll::EventFlags::IN | epoll::EventFlags::OUT,
        };
        if self.watched.is_none_or(|watched| watched == wanted) {
            return health;
        }
        self.watched = Some(wanted);
        let data = epoll::EventData::new_u64(Token::Socket(self.client).into_u64());
        match epoll::modify(&poll, &self.socket, data, wanted) {
            Ok(()) => health,
            Err(errno) => {
                tracing::error!(client = self.client.0, %errno, "a connection cannot be watched");
                Health::Bad
            }
        }
    }

    fn send_waiting(&mut self, closer: &Closer) -> Health {
        while let Some((message, with)) = self.waiting.front() {
            let with: Vec<BorrowedFd<'_>> = with.iter().map(|descriptor| descriptor.as_fd()).collect();
            match descriptors::send(&self.socket, &[IoSlice::new(message)], &with, Wait::Never) {
                Ok(_) => {
                    if let Some((message, sent)) = self.waiting.pop_front() {
                        self.waiting_bytes -= message.len();
                        // Should the client be gone already, this is the last copy of its memory.
                        closer.own(sent.into_iter().filter_map(Arc::into_inner).collect());
                    }
                }
                Err(error) if error.would_block() => return Health::Good,
                Err(error) if error.errno() == Some(Errno::TOOMANYREFS) => return Health::Crowded,
                Err(_) => return Health::Bad,
            }
        }
        Health::Good
    }

    /// Has epoll report nothing more of this client, who is gone: it would do so again and again, as long as that is cleared
    /// away.
    pub(super) fn ignore(&mut self, poll: impl AsFd) {
        if self.watched.take().is_none() {
            return;
        }
        // Another process may have a copy of the socket, so that it would not be forgotten when it is closed here.
        for descriptor in [Some(&self.socket), self.process.as_ref()].into_iter().flatten() {
            if let Err(errno) = epoll::delete(&poll, descriptor) {
                tracing::error!(client = self.client.0, %errno, "a connection cannot be forgotten");
            }
        }
    }

    /// Ends the connection.
    pub(super) fn close(mut self, poll: impl AsFd, closer: &Closer) {
        self.send_waiting(closer);
        self.ignore(poll);
        // So that a child of the client that has the socket open sees the end, too.
        if let Err(errno) = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both) {
            tracing::debug!(client = self.client.0, %errno, "the connection was gone already");
        }
        // What was sent and nobody has read is closed with the socket, descriptors included.
        closer.strange(self.source, vec![self.socket]);
        let mut own: Vec<OwnedFd> = self.process.into_iter().collect();
        let waiting = self.waiting.into_iter().flat_map(|(_, descriptors)| descriptors);
        own.extend(waiting.filter_map(Arc::into_inner));
        closer.own(own);
    }
}

/// What is wrong with a descriptor that came with a request, if it is of another kind. Nothing is asked that a stranger's file can put
/// off answering.
fn wrong_kind(request: &Request, descriptor: &OwnedFd) -> Option<&'static str> {
    match request {
        Request::Share { .. } => MemoryId::of(descriptor)
            .is_err()
            .then_some("who shares a buffer sends its memory along, and something else came"),
        _ => (!jitney_memory::is_event(descriptor))
            .then_some("a vector is wired to an eventfd, and something else came"),
    }
}

/// Who is at the other end of `socket`, and a descriptor of that process, both watched by `poll`.
fn watched(socket: &OwnedFd, poll: impl AsFd, client: ClientId, way: Way) -> Result<(Peer, Option<OwnedFd>)> {
    let jitney_memory::Peer { credentials, process } = jitney_memory::Peer::of(socket)?;
    let peer = Peer {
        pid: credentials.pid.map(NonZero::get),
        uid: credentials.uid,
        gid: credentials.gid,
        groups: credentials.groups,
        way,
    };
    watch(socket, process.as_ref(), poll, client)?;
    Ok((peer, process))
}

/// Has `poll` report of a client's socket and of its process.
fn watch(socket: &OwnedFd, process: Option<&OwnedFd>, poll: impl AsFd, client: ClientId) -> Result<()> {
    // Without a descriptor of its process the socket's hang-up has to do.
    if let Some(process) = process {
        super::watch(&poll, process, Token::Process(client))?;
    }
    super::watch(poll, socket, Token::Socket(client))
}
