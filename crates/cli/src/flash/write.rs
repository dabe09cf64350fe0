//! `jitney flash write`: a bitstream to the flash.

use super::image::Image;
use super::opened::Opened;
use crate::args::OneCard;
use crate::contract::CardName;
use crate::progress::Progress;
use crate::rates::Moved;
use crate::report::Report;
use crate::signals::StopFlag;
use crate::size;
use crate::status::{Misuse, Status};
use anyhow::Context;
use clap::Args;
use jitney_boards::FlashError;
use jitney_boards::flash::Update;
use schemars::JsonSchema;
use serde::Serialize;
use std::path::PathBuf;

const HELP: &str = "Examples:\n  \
     jitney flash write 10ee:7011 top.bit\n  \
     jitney flash write 10ee:7011 second.bin --offset 0x800000\n\n\
     The FPGA goes on with what it has; it takes what was written when it is configured the next time, mostly when the power \
     comes back. Until then nothing is lost that cannot be written again.\n\n\
     Sectors that are right already are left alone. If any is not, the first one, where an FPGA looks for its sync word, is \
     erased before all others and written after them, its first page last: a half-written image never starts as a good one, \
     and until all is done the FPGA does not start from this flash at all. Every page is checked by the flash's status, every \
     sector is read back. Bytes behind the file's end in its last sector stay, but for a write that is stopped in just that \
     sector. After Ctrl-C or a failure it is said what the flash holds; writing again goes on from there.\n\n\
     Refused, unless there is --force: what is no whole bitstream in the order of a flash, and what is for another FPGA than the \
     board has.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Write {
    #[command(flatten)]
    pub(crate) card: OneCard,
    /// The file: a .bit, whose header is left out, or a .bin.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Where in the flash it is to begin: a multiple of a sector.
    #[arg(long, value_name = "OFFSET", default_value = "0", value_parser = size::parse)]
    pub(crate) offset: u64,
    /// Write it also if it is no bitstream for this board's FPGA.
    #[arg(long)]
    pub(crate) force: bool,
    /// Take the protection of the flash's blocks off before, for good.
    #[arg(long)]
    pub(crate) unprotect: bool,
}

/// What was written.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    #[serde(flatten)]
    card: CardName,
    board: String,
    offset: u64,
    file: String,
    #[serde(flatten)]
    moved: Moved,
    /// Sectors that the file touches.
    sectors: u64,
    /// Those that were right already.
    equal: u64,
    /// Those that were erased.
    erased: u64,
    /// Those that were programmed and read back.
    written: u64,
}

pub(crate) fn write(args: &Write, json: bool) -> anyhow::Result<Status> {
    let image = Image::open(&args.file)?;
    let opened = Opened::of(&args.card)?;
    if !args.force {
        image.must_be_for(Some(&opened.board), "nothing was written (--force writes it)")?;
    }
    let (offset, data) = (args.offset, image.data());
    opened.range(offset, Some(data.len() as u64))?;
    if args.unprotect && opened.flash.protection()? != 0 {
        opened.flash.unprotect()?;
    }
    let update = Update::new(&opened.flash, data, offset).map_err(|error| match error {
        jitney_boards::Error::Flash(error) if matches!(*error, FlashError::Unaligned { .. }) => {
            anyhow::Error::from(Misuse(error.to_string()))
        }
        other => other.into(),
    })?;
    // From here on Ctrl-C is heard between two pages.
    let stop = StopFlag::new()?;
    let mut report = Report::new(json);
    let mut progress = Progress::new(&mut report, "writing", Some(data.len() as u64));
    let (identity, board) = (opened.board.card().identity(), opened.board.name());
    let done = update.run(|step| {
        progress.advance(step.bytes);
        !stop.is_set()
    });
    let moved = Moved::in_time(progress.end());
    let done =
        done.with_context(|| format!("writing {} to the flash of {board} at {identity}", image.name))?;
    report.line(format!(
        "the flash of {board} at {identity} has {} at {offset:#x}, {moved}: of {} sectors {} were right already, {} were \
         erased, {} written and read back",
        image.name, done.sectors, done.equal, done.erased, done.written
    ));
    report.finish(&Outcome {
        card: CardName::from(identity),
        board: board.to_owned(),
        offset,
        file: image.name.clone(),
        moved,
        sectors: done.sectors,
        equal: done.equal,
        erased: done.erased,
        written: done.written,
    })?;
    Ok(Status::Passed)
}
