//! Transfers of memory-mapped channels: between the program's memory and the card's, by way of DMA buffers.
//!
//! Two buffers take turns: while the engine moves one, the other is copied from or to the program.

use crate::card::Card;
use crate::failure::Outcome;
use crate::user_memory::UserMemory;
use jitney_xdma::Pending;

/// What is moved at once. A transfer of less goes in one piece.
const PIECE: usize = 2 << 20;

/// One piece under way.
struct Piece {
    number: usize,
    start: usize,
    length: usize,
    buffer: jitney_vfio::DmaBuffer,
    pending: Pending,
}

/// Where each piece of `length` bytes begins, and how long it is.
fn pieces(length: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let starts = (0..length).step_by(PIECE).enumerate();
    starts.map(move |(number, start)| (number, start, PIECE.min(length - start)))
}

/// Writes all of the program's memory to the card's from `address` on.
///
/// # Errors
/// EFAULT, EBUSY, EIO, ETIMEDOUT: what came before may have been written.
pub(crate) fn write(card: &Card, channel: u8, from: UserMemory, address: u64) -> Outcome<()> {
    let mut lease = card.h2c(channel)?;
    let top = lease.channel()?.limits().top();
    let mut under_way: Option<Piece> = None;
    for (number, start, length) in pieces(from.len()) {
        let buffer = lease.buffer(card, number, length as u64, top)?;
        from.part(start, length).read_into(&buffer)?;
        let pending =
            lease.channel()?.submit(&buffer, 0..length as u64, address.saturating_add(start as u64))?;
        if let Some(before) = under_way.replace(Piece { number, start, length, buffer, pending }) {
            before.pending.wait()?;
            lease.keep(before.number, before.buffer);
        }
    }
    if let Some(last) = under_way {
        last.pending.wait()?;
        lease.keep(last.number, last.buffer);
    }
    Ok(())
}

/// Fills all of the program's memory from the card's at `address`.
///
/// # Errors
/// As [`write`].
pub(crate) fn read(card: &Card, channel: u8, to: UserMemory, address: u64) -> Outcome<()> {
    let mut lease = card.c2h(channel)?;
    let top = lease.channel()?.limits().top();
    let mut under_way: Option<Piece> = None;
    let mut next = pieces(to.len());
    loop {
        let following = next.next();
        if let Some((number, start, length)) = following {
            let buffer = lease.buffer(card, number, length as u64, top)?;
            let pending =
                lease.channel()?.submit(&buffer, 0..length as u64, address.saturating_add(start as u64))?;
            let before = under_way.replace(Piece { number, start, length, buffer, pending });
            let Some(before) = before else { continue };
            let (number, buffer) = finish(before, to)?;
            lease.keep(number, buffer);
        } else {
            if let Some(last) = under_way {
                let (number, buffer) = finish(last, to)?;
                lease.keep(number, buffer);
            }
            return Ok(());
        }
    }
}

/// Waits for a piece, and gives the program what it has.
fn finish(piece: Piece, to: UserMemory) -> Outcome<(usize, jitney_vfio::DmaBuffer)> {
    piece.pending.wait()?;
    to.part(piece.start, piece.length).write_from(&piece.buffer)?;
    Ok((piece.number, piece.buffer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_whole_and_take_turns() {
        assert_eq!(pieces(1).collect::<Vec<_>>(), [(0, 0, 1)]);
        assert_eq!(
            pieces(2 * PIECE + 5).collect::<Vec<_>>(),
            [(0, 0, PIECE), (1, PIECE, PIECE), (2, 2 * PIECE, 5)]
        );
        assert_eq!(pieces(0).count(), 0);
    }
}
