//! The flash of the card that a command is about.

use crate::args::OneCard;
use crate::boards::catalogue;
use crate::cards::Session;
use crate::status::Misuse;
use jitney_boards::{Board, Flash, identify_in};
use std::ops::Range;

/// A board, and its flash, whose bus nobody else has meanwhile.
#[derive(Debug)]
pub(super) struct Opened {
    // In this order: what is leased goes before the card.
    pub(super) flash: Flash,
    pub(super) board: Board,
    _session: Session,
}

impl Opened {
    pub(super) fn of(wanted: &OneCard) -> anyhow::Result<Self> {
        let (session, card) = Session::open_card(wanted)?;
        let board = identify_in(&catalogue(&wanted.source.emulate)?, &card)?;
        let flash = board.quad_spi()?.lease()?.flash()?;
        Ok(Self { flash, board, _session: session })
    }

    /// `length` bytes from `offset` on, or all that there are.
    pub(super) fn range(&self, offset: u64, length: Option<u64>) -> Result<Range<u64>, Misuse> {
        let size = self.flash.part().size;
        let end = length.map_or(size, |length| offset.saturating_add(length));
        if offset < end && end <= size {
            return Ok(offset..end);
        }
        let (name, card) = (self.board.name(), self.board.card().identity());
        Err(Misuse(format!(
            "{offset:#x} to {end:#x} is not all in the flash of {name} at {card}, which has {size:#x} bytes"
        )))
    }
}
