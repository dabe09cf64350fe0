//! What sits behind an AXI master: the DMA of a core, or a BAR.

use super::CardMemory;
use std::fmt;

/// Most bytes of one burst, and the boundary that none crosses (AMBA AXI, "Burst address").
pub const BURST: u64 = 4096;

/// Something with addresses on a card: memory, registers, a design in a simulator.
///
/// Addresses are byte addresses from the start of the target; [`AddressMap`](super::AddressMap) places targets on a bus.
/// Called by several threads at once. A call may take its time, as a slave may; while it does, the channel that made it
/// cannot be stopped.
pub trait AxiTarget: Send + Sync {
    /// The memory behind `address`, if there is memory: a master then copies there itself, as far as the span goes, and
    /// neither reads nor writes by bursts. Asked anew for every piece of a transfer.
    fn memory(&self, address: u64, length: u64) -> Option<MemorySpan<'_>> {
        let _ = (address, length);
        None
    }

    /// Reads `data.len()` bytes, at most [`BURST`] and not across a multiple of it.
    ///
    /// # Errors
    /// What the slave answers.
    fn read(&self, address: u64, data: &mut [u8]) -> Result<(), AxiError>;

    /// Writes exactly the bytes of `data`, with the same limits: the write strobes of all other bytes are off.
    ///
    /// # Errors
    /// What the slave answers.
    fn write(&self, address: u64, data: &[u8]) -> Result<(), AxiError>;

    /// The card's reset reaches the target. Memory keeps what it holds, and so do most others.
    fn reset(&self) {}
}

/// A range of memory, as far as it is one piece.
#[derive(Debug, Clone, Copy)]
pub struct MemorySpan<'a> {
    /// The memory.
    pub memory: &'a CardMemory,
    /// Where in it the range begins, in bytes.
    pub offset: u64,
    /// How many bytes of the range are there: at least one, at most as many as were asked for.
    pub length: u64,
}

/// Why a burst failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AxiError {
    /// DECERR: nothing is at that address.
    Decode,
    /// SLVERR: what is there refuses.
    Slave,
    /// No answer ever comes. A DMA channel hangs there until its function is reset.
    Hung,
}

impl fmt::Display for AxiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Decode => "decode error: nothing is at that address",
            Self::Slave => "slave error: what is at that address refuses",
            Self::Hung => "what is at that address does not answer",
        })
    }
}

impl std::error::Error for AxiError {}

/// The bursts of an access: at each, how many bytes are done before it, and its length.
pub(crate) fn bursts(address: u64, length: usize) -> impl Iterator<Item = (u64, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = done as u64;
        let room = BURST - address.wrapping_add(at) % BURST;
        let part = (length - done).min(usize::try_from(room).unwrap_or(usize::MAX));
        done += part;
        (part > 0).then_some((at, part))
    })
}

/// A target that never answers: what the AXI master of a design sees that left it unconnected.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoAnswer;

impl AxiTarget for NoAnswer {
    fn read(&self, _: u64, _: &mut [u8]) -> Result<(), AxiError> {
        Err(AxiError::Hung)
    }

    fn write(&self, _: u64, _: &[u8]) -> Result<(), AxiError> {
        Err(AxiError::Hung)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_burst_crosses_its_boundary() {
        let of = |address, length| bursts(address, length).collect::<Vec<_>>();
        assert_eq!(of(0x1000, 0), []);
        assert_eq!(of(0x1000, 4096), [(0, 4096)]);
        assert_eq!(of(0x1ffe, 4100), [(0, 2), (2, 4096), (4098, 2)]);
        assert_eq!(of(u64::MAX, 2), [(0, 1), (1, 1)]);
    }
}
