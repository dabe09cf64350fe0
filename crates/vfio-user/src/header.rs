//! The 16 bytes before every message.

use bitfield_struct::bitfield;

use crate::fields::PutFields;
use crate::{Command, ReplyError};

/// The `flags` of a header (section "Header"). Reserved bits are kept as they came.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct HeaderFlags {
    /// 0 for a command, 1 for a reply.
    #[bits(4)]
    pub kind: u8,
    /// In a command: it must not be answered, not even with an error.
    pub no_reply: bool,
    /// In a reply: the command failed, and `error` may say why.
    pub error: bool,
    #[bits(26)]
    reserved: u32,
}

impl HeaderFlags {
    /// The kind of a command.
    pub const COMMAND: u8 = 0;
    /// The kind of a reply.
    pub const REPLY: u8 = 1;
}

/// What stands before every message (section "Header").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Chosen by the sender of the command and repeated in the reply.
    pub id: u16,
    /// The number of the [`Command`]; a peer may send one that does not exist.
    pub command: u16,
    /// Bytes of the whole message, this header included.
    pub size: u32,
    /// Command or reply, and whether a reply is wanted or tells of a failure.
    pub flags: HeaderFlags,
    /// In a reply with the error flag, a Linux errno or 0; otherwise reserved.
    pub error: u32,
}

impl Header {
    /// Bytes of a header.
    pub const SIZE: usize = 16;

    /// Reads a header. Any bytes are one; [`Frames`](crate::Frames) checks the size it announces.
    #[must_use]
    pub const fn decode(bytes: &[u8; Self::SIZE]) -> Self {
        let [i0, i1, c0, c1, s0, s1, s2, s3, f0, f1, f2, f3, e0, e1, e2, e3] = *bytes;
        Self {
            id: u16::from_ne_bytes([i0, i1]),
            command: u16::from_ne_bytes([c0, c1]),
            size: u32::from_ne_bytes([s0, s1, s2, s3]),
            flags: HeaderFlags::from_bits(u32::from_ne_bytes([f0, f1, f2, f3])),
            error: u32::from_ne_bytes([e0, e1, e2, e3]),
        }
    }

    /// Appends the header to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u16(self.id);
        out.put_u16(self.command);
        out.put_u32(self.size);
        out.put_u32(self.flags.into_bits());
        out.put_u32(self.error);
    }

    /// True for a command, false for a reply and for the types that the specification does not know.
    #[must_use]
    pub const fn is_command(&self) -> bool {
        self.flags.kind() == HeaderFlags::COMMAND
    }

    /// True for a reply.
    #[must_use]
    pub const fn is_reply(&self) -> bool {
        self.flags.kind() == HeaderFlags::REPLY
    }

    /// Whether this command may be answered. QEMU breaks the connection when a posted write is, be it with an error.
    #[must_use]
    pub const fn wants_reply(&self) -> bool {
        self.is_command() && !self.flags.no_reply()
    }

    /// Checks that this is the reply to message `id`, which was `command`, and that it is no refusal.
    ///
    /// # Errors
    ///
    /// [`ReplyError::Refused`] with the peer's errno if the command failed there; the others mean that the two sides no
    /// longer agree on what is being answered, and the connection is of no use any more.
    pub fn check_reply(&self, id: u16, command: Command) -> Result<(), ReplyError> {
        if !self.is_reply() {
            return Err(ReplyError::NotAReply { command, kind: self.flags.kind() });
        }
        if self.id != id || self.command != command.number() {
            return Err(ReplyError::Mismatch { command, expected: id, id: self.id, number: self.command });
        }
        if self.flags.error() {
            return Err(ReplyError::Refused { command, errno: self.error });
        }
        Ok(())
    }

    /// The header of a command; the size is filled in by [`append`].
    pub(crate) const fn for_command(id: u16, command: Command, no_reply: bool) -> Self {
        let flags = HeaderFlags::new().with_kind(HeaderFlags::COMMAND).with_no_reply(no_reply);
        Self { id, command: command.number(), size: 0, flags, error: 0 }
    }

    /// The header of the reply to this command; the size is filled in by [`append`].
    pub(crate) const fn for_reply(&self) -> Self {
        let flags = HeaderFlags::new().with_kind(HeaderFlags::REPLY);
        Self { id: self.id, command: self.command, size: 0, flags, error: 0 }
    }
}

/// Appends a message: the header, what `body` appends, and then the size of both in the header.
///
/// A message beyond 4 GiB, which nothing here builds, would announce `u32::MAX` and be refused by any peer.
pub(crate) fn append(header: Header, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    header.encode(out);
    body(out);
    let size = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start + 4..start + 8].copy_from_slice(&size.to_ne_bytes());
}
