//! Bitstreams of AMD's 7-series and UltraScale FPGAs, read as data: what they are for, and whether they are whole.
//!
//! [`Bitstream::read`] takes a file's bytes, a `.bit` with its header or a `.bin` without. A [`Scanner`] takes them piece by
//! piece and says which it wants next, so that of a flash no more is read than needed.
//!
//! ```
//! use jitney_bitstream::Bitstream;
//!
//! let mut bytes = vec![0xff; 32];
//! bytes.extend(0xaa99_5566_u32.to_be_bytes()); // the sync word
//! bytes.extend(0x3001_8001_u32.to_be_bytes()); // write one word to the IDCODE register
//! bytes.extend(0x0363_6093_u32.to_be_bytes());
//! let bitstream = Bitstream::read(&bytes)?;
//! assert_eq!(bitstream.scan.part(), Some("XC7A200T"));
//! # Ok::<(), jitney_bitstream::HeaderError>(())
//! ```
//!
//! # What it is not for
//! It does not look into frames, checks no CRC, and does not decrypt. Versal's device images are something else.

#![forbid(unsafe_code)]

mod header;
mod packets;
mod parts;
mod scanner;

pub use header::{Header, HeaderError};
pub use parts::{is_for, knows, part_of};
pub use scanner::{Die, Fault, Order, Scan, Scanner};
use std::ops::Range;

/// A file with a bitstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitstream {
    /// The header of a `.bit` file.
    pub header: Option<Header>,
    /// Where what goes to the FPGA is in the file: what a `.bin` file has.
    pub data: Range<usize>,
    /// What was found there; offsets are from the start of it.
    pub scan: Scan,
}

impl Bitstream {
    /// Reads a file's bytes. Whatever they are, there is a result; [`Scan`] says whether it is a bitstream and a whole one.
    ///
    /// # Errors
    /// Those of a file that begins as a `.bit` file does, and has no whole header.
    pub fn read(bytes: &[u8]) -> Result<Self, HeaderError> {
        let header = Header::read(bytes)?;
        let start = header.as_ref().map_or(0, |header| header.size);
        let length = header.as_ref().map_or(u64::MAX, |header| header.length.into());
        let there = bytes.len() - start;
        let data = start..start + usize::try_from(length).unwrap_or(usize::MAX).min(there);
        let mut scan = Scanner::scan(&bytes[data.clone()]);
        if header.is_some() && length > there as u64 {
            scan.missing = scan.missing.max(length - there as u64);
        }
        Ok(Self { header, data, scan })
    }
}

#[cfg(test)]
mod tests;
