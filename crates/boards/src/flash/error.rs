//! What can go wrong with a flash.

use std::ops::Range;
use std::time::Duration;

/// A failure of a flash or of the bus that it is on; `at` is the bus and its card, as `the quad-spi of 0000:2e:00.0
/// (10ee:7011)`.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum FlashError {
    /// The registers are not those of an AXI Quad SPI.
    #[error(
        "{at} is no AXI Quad SPI: {what}; the card has another design than its ids say, or the boards file is wrong"
    )]
    NoCore {
        /// Where.
        at: String,
        /// What is wrong with it.
        what: String,
    },
    /// The core does not go on.
    #[error("{at} {what}; its clock may stand still, or the core was generated for another mode")]
    Core {
        /// Where.
        at: String,
        /// What it does.
        what: String,
    },
    /// The core does not let a command through.
    #[error(
        "{at} does not send the command {command:02X}h: the core was generated for flashes of another maker, \
         or of one that does not have it (PG153, \"Slave Device\")"
    )]
    Command {
        /// Where.
        at: String,
        /// The first byte of the transaction.
        command: u8,
    },
    /// Nobody answers.
    #[error(
        "the flash on {at} does not answer: its ID reads as {byte:02X}h only; it may be off, asleep, or not on this bus"
    )]
    Silent {
        /// Where.
        at: String,
        /// What every byte reads as.
        byte: u8,
    },
    /// The ID is not the same twice.
    #[error(
        "the flash on {at} says {first:02x?}, then {second:02x?}: the bus is not reliable, its clock may be too fast"
    )]
    Unsteady {
        /// Where.
        at: String,
        /// The ID.
        first: [u8; 3],
        /// The ID, later.
        second: [u8; 3],
    },
    /// A part of which nothing is known here, and that does not say it itself.
    #[error(
        "the flash on {at} has the ID {id:02x?}, which is not known here, and {why}; nothing was done to it"
    )]
    Unknown {
        /// Where.
        at: String,
        /// The bytes behind 9Fh.
        id: Vec<u8>,
        /// Why it cannot say what it is.
        why: String,
    },
    /// It is busy for longer than it may.
    #[error(
        "the flash on {at} is still busy {limit:?} after {what} at {address:#x} was started; switch the card off and on"
    )]
    Busy {
        /// Where.
        at: String,
        /// What.
        what: &'static str,
        /// In the flash.
        address: u64,
        /// How long that may take.
        limit: Duration,
    },
    /// Blocks are protected.
    #[error(
        "the flash on {at} is protected (block protection {bits:#04x} of its status register): nothing was written; \
         take the protection off first (`--unprotect`)"
    )]
    Protected {
        /// Where.
        at: String,
        /// The bits that protect.
        bits: u8,
    },
    /// The protection stays.
    #[error(
        "the flash on {at} keeps its block protection {bits:#04x}: the register is locked, by a pin of the board or for good"
    )]
    Locked {
        /// Where.
        at: String,
        /// The bits that protect.
        bits: u8,
    },
    /// It says that it has failed.
    #[error("the flash on {at} has failed to {what} at {address:#x}: {why}")]
    Failed {
        /// Where.
        at: String,
        /// What it was told.
        what: &'static str,
        /// In the flash.
        address: u64,
        /// What it says.
        why: String,
    },
    /// It holds something else than was written.
    #[error(
        "the flash on {at} reads {read:#04x} at {address:#x} after {written:#04x} was written: that sector is worn out, or the bus is not reliable"
    )]
    Differs {
        /// Where.
        at: String,
        /// In the flash.
        address: u64,
        /// What was written.
        written: u8,
        /// What it reads.
        read: u8,
    },
    /// What was asked for is not in it.
    #[error("bytes {:#x} to {:#x} are not all in the flash on {at}, which has {size:#x}", range.start, range.end)]
    Range {
        /// Where.
        at: String,
        /// What was asked for.
        range: Range<u64>,
        /// Its size in bytes.
        size: u64,
    },
    /// What is written begins in the middle of a sector.
    #[error(
        "{offset:#x} is no multiple of {sector:#x}: what is written to the flash on {at} begins with a sector, which is erased as a whole"
    )]
    Unaligned {
        /// Where.
        at: String,
        /// Where it was to begin.
        offset: u64,
        /// Bytes of a sector.
        sector: u64,
    },
}
