//! What the libraries for C and for Python add to the one that they are made of: the same, from each of them and from Rust, each on a
//! board of its own.

mod programs;

use super::Wish;
use crate::figure::{Bar, Figure, Unit};
use crate::processes::Board;
use crate::report::Skipped;
use crate::rounds::{Rounds, timed};
use anyhow::Context;
use jitney_broker::Bus;
use jitney_vfio::Card;
use programs::{Language, Program};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const READS: u32 = 5000;
const TRANSFERS: u32 = 2000;
const SIZE: u64 = 4096;
/// Of accesses to mapped memory, which are no calls of the system.
const QUICK_READS: u32 = 200_000;

/// From C.
pub(super) fn c(wish: Wish) -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir().context("a folder for sockets and a program")?;
    let boards = [board("nitefury", folder.path(), "c")?, board("nitefury", folder.path(), "rust")?];
    let mut program = Program::start(Language::C, folder.path(), &boards[0])?;
    let card = Bus::alone(&[boards[1].address()])?.open_cards()?.remove(0);
    let registers = card.bar(2)?;
    let reads = Rounds::measure(
        "register reads from C",
        wish.rounds(40),
        [&mut || program.does("reads", READS), &mut || {
            timed(|| (0..READS).try_for_each(|_| registers.read32(0).map(drop)))
        }],
    )?;
    let transfers = transfers("transfers from C", wish, &mut program, &card)?;
    Ok(vec![
        ratio("a register read over vfio-user from C ÷ from Rust", &reads, READS, 1.1),
        ratio("an H2C of 4 KiB, submitted and awaited, from C ÷ from Rust", &transfers, TRANSFERS, 1.1),
    ])
}

/// From Python.
pub(super) fn python(wish: Wish) -> anyhow::Result<Vec<Figure>> {
    if let Some(missing) = programs::no_python() {
        return Err(Skipped::new(missing).into());
    }
    let folder = tempfile::tempdir().context("a folder for sockets and a package")?;
    let mapped = board("memmapped-blkram", folder.path(), "mapped")?;
    let boards = [board("nitefury", folder.path(), "python")?, board("nitefury", folder.path(), "rust")?];
    let quick = std::cell::RefCell::new(Program::start(Language::Python, folder.path(), &mapped)?);
    let reads = Rounds::measure(
        "register reads from Python",
        wish.rounds(20),
        [&mut || quick.borrow_mut().does("reads", QUICK_READS), &mut || {
            quick.borrow_mut().does("ctypes", QUICK_READS)
        }],
    )?;
    let mut program = Program::start(Language::Python, folder.path(), &boards[0])?;
    let card = Bus::alone(&[boards[1].address()])?.open_cards()?.remove(0);
    let transfers = transfers("transfers from Python", wish, &mut program, &card)?;
    let each = |side| reads.seconds(side) * 1e9 / f64::from(QUICK_READS);
    Ok(vec![
        Figure {
            what: "a read of a mapped register from Python − ctypes' own of an array".into(),
            measured: each(0) - each(1),
            unit: Unit::Nanoseconds,
            bar: Bar::AtMost(150.0),
            detail: format!("{:.0} and {:.0} ns, the loop in both", each(0), each(1)),
        },
        ratio("an H2C of 4 KiB from Python ÷ from Rust", &transfers, TRANSFERS, 1.5),
    ])
}

/// Transfers of 4 KiB by a program and, on a card of its own, by this one.
fn transfers(
    what: &str,
    wish: Wish,
    program: &mut Program,
    card: &Arc<dyn Card>,
) -> anyhow::Result<Rounds<2>> {
    let h2c = jitney_boards::identify(card)?.xdma()?.h2c(0)?;
    let buffer = card.dma_buffer(SIZE.into())?;
    Rounds::measure(
        what,
        wish.rounds(40),
        [&mut || program.does("transfers", TRANSFERS), &mut || {
            timed(|| (0..TRANSFERS).try_for_each(|_| h2c.write(&buffer, 0).map(drop)))
        }],
    )
}

/// A board whose socket is in a folder of its own.
fn board(name: &str, folder: &Path, of: &str) -> anyhow::Result<Board> {
    let folder: PathBuf = folder.join(of);
    std::fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
    Board::start(name, &folder)
}

fn ratio(what: &str, rounds: &Rounds<2>, count: u32, most: f64) -> Figure {
    let each = |side| rounds.seconds(side) * 1e6 / f64::from(count);
    Figure {
        what: what.into(),
        measured: rounds.ratio(0, 1),
        unit: Unit::Ratio,
        bar: Bar::AtMost(most),
        detail: format!("{:.2} and {:.2} µs", each(0), each(1)),
    }
}
