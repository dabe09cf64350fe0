//! `jitney test general`: which NiteFury or LiteFury it is, and its sensors.

use crate::cli::args::Selection;
use crate::cli::cards::Session;
use crate::cli::report::Report;
use crate::cli::status::Status;
use crate::cli::targets::{self, nothing_tested};
use clap::Args;
use jitney_boards::{Board, xadc};
use serde::Serialize;

#[derive(Debug, Args)]
pub(crate) struct General {
    #[command(flatten)]
    pub(crate) selection: Selection,
}

/// What is printed of a board.
#[derive(Debug, Serialize)]
struct Found {
    card: String,
    board: String,
    version: Option<u32>,
    readings: xadc::Readings,
}

pub(crate) fn general(args: &General, json: bool) -> anyhow::Result<Status> {
    let report = Report::new(json);
    let session = Session::open(&args.selection)?;
    let targets = targets::find(&session, &args.selection, &report, |board| board.version().is_some())?;
    if targets.boards.is_empty() {
        return Ok(nothing_tested("NiteFury or LiteFury", json));
    }
    let mut found = Vec::new();
    for board in &targets.boards {
        found.push(look_at(board, &report)?);
    }
    report.finish(&found)?;
    Ok(targets.status(false))
}

fn look_at(board: &Board, report: &Report) -> anyhow::Result<Found> {
    let card = board.card().identity().to_string();
    let version = board.version();
    let readings = board.xadc()?.readings()?;
    report.line(format!("Found {} version {:#x} at {card}", board.name(), version.unwrap_or(0)));
    report.line(format!("  temperature {:6.1} °C", readings.temperature.now));
    for (name, supply) in
        [("VCCINT", readings.vccint), ("VCCAUX", readings.vccaux), ("VBRAM", readings.vbram)]
    {
        report.line(format!("  {name:11} {:6.2} V", supply.now));
    }
    Ok(Found { card, board: board.name().to_owned(), version, readings })
}
