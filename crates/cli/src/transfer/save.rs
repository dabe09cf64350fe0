//! `jitney save`: a card's memory to a file, by DMA.

use super::in_flight::read_all;
use super::memory_range::{must_fit, room};
use super::output::{Interrupted, Output};
use crate::args::{Dma, OneCard};
use crate::boards::catalogue;
use crate::cards::Session;
use crate::channels::from_card;
use crate::contract::CardName;
use crate::progress::Progress;
use crate::rates::Moved;
use crate::size;
use crate::status::Status;
use anyhow::Context;
use clap::Args;
use jitney_boards::identify_in;
use schemars::JsonSchema;
use serde::Serialize;
use std::path::PathBuf;

const HELP: &str = "Examples:\n  \
     jitney save 10ee:7011 0 64M dump.bin\n  \
     jitney save 10ee:7011 0x1000 1G - | sha256sum\n\n\
     The file has its name once all of it is written: if something fails there is none. An existing one is kept unless \
     there is --force; what is no file, as a pipe, is written to. With - the result is printed on standard error.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Save {
    #[command(flatten)]
    pub(crate) card: OneCard,
    /// Where from, on the card: 0x8000_0000, 4096, 64M.
    #[arg(value_name = "ADDRESS", value_parser = size::parse)]
    pub(crate) address: u64,
    /// How many bytes: 4096, 0x128000, 64K, 8M, 1G.
    #[arg(value_name = "LENGTH", value_parser = size::parse_length)]
    pub(crate) length: u64,
    /// The file, or - for standard output.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Replace the file if there is one.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) dma: Dma,
}

/// What was saved.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    #[serde(flatten)]
    card: CardName,
    board: String,
    address: u64,
    file: String,
    #[serde(flatten)]
    moved: Moved,
}

pub(crate) fn save(args: &Save, json: bool) -> anyhow::Result<Status> {
    let (address, length) = (args.address, args.length);
    let (_session, card) = Session::open_card(&args.card)?;
    let board = identify_in(&catalogue(&args.card.source.emulate)?, &card)?;
    must_fit(&board, address, length, room(&board, address)?)?;
    let channel = from_card(&board.xdma()?, args.dma)?;
    let mut output = Output::open(&args.file, args.force, Interrupted::Removes)?;
    let mut report = output.report(json);

    let mut progress = Progress::new(&mut report, "saving", Some(length));
    let read = read_all(&*card, &channel, address, length, |bytes| {
        output.write(bytes)?;
        progress.advance(bytes.len() as u64);
        Ok(())
    });
    let done = progress.done();
    read.with_context(|| format!("after {done} of {length} bytes"))?;
    let file = output.name().to_owned();
    output.finish()?;
    let moved = Moved::in_time(progress.end());
    let identity = card.identity();
    report.line(format!(
        "saved {moved} from card address {address:#x} of {} at {identity} to {file}",
        board.name()
    ));
    report.finish(&Outcome {
        card: CardName::from(identity),
        board: board.name().to_owned(),
        address,
        file,
        moved,
    })?;
    Ok(Status::Passed)
}
