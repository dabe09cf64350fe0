//! `jitney flash read`: the flash to a file.

use super::opened::Opened;
use crate::args::OneCard;
use crate::contract::CardName;
use crate::progress::Progress;
use crate::rates::Moved;
use crate::size;
use crate::status::Status;
use crate::transfer::output::{Interrupted, Output};
use anyhow::Context;
use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;
use std::path::PathBuf;

const HELP: &str = "Examples:\n  \
     jitney flash read 10ee:7011 backup.bin\n  \
     jitney flash read 10ee:7011 - --length 64K | xxd | head\n  \
     jitney flash read 10ee:7011 second.bin --offset 0x800000 --length 8M\n\n\
     Each byte is a register read over PCIe: some hundred kilobytes a second. The file has its name once all of it is written; \
     an existing one is kept unless there is --force. With - the result is printed on standard error.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Read {
    #[command(flatten)]
    pub(crate) card: OneCard,
    /// The file, or - for standard output.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Where in the flash to begin.
    #[arg(long, value_name = "OFFSET", default_value = "0", value_parser = size::parse)]
    pub(crate) offset: u64,
    /// How many bytes, as 64K or 8M; all that follow if not given.
    #[arg(long, value_name = "LENGTH", value_parser = size::parse_length)]
    pub(crate) length: Option<u64>,
    /// Replace the file if there is one.
    #[arg(long)]
    pub(crate) force: bool,
}

/// What is read before progress is shown: at a hundred kilobytes a second, a part of one.
const PIECE: u64 = 4096;

/// What was read.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    #[serde(flatten)]
    card: CardName,
    board: String,
    offset: u64,
    file: String,
    #[serde(flatten)]
    moved: Moved,
}

pub(crate) fn read(args: &Read, json: bool) -> anyhow::Result<Status> {
    let opened = Opened::of(&args.card)?;
    let range = opened.range(args.offset, args.length)?;
    let mut output = Output::open(&args.file, args.force, Interrupted::Removes)?;
    let mut report = output.report(json);

    let length = range.end - range.start;
    let mut progress = Progress::new(&mut report, "reading", Some(length));
    let mut at = range.start;
    while at < range.end {
        let mut piece = vec![0; usize::try_from(PIECE.min(range.end - at)).unwrap_or(0)];
        opened
            .flash
            .read(at, &mut piece)
            .with_context(|| format!("after {} of {length} bytes", at - range.start))?;
        output.write(&piece)?;
        at += piece.len() as u64;
        progress.advance(piece.len() as u64);
    }
    let file = output.name().to_owned();
    output.finish()?;
    let moved = Moved::in_time(progress.end());
    let (identity, board) = (opened.board.card().identity(), opened.board.name());
    report.line(format!(
        "read {moved} from {:#x} of the flash of {board} at {identity} to {file}",
        range.start
    ));
    let (card, board) = (CardName::from(identity), board.to_owned());
    report.finish(&Outcome { card, board, offset: range.start, file, moved })?;
    Ok(Status::Passed)
}
