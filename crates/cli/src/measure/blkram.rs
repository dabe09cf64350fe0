//! `jitney time blkram`: many transfers of a block RAM's whole size each way, each verified.

use crate::args::{Dma, Selection, count};
use crate::cards::Session;
use crate::channels;
use crate::rates::{Rates, Summary};
use crate::report::Report;
use crate::status::Status;
use crate::targets::{self, block_ram, nothing_tested};
use anyhow::bail;
use clap::Args;
use jitney_boards::Board;
use jitney_pattern::Pattern;
use schemars::JsonSchema;
use serde::Serialize;
use std::num::NonZeroU64;

#[derive(Debug, Args)]
pub(crate) struct Blkram {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// How many transfers each way.
    #[arg(long, default_value = "14170", value_parser = count)]
    pub(crate) transfers: NonZeroU64,
    #[command(flatten)]
    pub(crate) dma: Dma,
}

/// How it went on one board.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    failure: Option<String>,
    host_to_card: Summary,
    card_to_host: Summary,
}

pub(crate) fn blkram(args: &Blkram, json: bool) -> anyhow::Result<Status> {
    let mut report = Report::new(json);
    let session = Session::open(&args.selection)?;
    let targets = targets::find(&session, &args.selection, &report, |board| block_ram(board).is_some())?;
    if targets.boards.is_empty() {
        return nothing_tested("board with block RAM and DMA", json);
    }
    let outcomes = targets.each(&mut report, |board, report| time(board, args, report));
    report.finish(&outcomes)?;
    let failed = outcomes.iter().any(|one| one.failed(|outcome| outcome.failure.is_some()));
    Ok(targets.status(failed))
}

fn time(board: &Board, args: &Blkram, report: &mut Report) -> anyhow::Result<Outcome> {
    let card = board.card().identity().to_string();
    let Some(memory) = block_ram(board) else { bail!("{} has no block RAM that DMA reaches", board.name()) };
    let (base, size, transfers) = (memory.base, memory.size, args.transfers.get());
    let xdma = board.xdma()?;
    let (h2c, c2h) = channels::open(&xdma, args.dma)?;
    let buffer = || board.card().dma_buffer(size.into());
    let (sent, received) = (buffer()?, buffer()?);
    report.line(format!("Testing {} with {size:#x} bytes of memory at {card}", board.name()));

    let (mut to_card, mut from_card) = (Rates::of(size), Rates::of(size));
    let mut pattern = Pattern::starting_at(0);
    let mut failure = None;
    report.start(board.name(), size.saturating_mul(transfers));
    for transfer in 1..=transfers {
        // New data each time, so that what an earlier transfer left cannot pass for it.
        let mut expected = pattern.clone();
        pattern.fill(sent.view(), 0, size)?;
        to_card.add(h2c.write_range(&sent, 0..size, base)?.duration);
        from_card.add(c2h.read_range(&received, 0..size, base)?.duration);
        if let Some(mismatch) = expected.compare(received.view(), 0, size)? {
            failure = Some(format!("transfer {transfer} of {transfers}: {mismatch}"));
            break;
        }
        report.advance(size);
    }
    let (host_to_card, card_to_host) = (to_card.summary(), from_card.summary());
    report.line(failure.clone().unwrap_or_else(|| format!("all {transfers} transfers each way match")));
    report.line(host_to_card.describe("host to card"));
    report.line(card_to_host.describe("card to host"));
    Ok(Outcome { failure, host_to_card, card_to_host })
}
