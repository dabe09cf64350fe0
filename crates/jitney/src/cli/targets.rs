//! Which boards a test is for.

use super::args::Selection;
use super::boards::catalogue;
use super::cards::{Session, is_gone};
use super::held::held_cards;
use super::report::{Report, print_line};
use super::status::Status;
use jitney_boards::{Board, Error, Memory, identify_in};

/// The boards that a test is for.
#[derive(Debug)]
pub(crate) struct Targets {
    pub(crate) boards: Vec<Board>,
    /// Whether there is a card that does not answer. It may be one that should have been tested.
    card_is_gone: bool,
}

impl Targets {
    /// The status of a test of all of them, of which one `failed` or none did.
    pub(crate) fn status(&self, failed: bool) -> Status {
        if failed || self.card_is_gone { Status::Failed } else { Status::Passed }
    }
}

/// The boards among the session's cards that `wanted` is true of. A card that is no known board, or that is dead, is
/// passed over with a word, unless it was named.
pub(crate) fn find(
    session: &Session,
    selection: &Selection,
    report: &Report,
    wanted: impl Fn(&Board) -> bool,
) -> anyhow::Result<Targets> {
    let catalogue = catalogue(&selection.source.emulate)?;
    let cards = session.cards(selection.only.as_deref())?;
    let mut gone = cards.gone;
    let mut boards = Vec::new();
    for card in cards.there {
        match identify_in(&catalogue, &card) {
            Ok(board) if wanted(&board) => boards.push(board),
            Ok(_) => {}
            Err(error @ Error::UnknownBoard { .. }) if selection.only.is_none() => {
                report.line(format!("passed over: {error}"));
            }
            Err(Error::Card(error)) if is_gone(&error) && selection.only.is_none() => gone.push(error),
            Err(error) => return Err(error.into()),
        }
    }
    for error in &gone {
        eprintln!("jitney: passed over: {error}");
    }
    Ok(Targets { boards, card_is_gone: !gone.is_empty() })
}

/// The first memory on it that DMA reaches and that is DRAM, or may be.
pub(crate) fn dram(board: &Board) -> Option<Memory> {
    board.memories().iter().copied().find(Memory::may_be_dram)
}

/// The first memory on it that DMA reaches and that is inside the FPGA, or may be.
pub(crate) fn block_ram(board: &Board) -> Option<Memory> {
    board.memories().iter().copied().find(Memory::may_be_on_chip)
}

/// What is said when there was nothing to test.
pub(crate) fn nothing_tested(what: &str, json: bool) -> Status {
    match held_cards() {
        Some(held) => eprintln!(
            "jitney: nothing tested: there is no {what} among the cards that can be had, but {held}; `jitney list` shows all"
        ),
        None => eprintln!("jitney: nothing tested: there is no {what}; `jitney list` shows what there is"),
    }
    if json {
        print_line("[]");
    }
    Status::NothingTested
}
