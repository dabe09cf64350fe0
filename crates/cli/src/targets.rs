//! Which boards a test is for.

use super::args::Selection;
use super::boards::catalogue;
use super::cards::{Session, is_gone};
use super::contract::{CardName, Failure};
use super::held::held_cards;
use super::report::{Report, print_result};
use super::status::Status;
use crate::say::say;
use jitney_boards::{Board, DmaIp, Error, Memory, identify_in};
use schemars::JsonSchema;
use serde::Serialize;

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

/// What came of one of several boards.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct OnBoard<T> {
    #[serde(flatten)]
    pub(crate) card: CardName,
    pub(crate) board: String,
    #[serde(flatten)]
    pub(crate) came: Came<T>,
}

/// A result, or the reason why there is none.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Came<T> {
    Result(T),
    Failure { error: Failure },
}

impl<T> OnBoard<T> {
    /// Whether there is no result, or one of which `failed` is true.
    pub(crate) fn failed(&self, failed: impl FnOnce(&T) -> bool) -> bool {
        match &self.came {
            Came::Result(result) => failed(result),
            Came::Failure { .. } => true,
        }
    }
}

impl Targets {
    /// Does `job` with each board. That it fails on one does not keep the others from it; it is said at once.
    pub(crate) fn each<T>(
        &self,
        report: &mut Report,
        mut job: impl FnMut(&Board, &mut Report) -> anyhow::Result<T>,
    ) -> Vec<OnBoard<T>> {
        let one = |board: &Board| {
            let card = CardName::of(&**board.card());
            let came = match job(board, report) {
                Ok(result) => Came::Result(result),
                Err(error) => {
                    report.stop();
                    let (name, identity) = (board.name(), board.card().identity());
                    report.complain(format!("{name} at {identity}: {error:#}"));
                    Came::Failure { error: Failure::from(&error) }
                }
            };
            OnBoard { card, board: board.name().to_owned(), came }
        };
        self.boards.iter().map(one).collect()
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
        say!("jitney: passed over: {error}");
    }
    Ok(Targets { boards, card_is_gone: !gone.is_empty() })
}

/// Whether it has memory that an XDMA reaches.
pub(crate) fn has_memory(board: &Board) -> bool {
    let dma = board.design().dma;
    !board.memories().is_empty() && dma.is_some_and(|dma| dma.ip == DmaIp::Xdma && !dma.has_streams())
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
pub(crate) fn nothing_tested(what: &str, json: bool) -> anyhow::Result<Status> {
    match held_cards() {
        Some(held) => say!(
            "jitney: nothing tested: there is no {what} among the cards that can be had, but {held}; `jitney list` shows all"
        ),
        None => say!("jitney: nothing tested: there is no {what}; `jitney list` shows what there is"),
    }
    if json {
        let none: [(); 0] = [];
        print_result(&none)?;
    }
    Ok(Status::NothingTested)
}
