//! `jitney test dma`: every pair of channels, with lengths and places around every boundary.

use super::dma_memory;
use super::dma_streams;
use super::verdict::{Check, Checks, Verdict};
use crate::args::{Dma, Selection};
use crate::cards::Session;
use crate::report::Report;
use crate::say::say;
use crate::status::Status;
use crate::targets::{self, nothing_tested};
use clap::Args;
use jitney_boards::{Board, DmaIp};
use schemars::JsonSchema;
use serde::Serialize;

const HELP: &str = "\
Examples:
  jitney test dma --emulate nitefury
  jitney test dma --emulate NiteFury_dma_stream_loopback
  jitney test dma --only 10ee:7024 --completion interrupt

Of memory: lengths and offsets around every power of two, on both sides, each transfer checked for what it moved and for what it \
must not have touched; transfers of several pieces, many at once, each kind of buffer. Of streams: every route, packets of lengths \
around every power of two. What a design lacks is skipped. The first 256 KiB of the first memory are overwritten.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct DmaArgs {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    dma: Dma,
}

/// How it went on one board.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    checks: Vec<Check>,
    failed: bool,
    /// Whether all was skipped.
    nothing: bool,
}

pub(crate) fn dma(args: &DmaArgs, json: bool) -> anyhow::Result<Status> {
    let mut report = Report::new(json);
    let session = Session::open(&args.selection)?;
    let has_xdma = |board: &Board| board.design().dma.is_some_and(|dma| dma.ip == DmaIp::Xdma);
    let targets = targets::find(&session, &args.selection, &report, has_xdma)?;
    if targets.boards.is_empty() {
        return nothing_tested("board with an XDMA", json);
    }
    let outcomes = targets.each(&mut report, |board, report| {
        report.line(format!("{} at {}", board.name(), board.card().identity()));
        let mut checks = Checks::default();
        add_checks(board, args.dma, &mut checks, report);
        report.line(checks.table());
        let nothing = checks.count(Verdict::Skipped) == checks.all.len();
        Ok(Outcome { failed: checks.any_failed(), nothing, checks: checks.all })
    });
    report.finish(&outcomes)?;
    let tested = |one: &targets::OnBoard<Outcome>| one.failed(|outcome| !outcome.nothing);
    if !outcomes.iter().any(tested) {
        say!("jitney: nothing tested: nothing of it fits the design");
        return Ok(Status::NothingTested);
    }
    Ok(targets.status(outcomes.iter().any(|one| one.failed(|outcome| outcome.failed))))
}

/// Does what fits the board's DMA.
pub(crate) fn add_checks(board: &Board, dma: Dma, checks: &mut Checks, report: &mut Report) {
    if board.design().dma.is_some_and(|dma| dma.has_streams()) {
        dma_streams::add_checks(board, dma, checks, report);
    } else {
        dma_memory::add_checks(board, dma, checks, report);
    }
}
