//! `jitney write`: a register, by number or by name.

use super::places::{Place, Places, must_answer};
use crate::args::OneCard;
use crate::cards::Session;
use crate::contract::CardName;
use crate::report::{print_line, print_result};
use crate::size;
use crate::status::{Misuse, Status};
use anyhow::bail;
use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

const HELP: &str = with_places!(
    "Examples:\n  \
     jitney write 10ee:7011 axi-gpio2+8 2      # the LED of a NiteFury\n  \
     jitney write 10ee:7011 0:0x2004 0xf0 --verify\n\n\
     Nothing is read unless asked, because a read can have effects of its own. While it writes, no other program has what \
     the register belongs to: a peripheral, a DMA channel, or the whole card for what all channels share. If one has, \
     nothing is written and it is named."
);

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Write {
    #[command(flatten)]
    pub(crate) card: OneCard,
    /// BAR:OFFSET, or NAME[+OFFSET].
    #[arg(value_name = "REGISTER")]
    pub(crate) place: Place,
    /// What to write, in hexadecimal (0x1f) or decimal.
    #[arg(value_name = "VALUE", value_parser = size::parse_word)]
    pub(crate) value: u32,
    /// Read the register afterwards, and compare.
    #[arg(long)]
    pub(crate) verify: bool,
}

/// What was written.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    #[serde(flatten)]
    card: CardName,
    bar: usize,
    /// In bytes from the start of the BAR.
    offset: u64,
    /// What no other program had meanwhile.
    leased: String,
    value: u32,
    /// What the register held afterwards, if that was asked for.
    read: Option<u32>,
}

pub(crate) fn write(args: &Write, json: bool) -> anyhow::Result<Status> {
    let (_session, card) = Session::open_card(&args.card)?;
    if let Place::Bar(bar) = args.place {
        return Err(Misuse(format!("{bar} is a BAR: write which register of it, as {bar}:0x0")).into());
    }
    let places = Places::of(&card, &args.card)?;
    let span = places.span(&args.place)?.part(0, Some(4))?;
    let (bar, offset, value) = (span.bar, span.start, args.value);
    let lease = card.lease(places.lease(bar, offset)?)?;
    let region = card.bar(bar)?;
    region.write32(offset, value)?;
    let read = args.verify.then(|| region.read32(offset)).transpose()?;
    if json {
        let (card, leased) = (CardName::of(&*card), lease.part().to_string());
        print_result(&Outcome { card, bar, offset, leased, value, read })?;
    } else {
        print_line(&format!("wrote {value:#010x} to {offset:#07x} of BAR {bar}"));
    }
    if read == Some(u32::MAX) {
        must_answer(&*card, &region, offset)?;
    }
    match read {
        Some(read) if read != value => bail!(
            "{} reads {read:#010x} at {offset:#x} after {value:#010x} was written: not all bits of it can be written, or \
             something else changes them",
            region.name()
        ),
        _ => Ok(Status::Passed),
    }
}
