//! Messages that carry descriptors, over Unix sockets of type `SOCK_STREAM` and `SOCK_SEQPACKET`.
//!
//! See `unix(7)`, `SCM_RIGHTS`. A message without descriptors costs one plain `sendmsg` or `recvmsg` and no
//! allocation.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use crate::error::{Error, Result};

/// The kernel's limit of descriptors in one message (`SCM_MAX_FD` in include/net/scm.h).
pub const MAX_DESCRIPTORS: usize = 253;

const CONTROL_SPACE: usize = rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS));

/// Whether to wait when a socket is full or has nothing to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Wait, unless the socket itself is non-blocking. A signal does not end that.
    Block,
    /// The same, but fail with `EINTR` ([`Error::interrupted`]) if a signal comes whose handler does not ask for system
    /// calls to go on, so that a program can react to Ctrl-C. Nothing was sent or received then.
    Interruptible,
    /// Fail with `EAGAIN` ([`Error::would_block`]), whatever the socket is set to.
    Never,
}

/// A message, or part of a stream, that arrived.
#[derive(Debug)]
#[must_use]
pub struct Received {
    /// Number of bytes at the start of the buffer. Zero means that the peer has closed the connection.
    pub len: usize,
    /// The descriptors that came with them, closed on exec: all of them, whatever the protocol allows.
    pub descriptors: Vec<OwnedFd>,
    /// What did not arrive.
    pub missing: Option<Missing>,
}

/// What a peer sent and this process did not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The end of a packet that is longer than the buffer.
    Bytes,
    /// Some of the descriptors, because this process may not have more files open. Nobody can send more than
    /// [`MAX_DESCRIPTORS`], for which there was room.
    Descriptors,
}

impl Received {
    /// The message, if all of it came and no more than `most` descriptors with it.
    ///
    /// # Errors
    /// [`Error::MessageTruncated`] and [`Error::DescriptorsTruncated`] if the peer does not keep to a protocol that has
    /// packets of at most `capacity` bytes with `most` descriptors; `EMFILE` if this process has too many files open.
    /// The descriptors are closed before this returns. Whoever cannot wait for that, because the last close of a
    /// stranger's file may take as long as the stranger likes (`SO_LINGER`, a file system of its own), looks at the
    /// fields instead and closes them elsewhere.
    pub fn within(self, capacity: usize, most: usize) -> Result<Self> {
        if self.missing == Some(Missing::Descriptors) {
            return Err(Error::system("recvmsg", "of the descriptors that a peer sent", Errno::MFILE));
        }
        if self.descriptors.len() > most {
            return Err(Error::DescriptorsTruncated { allowed: most });
        }
        match self.missing {
            Some(_) => Err(Error::MessageTruncated { capacity }),
            None => Ok(self),
        }
    }
}

/// Sends the concatenated `bytes` with `descriptors`, which the sender keeps too, and says how many bytes went.
///
/// On a stream that may be fewer than all; the descriptors have gone with the first byte, and the rest is to be
/// sent without them ([`send_all`] does so). On `SOCK_SEQPACKET` it is always the whole message. An empty message
/// must not be sent: the receiver could not tell it from the end.
///
/// # Errors
/// Descriptors without a byte or more than [`MAX_DESCRIPTORS`]; `EAGAIN` with [`Wait::Never`], `EINTR` with
/// [`Wait::Interruptible`]; `EPIPE` or
/// `ECONNRESET` if the peer is gone ([`Error::peer_gone`]; never SIGPIPE); what else `sendmsg` answers.
pub fn send(
    socket: impl AsFd,
    bytes: &[IoSlice<'_>],
    descriptors: &[BorrowedFd<'_>],
    wait: Wait,
) -> Result<usize> {
    let flags = match wait {
        Wait::Block | Wait::Interruptible => SendFlags::NOSIGNAL,
        Wait::Never => SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
    };
    let mut space = [MaybeUninit::uninit(); CONTROL_SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        let len = bytes.iter().map(|part| part.len()).sum();
        // A stream would send nothing and report success.
        if len == 0
            || descriptors.len() > MAX_DESCRIPTORS
            || !control.push(SendAncillaryMessage::ScmRights(descriptors))
        {
            return Err(Error::Unsendable {
                descriptors: descriptors.len(),
                bytes: len,
                max: MAX_DESCRIPTORS,
            });
        }
    }
    retry(wait, || rustix::net::sendmsg(&socket, bytes, &mut control, flags))
        .map_err(|errno| Error::system("sendmsg", "to a peer", errno))
}

/// Sends all of `bytes`, the descriptors with the first of them, waiting as often as it takes.
///
/// # Errors
/// As [`send`]. After an error, part of the message may have gone: the stream is of no further use.
pub fn send_all(socket: impl AsFd, bytes: &[IoSlice<'_>], descriptors: &[BorrowedFd<'_>]) -> Result<()> {
    let total: usize = bytes.iter().map(|part| part.len()).sum();
    let mut sent = send(&socket, bytes, descriptors, Wait::Block)?;
    while sent < total {
        let mut skip = sent;
        let rest: Vec<IoSlice<'_>> = bytes
            .iter()
            .filter_map(|part| {
                let skipped = skip.min(part.len());
                skip -= skipped;
                (skipped < part.len()).then(|| IoSlice::new(&part[skipped..]))
            })
            .collect();
        sent += send(&socket, &rest, &[], Wait::Block)?;
    }
    Ok(())
}

/// Receives what is there, up to the size of `buffer` and `max_descriptors` descriptors.
///
/// On a stream that may be part of a message or, without descriptors in between, several.
///
/// # Errors
/// As [`receive_all`] and [`Received::within`]; with the latter what the peer sent is lost.
///
/// # Panics
/// If the buffer is empty, which is the caller's own constant.
pub fn receive(socket: impl AsFd, buffer: &mut [u8], max_descriptors: usize, wait: Wait) -> Result<Received> {
    receive_all(socket, buffer, wait)?.within(buffer.len(), max_descriptors)
}

/// Receives what is there, up to the size of `buffer`, with however many descriptors, for a caller to whom it matters
/// where those that do not belong are closed: none is in here. (But the kernel does close those for which this process has
/// no number left, [`Missing::Descriptors`].)
///
/// # Errors
/// `EAGAIN` with [`Wait::Never`], `EINTR` with [`Wait::Interruptible`]; what else `recvmsg` answers.
///
/// # Panics
/// If the buffer is empty, which is the caller's own constant.
pub fn receive_all(socket: impl AsFd, buffer: &mut [u8], wait: Wait) -> Result<Received> {
    assert!(!buffer.is_empty(), "an empty buffer cannot tell a message from the end of the connection");
    let flags = match wait {
        Wait::Block | Wait::Interruptible => RecvFlags::CMSG_CLOEXEC,
        Wait::Never => RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    };
    // Always room for all that can come: the kernel closes what does not fit, in this thread.
    let mut space = [MaybeUninit::uninit(); CONTROL_SPACE];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message =
        retry(wait, || rustix::net::recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, flags))
            .map_err(|errno| Error::system("recvmsg", "from a peer", errno))?;

    let mut descriptors = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            descriptors.extend(received);
        }
    }
    let missing = if message.flags.contains(ReturnFlags::CTRUNC) {
        Some(Missing::Descriptors)
    } else {
        message.flags.contains(ReturnFlags::TRUNC).then_some(Missing::Bytes)
    };
    Ok(Received { len: message.bytes, descriptors, missing })
}

fn retry<T>(wait: Wait, mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    match wait {
        Wait::Interruptible => call(),
        Wait::Block | Wait::Never => retry_on_intr(call),
    }
}

/// Looks at the next packet and leaves it where it is: how long it is, up to the size of `buffer`, and whether descriptors
/// came with it. They are neither received nor closed: `None` if there is no packet now.
///
/// # Errors
/// What `recvmsg` answers.
pub fn peek(socket: impl AsFd, buffer: &mut [u8]) -> Result<Option<(usize, bool)>> {
    // Without room for descriptors the kernel says that there are some, and drops no more than its own references.
    let mut control = RecvAncillaryBuffer::new(&mut []);
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let looked =
        retry_on_intr(|| rustix::net::recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, flags));
    match looked {
        Ok(message) => Ok(Some((message.bytes, message.flags.contains(ReturnFlags::CTRUNC)))),
        Err(rustix::io::Errno::AGAIN) => Ok(None),
        Err(errno) => Err(Error::system("recvmsg", "from a peer", errno)),
    }
}

/// Fills `buffer` from a stream, collecting at most `max_descriptors` descriptors on the way, and returns them;
/// `None` if the peer closed the connection before the first byte.
///
/// # Errors
/// As [`receive`], and [`Error::Closed`] if the peer closes the connection within the message.
pub fn receive_exact(
    socket: impl AsFd,
    buffer: &mut [u8],
    max_descriptors: usize,
) -> Result<Option<Vec<OwnedFd>>> {
    let expected = buffer.len();
    let mut descriptors = Vec::new();
    let mut received = 0;
    while received < expected {
        let allowed = max_descriptors - descriptors.len();
        let part = receive(&socket, &mut buffer[received..], allowed, Wait::Block)?;
        match (part.len, received) {
            (0, 0) => return Ok(None),
            (0, _) => return Err(Error::Closed { received, expected }),
            (len, _) => received += len,
        }
        descriptors.extend(part.descriptors);
    }
    Ok(Some(descriptors))
}
