//! `jitney_stream`: a stream that is received without an end, or read from the ring of another program that does.

use crate::ahead::Ahead;
use crate::boundary::{DONE, run};
use crate::bus::Bus;
use crate::card::Card;
use crate::channel::{ChannelOptions, from_card};
use crate::handle::{self, object};
use crate::pointer::{BytesOut, Text, give};
use crate::time::until;
use jitney::ring::{End, Next, Reader};
use jitney::xdma::{Capture, Overrun};
use jitney_faces::{Failure, Kind, SharedBus, SharedCard, offered};
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// The card waits when blocks come faster than they are read, for `overrun` of jitney_capture_options.
pub const JITNEY_OVERRUN_WAIT: u32 = 0;
/// The oldest blocks are overwritten, and `lost` of jitney_block says how many.
pub const JITNEY_OVERRUN_OVERWRITE: u32 = 1;

/// Blocks of a stream, which come one after the other.
#[derive(Debug)]
pub struct Stream {
    source: Arc<Mutex<Source>>,
    /// Who waits for a poll loop; made when a descriptor is first asked for.
    ahead: OnceLock<Ahead<Taken>>,
    /// Of several threads that ask for it first, one makes it: a second thread of the library's would take blocks away.
    starting: Mutex<()>,
    block_size: usize,
    _card: Option<Arc<SharedCard>>,
    _bus: Option<Arc<SharedBus>>,
}
object!(Stream, 0x97, "the stream");

#[derive(Debug)]
enum Source {
    Capture { capture: Box<Capture>, block: Vec<u8> },
    Ring(Reader),
}

/// A block that was copied out.
#[derive(Debug)]
struct Taken {
    facts: Block,
    data: Vec<u8>,
}

/// What there is to know about a block.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Block {
    /// Its number, counted from 0, those that were lost included.
    pub number: u64,
    /// How many bytes it has.
    pub bytes: u64,
    /// Blocks directly in front of it that were lost.
    pub lost: u64,
    /// 1 if its bytes end a packet.
    pub ends_packet: u32,
}

/// How a stream is received. All zero is as usual.
#[repr(C)]
#[derive(Debug)]
pub struct CaptureOptions {
    /// How many blocks the ring has, 3 to 1023; 0 for 64.
    pub blocks: u32,
    /// `JITNEY_OVERRUN_WAIT` or the other.
    pub overrun: u32,
    /// Bytes of a block, a multiple of 64; 0 for 65536.
    pub block_size: u64,
}

fn lock(source: &Mutex<Source>) -> MutexGuard<'_, Source> {
    source.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Source {
    fn next(&mut self, timeout: Duration) -> Result<Option<Taken>, Failure> {
        match self {
            Self::Capture { capture, block } => {
                let Some(own) = capture.read(block, Some(timeout))? else { return Ok(None) };
                let data = block.get(..own.bytes).unwrap_or_default().to_vec();
                let facts = Block {
                    number: own.sequence,
                    bytes: data.len() as u64,
                    lost: own.lost,
                    ends_packet: own.ends_packet.into(),
                };
                Ok(Some(Taken { facts, data }))
            }
            Self::Ring(reader) => next_of_ring(reader, timeout),
        }
    }
}

fn next_of_ring(reader: &mut Reader, timeout: Duration) -> Result<Option<Taken>, Failure> {
    loop {
        let mut block = match reader.next(timeout)? {
            Next::Block(block) => block,
            Next::Nothing => return Ok(None),
            Next::Ended(how) => {
                return Err(Failure::closed(match how {
                    End::Closed => "the ring, whose writer has ended it,",
                    End::Gone => "the ring, whose writer is gone,",
                }));
            }
        };
        let mut data = vec![0; block.len()];
        let facts = Block {
            number: block.number(),
            bytes: data.len() as u64,
            lost: block.lost().blocks,
            ends_packet: block.ends_packet().into(),
        };
        match block.read(0, &mut data) {
            Ok(()) => return Ok(Some(Taken { facts, data })),
            // It is among those that are lost in front of the next.
            Err(error) if error.is_overrun() => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl Stream {
    fn new(source: Source, block_size: usize) -> Self {
        let source = Arc::new(Mutex::new(source));
        Self { source, ahead: OnceLock::new(), starting: Mutex::new(()), block_size, _card: None, _bus: None }
    }

    fn next(&self, timeout: Duration) -> Result<Option<Taken>, Failure> {
        match self.ahead.get() {
            Some(ahead) => ahead.take(timeout),
            None => lock(&self.source).next(timeout),
        }
    }

    fn descriptor(&self) -> Result<c_int, Failure> {
        let _starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ahead) = self.ahead.get() {
            return Ok(ahead.descriptor());
        }
        let source = Arc::downgrade(&self.source);
        let ahead = Ahead::start(move |slice| {
            let source = source.upgrade().ok_or_else(|| Failure::closed("the stream"))?;
            lock(&source).next(slice)
        })?;
        Ok(self.ahead.get_or_init(|| ahead).descriptor())
    }
}

/// Receives a stream of the card without an end, by the channel of this name (`c2h0`), into a ring of blocks; `channel` and `options`
/// may be NULL. The channel is this program's until the stream is freed, which stops the engine.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_stream_capture(
    card: *mut Card,
    name: Text,
    channel: Option<&ChannelOptions>,
    options: Option<&CaptureOptions>,
    stream: Option<&mut MaybeUninit<*mut Stream>>,
) -> c_int {
    run(|| {
        let card = Arc::clone(&handle::get(card)?.shared);
        let or = |own: u64, usual: u64| if own > 0 { own } else { usual };
        let blocks = or(options.map_or(0, |options| options.blocks.into()), 64);
        let size = or(options.map_or(0, |options| options.block_size), 1 << 16);
        let overrun = match options.map_or(JITNEY_OVERRUN_WAIT, |options| options.overrun) {
            JITNEY_OVERRUN_WAIT => Overrun::Wait,
            JITNEY_OVERRUN_OVERWRITE => Overrun::Overwrite,
            other => {
                return Err(Failure::invalid(format!(
                    "there is no overrun {other}: see JITNEY_OVERRUN_WAIT"
                )));
            }
        };
        let driven = from_card(&card, name.needed("the channel's name")?, channel)?;
        let capture = driven.capture(u32::try_from(blocks).unwrap_or(u32::MAX), size, overrun)?;
        let (block_size, block) = (capture.block_size(), vec![0; capture.block_size()]);
        let capture = Box::new(capture);
        let mut own = Stream::new(Source::Capture { capture, block }, block_size);
        own._card = Some(card);
        handle::hand_out(stream, own)
    })
}

/// Reads the stream that another program captures into a ring that it offers by this name, without slowing it down, beginning with what
/// comes from now on. When the ring has ended, reading says `-EBADF` with the reason.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_stream_ring(
    bus: *mut Bus,
    name: Text,
    stream: Option<&mut MaybeUninit<*mut Stream>>,
) -> c_int {
    run(|| {
        let bus = Arc::clone(&handle::get(bus)?.shared);
        let reader = Reader::new(bus.slot.get()?.view(offered(name.get("the name")?, None)?)?)?;
        let block_size = reader.shape().block_size();
        let mut own = Stream::new(Source::Ring(reader), block_size);
        own._bus = Some(bus);
        handle::hand_out(stream, own)
    })
}

/// The most bytes that a block has.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_stream_block_size(
    stream: *mut Stream,
    size: Option<&mut MaybeUninit<usize>>,
) -> c_int {
    run(|| {
        give(size, handle::with(stream, |own| Ok(own.block_size))?);
        DONE
    })
}

/// Copies the next block to `data`, where there is room for `capacity` bytes, which must be as many as a block can have. Waits for it for
/// `timeout_ms` milliseconds at most: 0 only looks, below 0 is as long as it takes. Returns 1 if there was one, and `block`, which
/// may be NULL, says which; 0 if there was none in time.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_stream_read(
    stream: *mut Stream,
    mut data: BytesOut,
    capacity: usize,
    timeout_ms: c_int,
    block: Option<&mut MaybeUninit<Block>>,
) -> c_int {
    run(|| {
        let size = handle::with(stream, |own| Ok(own.block_size))?;
        // Before a block is taken, which would be lost.
        if capacity < size {
            let what = format!("there is room for {capacity} bytes, and a block can have {size}");
            return Err(Failure::new(Kind::Invalid, what).with_remedy("ask jitney_stream_block_size"));
        }
        data.needed()?;
        match until(timeout_ms, |slice| handle::get(stream)?.next(slice))? {
            Some(taken) => {
                data.fill(&taken.data, capacity)?;
                give(block, taken.facts);
                Ok(1)
            }
            None => Ok(0),
        }
    })
}

/// A descriptor for `poll`: readable when there is a block to read, or the stream has failed or ended. It is the library's, until
/// the stream is freed. From the first call on a thread of the library's reads one block ahead.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_stream_fd(stream: *mut Stream) -> c_int {
    run(|| handle::get(stream)?.descriptor())
}

/// Frees a stream; NULL is none.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_stream_free(stream: *mut Stream) -> c_int {
    run(|| handle::free(stream).and(DONE))
}
