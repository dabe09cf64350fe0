//! Whole messages out of a stream of bytes.

use crate::{Header, MAX_MESSAGE_SIZE};

/// Most bytes of room made ahead of what has arrived: a peer that announces a large message and sends nothing costs
/// no more than this.
const CHUNK: usize = 64 << 10;

/// A header that announces a size no message has. Nothing after it in the stream can be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Smaller than the header itself.
    #[error("message {id}, command {command}: its size is {size} bytes, less than its header has")]
    Undersized {
        /// The message's identifier.
        id: u16,
        /// The message's command number.
        command: u16,
        /// The announced size in bytes.
        size: u32,
    },
    /// Larger than this side accepts.
    #[error("message {id}, command {command}: its size is {size} bytes, the limit is {limit}")]
    Oversized {
        /// The message's identifier.
        id: u16,
        /// The message's command number.
        command: u16,
        /// The announced size in bytes.
        size: u32,
        /// The limit in bytes.
        limit: u32,
    },
}

/// One whole message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// The header; its size is right.
    pub header: Header,
    /// What follows the header.
    pub body: &'a [u8],
}

/// Cuts a stream into messages.
///
/// Bytes go in as they arrive, by [`push`](Self::push) or, without a copy, by [`space`](Self::space) and
/// [`filled`](Self::filled); messages come out of [`next_message`](Self::next_message). A header that announces an
/// impossible size is an error from then on, and no memory is set aside for what it announced.
///
/// Descriptors arrive beside the first byte of their message, and one read of a stream socket may return the end of
/// one message and the beginning of the next. Whoever receives descriptors reads no more than
/// [`missing`](Self::missing) bytes at a time: then those that came belong to the message being put together.
#[derive(Debug)]
pub struct Frames {
    buffer: Vec<u8>,
    /// First byte not handed out yet.
    start: usize,
    /// End of what has arrived; the rest of the buffer is room.
    end: usize,
    limit: u32,
}

impl Default for Frames {
    fn default() -> Self {
        Self::new()
    }
}

impl Frames {
    /// Accepts messages up to [`MAX_MESSAGE_SIZE`].
    #[must_use]
    pub const fn new() -> Self {
        Self::with_limit(MAX_MESSAGE_SIZE)
    }

    /// Accepts messages up to `limit` bytes, their header included.
    #[must_use]
    pub const fn with_limit(limit: u32) -> Self {
        Self { buffer: Vec::new(), start: 0, end: 0, limit }
    }

    /// Adds bytes that have arrived.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.room(bytes.len().min(CHUNK));
            let (now, later) = bytes.split_at(room.len());
            room.copy_from_slice(now);
            self.filled(now.len());
            bytes = later;
        }
    }

    /// Room for the [`missing`](Self::missing) bytes of the current message, or for the first 64 KiB of them.
    ///
    /// Empty if a whole message is waiting, or an error: take that first.
    pub fn space(&mut self) -> &mut [u8] {
        self.room(self.missing().min(CHUNK))
    }

    /// Says that `count` bytes have been put at the beginning of the last [`space`](Self::space). What is more than its
    /// length does not count.
    pub fn filled(&mut self, count: usize) {
        self.end = self.end.saturating_add(count).min(self.buffer.len());
    }

    /// Bytes needed to complete the current message, or its header while that is incomplete; 0 if a message or an error
    /// is waiting.
    #[must_use]
    pub fn missing(&self) -> usize {
        let have = self.end - self.start;
        match self.header() {
            None => Header::SIZE - have,
            Some(header) if self.check(&header).is_err() => 0,
            Some(header) => (header.size as usize).saturating_sub(have),
        }
    }

    /// True if part of a message has arrived: a stream that ends now was cut off.
    #[must_use]
    pub const fn is_partial(&self) -> bool {
        self.start < self.end
    }

    /// The next whole message, or `None` until more bytes have arrived.
    ///
    /// # Errors
    ///
    /// [`FrameError`] if the header announces a size below 16 or above the limit. It stays: the stream is lost.
    pub fn next_message(&mut self) -> Result<Option<Message<'_>>, FrameError> {
        let Some(header) = self.header() else { return Ok(None) };
        self.check(&header)?;
        let size = header.size as usize;
        if self.end - self.start < size {
            return Ok(None);
        }
        let message = &self.buffer[self.start..self.start + size];
        self.start += size;
        Ok(Some(Message { header, body: &message[Header::SIZE..] }))
    }

    fn header(&self) -> Option<Header> {
        self.buffer[self.start..self.end].first_chunk().map(Header::decode)
    }

    fn check(&self, header: &Header) -> Result<(), FrameError> {
        let Header { id, command, size, .. } = *header;
        if (size as usize) < Header::SIZE {
            return Err(FrameError::Undersized { id, command, size });
        }
        if size > self.limit {
            return Err(FrameError::Oversized { id, command, size, limit: self.limit });
        }
        Ok(())
    }

    /// Exactly `length` bytes of room after what has arrived.
    fn room(&mut self, length: usize) -> &mut [u8] {
        // What was handed out is forgotten here, not in `next_message`, whose result borrows from it.
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let needed = self.end + length;
        if self.buffer.len() < needed {
            self.buffer.resize(needed, 0);
        }
        &mut self.buffer[self.end..needed]
    }
}
