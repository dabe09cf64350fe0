//! `jitney reset`: a card, or its DDR controller.

use crate::args::OneCard;
use crate::boards::catalogue;
use crate::cards::Session;
use crate::contract::CardName;
use crate::report::Report;
use crate::status::{Misuse, Status};
use anyhow::bail;
use clap::Args;
use jitney_boards::{DdrState, Error, identify_in};
use jitney_vfio::{LeaseRequest, Part};
use schemars::JsonSchema;
use serde::Serialize;
use std::time::{Duration, Instant};

const HELP: &str = "\
Examples:
  jitney reset 10ee:7011
  jitney reset 10ee:7024 --ddr     # the DDR controller alone; what was in the memory may be gone

It is refused while another program of the same broker has a part of the card, which is named.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Reset {
    #[command(flatten)]
    card: OneCard,
    /// Reset the DDR controller alone, and wait until the memory is calibrated again.
    #[arg(long)]
    ddr: bool,
}

/// What was reset.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    #[serde(flatten)]
    card: CardName,
    /// `card` or `ddr`.
    what: String,
    /// Until it could be used again.
    seconds: f64,
}

/// A calibration takes some hundred milliseconds.
const CALIBRATION: Duration = Duration::from_secs(5);
/// How long the controller is held in reset.
const PULSE: Duration = Duration::from_millis(1);

pub(crate) fn reset(args: &Reset, json: bool) -> anyhow::Result<Status> {
    let (_session, card) = Session::open_card(&args.card)?;
    let report = Report::new(json);
    let started = Instant::now();
    let what = if args.ddr {
        let board = identify_in(&catalogue(&args.card.source.emulate)?, &card)?;
        // Transfers of any channel would hang.
        let _all = card.lease(LeaseRequest::exclusive(Part::whole()))?;
        let ddr = board.ddr_status().map_err(|error| match error {
            Error::NoPeripheral { .. } => anyhow::Error::from(Misuse(format!("--ddr: {error}"))),
            other => other.into(),
        })?;
        ddr.hold_in_reset(true)?;
        std::thread::sleep(PULSE);
        ddr.hold_in_reset(false)?;
        let mut state = ddr.state()?;
        while !state.is_ready() {
            if started.elapsed() > CALIBRATION {
                bail!("the DDR controller is not ready after {CALIBRATION:?}: {}", lacks(state));
            }
            std::thread::sleep(Duration::from_millis(1));
            state = ddr.state()?;
        }
        "ddr"
    } else {
        card.reset()?;
        "card"
    };
    let seconds = started.elapsed().as_secs_f64();
    let identity = card.identity();
    report.line(match args.ddr {
        true => format!("the DDR controller of {identity} was reset and is calibrated after {seconds:.3} s"),
        false => format!("{identity} was reset"),
    });
    report.finish(&Outcome { card: CardName::from(identity), what: what.into(), seconds })?;
    Ok(Status::Passed)
}

/// What is not as it has to be.
fn lacks(state: DdrState) -> String {
    let parts = [
        (state.reset, "it is held in reset"),
        (!state.locked, "its clocks are not stable"),
        (!state.mmcm_locked, "its own clocks are not stable"),
        (!state.calibrated, "the memory is not calibrated"),
        (state.ui_reset, "its user interface is in reset"),
    ];
    parts.into_iter().filter(|(is, _)| *is).map(|(_, what)| what).collect::<Vec<_>>().join(", ")
}
