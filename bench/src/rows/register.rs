//! A register read over vfio-user, beside a bare ping-pong of as many bytes between two processes.

use super::Wish;
use crate::echo::Echo;
use crate::figure::{Bar, Figure, Unit};
use crate::processes::Board;
use crate::processor;
use crate::rounds::{Rounds, timed};
use anyhow::{Context, ensure};
use jitney_broker::Bus;

/// The XDMA registers of a NiteFury, and the identifier at their start.
const BAR: usize = 2;
const REGISTER: u64 = 0;

/// Reads per measurement.
const READS: u32 = 5000;

pub(super) fn measure(wish: Wish) -> anyhow::Result<Vec<Figure>> {
    processor::on_one(|| reads(wish))
}

fn reads(wish: Wish) -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir().context("a folder for sockets")?;
    let board = Board::start("nitefury", folder.path())?;
    let bus = Bus::alone(&[board.address()])?;
    let registers = bus.open_cards()?.remove(0).bar(BAR)?;
    ensure!(registers.registers().is_none(), "the registers of the emulated board are mapped");
    let mut echo = Echo::start()?;
    let rounds = Rounds::measure(
        "register reads",
        wish.rounds(40),
        [&mut || timed(|| (0..READS).try_for_each(|_| registers.read32(REGISTER).map(drop))), &mut || {
            timed(|| (0..READS).try_for_each(|_| echo.ping()))
        }],
    )?;
    let each = |side| rounds.seconds(side) * 1e6 / f64::from(READS);
    Ok(vec![Figure {
        what: "a register read over vfio-user ÷ a bare ping-pong".into(),
        measured: rounds.ratio(0, 1),
        unit: Unit::Ratio,
        bar: Bar::AtMost(1.5),
        detail: format!("{:.2} and {:.2} µs", each(0), each(1)),
    }])
}
