//! `jitney test general`: which NiteFury or LiteFury it is, and its sensors.

use crate::args::Selection;
use crate::cards::Session;
use crate::report::Report;
use crate::status::Status;
use crate::targets::{self, nothing_tested};
use clap::Args;
use jitney_boards::{Board, xadc};
use schemars::JsonSchema;
use serde::Serialize;

#[derive(Debug, Args)]
pub(crate) struct General {
    #[command(flatten)]
    pub(crate) selection: Selection,
}

/// What is printed of a board.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Found {
    version: Option<u32>,
    readings: xadc::Readings,
}

pub(crate) fn general(args: &General, json: bool) -> anyhow::Result<Status> {
    let mut report = Report::new(json);
    let session = Session::open(&args.selection)?;
    let targets = targets::find(&session, &args.selection, &report, |board| board.version().is_some())?;
    if targets.boards.is_empty() {
        return nothing_tested("NiteFury or LiteFury", json);
    }
    let found = targets.each(&mut report, |board, report| look_at(board, report));
    report.finish(&found)?;
    Ok(targets.status(found.iter().any(|one| one.failed(|_| false))))
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
    Ok(Found { version, readings })
}
