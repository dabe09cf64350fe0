//! The broker's protocol, version 3, written from docs/protocol.md and not from the client that jitney has.

use crate::body::{Body, Fields};
use anyhow::{Context, bail};

pub(crate) const VERSION: u16 = 3;
pub(crate) const HEADER: usize = 16;
pub(crate) const MAX_MESSAGE: usize = 65536;
/// No wish for how high a buffer's address may be.
pub(crate) const ANYWHERE: u64 = u64::MAX;

/// A step of a will.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Write { bar: u8, offset: u64, value: u32 },
    WaitUntil { bar: u8, offset: u64, mask: u32, value: u32, within: u32 },
}

#[derive(Debug, Clone)]
pub(crate) enum Request {
    Hello { program: String },
    Cards { after: Option<u32> },
    Open { card: u32 },
    Close { card: u32 },
    Allocate { card: Option<u32>, size: u64, align: u64, top: u64, page_shift: u8 },
    Free { iova: u64 },
    Lease { card: u32, part: String, shared: bool, will: Vec<Step>, wait: u32 },
    Release { card: u32, lease: u64, will: bool },
    Wire { card: u32, vector: u16 },
    Silence { card: u32, vector: u16 },
    Reset { card: u32 },
    Usage { after: Option<u64> },
    Goodbye,
    Withdraw { number: u64 },
    Share { iova: u64, name: Option<String>, writable: bool },
    Attach { offered: Offered },
    Unshare { iova: u64 },
    Tallies,
    Traffic { client: u64 },
}

/// By what shared memory is asked for.
#[derive(Debug, Clone)]
pub(crate) enum Offered {
    Token([u8; 16]),
    Name(String),
}

impl Request {
    pub(crate) fn hello(program: &str) -> Self {
        Self::Hello { program: program.to_owned() }
    }

    pub(crate) fn allocate(card: u32, size: u64) -> Self {
        Self::Allocate { card: Some(card), size, align: 1, top: ANYWHERE, page_shift: 12 }
    }

    pub(crate) fn lease(card: u32, part: &str, will: &[Step]) -> Self {
        Self::Lease { card, part: part.to_owned(), shared: false, will: will.to_vec(), wait: 0 }
    }

    fn body(&self) -> Body {
        let start = |index| Body::default().varint(index);
        let card = |card: &u32| u64::from(*card);
        match self {
            Self::Hello { program } => start(0).string(program),
            Self::Cards { after } => start(1).option(after.map(u64::from)),
            Self::Open { card } => start(2).varint((*card).into()),
            Self::Close { card } => start(3).varint((*card).into()),
            Self::Allocate { card, size, align, top, page_shift } => {
                start(4).option(card.map(u64::from)).varint(*size).varint(*align).varint(*top).u8(*page_shift)
            }
            Self::Free { iova } => start(5).varint(*iova),
            Self::Lease { card: on, part, shared, will, wait } => start(6)
                .varint(card(on))
                .string(part)
                .varint((*shared).into())
                .list(will, |body, step| match *step {
                    Step::Write { bar, offset, value } => {
                        body.varint(0).u8(bar).varint(offset).varint(value.into())
                    }
                    Step::WaitUntil { bar, offset, mask, value, within } => body
                        .varint(1)
                        .u8(bar)
                        .varint(offset)
                        .varint(mask.into())
                        .varint(value.into())
                        .varint(within.into()),
                })
                .varint((*wait).into()),
            Self::Release { card: on, lease, will } => start(7).varint(card(on)).varint(*lease).bool(*will),
            Self::Wire { card: on, vector } => start(8).varint(card(on)).varint((*vector).into()),
            Self::Silence { card: on, vector } => start(9).varint(card(on)).varint((*vector).into()),
            Self::Reset { card: on } => start(10).varint(card(on)),
            Self::Usage { after } => start(11).option(*after),
            Self::Goodbye => start(12),
            Self::Withdraw { number } => start(13).varint(*number),
            Self::Share { iova, name, writable } => {
                let body = start(14).varint(*iova);
                let body = match name {
                    None => body.u8(0),
                    Some(name) => body.u8(1).string(name),
                };
                body.bool(*writable)
            }
            Self::Attach { offered: Offered::Token(token) } => {
                token.iter().fold(start(15).varint(0), |body, byte| body.u8(*byte))
            }
            Self::Attach { offered: Offered::Name(name) } => start(15).varint(1).string(name),
            Self::Unshare { iova } => start(16).varint(*iova),
            Self::Tallies => start(17),
            Self::Traffic { client } => start(18).varint(*client),
        }
    }

    /// The whole message.
    pub(crate) fn encode(&self, number: u64) -> Vec<u8> {
        message(number, &self.body().bytes())
    }
}

/// A request's message with any body.
pub(crate) fn message(number: u64, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend_from_slice(&size.to_le_bytes());
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&0_u16.to_le_bytes());
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// Who has what, as Usage says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) client: u64,
    pub(crate) pid: Option<u32>,
    pub(crate) uid: u32,
    pub(crate) program: String,
    pub(crate) leases: usize,
    pub(crate) buffers: u32,
    pub(crate) bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Done,
    Welcome { pid: u32 },
    Cards { cards: Vec<(u32, String)>, more: bool },
    Opened { kind: u8 },
    Allocated { iova: u64, size: u64 },
    Leased { lease: u64 },
    Usage { users: Vec<User>, more: bool },
    Shared { token: [u8; 16] },
    Attached { iova: u64, size: u64, writable: bool },
    Tallies,
    Traffic { channels: usize },
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) kind: Kind,
    pub(crate) what: String,
    pub(crate) errno: Option<i64>,
}

/// The kinds of refusals that this program tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    NotFound,
    Held,
    Invalid,
    OutOfBounds,
    Unsupported,
    Exhausted,
    Denied,
    LinkDown,
    Disconnected,
    TimedOut,
    Protocol,
    System,
}

impl Kind {
    const ALL: [Self; 12] = [
        Self::NotFound,
        Self::Held,
        Self::Invalid,
        Self::OutOfBounds,
        Self::Unsupported,
        Self::Exhausted,
        Self::Denied,
        Self::LinkDown,
        Self::Disconnected,
        Self::TimedOut,
        Self::Protocol,
        Self::System,
    ];
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.what)?;
        self.errno.map_or(Ok(()), |errno| write!(f, " (errno {errno})"))
    }
}

impl std::error::Error for Refusal {}

/// What the broker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    Reply {
        number: u64,
        reply: Reply,
    },
    Refused {
        number: u64,
        refusal: Refusal,
    },
    /// With the index, which need not be known.
    Notice(u64),
}

pub(crate) fn decode(bytes: &[u8]) -> anyhow::Result<Heard> {
    let (header, body) = bytes.split_at_checked(HEADER).context("a message is shorter than a header")?;
    let field = |range: std::ops::Range<usize>| {
        header[range].iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte))
    };
    if field(0..4) != bytes.len() as u64 {
        bail!("a message of {} bytes says that it has {}", bytes.len(), field(0..4));
    }
    if field(4..6) != u64::from(VERSION) {
        bail!("a message of version {}", field(4..6));
    }
    let number = field(8..16);
    let mut fields = Fields(body);
    let heard = match field(6..8) {
        1 => Heard::Reply { number, reply: reply(&mut fields)? },
        2 => Heard::Refused { number, refusal: refusal(&mut fields)? },
        3 if number != 0 => bail!("a notice with the number {number}"),
        3 => {
            let index = fields.varint()?;
            fields.0 = &[];
            Heard::Notice(index)
        }
        other => bail!("a message of class {other} from the broker"),
    };
    fields.end()?;
    Ok(heard)
}

fn reply(fields: &mut Fields<'_>) -> anyhow::Result<Reply> {
    Ok(match fields.varint()? {
        0 => Reply::Done,
        1 => Reply::Welcome { pid: fields.u32()? },
        2 => Reply::Cards { cards: fields.list(card)?, more: fields.bool()? },
        3 => Reply::Opened { kind: fields.u8()? },
        4 => Reply::Allocated { iova: fields.varint()?, size: fields.varint()? },
        5 => Reply::Leased { lease: fields.varint()? },
        6 => Reply::Usage { users: fields.list(user)?, more: fields.bool()? },
        7 => {
            let mut token = [0; 16];
            for byte in &mut token {
                *byte = fields.u8()?;
            }
            Reply::Shared { token }
        }
        8 => {
            let reply =
                Reply::Attached { iova: fields.varint()?, size: fields.varint()?, writable: fields.bool()? };
            // The offer's number.
            fields.varint()?;
            reply
        }
        9 => Reply::Tallies,
        10 => Reply::Traffic { channels: fields.list(channel)?.len() },
        other => bail!("a reply of index {other}"),
    })
}

fn card(fields: &mut Fields<'_>) -> anyhow::Result<(u32, String)> {
    let id = fields.u32()?;
    let address = fields.string()?;
    // Vendor, device, and both of the subsystem.
    for _ in 0..4 {
        fields.varint()?;
    }
    fields.u8()?;
    fields.u32()?;
    Ok((id, address))
}

fn user(fields: &mut Fields<'_>) -> anyhow::Result<User> {
    let client = fields.varint()?;
    let pid = fields.option(Fields::u32)?;
    let uid = fields.u32()?;
    let program = fields.string()?;
    fields.list(Fields::u32)?;
    let leases = fields.list(|fields| Ok((fields.u32()?, fields.string()?)))?.len();
    fields.list(|fields| Ok((fields.u32()?, fields.string()?, fields.u32()?)))?;
    Ok(User { client, pid, uid, program, leases, buffers: fields.u32()?, bytes: fields.varint()? })
}

/// What a client has moved by one channel: card, part, bytes, transfers, failures.
fn channel(fields: &mut Fields<'_>) -> anyhow::Result<()> {
    fields.u32()?;
    fields.string()?;
    for _ in 0..3 {
        fields.varint()?;
    }
    Ok(())
}

fn refusal(fields: &mut Fields<'_>) -> anyhow::Result<Refusal> {
    let index = usize::try_from(fields.varint()?)?;
    let kind = *Kind::ALL.get(index).with_context(|| format!("an error of kind {index}"))?;
    let what = fields.string()?;
    let errno = fields.option(Fields::signed)?;
    fields.option(Fields::string)?;
    Ok(Refusal { kind, what, errno })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example at the end of docs/protocol.md, read from there.
    #[test]
    fn the_pages_example_is_what_is_sent() {
        let page = include_str!("../../docs/protocol.md");
        let example = page.split("## An example").nth(1).unwrap();
        let line = example.lines().find(|line| line.starts_with("    ")).unwrap();
        let bytes: Vec<u8> =
            line.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        assert_eq!(Request::Free { iova: 0x10000 }.encode(7), bytes);
    }

    #[test]
    fn answers_are_understood_and_others_are_not() {
        let answer = |class: u8, body: Body| {
            let mut bytes = message(9, &body.bytes());
            bytes[6] = class;
            decode(&bytes)
        };
        let body = || Body::default();
        let leased = answer(1, body().varint(5).varint(77)).unwrap();
        assert_eq!(leased, Heard::Reply { number: 9, reply: Reply::Leased { lease: 77 } });
        let refused = answer(2, body().varint(5).string("leases").u8(1).varint(22).u8(0)).unwrap();
        let refusal = Refusal { kind: Kind::Exhausted, what: "leases".into(), errno: Some(11) };
        assert_eq!(refused, Heard::Refused { number: 9, refusal });
        let usage = body()
            .varint(6)
            .list(&[3], |body, client| body.varint(*client).u8(0).varint(0).string("x").varint(0))
            .bytes();
        let mut usage = Fields(&usage);
        assert!(reply(&mut usage).is_err(), "cut short");
        for (class, body) in [
            (0, body()),
            (4, body()),
            (1, body().varint(7)),
            (1, body().varint(0).u8(0)),
            (2, body().varint(12)),
        ] {
            assert!(answer(class, body).is_err(), "{class}");
        }
        assert!(decode(&[0; 15]).is_err());
    }
}
