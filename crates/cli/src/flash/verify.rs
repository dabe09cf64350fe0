//! `jitney flash verify`: the flash and a file.

use super::image::Image;
use super::opened::Opened;
use crate::args::OneCard;
use crate::contract::CardName;
use crate::progress::Progress;
use crate::rates::Moved;
use crate::report::Report;
use crate::size;
use crate::status::Status;
use clap::Args;
use jitney_boards::flash::compare;
use schemars::JsonSchema;
use serde::Serialize;
use std::path::PathBuf;

const HELP: &str = "Examples:\n  \
     jitney flash verify 10ee:7011 top.bit\n  \
     jitney flash verify 10ee:7011 second.bin --offset 0x800000\n\n\
     Of a .bit file, what is behind its header is compared. The exit status is 1 if anything differs.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) card: OneCard,
    /// The file, a .bit or anything else.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Where in the flash it is to be.
    #[arg(long, value_name = "OFFSET", default_value = "0", value_parser = size::parse)]
    pub(crate) offset: u64,
}

/// What the comparison came to.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    #[serde(flatten)]
    card: CardName,
    board: String,
    offset: u64,
    file: String,
    #[serde(flatten)]
    moved: Moved,
    /// How the flash differs, if it does.
    difference: Option<Differs>,
}

/// How a flash differs from a file.
#[derive(Debug, Serialize, JsonSchema)]
struct Differs {
    /// Bytes that do.
    bytes: u64,
    /// Where the first of them is, in the flash.
    first: u64,
    /// What it is in the file.
    expected: u8,
    /// What it is in the flash.
    read: u8,
}

pub(crate) fn verify(args: &Verify, json: bool) -> anyhow::Result<Status> {
    let image = Image::open(&args.file)?;
    let opened = Opened::of(&args.card)?;
    let (offset, data) = (args.offset, image.data());
    opened.range(offset, Some(data.len() as u64))?;
    let mut report = Report::new(json);
    let mut progress = Progress::new(&mut report, "comparing", Some(data.len() as u64));
    let difference = compare(&opened.flash, data, offset, |bytes| {
        progress.advance(bytes);
        true
    })?;
    let moved = Moved::in_time(progress.end());
    let (identity, board) = (opened.board.card().identity(), opened.board.name());
    report.line(match difference {
        None => format!("compared {moved}: the flash of {board} at {identity} has {} at {offset:#x}", image.name),
        Some(own) => format!(
            "compared {moved}: {} bytes of the flash of {board} at {identity} are not as in {}, the first at {:#x}, which is \
             {:#04x} and not {:#04x}",
            own.bytes, image.name, own.first, own.read, own.expected
        ),
    });
    let status = if difference.is_none() { Status::Passed } else { Status::Failed };
    report.finish(&Outcome {
        card: CardName::from(identity),
        board: board.to_owned(),
        offset,
        file: image.name.clone(),
        moved,
        difference: difference.map(|own| Differs {
            bytes: own.bytes,
            first: own.first,
            expected: own.expected,
            read: own.read,
        }),
    })?;
    Ok(status)
}
