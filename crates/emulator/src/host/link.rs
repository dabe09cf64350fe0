//! The way to one client: replies to what it asks, and questions about memory that only it can reach.
//!
//! A client may map memory without a descriptor. The function's engines then reach it by `DMA_READ` and `DMA_WRITE`
//! messages, which go the other way over the same socket. The connection's own thread reads all that the client sends and
//! hands the answers over here to the engine that waits. So a function must not do DMA in the thread that calls its
//! `read` or `write`: that may be the thread which would have to bring the answer.

use std::io::IoSlice;
use std::num::NonZero;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jitney_host::{Process, Root};
use jitney_memory::{PeerCredentials, descriptors};
use jitney_vfio_user::{
    Command, DecodeError, DmaAccess, DmaRequest, Header, MAX_DATA_XFER_SIZE, Message, ReplyError,
};
use rustix::event::{PollFd, PollFlags, Timespec};

/// Why a client did not read or write its memory for us.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The connection has ended.
    #[error("its connection has ended")]
    Closed,
    /// No answer came.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// It refused.
    #[error(transparent)]
    Refused(#[from] ReplyError),
    /// The answer does not make sense.
    #[error(transparent)]
    Nonsense(#[from] DecodeError),
    /// The answer is about fewer bytes than were asked for.
    #[error("it did {done} of {asked} bytes")]
    Partly {
        /// Bytes done.
        done: usize,
        /// Bytes asked for.
        asked: usize,
    },
    /// The question could not be sent.
    #[error(transparent)]
    Send(#[from] jitney_memory::Error),
}

/// The answer to a question: the whole message.
type Answer = (Header, Vec<u8>);

#[derive(Debug, Default)]
struct Questions {
    closed: bool,
    next: u16,
    /// Each question that is waited for, and its answer once it is there.
    open: Vec<(u16, Option<Answer>)>,
}

/// One client's connection, as all threads may use it.
#[derive(Debug)]
pub(crate) struct Link {
    socket: UnixStream,
    /// Held while a message is written, so that two never mix.
    sending: Mutex<()>,
    questions: Mutex<Questions>,
    answered: Condvar,
    /// Most bytes that the client takes in one question.
    limit: AtomicU32,
    patience: Duration,
    /// Who it is, for messages.
    client: String,
}

impl Link {
    /// A connection whose client has `patience` long to take a message or give an answer.
    pub(crate) fn new(socket: UnixStream, patience: Duration) -> std::io::Result<Self> {
        // Without a limit a client that does not read would hold the engines, and this server's end, for ever.
        socket.set_write_timeout(Some(patience))?;
        let client = name(&socket);
        Ok(Self {
            socket,
            sending: Mutex::new(()),
            questions: Mutex::new(Questions::default()),
            answered: Condvar::new(),
            limit: AtomicU32::new(MAX_DATA_XFER_SIZE),
            patience,
            client,
        })
    }

    fn questions(&self) -> MutexGuard<'_, Questions> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is at the other end, or was when it connected: its process.
    pub(crate) fn client(&self) -> &str {
        &self.client
    }

    /// How long the client has to do what is waited for.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// The connection's own end, to read from.
    pub(crate) fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Sets how many bytes the client takes in one question: what it said, at most the protocol's default.
    pub(crate) fn set_limit(&self, limit: u32) {
        self.limit.store(limit.min(MAX_DATA_XFER_SIZE), Ordering::Relaxed);
    }

    /// Sends one message, in one piece: QEMU takes a header that comes in two for an error.
    pub(crate) fn send(
        &self,
        message: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), jitney_memory::Error> {
        let _alone = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        descriptors::send_all(&self.socket, &[IoSlice::new(message)], descriptors)
    }

    /// Reads the client's memory at `iova`.
    pub(crate) fn read(&self, iova: u64, bytes: &mut [u8]) -> Result<(), LinkError> {
        let mut address = iova;
        for part in bytes.chunks_mut(self.most()) {
            let access = DmaAccess { address, count: count(part) };
            let (_, body) = self.ask(DmaRequest::Read(access))?;
            let data = access.data(&body)?;
            if data.len() != part.len() {
                return Err(LinkError::Partly { done: data.len(), asked: part.len() });
            }
            part.copy_from_slice(data);
            address = address.wrapping_add(part.len() as u64);
        }
        Ok(())
    }

    /// Writes the client's memory at `iova`; it has arrived when this returns.
    pub(crate) fn write(&self, iova: u64, bytes: &[u8]) -> Result<(), LinkError> {
        let mut address = iova;
        for part in bytes.chunks(self.most()) {
            let (_, body) = self.ask(DmaRequest::Write { address, data: part })?;
            let done = DmaAccess { address, count: count(part) }.written(&body)?;
            if done != count(part) {
                return Err(LinkError::Partly { done: done as usize, asked: part.len() });
            }
            address = address.wrapping_add(part.len() as u64);
        }
        Ok(())
    }

    fn most(&self) -> usize {
        (self.limit.load(Ordering::Relaxed) as usize).max(1)
    }

    /// Asks the client, and waits for its answer.
    fn ask(&self, question: DmaRequest<'_>) -> Result<Answer, LinkError> {
        let id = {
            let mut questions = self.questions();
            if questions.closed {
                return Err(LinkError::Closed);
            }
            let id = questions.next;
            questions.next = id.wrapping_add(1);
            questions.open.push((id, None));
            id
        };
        let mut message = Vec::new();
        question.encode(id, &mut message);
        let answer = match self.send(&message, &[]) {
            Ok(()) => self.wait(id),
            Err(error) => {
                // Part of the message may have gone: the client cannot make sense of what follows.
                self.close();
                Err(error.into())
            }
        };
        self.questions().open.retain(|(open, _)| *open != id);
        let (header, body) = answer?;
        header.check_reply(id, question.command())?;
        Ok((header, body))
    }

    fn wait(&self, id: u16) -> Result<Answer, LinkError> {
        let deadline = Instant::now() + self.patience;
        let mut questions = self.questions();
        loop {
            let open = questions.open.iter_mut().find(|(open, _)| *open == id);
            if let Some(answer) = open.and_then(|(_, answer)| answer.take()) {
                return Ok(answer);
            }
            if questions.closed {
                return Err(LinkError::Closed);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(LinkError::TimedOut(self.patience));
            }
            (questions, _) =
                self.answered.wait_timeout(questions, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes a reply of the client to whoever waits for it. One that nobody waits for any more is dropped.
    pub(crate) fn answer(&self, message: Message<'_>) {
        let mut questions = self.questions();
        let open =
            questions.open.iter_mut().find(|(id, answer)| *id == message.header.id && answer.is_none());
        match open {
            Some((_, answer)) => {
                *answer = Some((message.header, message.body.to_vec()));
                self.answered.notify_all();
            }
            None => tracing::debug!(
                "a reply to nothing: message {}, {:?}",
                message.header.id,
                Command::from_number(message.header.command)
            ),
        }
    }

    /// Ends the connection; whoever waits for an answer gets an error.
    pub(crate) fn close(&self) {
        self.questions().closed = true;
        self.answered.notify_all();
        // The only failure is that it is closed already.
        let _ended = self.socket.shutdown(std::net::Shutdown::Both);
    }

    /// Whether the client is gone, seen or not yet seen by the connection's thread.
    pub(crate) fn hung_up(&self) -> bool {
        let mut poll = [PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::RDHUP)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut poll, Some(&now)).is_ok_and(|ready| ready > 0)
    }
}

/// The process that connected, as far as it can be seen from here.
fn name(socket: &UnixStream) -> String {
    let pid = PeerCredentials::of(socket).ok().and_then(|peer| peer.pid).map(NonZero::get);
    match (pid, pid.and_then(|pid| Process::of(&Root::default(), pid))) {
        (_, Some(process)) => process.to_string(),
        (Some(pid), None) => format!("pid {pid}"),
        (None, None) => "a process that has no number here".into(),
    }
}

/// Length of a part, which never exceeds the limit of 1 MiB.
fn count(part: &[u8]) -> u32 {
    u32::try_from(part.len()).unwrap_or(u32::MAX)
}
