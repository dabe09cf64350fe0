//! One connection to a vfio-user server: requests out, replies in, and what happens when there is none.
//!
//! One request is under way at a time, under a lock, so a reply answers the last request or the two sides no longer
//! agree. A register access is one `sendmsg` and one `recvmsg` and allocates nothing: the buffers are kept, the first
//! receive asks for as much as the reply should have, and the time limit is the socket's (`SO_RCVTIMEO`).
//!
//! **Writes are not posted**, although the protocol allows it (`NO_REPLY`): a refused write would be lost without a
//! word, and a write that returns before the card has seen it cannot promise that an engine was told to stop.
//!
//! A connection that failed stays failed, and says why to everybody who uses it afterwards: after a time-out the answer
//! may still come and would be taken for that of another request.

use crate::error::{Error, ErrorKind, Result};
use jitney_memory::descriptors::{self, Received, Wait};
use jitney_vfio_user::{
    Capabilities, Command, DecodeError, DeviceFlags, DeviceInfo, FrameError, Frames, Header, MAX_MESSAGE_FDS,
    ReplyError, Request, errno, reply,
};
use rustix::io::Errno;
use rustix::net::Shutdown;
use std::fmt;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Replies of up to this size arrive with the first receive.
const FIRST_RECEIVE: usize = 128;

/// Most descriptors that may come with one reply.
const MAX_DESCRIPTORS: usize = MAX_MESSAGE_FDS as usize;

/// A connection to a vfio-user server, on which both sides have agreed on a version.
///
/// It is the card's [`Transport`](crate::Transport) and its [`Mapper`](crate::Mapper). Dropping it hangs up, which ends
/// the DMA maps and interrupts that were set up over it.
pub struct Connection {
    address: String,
    path: Option<PathBuf>,
    timeout: Duration,
    /// What the server takes.
    pub(super) limits: Capabilities,
    /// What it serves.
    pub(super) device: DeviceInfo,
    line: Mutex<Line>,
    /// The line's socket once more: its number stays, whoever has the lock.
    kept: Arc<OwnedFd>,
}

/// The socket and what goes with one request.
struct Line {
    socket: Arc<OwnedFd>,
    /// Replies to what a process before this one had asked may still come.
    resumed: bool,
    next_id: u16,
    out: Vec<u8>,
    frames: Frames,
    dead: Option<Error>,
}

/// Why there is no reply.
enum Failure {
    Gone,
    Overdue,
    Socket(jitney_memory::Error),
    TooManyDescriptors,
    Frame(FrameError),
    Reply(ReplyError),
}

impl Connection {
    pub(super) fn new(socket: OwnedFd, address: String, timeout: Duration) -> Self {
        Self::over(socket, address, timeout, false)
    }

    /// One that another process has made, and on which replies to it may still come.
    pub(super) fn resumed(socket: OwnedFd, address: String, timeout: Duration) -> Self {
        Self::over(socket, address, timeout, true)
    }

    fn over(socket: OwnedFd, address: String, timeout: Duration, resumed: bool) -> Self {
        let kept = Arc::new(socket);
        let (socket, out, frames) = (Arc::clone(&kept), Vec::new(), Frames::new());
        let line = Line { socket, resumed, next_id: 0, out, frames, dead: None };
        let device = DeviceInfo { flags: DeviceFlags::new(), num_regions: 0, num_irqs: 0 };
        let limits = Capabilities::default();
        Self { address, path: None, timeout, limits, device, line: Mutex::new(line), kept }
    }

    /// The socket, for somebody to keep.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.kept.as_fd()
    }

    /// The same, with a way to connect again for somebody else.
    pub(super) fn reachable_at(mut self, path: PathBuf) -> Self {
        self.path = Some(path);
        self
    }

    /// What errors call the card.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The server's socket, if this process connected to it by its path.
    pub(super) fn path(&self) -> Option<&PathBuf> {
        self.path.as_ref()
    }

    /// Sends `request` with `descriptors` and hands the body of its reply, and the descriptors that came with it, to
    /// `read`. `size` is how many bytes the body should have: a hint that saves a receive.
    pub(super) fn call<R>(
        &self,
        request: &Request<'_>,
        descriptors: &[BorrowedFd<'_>],
        size: usize,
        read: impl FnOnce(&[u8], Vec<OwnedFd>) -> std::result::Result<R, DecodeError>,
    ) -> Result<R> {
        let mut line = self.line();
        if let Some(error) = &line.dead {
            return Err(error.clone());
        }
        let outcome = line.exchange(request, descriptors, size, self.timeout, read);
        match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(wrong)) => Err(self.nonsense(&wrong)),
            Err(Failure::Reply(ReplyError::Refused { errno, .. })) => Err(self.refused(request, errno)),
            Err(failure) => {
                let error = self.explain(failure);
                line.dead = Some(error.clone());
                if let Err(error) = rustix::net::shutdown(&line.socket, Shutdown::Both) {
                    tracing::debug!(address = self.address, %error, "shutting down a failed connection");
                }
                Err(error)
            }
        }
    }

    /// Whether the connection has ended, whoever ended it.
    pub(super) fn has_failed(&self) -> bool {
        self.line().dead.is_some()
    }

    /// A reply that this side cannot make sense of.
    pub(super) fn nonsense(&self, what: &dyn fmt::Display) -> Error {
        Error::new(
            ErrorKind::Protocol,
            format!("{}: the reply of the process that emulates it makes no sense: {what}", self.address),
        )
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // A panic within an exchange leaves its reply behind; the next one then sees another number than its own.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self, request: &Request<'_>, errno: u32) -> Error {
        let what = format!("{}: the card's process refused {}", self.address, request.command());
        // Zero means that no reason was given, and beyond 4095 there is no errno.
        match i32::try_from(errno) {
            Ok(errno @ 1..=4095) => Error::from_errno(Errno::from_raw_os_error(errno), what),
            _ => Error::new(ErrorKind::System, format!("{what} without giving a reason ({errno})")),
        }
    }

    /// The error that everybody sees from now on.
    fn explain(&self, failure: Failure) -> Error {
        let address = &self.address;
        match failure {
            Failure::Gone => {
                let what = format!("{address}: the process that emulates it is gone");
                Error::new(ErrorKind::LinkDown, what).with_remedy("start it again and open the card anew")
            }
            Failure::Overdue => {
                let timeout = self.timeout;
                let what =
                    format!("{address}: the process that emulates it has not answered within {timeout:?}");
                Error::new(ErrorKind::TimedOut, what).with_remedy("open the card anew once it answers again")
            }
            Failure::Socket(error) => Error::from(error).context(address),
            Failure::TooManyDescriptors => {
                self.nonsense(&format_args!("more than {MAX_DESCRIPTORS} descriptors came with it"))
            }
            Failure::Frame(error) => self.nonsense(&error),
            Failure::Reply(error) => self.nonsense(&error),
        }
    }
}

impl Line {
    fn exchange<R>(
        &mut self,
        request: &Request<'_>,
        descriptors: &[BorrowedFd<'_>],
        size: usize,
        timeout: Duration,
        read: impl FnOnce(&[u8], Vec<OwnedFd>) -> R,
    ) -> std::result::Result<R, Failure> {
        if self.resumed {
            self.settle(timeout)?;
        }
        self.next_id = self.next_id.wrapping_add(1);
        self.out.clear();
        request.encode(self.next_id, &mut self.out);
        descriptors::send_all(&self.socket, &[IoSlice::new(&self.out)], descriptors)?;

        let mut first = [0; FIRST_RECEIVE];
        let expected = (Header::SIZE + size).min(FIRST_RECEIVE);
        let mut came = receive(&self.socket, &mut first[..expected])?;
        self.frames.push(&first[..came.len]);
        // Only a server that sends in pieces, or asks something itself, gets as far as needing a clock.
        let mut deadline = None;
        loop {
            match self.frames.next_message()? {
                Some(message) if message.header.is_command() => {
                    let header = message.header;
                    refuse(&self.socket, &mut self.out, &header)?;
                }
                Some(message) => {
                    message.header.check_reply(self.next_id, request.command())?;
                    return Ok(read(message.body, came.descriptors));
                }
                None => {
                    let now = Instant::now();
                    if now >= *deadline.get_or_insert(now + timeout) {
                        return Err(Failure::Overdue);
                    }
                    let more = receive(&self.socket, self.frames.space())?;
                    self.frames.filled(more.len);
                    came.descriptors.extend(more.descriptors);
                    if came.descriptors.len() > MAX_DESCRIPTORS {
                        return Err(Failure::TooManyDescriptors);
                    }
                }
            }
        }
    }
}

impl Line {
    /// Skips the replies to what a process before this one had asked, and closes what came with them: when a question that
    /// changes nothing is answered, the server has answered all that came before it.
    ///
    /// Its number is drawn, since nobody knows those that the process before had used. Should one of them be the same, and
    /// have been for the same question, the second question finds the answer to the first, and skips it.
    fn settle(&mut self, timeout: Duration) -> std::result::Result<(), Failure> {
        for _ in 0..2 {
            self.next_id = drawn();
            self.out.clear();
            Request::DeviceInfo.encode(self.next_id, &mut self.out);
            descriptors::send_all(&self.socket, &[IoSlice::new(&self.out)], &[])?;
            self.skip_to_reply(Request::DeviceInfo.command(), timeout)?;
        }
        self.resumed = false;
        Ok(())
    }

    /// Takes messages until the reply to the last one sent has come, whatever it says. Never more than one at a time is
    /// received, so that no descriptor is taken for another message's.
    fn skip_to_reply(&mut self, command: Command, timeout: Duration) -> std::result::Result<(), Failure> {
        let deadline = Instant::now() + timeout;
        loop {
            let Some(message) = self.frames.next_message()? else {
                if Instant::now() >= deadline {
                    return Err(Failure::Overdue);
                }
                let came = receive(&self.socket, self.frames.space())?;
                self.frames.filled(came.len);
                continue;
            };
            let header = message.header;
            match header.check_reply(self.next_id, command) {
                Ok(()) | Err(ReplyError::Refused { .. }) => return Ok(()),
                Err(_) if header.is_command() => refuse(&self.socket, &mut self.out, &header)?,
                Err(_) => {
                    let (id, command) = (header.id, header.command);
                    tracing::debug!(id, command, "skipped a reply to the process before");
                }
            }
        }
    }
}

/// A number that nobody can have chosen.
fn drawn() -> u16 {
    let mut bytes = [0; 2];
    let drawn = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    if drawn != Ok(bytes.len()) {
        tracing::debug!(?drawn, "so few random bytes are always there");
    }
    u16::from_ne_bytes(bytes)
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> std::result::Result<Received, Failure> {
    let received = descriptors::receive(socket, buffer, MAX_DESCRIPTORS, Wait::Block)?;
    if received.len == 0 { Err(Failure::Gone) } else { Ok(received) }
}

/// Refuses what the server asks of us: all memory that it may reach has a descriptor, so it has nothing to ask for.
fn refuse(socket: &OwnedFd, out: &mut Vec<u8>, header: &Header) -> std::result::Result<(), Failure> {
    if header.wants_reply() {
        out.clear();
        reply::error(header, errno::ENOTSUP, out);
        descriptors::send_all(socket, &[IoSlice::new(out)], &[])?;
    }
    Ok(())
}

impl From<jitney_memory::Error> for Failure {
    fn from(error: jitney_memory::Error) -> Self {
        match error {
            error if error.peer_gone() => Self::Gone,
            error if error.would_block() => Self::Overdue,
            error => Self::Socket(error),
        }
    }
}

impl From<FrameError> for Failure {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl From<ReplyError> for Failure {
    fn from(error: ReplyError) -> Self {
        Self::Reply(error)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.address)
    }
}
