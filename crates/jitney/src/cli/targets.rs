//! Which boards a test is for.

use super::args::Selection;
use super::cards::Session;
use super::report::Report;
use jitney_boards::{Board, Error};

/// Memory of this size or less is block RAM inside the FPGA; more than that is DDR beside it.
const BLOCK_RAM: u64 = 16 << 20;

/// The boards among the session's cards that `wanted` is true of. A card that is no known board is passed over with a
/// word, unless it was named.
pub(crate) fn boards(
    session: &Session,
    selection: &Selection,
    report: &Report,
    wanted: impl Fn(&Board) -> bool,
) -> anyhow::Result<Vec<Board>> {
    let mut boards = Vec::new();
    for card in session.cards(selection.only.as_deref())? {
        match jitney_boards::identify(&card) {
            Ok(board) if wanted(&board) => boards.push(board),
            Ok(_) => {}
            Err(error @ Error::UnknownBoard { .. }) if selection.only.is_none() => {
                report.line(format!("passed over: {error}"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(boards)
}

/// Whether DMA reaches DDR memory on it.
pub(crate) fn has_ddr(board: &Board) -> bool {
    board.memory().is_some_and(|memory| memory.size > BLOCK_RAM)
}

/// Whether DMA reaches block RAM on it.
pub(crate) fn has_block_ram(board: &Board) -> bool {
    board.memory().is_some_and(|memory| memory.size <= BLOCK_RAM)
}

/// What is said when there was nothing to test.
pub(crate) fn nothing_tested(what: &str) {
    eprintln!("jitney: nothing tested: there is no {what}; `jitney list` shows what there is");
}
