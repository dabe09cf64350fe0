//! The first message of a connection: versions and capabilities.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::fields::{Fields, PutFields};
use crate::{Command, DecodeError, MAX_DATA_XFER_SIZE, MAX_MESSAGE_FDS};

/// A version of the protocol and what its sender can do (section "`VFIO_USER_VERSION`"); the same in request and reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Both sides must have the same.
    pub major: u16,
    /// Both sides use the lower one.
    pub minor: u16,
    /// The sender's limits.
    pub capabilities: Capabilities,
}

/// The limits and abilities of one side. [`Default`] is what the specification has a peer assume that says nothing.
///
/// The limits are the sender's own: both sides say what they take, and each keeps to what the other said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// Most descriptors the sender takes beside one message. QEMU refuses more than 16.
    #[serde(deserialize_with = "saturating")]
    pub max_msg_fds: u32,
    /// Most bytes the sender takes in one transfer.
    #[serde(deserialize_with = "saturating")]
    pub max_data_xfer_size: u32,
    /// Most mappings of memory at one time. QEMU refuses more than 65535.
    #[serde(deserialize_with = "saturating")]
    pub max_dma_maps: u32,
    /// Page sizes in which memory may be mapped, or'ed together, in bytes.
    pub pgsizes: u64,
    /// A second socket for what the server asks of the client.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "optional_object")]
    pub twin_socket: Option<TwinSocket>,
    /// Whether `REGION_WRITE_MULTI` is understood.
    #[serde(skip_serializing_if = "is_false")]
    pub write_multiple: bool,
}

/// The second socket, on which the server asks and the client answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TwinSocket {
    /// Proposed by the client, or set up by the server.
    pub supported: bool,
    /// In a reply: which of the descriptors beside it is the client's end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fd_index: Option<u32>,
}

/// What stands around the capabilities.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct VersionData {
    #[serde(deserialize_with = "object")]
    capabilities: Capabilities,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            max_msg_fds: 1,
            max_data_xfer_size: MAX_DATA_XFER_SIZE,
            max_dma_maps: 65535,
            pgsizes: 4096,
            twin_socket: None,
            write_multiple: false,
        }
    }
}

impl Capabilities {
    /// All that this crate can take: like the default, with [`MAX_MESSAGE_FDS`] descriptors beside a message.
    #[must_use]
    pub fn ours() -> Self {
        Self { max_msg_fds: MAX_MESSAGE_FDS, ..Self::default() }
    }
}

impl Version {
    /// The version of the specification that this crate follows, 0.1, with [`Capabilities::ours`].
    #[must_use]
    pub fn ours() -> Self {
        Self { major: 0, minor: 1, capabilities: Capabilities::ours() }
    }

    /// What a server that offers `self` answers to a client that proposed `proposed`: the lower of both minor versions,
    /// and of the optional abilities those that both have.
    ///
    /// QEMU 11.1 proposes 0.0 and breaks the connection when the answer is 0.1. The twin socket is dropped from the
    /// answer unless both name it; a server that sets one up fills in `fd_index`.
    ///
    /// # Errors
    ///
    /// The major versions differ; then the server closes the connection.
    pub fn answer(&self, proposed: &Self) -> Result<Self, DecodeError> {
        self.same_major(proposed)?;
        let (mine, theirs) = (self.capabilities, proposed.capabilities);
        let twin = theirs.twin_socket.is_some_and(|twin| twin.supported);
        Ok(Self {
            major: self.major,
            minor: self.minor.min(proposed.minor),
            capabilities: Capabilities {
                twin_socket: mine.twin_socket.filter(|_| twin),
                write_multiple: mine.write_multiple && theirs.write_multiple,
                ..mine
            },
        })
    }

    /// Checks, on the client's side, that `answer` is a version that may follow the proposal `self`.
    ///
    /// # Errors
    ///
    /// The major version differs or the minor one is higher than proposed; then the client closes the connection.
    pub fn accept(&self, answer: &Self) -> Result<(), DecodeError> {
        self.same_major(answer)?;
        if answer.minor > self.minor {
            return Err(value("minor", answer.minor, "higher than proposed"));
        }
        Ok(())
    }

    fn same_major(&self, other: &Self) -> Result<(), DecodeError> {
        if self.major != other.major {
            return Err(value("major", other.major, "not a major version this side knows"));
        }
        Ok(())
    }

    /// Reads the body of a request or a reply.
    ///
    /// The capabilities are optional as a whole and one by one, and names this crate does not know are passed over.
    ///
    /// # Errors
    ///
    /// The body is shorter than the two numbers, or the capabilities are no JSON of the specified types that ends with a
    /// NUL.
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::new(Command::Version, body);
        let major = fields.u16("major")?;
        let minor = fields.u16("minor")?;
        let rest = fields.rest();
        let data = match rest.iter().position(|byte| *byte == 0) {
            // QEMU may send no capabilities, not even their NUL.
            None if rest.is_empty() => VersionData::default(),
            Some(0) => VersionData::default(),
            None => return Err(DecodeError::Capabilities { reason: "no NUL ends them".into() }),
            Some(end) => serde_json::from_slice(&rest[..end])
                .map(|Object(data)| data)
                .map_err(|error| DecodeError::Capabilities { reason: error.to_string() })?,
        };
        Ok(Self { major, minor, capabilities: data.capabilities })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_u16(self.major);
        out.put_u16(self.minor);
        // Writing numbers and booleans to memory cannot fail; were it to, no capabilities would be sent at all, which
        // is a valid message too.
        let json = serde_json::to_vec(&VersionData { capabilities: self.capabilities }).unwrap_or_default();
        out.extend_from_slice(&json);
        out.push(0);
    }
}

fn value(field: &'static str, value: u16, reason: &'static str) -> DecodeError {
    DecodeError::Value { command: Command::Version, field, value: value.into(), reason }
}

/// What JSON has in braces. serde takes a list for a structure as well, of its fields in order.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Braces<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Braces<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(Braces(PhantomData)).map(Self)
    }
}

fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|Object(value)| value)
}

fn optional_object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Option::<Object<T>>::deserialize(deserializer).map(|object| object.map(|Object(value)| value))
}

/// A limit beyond 32 bits limits nothing here.
fn saturating<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    u64::deserialize(deserializer).map(|limit| u32::try_from(limit).unwrap_or(u32::MAX))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}
