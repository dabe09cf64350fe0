//! The first pass over a DMA buffer that nobody touched, beside the same memory without a card.

use super::Wish;
use crate::figure::{Bar, Figure, Unit};
use crate::processes::Board;
use crate::rounds::{Rounds, timed};
use anyhow::Context;
use jitney_broker::Bus;
use jitney_memory::{Access, Mapping, Memfd, PageSize};
use jitney_vfio::DmaBuffer;

const SIZE: u64 = 256 << 20;

/// Of an emulated board: memory that is sparse until somebody touches it.
pub(super) fn measure(wish: Wish) -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir().context("a folder for sockets")?;
    let board = Board::start("nitefury", folder.path())?;
    let bus = Bus::alone(&[board.address()])?;
    let make = || Ok(bus.dma_buffer(SIZE)?);
    let what = "first pass over a new DMA buffer of 256 MiB, emulated";
    Ok(vec![figure(what, SIZE, make, DmaBuffer::free, wish)?])
}

/// Makes a buffer and writes all of it, once; so does one thread with a file of its own in memory, which no card has.
pub(super) fn figure(
    what: &str,
    size: u64,
    make: impl Fn() -> anyhow::Result<DmaBuffer>,
    free: impl Fn(DmaBuffer) -> jitney_vfio::Result<()>,
    wish: Wish,
) -> anyhow::Result<Figure> {
    let length = usize::try_from(size)?;
    let buffer = || {
        let mut made = None;
        let time = timed(|| {
            let buffer = made.insert(make()?);
            buffer.view().fill(0, length, 1)?;
            anyhow::Ok(())
        })?;
        made.map_or(Ok(()), &free)?;
        Ok(time)
    };
    let alone = || {
        let mut made = None;
        timed(|| {
            let memory = Memfd::create("alone", size, PageSize::Normal)?;
            made.insert(Mapping::shared(&memory, 0, length, Access::ReadWrite)?).fill(0, length, 1)?;
            anyhow::Ok(())
        })
    };
    let rounds = Rounds::measure("first passes", wish.rounds(8), [&mut || buffer(), &mut || alone()])?;
    Ok(Figure {
        what: format!("{what} ÷ one thread's over memory that no card has"),
        measured: rounds.ratio(0, 1),
        unit: Unit::Ratio,
        bar: Bar::AtMost(1.2),
        detail: format!("{:.0} and {:.0} ms", rounds.seconds(0) * 1e3, rounds.seconds(1) * 1e3),
    })
}
