//! `jitney_channel`: DMA channels.

use crate::boundary::{DONE, null, run};
use crate::buffer::Buffer;
use crate::card::Card;
use crate::handle::{self, object};
use crate::pointer::{Array, Bytes, BytesOut, Room, Text, field, give};
use crate::time::duration;
use crate::transfer::{Completed, Transfer};
use jitney::xdma::{self, C2h, Channel as Driven, Direction, H2c, Pending, Piece as DriverPiece};
use jitney_faces::{Failure, Flight, Kind, SharedCard};
use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;
use std::sync::Arc;

/// Who waits for a transfer looks again and again, for `wait` of jitney_channel_options.
pub const JITNEY_WAIT_POLL: u32 = 0;
/// Who waits for a transfer sleeps until the card interrupts.
pub const JITNEY_WAIT_INTERRUPT: u32 = 1;
/// Who waits for a transfer looks for as long as a short one takes, and then sleeps until the card interrupts.
pub const JITNEY_WAIT_ADAPTIVE: u32 = 2;

/// A DMA channel, which is this program's until it is freed.
#[derive(Debug)]
pub struct Channel {
    way: Way,
    name: String,
    stream: bool,
    card: Arc<SharedCard>,
}
object!(Channel, 0x95, "the channel");

#[derive(Debug)]
enum Way {
    ToCard(H2c),
    FromCard(C2h),
}

/// How a channel is to be. All zero is as usual.
#[repr(C)]
#[derive(Debug)]
pub struct ChannelOptions {
    /// `JITNEY_WAIT_POLL` and the others.
    pub wait: u32,
    /// How long a transfer may make no progress, in milliseconds; 0 for as long as usual.
    pub timeout_ms: u32,
    /// How many descriptors its ring has; 0 for as many as usual.
    pub depth: u32,
    /// The longest descriptor in bytes; 0 for as long as can be.
    pub longest: u32,
    /// Alignment of addresses and lengths in bytes, if the design wants more than it says itself; 0 if not.
    pub align: u64,
}

/// What there is to know about a channel.
#[repr(C)]
#[derive(Debug)]
pub struct ChannelInfo {
    /// `h2c0`, `c2h1`.
    pub name: [c_char; 16],
    /// 1 if it goes to the card, 0 if it comes from it.
    pub to_card: u32,
    /// Its number, from 0 in each direction.
    pub index: u32,
    /// 1 if it has a stream on the card's side, not memory.
    pub stream: u32,
}

/// Some bytes of a buffer, and where they are on the card.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Piece {
    /// The buffer. The transfer keeps its memory until it has ended.
    pub buffer: *mut Buffer,
    /// The first byte in the buffer.
    pub offset: u64,
    /// How many bytes; 0 for all up to the end of the buffer.
    pub length: u64,
    /// Where the first byte is on the card; without a meaning for a stream.
    pub card_address: u64,
}

fn apply<D>(options: Option<&ChannelOptions>, mut channel: Driven<D>) -> Result<Driven<D>, Failure> {
    let Some(options) = options else { return Ok(channel) };
    if options.align > 0 {
        channel = channel.aligned(options.align);
    }
    if options.longest > 0 {
        channel = channel.descriptors_of_at_most(options.longest);
    }
    if options.depth > 0 {
        channel = channel.with_depth(options.depth)?;
    }
    if options.timeout_ms > 0 {
        channel = channel.with_timeout(std::time::Duration::from_millis(options.timeout_ms.into()));
    }
    match options.wait {
        JITNEY_WAIT_POLL => Ok(channel),
        JITNEY_WAIT_INTERRUPT => Ok(channel.by_interrupt()?),
        JITNEY_WAIT_ADAPTIVE => Ok(channel.adaptive()?),
        other => Err(Failure::invalid(format!("there is no way to wait {other}: see JITNEY_WAIT_POLL"))),
    }
}

/// The number of a channel that is called so.
fn number(name: &str, direction: &str) -> Option<u8> {
    name.strip_prefix(direction).and_then(|index| index.parse().ok())
}

fn no_channel(name: &str) -> Failure {
    Failure::new(
        Kind::NotFound,
        format!("there is no channel {name:?}; they are called h2c0 or c2h0, and so on"),
    )
}

/// The channel from the card that is called so.
pub(crate) fn from_card(
    card: &Arc<SharedCard>,
    name: &str,
    options: Option<&ChannelOptions>,
) -> Result<C2h, Failure> {
    let index = number(name, "c2h").ok_or_else(|| no_channel(name))?;
    apply(options, card.xdma()?.c2h(index)?)
}

impl Channel {
    fn open(card: &Arc<SharedCard>, name: &str, options: Option<&ChannelOptions>) -> Result<Self, Failure> {
        let (way, info) = if let Some(index) = number(name, "h2c") {
            let channel = apply(options, card.xdma()?.h2c(index)?)?;
            let info = *channel.info();
            (Way::ToCard(channel), info)
        } else {
            let channel = from_card(card, name, options)?;
            let info = *channel.info();
            (Way::FromCard(channel), info)
        };
        Ok(Self { way, name: info.to_string(), stream: info.stream, card: Arc::clone(card) })
    }

    fn piece(&self, own: &Piece) -> Result<DriverPiece, Failure> {
        let buffer = handle::get(own.buffer)?.for_card(&self.card)?;
        let length = if own.length > 0 { own.length } else { buffer.size().saturating_sub(own.offset) };
        let end = own.offset.checked_add(length).ok_or_else(|| {
            Failure::new(Kind::OutOfBounds, format!("{}: the bytes would end behind 2^64", self.name))
        })?;
        Ok(DriverPiece::new(&buffer, own.offset..end, own.card_address))
    }

    fn submit(&self, pieces: &[Piece]) -> Result<Pending, Failure> {
        let mut pieces = pieces.iter().map(|own| self.piece(own)).collect::<Result<Vec<_>, _>>()?;
        Ok(match &self.way {
            Way::FromCard(channel) if self.stream => match &pieces[..] {
                [only] => channel.receive(&only.buffer, only.range.clone())?,
                _ => {
                    let what = format!("{} receives into one piece at a time", self.name);
                    return Err(Failure::invalid(what));
                }
            },
            Way::ToCard(channel) if pieces.len() == 1 => one(channel, &pieces.remove(0))?,
            Way::FromCard(channel) if pieces.len() == 1 => one(channel, &pieces.remove(0))?,
            Way::ToCard(channel) => channel.submit_pieces(pieces)?,
            Way::FromCard(channel) => channel.submit_pieces(pieces)?,
        })
    }
}

fn one<D>(channel: &Driven<D>, piece: &DriverPiece) -> Result<Pending, xdma::Error> {
    channel.submit(&piece.buffer, piece.range.clone(), piece.card_address)
}

/// The DMA channels of the card: fills at most `capacity` of `channels`, which may be NULL then, and returns how many there are.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_card_channels(
    card: *mut Card,
    mut channels: Room<ChannelInfo>,
    capacity: usize,
) -> c_int {
    run(|| {
        let xdma = Arc::clone(&handle::get(card)?.shared).xdma()?;
        let all = Direction::ALL.into_iter().flat_map(|direction| xdma.channels(direction));
        let info = |own: &xdma::ChannelInfo| ChannelInfo {
            name: field(&own.to_string()),
            to_card: (own.direction == Direction::HostToCard).into(),
            index: own.index.into(),
            stream: own.stream.into(),
        };
        let all: Vec<_> = all.map(info).collect();
        let count = c_int::try_from(all.len()).unwrap_or(c_int::MAX);
        channels.fill(all, capacity)?;
        Ok(count)
    })
}

/// Opens a DMA channel of the card, `h2c0` to it or `c2h0` from it and so on; `options` may be NULL. It is this program's until it
/// is freed: `-EBUSY` if another has it, and `holder` says who.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_channel_open(
    card: *mut Card,
    name: Text,
    options: Option<&ChannelOptions>,
    channel: Option<&mut MaybeUninit<*mut Channel>>,
) -> c_int {
    run(|| {
        let card = Arc::clone(&handle::get(card)?.shared);
        let opened = Channel::open(&card, name.needed("the channel's name")?, options)?;
        handle::hand_out(channel, opened)
    })
}

/// Frees a channel; NULL is none. Transfers that have handles go on, and keep it from others until these are freed, too.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_channel_free(channel: *mut Channel) -> c_int {
    run(|| handle::free(channel).and(DONE))
}

/// Starts a transfer between `count` pieces of buffers and the card, in their order, and does not wait. To a stream they are one
/// packet; from a stream a packet, or as much of one as there is room for, comes into one piece, a multiple of 64 bytes.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_channel_submit(
    channel: *mut Channel,
    pieces: Array<Piece>,
    count: usize,
    transfer: Option<&mut MaybeUninit<*mut Transfer>>,
) -> c_int {
    run(|| {
        // Before it is started.
        if transfer.is_none() {
            return Err(null("the place for the transfer"));
        }
        let own = handle::get(channel)?;
        let flight = Flight::new(own.submit(pieces.get(count)?)?, &own.name);
        handle::hand_out(transfer, Transfer::new(flight, Arc::clone(&own.card)))
    })
}

/// As `jitney_channel_submit`, and waits for the end: for `timeout_ms` milliseconds at most, below 0 for as long as it takes. One that
/// has not ended by then is cancelled, which is `-ETIMEDOUT`. `completed` may be NULL.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_channel_run(
    channel: *mut Channel,
    pieces: Array<Piece>,
    count: usize,
    timeout_ms: c_int,
    completed: Option<&mut MaybeUninit<Completed>>,
) -> c_int {
    run(|| {
        let own = handle::get(channel)?;
        let pending = own.submit(pieces.get(count)?)?;
        let done = match duration(timeout_ms) {
            None => pending.wait()?,
            Some(timeout) => match pending.wait_for(timeout)? {
                Some(done) => done,
                // It may be over just then.
                None => pending.cancel()?.ok_or_else(|| Failure::timed_out(&own.name))?,
            },
        };
        give(completed, Completed::new(done));
        DONE
    })
}

/// Writes `size` bytes of any memory to the card from `card_address` on, or as one packet to a stream, and waits until they are
/// there: for the few that are not worth a buffer, as they are copied.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_channel_write(
    channel: *mut Channel,
    data: Bytes,
    size: usize,
    card_address: u64,
) -> c_int {
    run(|| {
        let own = handle::get(channel)?;
        let Way::ToCard(driven) = &own.way else {
            return Err(Failure::invalid(format!(
                "{} comes from the card, and cannot be written to",
                own.name
            )));
        };
        driven.write_bytes(data.get(size)?, card_address)?;
        DONE
    })
}

/// Reads `size` bytes of the card from `card_address` on into any memory, likewise. A stream is received from into buffers.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_channel_read(
    channel: *mut Channel,
    mut data: BytesOut,
    size: usize,
    card_address: u64,
) -> c_int {
    run(|| {
        let own = handle::get(channel)?;
        let Way::FromCard(driven) = &own.way else {
            return Err(Failure::invalid(format!("{} goes to the card, and cannot be read", own.name)));
        };
        driven.read_bytes(data.get(size)?, card_address)?;
        DONE
    })
}
