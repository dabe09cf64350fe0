//! `jitney time pio`: how long single accesses to a card's registers take.

use super::table::table;
use crate::args::{Selection, limit};
use crate::cards::Session;
use crate::report::Report;
use crate::status::Status;
use crate::targets::{self, nothing_tested};
use clap::Args;
use jitney_boards::{Board, Kind};
use jitney_vfio::Region;
use schemars::JsonSchema;
use serde::Serialize;
use std::time::{Duration, Instant};

const HELP: &str = "\
Examples:
  jitney time pio --emulate memmapped-blkram
  jitney time pio --for 1s --only 10ee:7011

Reads of one register in each BAR, and writes where the design has plain memory in a BAR, whose first word is put back. A read \
waits for the card; a write is posted, so many of them are as fast as the link.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Pio {
    #[command(flatten)]
    selection: Selection,
    /// How long each is measured: 100ms, 1s.
    #[arg(long = "for", value_name = "TIME", default_value = "200ms", value_parser = limit)]
    time: Duration,
}

/// How it went on one board.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    accesses: Vec<Access>,
}

/// How long accesses of one kind take.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Access {
    bar: usize,
    /// In bytes from the start of the BAR.
    offset: u64,
    /// `read` or `write`.
    what: String,
    /// Whether the BAR is mapped; else each access is a request to the kernel or the board.
    mapped: bool,
    accesses: u64,
    ns: f64,
    mb_per_s: f64,
}

pub(crate) fn pio(args: &Pio, json: bool) -> anyhow::Result<Status> {
    let mut report = Report::new(json);
    let session = Session::open(&args.selection)?;
    let targets = targets::find(&session, &args.selection, &report, |board| !places(board).is_empty())?;
    if targets.boards.is_empty() {
        return nothing_tested("board with registers that are known", json);
    }
    let outcomes = targets.each(&mut report, |board, report| {
        report.line(format!("{} at {}", board.name(), board.card().identity()));
        let outcome = measure(board, args.time)?;
        let rows = outcome.accesses.iter().map(|one| {
            let how = if one.mapped { "mapped" } else { "by request" };
            vec![
                format!("{} 32 bits of BAR {} at {:#x}, {how}", one.what, one.bar, one.offset),
                one.accesses.to_string(),
                format!("{:.0}", one.ns),
                format!("{:.1}", one.mb_per_s),
            ]
        });
        report.line(table(&["access", "times", "ns", "MB/s"], rows));
        Ok(outcome)
    });
    report.finish(&outcomes)?;
    Ok(targets.status(outcomes.iter().any(|one| one.failed(|_| false))))
}

/// A register of each BAR that can be read without doing anything, and whether it can be written.
fn places(board: &Board) -> Vec<(usize, u64, bool)> {
    let mut places: Vec<(usize, u64, bool)> = Vec::new();
    let mut add = |bar: usize, offset: u64, writable: bool| match places.iter_mut().find(|own| own.0 == bar) {
        Some(own) if writable && !own.2 => *own = (bar, offset, true),
        Some(_) => {}
        None => places.push((bar, offset, writable)),
    };
    if let Some(dma) = board.design().dma {
        add(dma.bar.into(), 0, false);
    }
    for peripheral in board.summary().peripherals {
        match peripheral.kind {
            Kind::Ram => add(peripheral.bar.into(), peripheral.offset, true),
            // Its first register is one that does nothing.
            Kind::AxiGpio | Kind::UserAccess | Kind::Dna | Kind::DdrStatus => {
                add(peripheral.bar.into(), peripheral.offset, false);
            }
            _ => {}
        }
    }
    places
}

pub(crate) fn measure(board: &Board, time: Duration) -> anyhow::Result<Outcome> {
    let mut accesses = Vec::new();
    for (bar, offset, writable) in places(board) {
        let region = board.card().bar(bar)?;
        let mapped = region.registers().is_some();
        let mut add = |what: &str, (count, seconds): (u64, f64)| {
            #[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
            let per = seconds / count as f64;
            let (ns, mb_per_s) = (per * 1e9, 4e-6 / per);
            accesses.push(Access { bar, offset, what: what.into(), mapped, accesses: count, ns, mb_per_s });
        };
        add("read", many(time, &region, |region| region.read32(offset).map(drop))?);
        if writable {
            let before = region.read32(offset)?;
            let done = many(time, &region, |region| region.write32(offset, before))?;
            add("write", done);
        }
    }
    Ok(Outcome { accesses })
}

impl Outcome {
    /// The fastest read, in words.
    pub(crate) fn best(&self) -> Option<String> {
        let reads = self.accesses.iter().filter(|one| one.what == "read");
        let best = reads.min_by(|one, other| one.ns.total_cmp(&other.ns))?;
        Some(format!("a read of BAR {} takes {:.0} ns", best.bar, best.ns))
    }
}

/// Does it again and again for about so long; how often, and in what time.
fn many(
    time: Duration,
    region: &Region,
    access: impl Fn(&Region) -> jitney_vfio::Result<()>,
) -> anyhow::Result<(u64, f64)> {
    // The clock is looked at once for so many.
    const BATCH: u64 = 16;
    let (mut count, started) = (0, Instant::now());
    loop {
        for _ in 0..BATCH {
            access(region)?;
        }
        count += BATCH;
        let elapsed = started.elapsed();
        if elapsed >= time {
            return Ok((count, elapsed.as_secs_f64()));
        }
    }
}
