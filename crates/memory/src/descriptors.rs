//! Messages that carry descriptors, over Unix sockets of type `SOCK_STREAM` and `SOCK_SEQPACKET`.
//!
//! See `unix(7)`, `SCM_RIGHTS`. A message without descriptors costs one plain `sendmsg` or `recvmsg` and no
//! allocation.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::retry_on_intr;
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
    /// Wait, unless the socket itself is non-blocking.
    Block,
    /// Fail with `EAGAIN` ([`Error::would_block`]), whatever the socket is set to.
    Never,
}

/// A message, or part of a stream, that arrived.
#[derive(Debug)]
#[must_use]
pub struct Received {
    /// Number of bytes at the start of the buffer. Zero means that the peer has closed the connection.
    pub len: usize,
    /// The descriptors that came with them, closed on exec.
    pub descriptors: Vec<OwnedFd>,
}

/// Sends the concatenated `bytes` with `descriptors`, which the sender keeps too, and says how many bytes went.
///
/// On a stream that may be fewer than all; the descriptors have gone with the first byte, and the rest is to be
/// sent without them ([`send_all`] does so). On `SOCK_SEQPACKET` it is always the whole message. An empty message
/// must not be sent: the receiver could not tell it from the end.
///
/// # Errors
/// Descriptors without a byte or more than [`MAX_DESCRIPTORS`]; `EAGAIN` with [`Wait::Never`]; `EPIPE` or
/// `ECONNRESET` if the peer is gone ([`Error::peer_gone`]; never SIGPIPE); what else `sendmsg` answers.
pub fn send(
    socket: impl AsFd,
    bytes: &[IoSlice<'_>],
    descriptors: &[BorrowedFd<'_>],
    wait: Wait,
) -> Result<usize> {
    let flags = match wait {
        Wait::Block => SendFlags::NOSIGNAL,
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
    retry_on_intr(|| rustix::net::sendmsg(&socket, bytes, &mut control, flags))
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
/// A packet longer than the buffer, or more descriptors than allowed: the peer does not keep to the protocol, what
/// it sent is lost, and all descriptors that came are closed. `EAGAIN` with [`Wait::Never`]; what else `recvmsg`
/// answers.
///
/// # Panics
/// If `max_descriptors` exceeds [`MAX_DESCRIPTORS`] or the buffer is empty: both are the caller's own constants.
pub fn receive(socket: impl AsFd, buffer: &mut [u8], max_descriptors: usize, wait: Wait) -> Result<Received> {
    assert!(max_descriptors <= MAX_DESCRIPTORS, "no message can carry {max_descriptors} descriptors");
    assert!(!buffer.is_empty(), "an empty buffer cannot tell a message from the end of the connection");
    let capacity = buffer.len();
    let flags = match wait {
        Wait::Block => RecvFlags::CMSG_CLOEXEC,
        Wait::Never => RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    };
    let control_len = if max_descriptors == 0 { 0 } else { rustix::cmsg_space!(ScmRights(max_descriptors)) };
    let mut space = [MaybeUninit::uninit(); CONTROL_SPACE];
    let mut control = RecvAncillaryBuffer::new(&mut space[..control_len]);
    let message =
        retry_on_intr(|| rustix::net::recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, flags))
            .map_err(|errno| Error::system("recvmsg", "from a peer", errno))?;

    let mut descriptors = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            descriptors.extend(received);
        }
    }
    // The control buffer is rounded up and may hold more than was asked for.
    if message.flags.contains(ReturnFlags::CTRUNC) || descriptors.len() > max_descriptors {
        return Err(Error::DescriptorsTruncated { allowed: max_descriptors });
    }
    if message.flags.contains(ReturnFlags::TRUNC) {
        return Err(Error::MessageTruncated { capacity });
    }
    Ok(Received { len: message.bytes, descriptors })
}

/// Fills `buffer` from a stream, collecting at most `max_descriptors` descriptors on the way, and returns them;
/// `None` if the peer closed the connection before the first byte.
///
/// # Errors
/// As [`receive`], and [`Error::Closed`] if the peer closes the connection within the message.
///
/// # Panics
/// If `max_descriptors` exceeds [`MAX_DESCRIPTORS`].
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
