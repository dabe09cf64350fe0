//! `jitney read`: registers, by number or by name.

use super::places::{Place, must_answer, span};
use crate::args::OneCard;
use crate::cards::Session;
use crate::contract::CardName;
use crate::report::{print_line, print_result};
use crate::say::say;
use crate::status::{Misuse, Status};
use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

const HELP: &str = with_places!(
    "Examples:\n  \
     jitney read 10ee:7011 0:0x0 --count 3\n  \
     jitney read 10ee:7011 xadc+0x200\n  \
     jitney read --emulate nitefury 10ee:7011 xdma:h2c0.identifier\n\n\
     All-ones is what a card reads as whose link is down. Then configuration space is asked whether it is there; if not, the \
     exit status is 1."
);

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Read {
    #[command(flatten)]
    pub(crate) card: OneCard,
    /// BAR:OFFSET, or NAME[+OFFSET].
    #[arg(value_name = "REGISTER")]
    pub(crate) place: Place,
    /// How many registers, one after the other.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: u64,
}

/// What was read.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    #[serde(flatten)]
    card: CardName,
    bar: usize,
    /// Of the first register, in bytes from the start of the BAR.
    offset: u64,
    values: Vec<u32>,
}

pub(crate) fn read(args: &Read, json: bool) -> anyhow::Result<Status> {
    let (_session, card) = Session::open_card(&args.card)?;
    if let Place::Bar(bar) = args.place {
        return Err(Misuse(format!("{bar} is a BAR: write which register of it, as {bar}:0x0")).into());
    }
    let bytes = args.count.saturating_mul(4);
    let span = span(&card, &args.card, &args.place)?.part(0, Some(bytes))?;
    let region = card.bar(span.bar)?;
    let values = span.registers().map(|offset| region.read32(offset)).collect::<Result<Vec<_>, _>>()?;
    if json {
        let (card, bar, offset) = (CardName::of(&*card), span.bar, span.start);
        print_result(&Outcome { card, bar, offset, values: values.clone() })?;
    } else {
        for (offset, value) in span.registers().zip(&values) {
            let place = if values.len() > 1 { format!("{offset:#07x}  ") } else { String::new() };
            print_line(&format!("{place}{value:#010x}"));
        }
    }
    if let Some((offset, _)) = span.registers().zip(values).find(|(_, value)| *value == u32::MAX) {
        must_answer(&*card, &region, offset)?;
        say!(
            "jitney: all-ones, but the card is there: the register holds that, or there is none at {offset:#x}"
        );
    }
    Ok(Status::Passed)
}
