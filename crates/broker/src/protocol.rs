//! The messages between a client and its broker; docs/protocol.md describes them for other languages.
//!
//! One `SOCK_SEQPACKET` datagram is one message: a header of 16 bytes and a body in the postcard encoding. A client
//! numbers its requests; every request gets exactly one reply, with the same number, in any order. Between them come notices,
//! which nobody asked for. Nothing here does I/O.

use jitney_vfio::{Error, ErrorKind, Identity, LeaseId, Mode, Moved, Will};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version of the protocol that this code speaks, in every message's header.
pub const VERSION: u16 = 3;
/// The largest message in bytes, header included.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// The most descriptors that one message carries.
pub const MAX_DESCRIPTORS: usize = 1;
/// The size of a shared buffer's token in bytes.
pub const TOKEN_SIZE: usize = 16;
/// The size of the header in bytes.
pub const HEADER_SIZE: usize = 16;

/// How much of a message lists may fill, in bytes; the rest is for the header and what stands around a list.
const LIST_SPACE: usize = MAX_MESSAGE - 1024;

/// A card's number, unique for as long as its broker lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CardId(pub u32);

/// What a client asks for. The order of the variants is the wire encoding: new ones go to the end.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Request {
    /// The first request: who the client is, for people who ask who holds what. Answered by [`Reply::Welcome`].
    Hello {
        /// The client's command line, shortened.
        program: String,
    },
    /// Which cards there are. Answered by [`Reply::Cards`].
    Cards {
        /// Only those with a higher id.
        after: Option<CardId>,
    },
    /// Access to a card, once for a client. Answered by [`Reply::Opened`] with a descriptor.
    Open {
        /// Which card.
        card: CardId,
    },
    /// Ends what `Open` began; the client's leases on that card must have ended before. Answered by [`Reply::Done`].
    Close {
        /// Which card.
        card: CardId,
    },
    /// Memory shared with cards. Answered by [`Reply::Allocated`] with a descriptor.
    Allocate {
        /// An opened card that has to reach it, and those that share its address space; without one all cards do.
        card: Option<CardId>,
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
        /// Which card.
        card: CardId,
        /// The part's name. It is checked by who decides, so that a name that cannot be is answered like any other mistake.
        part: String,
        /// Alone or with others.
        mode: Mode,
        /// What to do if the client is gone.
        will: Will,
        /// How long to stand in line for it if somebody has a right that excludes it, in milliseconds: 0 not at all,
        /// [`u32::MAX`] for as long as it takes.
        wait: u32,
    },
    /// Ends a lease. Answered by [`Reply::Done`].
    Release {
        /// Which card.
        card: CardId,
        /// Which lease.
        lease: LeaseId,
        /// Carry out its will before: the client could not end what it was at. Otherwise the will is forgotten.
        will: bool,
    },
    /// Wires an interrupt vector, on which the client has an exclusive lease, to the eventfd that comes with the
    /// request. Answered by [`Reply::Done`].
    Wire {
        /// Which card.
        card: CardId,
        /// The vector.
        vector: u16,
    },
    /// Silences a vector that the client wired. Answered by [`Reply::Done`].
    Silence {
        /// Which card.
        card: CardId,
        /// The vector.
        vector: u16,
    },
    /// Resets a card on which nobody else has a lease. Answered by [`Reply::Done`].
    Reset {
        /// Which card.
        card: CardId,
    },
    /// Who uses what. Answered by [`Reply::Usage`].
    Usage {
        /// Only clients with a higher number.
        after: Option<u64>,
    },
    /// The client goes; the wills of leases that it still has are carried out. Answered by [`Reply::Done`], after which the
    /// broker closes.
    Goodbye,
    /// Gives up a request of this client that is in line; that one is answered first. Answered by [`Reply::Done`], also if there
    /// is none.
    Withdraw {
        /// The number of that request.
        number: u64,
    },
    /// Offers a buffer that the client may write to, whose memfd comes along, to other clients. Answered by [`Reply::Shared`].
    Share {
        /// Where it is.
        iova: u64,
        /// By what name processes of the same user may ask for it: of the letters of a part. One buffer has it at a time.
        name: Option<String>,
        /// Whether they may write to it. If not, nobody can be given that right any more as long as the buffer lives.
        writable: bool,
    },
    /// A buffer that another client offers. Answered by [`Reply::Attached`] with a descriptor. It is freed as one's own.
    Attach {
        /// Which one.
        offered: Offered,
    },
    /// Ends an offer that the client made; who has the buffer keeps it. Answered by [`Reply::Done`].
    Unshare {
        /// Where the buffer is.
        iova: u64,
    },
    /// A page of memory in which the client counts what it moves, once for a client. Answered by [`Reply::Tallies`] with a descriptor.
    Tallies,
    /// What a client has moved, as it says itself. Answered by [`Reply::Traffic`].
    Traffic {
        /// Its number, as [`Request::Usage`] gives it.
        client: u64,
    },
}

/// By what a shared buffer is asked for. The order of the variants is the wire encoding.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Offered {
    /// By its token, which whoever offers it has handed on.
    Token([u8; TOKEN_SIZE]),
    /// By its name.
    Name(String),
}

impl Request {
    /// Whether a descriptor comes with it.
    #[must_use]
    pub const fn takes_descriptor(&self) -> bool {
        matches!(self, Self::Wire { .. } | Self::Share { .. })
    }
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
    /// To `Cards`: the cards, in the order of their ids.
    Cards {
        /// As many as fit.
        cards: Vec<CardEntry>,
        /// Whether there are more behind the last one.
        more: bool,
    },
    /// To `Open`: what kind of grant comes with it, see docs/protocol.md.
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
    Usage {
        /// As many as fit.
        clients: Vec<ClientUsage>,
        /// Whether there are more behind the last one.
        more: bool,
    },
    /// To `Share`: by what others ask for it.
    Shared {
        /// A secret: who knows it may have the buffer, whoever that is.
        token: [u8; TOKEN_SIZE],
    },
    /// To `Attach`; the sealed memfd comes with it.
    Attached {
        /// Where cards see its first byte.
        iova: u64,
        /// Its size in bytes, whole pages.
        size: u64,
        /// Whether the client may write to it. If not, the memfd is open for reading alone.
        writable: bool,
        /// The offer's number, never used again, by which [`Notice::OfferEnded`] says that it has ended.
        offer: u64,
    },
    /// To `Tallies`; the page comes with it.
    Tallies,
    /// To `Traffic`.
    Traffic(Vec<Moved>),
}

/// What a broker says without having been asked. The order of the variants is the wire encoding: new ones go to the end, and a
/// client ignores those that it does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// To who has the card open: it is wanted back.
    Leaving {
        /// Which card.
        card: CardId,
    },
    /// To who has the card open: it has reported an error that it may not recover from.
    Failed {
        /// Which card.
        card: CardId,
    },
    /// To everybody: the broker has closed it.
    Gone {
        /// Which card.
        card: CardId,
    },
    /// To everybody: there is a new card.
    Came {
        /// Which one.
        card: CardEntry,
    },
    /// To who waits for a lease, when that begins and when it has come nearer.
    InLine {
        /// The number of the request.
        number: u64,
        /// How many are served before it and stand in its way, and one more: 1 is next.
        place: u32,
        /// Who holds it, or waits for it before.
        behind: String,
    },
    /// To who has a shared buffer: who offered it has withdrawn the offer, has let go of the buffer, or is gone.
    OfferEnded {
        /// The number of the offer.
        offer: u64,
    },
}

/// A card in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardEntry {
    /// Its number.
    pub id: CardId,
    /// Who it is.
    pub identity: Identity,
}

/// What one client uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientUsage {
    /// Its number at the broker.
    pub client: u64,
    /// Its process id; `None` if it is of another pid namespace than the broker, where it has another or none.
    pub pid: Option<u32>,
    /// Its user id.
    pub uid: u32,
    /// What it called itself.
    pub program: String,
    /// The cards that it has opened.
    pub cards: Vec<CardId>,
    /// Its leases: card and part.
    pub leases: Vec<(CardId, String)>,
    /// Leases that it waits for: card, part, and place in line.
    pub waits: Vec<(CardId, String, u32)>,
    /// How many DMA buffers it has.
    pub buffers: u32,
    /// Their size together, in bytes.
    pub buffer_bytes: u64,
}

/// The most entries of one message: whoever else asks something waits until it is made.
pub(crate) const MOST_ENTRIES: usize = 64;

/// As many of `entries` as fit into one message, and whether that is not all.
pub(crate) fn fitting<T: Serialize>(entries: impl Iterator<Item = T>) -> (Vec<T>, bool) {
    let mut space = LIST_SPACE;
    let mut entries = entries.peekable();
    let mut taken = Vec::new();
    while let Some(entry) = entries.peek() {
        // One that cannot be encoded at all is refused where the message is.
        let size = postcard::to_stdvec(entry).map_or(0, |bytes| bytes.len());
        let Some(rest) = space.checked_sub(size).filter(|_| taken.len() < MOST_ENTRIES) else { break };
        space = rest;
        taken.extend(entries.next());
    }
    (taken, entries.peek().is_some())
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
enum Class {
    Request = 0,
    Reply = 1,
    Failure = 2,
    Notice = 3,
}

/// What a client hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The answer to the request of this number: what was asked for, or why not. Number 0 is the broker's last word to
    /// somebody whom it did not understand.
    Reply(u64, Result<Reply, Error>),
    /// Something that it did not ask for; `None` if this version does not know it.
    Notice(Option<Notice>),
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
    /// A request without a number of its own.
    #[error("a request has number 0, which is that of notices; give each another one")]
    Unnumbered,
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
        let kind = match error {
            // What only the body has wrong is a mistake, and no reason to take the peer for something else.
            DecodeError::Body { .. } => ErrorKind::Invalid,
            _ => ErrorKind::Protocol,
        };
        Self::new(kind, error.to_string())
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

/// The number of a message that is not decoded yet; `None` if it has no header of ours.
pub(crate) fn number_of(message: &[u8]) -> Option<u64> {
    header(message).ok().map(|(number, ..)| number)
}

/// What a request comes to that a broker does not know any more, since it was started anew just then. Nothing of it was done, and
/// whoever asked can ask again.
pub(crate) fn lost() -> Error {
    Error::new(
        ErrorKind::System,
        "the broker was started anew just then, and does not know what was asked of it",
    )
    .with_errno(Errno::INTR)
    .with_remedy("ask again")
}

/// Whether a reply is [`lost`].
pub(crate) fn was_lost(error: &Error) -> bool {
    error.kind() == ErrorKind::System && error.errno() == Some(Errno::INTR)
}

/// Decodes a request and its number.
pub fn decode_request(message: &[u8]) -> Result<(u64, Request), DecodeError> {
    let (number, class, body) = header(message)?;
    if class != Class::Request as u16 {
        return Err(DecodeError::Class(class));
    }
    if number == 0 {
        return Err(DecodeError::Unnumbered);
    }
    Ok((number, decode_body(number, body)?))
}

/// Encodes a notice.
///
/// # Errors
/// [`ErrorKind::Invalid`] if it does not fit into a message.
pub fn encode_notice(notice: &Notice) -> Result<Vec<u8>, Error> {
    encode(0, Class::Notice, notice)
}

/// Decodes what a broker sent.
pub fn decode_message(message: &[u8]) -> Result<Message, DecodeError> {
    let (number, class, body) = header(message)?;
    match class {
        class if class == Class::Reply as u16 => Ok(Message::Reply(number, Ok(decode_body(number, body)?))),
        class if class == Class::Failure as u16 => {
            Ok(Message::Reply(number, Err(decode_body(number, body)?)))
        }
        class if class == Class::Notice as u16 => Ok(Message::Notice(decode_body(number, body).ok())),
        other => Err(DecodeError::Class(other)),
    }
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
        Err(postcard::Error::DeserializeUnexpectedEnd) => Err(unreadable("it ends too early".into())),
        // The decoder keeps no more of it.
        Err(_) => Err(unreadable(format!(
            "there is a variant, a text or a number in it that version {VERSION} of the protocol does not have"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jitney_vfio::WillStep;
    use proptest::prelude::*;

    #[test]
    fn a_message_is_byte_for_byte_what_the_protocol_page_says() {
        let message = encode_request(7, &Request::Free { iova: 0x1_0000 }).unwrap();
        assert_eq!(message, [20, 0, 0, 0, 3, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 5, 0x80, 0x80, 0x04]);
    }

    #[test]
    fn an_error_travels_whole() {
        let error = Error::from_errno(rustix::io::Errno::EXIST, "map").with_remedy("ask the broker");
        let message = encode_reply(3, &Err(error.clone())).unwrap();
        assert_eq!(decode_message(&message).unwrap(), Message::Reply(3, Err(error)));
    }

    #[test]
    fn another_version_is_told_apart_from_nonsense() {
        let mut message = encode_request(1, &Request::Goodbye).unwrap();
        message[4] = 9;
        assert_eq!(decode_request(&message), Err(DecodeError::Version(9)));
    }

    #[test]
    fn a_request_has_a_number() {
        let message = encode_request(0, &Request::Goodbye).unwrap();
        assert_eq!(decode_request(&message), Err(DecodeError::Unnumbered));
    }

    fn will() -> impl Strategy<Value = Will> {
        let step = (0u8..6, any::<u64>(), any::<u32>(), any::<u32>(), any::<Option<u32>>()).prop_map(
            |(bar, offset, value, mask, within)| match within {
                Some(within_ms) => WillStep::WaitUntil { bar, offset, mask, value, within_ms },
                None => WillStep::write(bar, offset, value),
            },
        );
        proptest::collection::vec(step, 0..9).prop_map(Will)
    }

    fn mode() -> impl Strategy<Value = Mode> {
        any::<bool>().prop_map(|shared| if shared { Mode::Shared } else { Mode::Exclusive })
    }

    fn card() -> impl Strategy<Value = CardId> {
        any::<u32>().prop_map(CardId)
    }

    fn request() -> impl Strategy<Value = Request> {
        prop_oneof![
            ".{0,64}".prop_map(|program| Request::Hello { program }),
            prop::option::of(card()).prop_map(|after| Request::Cards { after }),
            card().prop_map(|card| Request::Open { card }),
            card().prop_map(|card| Request::Close { card }),
            (prop::option::of(card()), any::<u64>(), any::<u64>(), any::<u64>(), any::<u8>()).prop_map(
                |(card, size, align, top, page_shift)| Request::Allocate {
                    card,
                    size,
                    align,
                    top,
                    page_shift
                }
            ),
            any::<u64>().prop_map(|iova| Request::Free { iova }),
            (card(), ".{0,40}", mode(), will(), any::<u32>()).prop_map(|(card, part, mode, will, wait)| {
                Request::Lease { card, part, mode, will, wait }
            }),
            any::<u64>().prop_map(|number| Request::Withdraw { number }),
            (card(), any::<u64>(), any::<bool>()).prop_map(|(card, lease, will)| Request::Release {
                card,
                lease: LeaseId(lease),
                will
            }),
            (card(), any::<u16>()).prop_map(|(card, vector)| Request::Wire { card, vector }),
            (card(), any::<u16>()).prop_map(|(card, vector)| Request::Silence { card, vector }),
            card().prop_map(|card| Request::Reset { card }),
            any::<Option<u64>>().prop_map(|after| Request::Usage { after }),
            Just(Request::Goodbye),
            (any::<u64>(), prop::option::of(".{0,40}"), any::<bool>())
                .prop_map(|(iova, name, writable)| Request::Share { iova, name, writable }),
            any::<[u8; TOKEN_SIZE]>().prop_map(|token| Request::Attach { offered: Offered::Token(token) }),
            ".{0,40}".prop_map(|name| Request::Attach { offered: Offered::Name(name) }),
            any::<u64>().prop_map(|iova| Request::Unshare { iova }),
            Just(Request::Tallies),
            any::<u64>().prop_map(|client| Request::Traffic { client }),
        ]
    }

    fn entry() -> impl Strategy<Value = CardEntry> {
        (card(), ".{0,40}", any::<[u16; 4]>(), any::<u8>(), any::<u32>()).prop_map(
            |(id, address, [vendor, device, subsystem_vendor, subsystem_device], revision, class)| {
                CardEntry {
                    id,
                    identity: Identity {
                        address,
                        vendor,
                        device,
                        subsystem_vendor,
                        subsystem_device,
                        revision,
                        class,
                    },
                }
            },
        )
    }

    fn usage() -> impl Strategy<Value = ClientUsage> {
        let leases = proptest::collection::vec((card(), ".{0,32}"), 0..5);
        let waits = proptest::collection::vec((card(), ".{0,32}", any::<u32>()), 0..5);
        let numbers = (any::<u64>(), any::<Option<u32>>(), any::<u32>(), any::<u32>(), any::<u64>());
        (numbers, ".{0,40}", proptest::collection::vec(card(), 0..5), leases, waits).prop_map(
            |((client, pid, uid, buffers, buffer_bytes), program, cards, leases, waits)| ClientUsage {
                client,
                pid,
                uid,
                program,
                cards,
                leases,
                waits,
                buffers,
                buffer_bytes,
            },
        )
    }

    fn reply() -> impl Strategy<Value = Reply> {
        let list = proptest::collection::vec(entry(), 0..5);
        prop_oneof![
            Just(Reply::Done),
            any::<u32>().prop_map(|broker| Reply::Welcome { broker }),
            (list, any::<bool>()).prop_map(|(cards, more)| Reply::Cards { cards, more }),
            any::<u8>().prop_map(|kind| Reply::Opened { kind }),
            any::<(u64, u64)>().prop_map(|(iova, size)| Reply::Allocated { iova, size }),
            any::<u64>().prop_map(|lease| Reply::Leased(LeaseId(lease))),
            (proptest::collection::vec(usage(), 0..5), any::<bool>())
                .prop_map(|(clients, more)| Reply::Usage { clients, more }),
            any::<[u8; TOKEN_SIZE]>().prop_map(|token| Reply::Shared { token }),
            any::<(u64, u64, bool, u64)>().prop_map(|(iova, size, writable, offer)| Reply::Attached {
                iova,
                size,
                writable,
                offer
            }),
            Just(Reply::Tallies),
            any::<[u64; 3]>().prop_map(|[bytes, transfers, failures]| {
                let part = jitney_vfio::Part::whole();
                Reply::Traffic(vec![Moved { card: 7, part, bytes, transfers, failures }])
            }),
        ]
    }

    fn notice() -> impl Strategy<Value = Notice> {
        prop_oneof![
            card().prop_map(|card| Notice::Leaving { card }),
            card().prop_map(|card| Notice::Failed { card }),
            card().prop_map(|card| Notice::Gone { card }),
            entry().prop_map(|card| Notice::Came { card }),
            (any::<u64>(), any::<u32>(), ".{0,40}").prop_map(|(number, place, behind)| Notice::InLine {
                number,
                place,
                behind
            }),
            any::<u64>().prop_map(|offer| Notice::OfferEnded { offer }),
        ]
    }

    fn identity() -> Identity {
        Identity {
            address: String::new(),
            vendor: 0,
            device: 0,
            subsystem_vendor: 0,
            subsystem_device: 0,
            revision: 0,
            class: 0,
        }
    }

    /// The index of a variant is what the page says, whatever is added or moved.
    #[test]
    fn variants_have_the_numbers_of_the_protocol_page() {
        let card = CardId(0);
        let cards = Vec::new();
        let requests = [
            Request::Hello { program: String::new() },
            Request::Cards { after: None },
            Request::Open { card },
            Request::Close { card },
            Request::Allocate { card: None, size: 0, align: 0, top: 0, page_shift: 0 },
            Request::Free { iova: 0 },
            Request::Lease { card, part: String::new(), mode: Mode::Shared, will: Will::none(), wait: 0 },
            Request::Release { card, lease: LeaseId(0), will: false },
            Request::Wire { card, vector: 0 },
            Request::Silence { card, vector: 0 },
            Request::Reset { card },
            Request::Usage { after: None },
            Request::Goodbye,
            Request::Withdraw { number: 0 },
            Request::Share { iova: 0, name: None, writable: false },
            Request::Attach { offered: Offered::Name(String::new()) },
            Request::Unshare { iova: 0 },
            Request::Tallies,
            Request::Traffic { client: 0 },
        ];
        let replies = [
            Reply::Done,
            Reply::Welcome { broker: 0 },
            Reply::Cards { cards, more: false },
            Reply::Opened { kind: 0 },
            Reply::Allocated { iova: 0, size: 0 },
            Reply::Leased(LeaseId(0)),
            Reply::Usage { clients: Vec::new(), more: false },
            Reply::Shared { token: [0; TOKEN_SIZE] },
            Reply::Attached { iova: 0, size: 0, writable: false, offer: 0 },
            Reply::Tallies,
            Reply::Traffic(Vec::new()),
        ];
        for (number, request) in (0..).zip(requests) {
            assert_eq!(encode_request(1, &request).unwrap()[HEADER_SIZE], number, "{request:?}");
        }
        for (number, reply) in (0..).zip(replies) {
            assert_eq!(encode_reply(1, &Ok(reply.clone())).unwrap()[HEADER_SIZE], number, "{reply:?}");
        }
        let entry = CardEntry { id: card, identity: identity() };
        let notices = [
            Notice::Leaving { card },
            Notice::Failed { card },
            Notice::Gone { card },
            Notice::Came { card: entry },
            Notice::InLine { number: 0, place: 1, behind: String::new() },
            Notice::OfferEnded { offer: 0 },
        ];
        for (number, notice) in (0..).zip(notices) {
            let message = encode_notice(&notice).unwrap();
            assert_eq!((message[6], message[HEADER_SIZE]), (3, number), "{notice:?}");
        }
    }

    #[test]
    fn a_notice_that_is_not_known_is_no_error() {
        let mut message = encode_notice(&Notice::Gone { card: CardId(1) }).unwrap();
        message[HEADER_SIZE] = 77;
        assert_eq!(decode_message(&message), Ok(Message::Notice(None)));
    }

    #[test]
    fn lists_are_cut_to_what_fits() {
        let entries = |size: usize| (0..10_000u32).map(move |n| (n, "x".repeat(size)));
        let (taken, more) = fitting(entries(10_000));
        assert!(more && taken.len() == 6, "{}", taken.len());
        assert_eq!(fitting(entries(100).take(9)), (entries(100).take(9).collect(), false));
        // Nobody waits until thousands are counted up for somebody else.
        let (taken, more) = fitting(entries(1));
        assert!(more && taken.len() == MOST_ENTRIES, "{}", taken.len());
    }

    proptest! {
        #[test]
        fn requests_survive_the_wire(number in 1..=u64::MAX, request in request()) {
            let message = encode_request(number, &request).unwrap();
            prop_assert_eq!(decode_request(&message).unwrap(), (number, request));
        }

        #[test]
        fn replies_survive_the_wire(number: u64, reply in reply()) {
            let message = encode_reply(number, &Ok(reply.clone())).unwrap();
            prop_assert_eq!(decode_message(&message).unwrap(), Message::Reply(number, Ok(reply)));
        }

        #[test]
        fn notices_survive_the_wire(notice in notice()) {
            let message = encode_notice(&notice).unwrap();
            prop_assert_eq!(decode_message(&message).unwrap(), Message::Notice(Some(notice)));
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_request(&bytes);
            let _ = decode_message(&bytes);
        }

        #[test]
        fn any_body_decodes_or_is_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut message = encode_request(1, &Request::Goodbye).unwrap();
            message.truncate(HEADER_SIZE);
            message.extend(&body);
            message[0] = u8::try_from(message.len()).unwrap();
            let _ = decode_request(&message);
            message[6] = 2;
            let _ = decode_message(&message);
        }
    }
}
