//! The messages between a client and its broker; docs/protocol.md describes them for other languages.
//!
//! One `SOCK_SEQPACKET` datagram is one message: a header of 16 bytes and a body in the postcard encoding. A client
//! numbers its requests; every request gets exactly one reply, with the same number. Nothing here does I/O.

use jitney_vfio::{Error, ErrorKind, Identity, LeaseId, LeaseRequest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version of the protocol that this code speaks, in every message's header.
pub const VERSION: u16 = 1;
/// The largest message in bytes, header included.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// The most descriptors that one message carries.
pub const MAX_DESCRIPTORS: usize = 3;
/// The size of the header in bytes.
pub const HEADER_SIZE: usize = 16;

/// What a client asks for. The order of the variants is the wire encoding: new ones go to the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// The first request: who the client is, for people who ask who holds what. Answered by [`Reply::Welcome`].
    Hello {
        /// The client's command line, shortened.
        program: String,
    },
    /// Which cards there are. Answered by [`Reply::Cards`].
    Cards,
    /// Access to a card. Answered by [`Reply::Opened`] with three descriptors.
    Open {
        /// The card's index in [`Reply::Cards`].
        card: u32,
    },
    /// Ends what `Open` began; the client's leases on that card must have ended before. Answered by [`Reply::Done`].
    Close {
        /// The card's index.
        card: u32,
    },
    /// Memory shared with cards. Answered by [`Reply::Allocated`] with a descriptor.
    Allocate {
        /// The index of an opened card that has to reach it, and those that share its address space; without one all
        /// cards do.
        card: Option<u32>,
        /// Size in bytes.
        size: u64,
        /// Alignment of the IOVA in bytes, a power of two.
        align: u64,
        /// The highest usable IOVA.
        top: u64,
        /// Log2 of the page size: 12, 21 or 30.
        page_shift: u8,
    },
    /// Gives memory back. When the reply comes, no card reaches it any more. Answered by [`Reply::Done`].
    Free {
        /// Where it is.
        iova: u64,
    },
    /// A right on a part of an opened card. Answered by [`Reply::Leased`].
    Lease {
        /// The card's index.
        card: u32,
        /// Which part, how, and with which will.
        request: LeaseRequest,
    },
    /// Ends a lease; its will is forgotten. Answered by [`Reply::Done`].
    Release {
        /// The card's index.
        card: u32,
        /// Which lease.
        lease: LeaseId,
    },
    /// Wires an interrupt vector, on which the client has an exclusive lease, to the eventfd that comes with the
    /// request. Answered by [`Reply::Done`].
    Wire {
        /// The card's index.
        card: u32,
        /// The vector.
        vector: u16,
    },
    /// Silences a vector that the client wired. Answered by [`Reply::Done`].
    Silence {
        /// The card's index.
        card: u32,
        /// The vector.
        vector: u16,
    },
    /// Resets a card on which nobody else has a lease. Answered by [`Reply::Done`].
    Reset {
        /// The card's index.
        card: u32,
    },
    /// Who uses what. Answered by [`Reply::Usage`].
    Usage,
    /// The client goes in peace: no will is carried out. Answered by [`Reply::Done`], after which the broker closes.
    Goodbye,
}

/// What a broker answers. The order of the variants is the wire encoding: new ones go to the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// It is done.
    Done,
    /// To `Hello`.
    Welcome {
        /// The broker's process id, for people.
        broker: u32,
    },
    /// To `Cards`: the cards, in the order of their indexes.
    Cards(Vec<Identity>),
    /// To `Open`: what kind of grant comes with it, see docs/protocol.md. Two eventfds follow the grant's descriptor: one is
    /// signalled when the card is wanted back, the other when it has failed.
    Opened {
        /// The kind of grant.
        kind: u8,
    },
    /// To `Allocate`; the sealed memfd comes with it.
    Allocated {
        /// Where cards see its first byte.
        iova: u64,
        /// Its size in bytes, whole pages.
        size: u64,
    },
    /// To `Lease`.
    Leased(LeaseId),
    /// To `Usage`: the clients, oldest first.
    Usage(Vec<ClientUsage>),
}

/// What one client uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientUsage {
    /// Its process id.
    pub pid: u32,
    /// Its user id.
    pub uid: u32,
    /// What it called itself.
    pub program: String,
    /// The cards that it has opened, by index.
    pub cards: Vec<u32>,
    /// Its leases: card index and part.
    pub leases: Vec<(u32, String)>,
    /// How many DMA buffers it has.
    pub buffers: u32,
    /// Their size together, in bytes.
    pub buffer_bytes: u64,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
enum Class {
    Request = 0,
    Reply = 1,
    Failure = 2,
}

/// Bytes that are not a message of this protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Fewer bytes than a header has.
    #[error("a message of {0} bytes is shorter than its header of {HEADER_SIZE}")]
    Short(usize),
    /// The header's size is not the datagram's.
    #[error("the header says {said} bytes, the message has {had}")]
    Size {
        /// What the header says.
        said: u32,
        /// What arrived.
        had: usize,
    },
    /// Another version.
    #[error(
        "the peer speaks version {0} of the protocol, this program version {VERSION}; use the same release of both"
    )]
    Version(u16),
    /// A reply where a request was expected, or the other way round.
    #[error("a message of class {0} is not expected here")]
    Class(u16),
    /// The body does not decode.
    #[error("the body of message {number} cannot be read: {why}")]
    Body {
        /// The message's number.
        number: u64,
        /// What the decoder said.
        why: String,
    },
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        Self::new(ErrorKind::Protocol, error.to_string())
    }
}

/// Encodes a request.
///
/// # Errors
/// [`ErrorKind::Invalid`] if it does not fit into a message.
pub fn encode_request(number: u64, request: &Request) -> Result<Vec<u8>, Error> {
    encode(number, Class::Request, request)
}

/// Encodes a reply: what was asked for, or why not.
///
/// # Errors
/// [`ErrorKind::Invalid`] if it does not fit into a message.
pub fn encode_reply(number: u64, reply: &Result<Reply, Error>) -> Result<Vec<u8>, Error> {
    match reply {
        Ok(reply) => encode(number, Class::Reply, reply),
        Err(error) => encode(number, Class::Failure, error),
    }
}

/// Decodes a request and its number.
pub fn decode_request(message: &[u8]) -> Result<(u64, Request), DecodeError> {
    let (number, class, body) = header(message)?;
    if class != Class::Request as u16 {
        return Err(DecodeError::Class(class));
    }
    Ok((number, decode_body(number, body)?))
}

/// Decodes a reply and its number.
pub fn decode_reply(message: &[u8]) -> Result<(u64, Result<Reply, Error>), DecodeError> {
    let (number, class, body) = header(message)?;
    let reply = match class {
        class if class == Class::Reply as u16 => Ok(decode_body(number, body)?),
        class if class == Class::Failure as u16 => Err(decode_body(number, body)?),
        other => return Err(DecodeError::Class(other)),
    };
    Ok((number, reply))
}

fn encode(number: u64, class: Class, body: &impl Serialize) -> Result<Vec<u8>, Error> {
    let message = postcard::to_extend(body, vec![0; HEADER_SIZE])
        .map_err(|error| Error::new(ErrorKind::Invalid, format!("a message cannot be encoded: {error}")))?;
    let size =
        u32::try_from(message.len()).ok().filter(|_| message.len() <= MAX_MESSAGE).ok_or_else(|| {
            Error::new(
                ErrorKind::Invalid,
                format!("a message of {} bytes is larger than {MAX_MESSAGE}", message.len()),
            )
        })?;
    let mut message = message;
    message[0..4].copy_from_slice(&size.to_le_bytes());
    message[4..6].copy_from_slice(&VERSION.to_le_bytes());
    message[6..8].copy_from_slice(&(class as u16).to_le_bytes());
    message[8..16].copy_from_slice(&number.to_le_bytes());
    Ok(message)
}

fn header(message: &[u8]) -> Result<(u64, u16, &[u8]), DecodeError> {
    let Some((header, body)) = message.split_first_chunk::<HEADER_SIZE>() else {
        return Err(DecodeError::Short(message.len()));
    };
    let [s0, s1, s2, s3, v0, v1, c0, c1, number @ ..] = *header;
    let said = u32::from_le_bytes([s0, s1, s2, s3]);
    let version = u16::from_le_bytes([v0, v1]);
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    if said as usize != message.len() {
        return Err(DecodeError::Size { said, had: message.len() });
    }
    Ok((u64::from_le_bytes(number), u16::from_le_bytes([c0, c1]), body))
}

fn decode_body<T: DeserializeOwned>(number: u64, body: &[u8]) -> Result<T, DecodeError> {
    let unreadable = |why: String| DecodeError::Body { number, why };
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(unreadable(format!("{} bytes too many", rest.len()))),
        Err(error) => Err(unreadable(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jitney_vfio::{Mode, Will, WillStep};
    use proptest::prelude::*;

    #[test]
    fn a_message_is_byte_for_byte_what_the_protocol_page_says() {
        let message = encode_request(7, &Request::Free { iova: 0x1_0000 }).unwrap();
        assert_eq!(message, [20, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 5, 0x80, 0x80, 0x04]);
    }

    #[test]
    fn an_error_travels_whole() {
        let error = Error::from_errno(rustix::io::Errno::EXIST, "map").with_remedy("ask the broker");
        let message = encode_reply(3, &Err(error.clone())).unwrap();
        assert_eq!(decode_reply(&message).unwrap(), (3, Err(error)));
    }

    #[test]
    fn another_version_is_told_apart_from_nonsense() {
        let mut message = encode_request(1, &Request::Cards).unwrap();
        message[4] = 9;
        assert_eq!(decode_request(&message), Err(DecodeError::Version(9)));
    }

    #[test]
    fn a_name_that_is_no_part_is_refused_on_receipt() {
        let request = Request::Lease { card: 0, request: LeaseRequest::exclusive("h2c0".parse().unwrap()) };
        let mut message = encode_request(1, &request).unwrap();
        let at = message.windows(4).position(|four| four == b"h2c0").unwrap();
        message[at] = b'/';
        assert!(matches!(decode_request(&message), Err(DecodeError::Body { .. })));
    }

    fn lease_request() -> impl Strategy<Value = LeaseRequest> {
        let write = (0u8..6, any::<u64>(), any::<u32>())
            .prop_map(|(bar, offset, value)| WillStep::write(bar, offset, value));
        ("[a-z0-9-]{1,32}", any::<bool>(), proptest::collection::vec(write, 0..9)).prop_map(
            |(part, shared, writes)| LeaseRequest {
                part: part.parse().unwrap(),
                mode: if shared { Mode::Shared } else { Mode::Exclusive },
                will: Will(writes),
            },
        )
    }

    fn request() -> impl Strategy<Value = Request> {
        prop_oneof![
            ".{0,64}".prop_map(|program| Request::Hello { program }),
            any::<u32>().prop_map(|card| Request::Open { card }),
            (any::<Option<u32>>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u8>()).prop_map(
                |(card, size, align, top, page_shift)| Request::Allocate {
                    card,
                    size,
                    align,
                    top,
                    page_shift
                }
            ),
            (any::<u32>(), lease_request()).prop_map(|(card, request)| Request::Lease { card, request }),
            (any::<u32>(), any::<u16>()).prop_map(|(card, vector)| Request::Wire { card, vector }),
            Just(Request::Goodbye),
        ]
    }

    proptest! {
        #[test]
        fn requests_survive_the_wire(number: u64, request in request()) {
            let message = encode_request(number, &request).unwrap();
            prop_assert_eq!(decode_request(&message).unwrap(), (number, request));
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_request(&bytes);
            let _ = decode_reply(&bytes);
        }

        #[test]
        fn any_body_decodes_or_is_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut message = encode_request(0, &Request::Cards).unwrap();
            message.truncate(HEADER_SIZE);
            message.extend(&body);
            message[0] = u8::try_from(message.len()).unwrap();
            let _ = decode_request(&message);
            message[6] = 2;
            let _ = decode_reply(&message);
        }
    }
}
