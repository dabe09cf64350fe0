//! Several transfers under way, so that a file is read or written while the engine moves what was before.

use anyhow::Context;
use jitney_vfio::{Card, DmaRequest, OwnBuffer};
use jitney_xdma::{C2h, Channel, Lent};
use std::collections::VecDeque;

/// Bytes of a transfer: at the rate of a fast link, long enough that the time between two does not matter.
pub(crate) const PIECE: u64 = 4 << 20;
/// How many there are: the engine has two while a third is filled or emptied, and one is to spare for a disk that hesitates.
const PIECES: u64 = 4;

/// The transfers of a channel, oldest first, and the buffers that none of them has.
#[derive(Debug)]
pub(crate) struct InFlight<'a, D> {
    channel: &'a Channel<D>,
    free: Vec<OwnBuffer>,
    under_way: VecDeque<(Lent, Piece)>,
}

/// What a transfer moves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) address: u64,
    pub(crate) length: u64,
}

impl Piece {
    fn bytes(self, buffer: &OwnBuffer) -> &[u8] {
        // No piece is longer than its buffer.
        usize::try_from(self.length).ok().and_then(|length| buffer.get(..length)).unwrap_or(buffer)
    }
}

impl<'a, D> InFlight<'a, D> {
    /// Buffers for `length` bytes through `channel`, or as many as it takes to keep it busy. What it cannot do with
    /// such pieces is told before anything is moved.
    pub(crate) fn new(
        card: &dyn Card,
        channel: &'a Channel<D>,
        address: u64,
        length: u64,
    ) -> anyhow::Result<Self> {
        let pieces = length.div_ceil(PIECE).clamp(1, PIECES);
        let request = DmaRequest::new(length.clamp(1, PIECE)).below(channel.limits().top());
        let buffers = (0..pieces).map(|_| card.dma_buffer(request)).collect::<Result<Vec<_>, _>>()?;
        for piece in pieces_of(address, length).take(1).chain(pieces_of(address, length).last()) {
            let _possible = channel.plan(&buffers[0], 0..piece.length, piece.address)?;
        }
        let free = buffers.into_iter().filter_map(|buffer| buffer.into_own().ok()).collect();
        Ok(Self { channel, free, under_way: VecDeque::new() })
    }

    /// Buffers for packets of up to `length` bytes through a stream, as many as it takes to keep it busy.
    pub(crate) fn of_packets(card: &dyn Card, channel: &'a Channel<D>, length: u64) -> anyhow::Result<Self> {
        let count = (PIECES * PIECE / length).clamp(3, 64);
        let request = DmaRequest::new(length).below(channel.limits().top());
        let buffers = (0..count).map(|_| card.dma_buffer(request)).collect::<Result<Vec<_>, _>>()?;
        let _possible = channel.plan(&buffers[0], 0..length, 0)?;
        let free = buffers.into_iter().filter_map(|buffer| buffer.into_own().ok()).collect();
        Ok(Self { channel, free, under_way: VecDeque::new() })
    }

    /// A buffer that no transfer has.
    pub(crate) fn free(&mut self) -> Option<OwnBuffer> {
        self.free.pop()
    }

    /// The buffer is free again.
    pub(crate) fn give_back(&mut self, buffer: OwnBuffer) {
        self.free.push(buffer);
    }

    /// Has the engine move `piece` of `buffer` after those before it.
    pub(crate) fn submit(&mut self, buffer: OwnBuffer, piece: Piece) -> anyhow::Result<()> {
        let lent = self.channel.submit_own(buffer, 0..piece.length, piece.address);
        self.under_way.push_back((lent.map_err(|(error, _)| error)?, piece));
        Ok(())
    }

    /// Waits for the oldest transfer, if there is one, and takes it and its buffer.
    pub(crate) fn oldest(&mut self) -> anyhow::Result<Option<(OwnBuffer, Piece)>> {
        let Some((lent, piece)) = self.under_way.pop_front() else { return Ok(None) };
        let (outcome, buffer) = lent.wait();
        outcome.with_context(|| format!("{:#x} bytes at card address {:#x}", piece.length, piece.address))?;
        Ok(Some((buffer.context("a buffer did not come back from its transfer")?, piece)))
    }
}

/// Reads `length` bytes of a card's memory from `address` on, and hands them to `taken` in their order, while the engine
/// reads on.
pub(crate) fn read_all(
    card: &dyn Card,
    channel: &C2h,
    address: u64,
    length: u64,
    mut taken: impl FnMut(&[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut in_flight = InFlight::new(card, channel, address, length)?;
    let mut pieces = pieces_of(address, length).peekable();
    loop {
        while pieces.peek().is_some() {
            let Some(buffer) = in_flight.free() else { break };
            if let Some(piece) = pieces.next() {
                in_flight.submit(buffer, piece)?;
            }
        }
        let Some((buffer, piece)) = in_flight.oldest()? else { return Ok(()) };
        taken(piece.bytes(&buffer))?;
        in_flight.give_back(buffer);
    }
}

/// `length` bytes from `address` on, cut.
fn pieces_of(address: u64, length: u64) -> impl Iterator<Item = Piece> {
    let count = length.div_ceil(PIECE);
    (0..count).map(move |index| {
        let start = index * PIECE;
        Piece { address: address + start, length: PIECE.min(length - start) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_all_of_it_and_nothing_else() {
        let pieces =
            |length| pieces_of(0x100, length).map(|own| (own.address, own.length)).collect::<Vec<_>>();
        assert_eq!(pieces(0), []);
        assert_eq!(pieces(1), [(0x100, 1)]);
        assert_eq!(pieces(PIECE), [(0x100, PIECE)]);
        assert_eq!(pieces(2 * PIECE + 3), [(0x100, PIECE), (0x100 + PIECE, PIECE), (0x100 + 2 * PIECE, 3)]);
    }
}
