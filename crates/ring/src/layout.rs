//! What lies where in a ring. docs/ring.md describes it for other languages.

use crate::error::Error;
use jitney_memory::Mapping;
use jitney_vfio::DmaRequest;

/// "JRNG", little endian.
pub(crate) const MAGIC: u32 = 0x474e_524a;
pub(crate) const VERSION: u32 = 1;

/// Words of the header.
pub(crate) const AT_MAGIC: u64 = 0;
pub(crate) const AT_VERSION: u64 = 4;
pub(crate) const AT_BLOCKS: u64 = 8;
pub(crate) const AT_BYTES: u64 = 12;
/// 1 when the writer has ended as it should.
pub(crate) const AT_CLOSED: u64 = 16;
/// The low half of the number of blocks that were published: what readers sleep on.
pub(crate) const AT_WAKE: u64 = 20;
/// How many blocks were published.
pub(crate) const AT_PUBLISHED: u64 = 24;

/// A record, one cache line, and its words.
const RECORD: u64 = 64;
/// One more than the number of the block that is being put there, or is there.
pub(crate) const BEGUN: u64 = 0;
/// One more than the number of the block that is there as a whole.
pub(crate) const WHOLE: u64 = 8;
/// Bytes of all blocks before it.
pub(crate) const BYTES_BEFORE: u64 = 16;
/// Packets that ended in blocks before it.
pub(crate) const PACKETS_BEFORE: u64 = 24;
/// Bytes of the block.
pub(crate) const LENGTH: u64 = 32;
/// Bit 0: it ends a packet.
pub(crate) const FLAGS: u64 = 36;
pub(crate) const ENDS_PACKET: u32 = 1;

const PAGE: u64 = 4096;
/// A stream is received in multiples of the widest data path that a card can have.
const GRAIN: u32 = 64;
const MOST_BLOCKS: u32 = 1023;
const MOST_BYTES: u32 = 8 << 20;

/// How many blocks a ring has, and of how many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    blocks: u32,
    bytes: u32,
}

impl Shape {
    /// A ring of `blocks` blocks, 4 to 1023, of `bytes` bytes at most, a multiple of 64 up to 8 MiB.
    ///
    /// # Errors
    /// [`Error::Shape`] for other numbers.
    pub fn new(blocks: u32, bytes: u32) -> Result<Self, Error> {
        let good = (4..=MOST_BLOCKS).contains(&blocks)
            && (GRAIN..=MOST_BYTES).contains(&bytes)
            && bytes.is_multiple_of(GRAIN);
        if good { Ok(Self { blocks, bytes }) } else { Err(Error::Shape { blocks, bytes }) }
    }

    /// How many blocks it has.
    #[must_use]
    pub const fn blocks(&self) -> u32 {
        self.blocks
    }

    /// How many bytes a block has at most.
    #[must_use]
    pub const fn block_size(&self) -> usize {
        self.bytes as usize
    }

    /// The DMA buffer that it takes.
    #[must_use]
    pub const fn request(&self) -> DmaRequest {
        DmaRequest::new(self.size())
    }

    /// Its size in bytes.
    pub(crate) const fn size(&self) -> u64 {
        self.header() + self.blocks as u64 * self.bytes as u64
    }

    const fn header(&self) -> u64 {
        (RECORD + self.blocks as u64 * RECORD).next_multiple_of(PAGE)
    }

    /// How many blocks the card has at a time; the others are what readers look at.
    pub(crate) const fn armed(&self) -> u32 {
        let quarter = self.blocks / 4;
        if quarter < 2 { 2 } else { quarter }
    }

    /// Where the record of block `number` is.
    pub(crate) fn record(&self, number: u64) -> u64 {
        RECORD + number % u64::from(self.blocks) * RECORD
    }

    /// Where block `number` is.
    pub(crate) fn block(&self, number: u64) -> u64 {
        self.header() + number % u64::from(self.blocks) * u64::from(self.bytes)
    }

    /// The shape of the ring in this memory of another process: looked at once, and checked.
    pub(crate) fn of(memory: &Mapping, size: u64) -> Result<Self, Error> {
        let magic = memory.load_acquire32(AT_MAGIC)?;
        if magic != MAGIC {
            return Err(Error::NoRing(format!("it begins with {magic:#010x} instead of {MAGIC:#010x}")));
        }
        let version = memory.load32(AT_VERSION)?;
        if version != VERSION {
            return Err(Error::NoRing(format!(
                "it is of version {version}, and this program knows {VERSION}"
            )));
        }
        let shape = Self::new(memory.load32(AT_BLOCKS)?, memory.load32(AT_BYTES)?)?;
        match shape.size() {
            needed if needed <= size => Ok(shape),
            needed => Err(Error::Size { needed, there: size }),
        }
    }
}

/// The low half of a number, to be compared with what readers sleep on.
pub(crate) fn low(number: u64) -> u32 {
    let [a, b, c, d, ..] = number.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}
