//! Reading the fields of a body one after the other, with an error that names the field.

use crate::{Command, DecodeError, MAX_DATA_XFER_SIZE};

/// A body and how far it has been read.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    command: Command,
    body: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(command: Command, body: &'a [u8]) -> Self {
        Self { command, body, at: 0 }
    }

    /// The same body from byte `at` on; a position beyond the end shows at the next read.
    pub(crate) fn at(self, at: usize) -> Self {
        Self { at, ..self }
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        match self.body.get(self.at..).and_then(|rest| rest.first_chunk()) {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => Err(self.short(field, N as u64)),
        }
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_ne_bytes)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_ne_bytes)
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_ne_bytes)
    }

    /// An `argsz` that must leave room for the fixed part of the reply (section "Message sizes").
    pub(crate) fn argsz(&mut self, fixed: u32) -> Result<u32, DecodeError> {
        let argsz = self.u32("argsz")?;
        if argsz < fixed {
            return Err(self.value("argsz", argsz, "too small for the fixed part of the reply"));
        }
        Ok(argsz)
    }

    /// The next `length` bytes; more may follow.
    pub(crate) fn bytes(&mut self, field: &'static str, length: u32) -> Result<&'a [u8], DecodeError> {
        match self.rest().split_at_checked(length as usize) {
            Some((bytes, _)) => {
                self.at += bytes.len();
                Ok(bytes)
            }
            None => Err(self.short(field, length.into())),
        }
    }

    /// The data of a transfer: all that is left, which must be `count` bytes.
    pub(crate) fn data(&mut self, count: u64) -> Result<&'a [u8], DecodeError> {
        let data = self.rest();
        if data.len() as u64 != count {
            return Err(self.value("count", count, "not the length of the data that follows"));
        }
        self.at = self.body.len();
        Ok(data)
    }

    /// A `count` that is within what one message may carry.
    pub(crate) fn transfer(&self, count: u64) -> Result<u32, DecodeError> {
        match u32::try_from(count) {
            Ok(count) if count <= MAX_DATA_XFER_SIZE => Ok(count),
            _ => Err(DecodeError::TooLarge {
                command: self.command,
                field: "count",
                value: count,
                limit: MAX_DATA_XFER_SIZE.into(),
            }),
        }
    }

    /// Refuses a range that ends beyond 2^64; ending there is allowed.
    pub(crate) fn range(&self, field: &'static str, start: u64, size: u64) -> Result<(), DecodeError> {
        if u128::from(start) + u128::from(size) > 1 << 64 {
            return Err(self.value(field, start, "the range ends beyond 2^64"));
        }
        Ok(())
    }

    pub(crate) fn value(
        &self,
        field: &'static str,
        value: impl Into<u64>,
        reason: &'static str,
    ) -> DecodeError {
        DecodeError::Value { command: self.command, field, value: value.into(), reason }
    }

    /// What has not been read.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.body.get(self.at..).unwrap_or_default()
    }

    fn short(&self, field: &'static str, length: u64) -> DecodeError {
        let needed = (self.at as u64).saturating_add(length);
        DecodeError::Short { command: self.command, field, needed, length: self.body.len() }
    }
}

/// Appends numbers in the order of the wire.
pub(crate) trait PutFields {
    fn put_u16(&mut self, value: u16);
    fn put_u32(&mut self, value: u32);
    fn put_u64(&mut self, value: u64);
}

impl PutFields for Vec<u8> {
    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_ne_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_ne_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_ne_bytes());
    }
}
