//! A DMA buffer of 64 KiB, made and freed by the client of a broker, beside its owner doing so itself.

use super::Wish;
use crate::figure::{Bar, Figure, Unit};
use crate::processes::{Board, Broker};
use crate::rounds::{Rounds, timed};
use anyhow::Context;
use jitney_broker::Bus;

const SIZE: u64 = 64 << 10;

/// Buffers per measurement.
const BUFFERS: u32 = 1000;

pub(super) fn measure(wish: Wish) -> anyhow::Result<Vec<Figure>> {
    let folders = [(); 2].map(|()| tempfile::tempdir().context("a folder for sockets"));
    let [brokered_folder, owned_folder] = folders;
    let (brokered_folder, owned_folder) = (brokered_folder?, owned_folder?);
    // A board each: on one board the two would need addresses that the other does not use.
    let brokered_board = Board::start("nitefury", brokered_folder.path())?;
    let owned_board = Board::start("nitefury", owned_folder.path())?;
    let broker = Broker::start(&brokered_board.address(), &[], brokered_folder.path())?;
    let client = Bus::options().broker(broker.socket()).open()?;
    let owner = Bus::alone(&[owned_board.address()])?;
    // Freed as programs do, by dropping; the last one waits until all are gone.
    let make_and_free = |bus: &Bus| {
        timed(|| {
            (1..BUFFERS).try_for_each(|_| bus.dma_buffer(SIZE).map(drop))?;
            bus.dma_buffer(SIZE)?.free()
        })
    };
    let rounds = Rounds::measure(
        "DMA buffers",
        wish.rounds(40),
        [&mut || make_and_free(&client), &mut || make_and_free(&owner)],
    )?;
    let each = |side| rounds.seconds(side) * 1e6 / f64::from(BUFFERS);
    Ok(vec![Figure {
        what: "a brokered DMA buffer of 64 KiB, made and freed ÷ the owner's own".into(),
        measured: rounds.ratio(0, 1),
        unit: Unit::Ratio,
        bar: Bar::AtMost(2.0),
        detail: format!("{:.1} and {:.1} µs", each(0), each(1)),
    }])
}
