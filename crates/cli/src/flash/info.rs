//! `jitney flash info`: what the flash is, and what is in it.

use super::found::Found;
use super::opened::Opened;
use crate::args::OneCard;
use crate::contract::CardName;
use crate::report::Report;
use crate::size::{self, human};
use crate::status::Status;
use clap::Args;
use jitney_bitstream::{Scan, Scanner};
use jitney_boards::Flash;
use schemars::JsonSchema;
use serde::Serialize;

const HELP: &str = "Examples:\n  \
     jitney flash info 10ee:7011\n  \
     jitney flash info 10ee:7011 --offset 0x800000      # a second image\n  \
     jitney flash info 10ee:7011 --emulate nitefury\n\n\
     The bitstream is looked for at the offset, and read up to its frames; of a compressed one, that is not up to its end. The \
     names of design and part are in .bit files, not in the flash.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Info {
    #[command(flatten)]
    pub(crate) card: OneCard,
    /// Where in the flash to look for a bitstream.
    #[arg(long, value_name = "OFFSET", default_value = "0", value_parser = size::parse)]
    pub(crate) offset: u64,
}

/// How far behind the offset a bitstream may begin: tools put some words in front.
const SEARCHED: u64 = 4096;
/// What is read at once: a bitstream's registers, up to its frames.
const PIECE: u64 = 256;
/// How much is read at most: of a compressed bitstream, frames and registers take turns.
const MOST: u64 = 64 << 10;

/// What a flash is, and what is in it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    #[serde(flatten)]
    card: CardName,
    board: String,
    flash: FlashIs,
    /// Where a bitstream was looked for.
    offset: u64,
    /// Whether nothing but erased bytes are there.
    erased: bool,
    bitstream: Option<Found>,
}

/// What a flash is.
#[derive(Debug, Serialize, JsonSchema)]
struct FlashIs {
    /// Its name, if its ID is known.
    part: Option<&'static str>,
    maker: String,
    /// The bytes behind the command 9Fh.
    id: [u8; 6],
    bytes: u64,
    page_bytes: u64,
    sector_bytes: u64,
    /// The revision of the parameters that it has itself (SFDP), as `1.6`.
    sfdp: Option<String>,
    /// The bits of its status register that protect blocks; zero if none is.
    protection: u8,
    /// How many bytes either FIFO of the AXI Quad SPI holds.
    fifo_bytes: usize,
}

pub(crate) fn info(args: &Info, json: bool) -> anyhow::Result<Status> {
    let opened = Opened::of(&args.card)?;
    let (flash, offset) = (&opened.flash, args.offset);
    opened.range(offset, None)?;
    let report = Report::new(json);
    let (identity, board) = (opened.board.card().identity(), opened.board.name());
    let part = flash.part();
    let protection = flash.protection()?;

    let name = part.name.unwrap_or("an unknown part");
    let id: Vec<String> = part.id.iter().map(|byte| format!("{byte:02x}")).collect();
    report.line(format!("{board} at {identity}: {name} of {}, {}", part.maker, human(part.size)));
    let source = match part.sfdp {
        Some((major, minor)) => format!("by its SFDP {major}.{minor}"),
        None => "by its data sheet".to_owned(),
    };
    report.line(format!(
        "  ID {}; {source}: pages of {} bytes, sectors of {}",
        id.join(" "),
        part.page,
        human(part.sector)
    ));
    report.line(match protection {
        0 => "  no block is protected".to_owned(),
        bits => format!("  blocks are protected: {bits:#04x} of the status register"),
    });

    let (scan, partial, erased) = scan(flash, offset)?;
    let found = Found::of(None, &scan, partial);
    match &found {
        Some(found) => {
            report.line(format!("  at {offset:#x} a bitstream:"));
            found.lines().iter().for_each(|line| report.line(format!("    {line}")));
            if partial && scan.fault.is_none() {
                report.line(format!("    not read to its end, which is behind {:#x}", offset + MOST));
            }
        }
        None if erased => report.line(format!("  at {offset:#x} it is erased")),
        None => report.line(format!("  at {offset:#x} there is no bitstream")),
    }
    report.finish(&Outcome {
        card: CardName::from(identity),
        board: board.to_owned(),
        flash: FlashIs {
            part: part.name,
            maker: part.maker.to_string(),
            id: part.id,
            bytes: part.size,
            page_bytes: part.page,
            sector_bytes: part.sector,
            sfdp: part.sfdp.map(|(major, minor)| format!("{major}.{minor}")),
            protection,
            fifo_bytes: flash.fifo_depth(),
        },
        offset,
        erased,
        bitstream: found,
    })?;
    Ok(Status::Passed)
}

/// What is at `offset`, whether there is more of it, and whether that is nothing.
fn scan(flash: &Flash, offset: u64) -> anyhow::Result<(Scan, bool, bool)> {
    let size = flash.part().size - offset;
    let mut scanner = Scanner::default();
    let (mut read, mut erased) = (0, true);
    let mut partial = false;
    while let Some(at) = scanner.wants() {
        let synced = scanner.so_far().sync.is_some();
        if at + 8 > size || (!synced && at >= SEARCHED) {
            break;
        }
        if read >= MOST {
            partial = true;
            break;
        }
        let mut piece = vec![0; usize::try_from(PIECE.min(size - at)).unwrap_or(0)];
        flash.read(offset + at, &mut piece)?;
        read += piece.len() as u64;
        erased &= piece.iter().all(|byte| *byte == 0xff);
        if !scanner.feed(&piece) {
            break;
        }
    }
    Ok((scanner.finish(size), partial, erased))
}
