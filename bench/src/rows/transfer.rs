//! H2C and C2H of 1 GiB on an emulated board, beside one thread's memcpy of as much.

use super::Wish;
use crate::figure::{Bar, Figure, Unit};
use crate::processes::Board;
use crate::rounds::{Rounds, timed};
use anyhow::Context;
use jitney_broker::Bus;
use jitney_memory::Mapping;

const SIZE: usize = 1 << 30;

pub(super) fn measure(wish: Wish) -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir().context("a folder for sockets")?;
    let board = Board::start("nitefury", folder.path())?;
    let bus = Bus::alone(&[board.address()])?;
    let card = bus.open_cards()?.remove(0);
    let xdma = jitney_boards::identify(&card)?.xdma()?;
    let (h2c, c2h) = (xdma.h2c(0)?, xdma.c2h(0)?);
    let buffer = bus.dma_buffer(SIZE as u64)?;
    let copy = Mapping::anonymous(SIZE)?;
    let rounds = Rounds::measure(
        "transfers of 1 GiB",
        wish.rounds(9),
        [
            &mut || timed(|| h2c.write(&buffer, 0).map(drop)),
            &mut || timed(|| buffer.view().copy_to(0, &copy, 0, SIZE)),
            &mut || timed(|| c2h.read(&buffer, 0).map(drop)),
        ],
    )?;
    let figure = |name, side| Figure {
        what: format!("{name} of 1 GiB on an emulated board ÷ one thread's memcpy"),
        measured: 1.0 / rounds.ratio(side, 1),
        unit: Unit::Ratio,
        bar: Bar::AtLeast(0.9),
        detail: format!("{:.2} and {:.2} GB/s", rate(rounds.seconds(side)), rate(rounds.seconds(1))),
    };
    Ok(vec![figure("H2C", 0), figure("C2H", 2)])
}

/// In 10^9 bytes per second.
fn rate(seconds: f64) -> f64 {
    SIZE as f64 / 1e9 / seconds
}
