//! The bodies of messages: postcard's encoding, as docs/protocol.md describes it.

use anyhow::{Context, bail};

/// Puts a body together.
#[derive(Debug, Default, Clone)]
pub(crate) struct Body(Vec<u8>);

impl Body {
    pub(crate) fn bytes(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    /// An integer of more than 8 bits, and the index of a variant.
    pub(crate) fn varint(mut self, mut value: u64) -> Self {
        loop {
            let low = value.to_le_bytes()[0] & 0x7f;
            value >>= 7;
            if value == 0 {
                self.0.push(low);
                return self;
            }
            self.0.push(low | 0x80);
        }
    }

    pub(crate) fn bool(self, value: bool) -> Self {
        self.u8(value.into())
    }

    pub(crate) fn string(mut self, text: &str) -> Self {
        self = self.varint(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    pub(crate) fn option(self, value: Option<u64>) -> Self {
        match value {
            Some(value) => self.u8(1).varint(value),
            None => self.u8(0),
        }
    }

    pub(crate) fn list<T>(mut self, items: &[T], put: impl Fn(Self, &T) -> Self) -> Self {
        self = self.varint(items.len() as u64);
        items.iter().fold(self, put)
    }
}

/// Takes a body apart. What is read is checked only as far as this program relies on it.
#[derive(Debug)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn u8(&mut self) -> anyhow::Result<u8> {
        let (first, rest) = self.0.split_first().context("a reply is too short")?;
        self.0 = rest;
        Ok(*first)
    }

    pub(crate) fn varint(&mut self) -> anyhow::Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        bail!("a reply has a number of more than 64 bits")
    }

    pub(crate) fn u32(&mut self) -> anyhow::Result<u32> {
        u32::try_from(self.varint()?).context("a reply has a number of more than 32 bits")
    }

    pub(crate) fn bool(&mut self) -> anyhow::Result<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => bail!("a reply has a bool of {other}"),
        }
    }

    pub(crate) fn bytes(&mut self) -> anyhow::Result<&'a [u8]> {
        let length = usize::try_from(self.varint()?)?;
        let (bytes, rest) = self.0.split_at_checked(length).context("a reply is too short for its text")?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn string(&mut self) -> anyhow::Result<String> {
        Ok(std::str::from_utf8(self.bytes()?).context("a text is not UTF-8")?.to_owned())
    }

    pub(crate) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> anyhow::Result<T>,
    ) -> anyhow::Result<Option<T>> {
        self.bool()?.then(|| read(self)).transpose()
    }

    pub(crate) fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> anyhow::Result<T>,
    ) -> anyhow::Result<Vec<T>> {
        let count = self.varint()?;
        // Each entry has at least a byte, so a count that lies ends soon.
        (0..count).map(|_| read(self)).collect()
    }

    /// A signed integer: zigzag.
    pub(crate) fn signed(&mut self) -> anyhow::Result<i64> {
        let raw = self.varint()?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    pub(crate) fn end(&self) -> anyhow::Result<()> {
        if self.0.is_empty() { Ok(()) } else { bail!("a reply has {} bytes too many", self.0.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_long_as_they_have_to_be() {
        assert_eq!(Body::default().varint(0x7f).bytes(), [0x7f]);
        assert_eq!(Body::default().varint(0x80).bytes(), [0x80, 1]);
        for value in [0, 1, 127, 128, 16383, 16384, u64::from(u32::MAX), u64::MAX] {
            let bytes = Body::default().varint(value).bytes();
            let mut fields = Fields(&bytes);
            assert_eq!(fields.varint().unwrap(), value);
            fields.end().unwrap();
        }
        assert!(Fields(&[0x80; 11]).varint().is_err());
    }

    #[test]
    fn signed_numbers_are_zigzag() {
        for (raw, value) in [(0, 0), (1, -1), (2, 1), (3, -2), (34, 17)] {
            let bytes = Body::default().varint(raw).bytes();
            assert_eq!(Fields(&bytes).signed().unwrap(), value);
        }
    }

    #[test]
    fn texts_options_and_lists() {
        let bytes = Body::default()
            .string("h2c0")
            .option(None)
            .option(Some(300))
            .list(&[1, 2], |body, item| body.varint(*item))
            .bytes();
        let mut fields = Fields(&bytes);
        assert_eq!(fields.string().unwrap(), "h2c0");
        assert_eq!(fields.option(Fields::varint).unwrap(), None);
        assert_eq!(fields.option(Fields::varint).unwrap(), Some(300));
        assert_eq!(fields.list(Fields::varint).unwrap(), [1, 2]);
        fields.end().unwrap();
    }
}
