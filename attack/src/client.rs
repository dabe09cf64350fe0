//! A connection to the broker that says whatever it is told to say.

use crate::protocol::{self, Heard, Kind, Refusal, Reply, Request, Step};
use anyhow::{Context, anyhow, bail};
use jitney_memory::descriptors::{self, Wait};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with,
};
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// How long the broker may take to answer anything before that is a break of its promise.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) socket: OwnedFd,
    next: u64,
    buffer: Vec<u8>,
}

/// An answer with the descriptors beside it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) reply: Reply,
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// A DMA buffer.
#[derive(Debug)]
pub(crate) struct Buffer {
    pub(crate) memory: OwnedFd,
    pub(crate) iova: u64,
    pub(crate) size: u64,
}

impl Client {
    /// A connection on which nothing was said yet.
    pub(crate) fn connect(path: &Path) -> anyhow::Result<Self> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .context("a socket")?;
        let address = SocketAddrUnix::new(path).context("the broker's socket")?;
        connect(&socket, &address).with_context(|| format!("connecting to {}", path.display()))?;
        Self::over(socket)
    }

    pub(crate) fn over(socket: OwnedFd) -> anyhow::Result<Self> {
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_LIMIT)).context("SO_RCVTIMEO")?;
        Ok(Self { socket, next: 1, buffer: vec![0; protocol::MAX_MESSAGE] })
    }

    /// A connection that was welcomed.
    pub(crate) fn welcome(path: &Path, program: &str) -> anyhow::Result<Self> {
        let mut client = Self::connect(path)?;
        client.hello(program)?;
        Ok(client)
    }

    pub(crate) fn hello(&mut self, program: &str) -> anyhow::Result<u32> {
        match self.ask(&Request::hello(program))?.reply {
            Reply::Welcome { pid } => Ok(pid),
            other => bail!("Hello was answered with {other:?}"),
        }
    }

    /// Sends a request and does not wait for its reply, whose number it returns.
    pub(crate) fn post(&mut self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> anyhow::Result<u64> {
        let number = self.next;
        self.next += 1;
        self.say(&request.encode(number), descriptors).with_context(|| format!("saying {request:?}"))?;
        Ok(number)
    }

    /// Sends any bytes.
    pub(crate) fn say(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> anyhow::Result<()> {
        if descriptors.is_empty() {
            // An empty message, too, can be sent.
            send(&self.socket, bytes, SendFlags::NOSIGNAL).map_err(|errno| anyhow!(errno))?;
        } else {
            descriptors::send(&self.socket, &[IoSlice::new(bytes)], descriptors, Wait::Block)?;
        }
        Ok(())
    }

    /// The next message, or nothing if the broker has hung up.
    pub(crate) fn hear(&mut self) -> anyhow::Result<Option<(Heard, Vec<OwnedFd>)>> {
        let mut received = descriptors::receive(&self.socket, &mut self.buffer, 1, Wait::Block);
        // The kernel tells of a peer that hung up on what it had not read before it tells of that peer's last word.
        if received.as_ref().is_err_and(jitney_memory::Error::peer_gone)
            && let Ok(last) = descriptors::receive(&self.socket, &mut self.buffer, 1, Wait::Never)
        {
            received = Ok(last);
        }
        let received = match received {
            Ok(received) => received,
            Err(error) if error.peer_gone() => return Ok(None),
            Err(error) if error.would_block() => {
                bail!("the broker has not answered for {} s", ANSWER_LIMIT.as_secs())
            }
            Err(error) => return Err(error.into()),
        };
        if received.len == 0 {
            return Ok(None);
        }
        Ok(Some((protocol::decode(&self.buffer[..received.len])?, received.descriptors)))
    }

    /// The answer to the request of that number; others and notices are passed over.
    pub(crate) fn answer(&mut self, wanted: u64) -> anyhow::Result<Answer> {
        loop {
            match self.hear()?.context("the broker has hung up")? {
                (Heard::Reply { number, reply }, descriptors) if number == wanted => {
                    return Ok(Answer { reply, descriptors });
                }
                (Heard::Refused { number, refusal }, _) if number == wanted || number == 0 => {
                    return Err(refusal.into());
                }
                _ => {}
            }
        }
    }

    pub(crate) fn ask(&mut self, request: &Request) -> anyhow::Result<Answer> {
        let number = self.post(request, &[])?;
        self.answer(number).with_context(|| format!("{request:?}"))
    }

    /// Asks for something whose answer says nothing but that it is done.
    pub(crate) fn done(&mut self, request: &Request) -> anyhow::Result<()> {
        match self.ask(request)?.reply {
            Reply::Done => Ok(()),
            other => bail!("{request:?} was answered with {other:?}"),
        }
    }

    /// The cards: id and address.
    pub(crate) fn cards(&mut self) -> anyhow::Result<Vec<(u32, String)>> {
        let mut all: Vec<(u32, String)> = Vec::new();
        loop {
            let after = all.last().map(|(id, _)| *id);
            match self.ask(&Request::Cards { after })?.reply {
                Reply::Cards { cards, more } => {
                    if more && cards.is_empty() {
                        bail!("Cards says that there are more, and names none");
                    }
                    all.extend(cards);
                    if !more {
                        return Ok(all);
                    }
                }
                other => bail!("Cards was answered with {other:?}"),
            }
        }
    }

    pub(crate) fn users(&mut self) -> anyhow::Result<Vec<protocol::User>> {
        let mut all: Vec<protocol::User> = Vec::new();
        loop {
            let (users, more) = self.users_after(all.last().map(|user| user.client))?;
            all.extend(users);
            if !more {
                return Ok(all);
            }
        }
    }

    /// One answer's users, and whether there are more.
    pub(crate) fn users_after(&mut self, after: Option<u64>) -> anyhow::Result<(Vec<protocol::User>, bool)> {
        match self.ask(&Request::Usage { after })?.reply {
            Reply::Usage { users, more } => {
                if more && users.is_empty() {
                    bail!("Usage says that there are more, and names none");
                }
                Ok((users, more))
            }
            other => bail!("Usage was answered with {other:?}"),
        }
    }

    /// Opens a card; the grant is a socket on which nothing was said yet.
    pub(crate) fn open(&mut self, card: u32) -> anyhow::Result<OwnedFd> {
        let answer = self.ask(&Request::Open { card })?;
        match (answer.reply, <[OwnedFd; 1]>::try_from(answer.descriptors)) {
            (Reply::Opened { kind: 1 }, Ok([grant])) => Ok(grant),
            (other, descriptors) => bail!("Open was answered with {other:?}, {descriptors:?}"),
        }
    }

    pub(crate) fn allocate(&mut self, card: u32, size: u64) -> anyhow::Result<Buffer> {
        let answer = self.ask(&Request::allocate(card, size))?;
        match (answer.reply, <[OwnedFd; 1]>::try_from(answer.descriptors)) {
            (Reply::Allocated { iova, size }, Ok([memory])) => Ok(Buffer { memory, iova, size }),
            (other, descriptors) => bail!("Allocate was answered with {other:?}, {descriptors:?}"),
        }
    }

    pub(crate) fn lease(&mut self, card: u32, part: &str, will: &[Step]) -> anyhow::Result<u64> {
        match self.ask(&Request::lease(card, part, will))?.reply {
            Reply::Leased { lease } => Ok(lease),
            other => bail!("Lease was answered with {other:?}"),
        }
    }

    pub(crate) fn wire(&mut self, card: u32, vector: u16, event: impl AsFd) -> anyhow::Result<()> {
        let number = self.post(&Request::Wire { card, vector }, &[event.as_fd()])?;
        match self.answer(number).context("Wire")?.reply {
            Reply::Done => Ok(()),
            other => bail!("Wire was answered with {other:?}"),
        }
    }
}

/// The broker's refusal in an error, if that is what it is.
pub(crate) fn refusal(error: &anyhow::Error) -> Option<&Refusal> {
    error.chain().find_map(|cause| cause.downcast_ref())
}

/// Whether an error is a refusal of that kind.
pub(crate) fn is_refused(error: &anyhow::Error, kind: Kind) -> bool {
    refusal(error).is_some_and(|refusal| refusal.kind == kind)
}
