//! `jitney test persistence`: what of a card's memory survives a reset.

use crate::args::{Dma, Selection};
use crate::cards::Session;
use crate::channels;
use crate::report::Report;
use crate::status::Status;
use crate::targets::{self, nothing_tested};
use clap::Args;
use jitney_boards::{Board, Kind, RegisterSpace};
use schemars::JsonSchema;
use serde::Serialize;

const HELP: &str = "\
Examples:
  jitney test persistence --emulate memmapped-blkram
  jitney test persistence --write --only 10ee:7024   # then switch the PC off, or start it anew, and
  jitney test persistence --check --only 10ee:7024

Writes a pattern to the first 64 KiB of each memory that the host reaches, by DMA or in a BAR, resets the card, and says how much \
of it is still there. That something is lost is no failure. Nobody else may use the card.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Persistence {
    #[command(flatten)]
    selection: Selection,
    /// Write only; --check looks later, after whatever was done to the card.
    #[arg(long, conflicts_with = "check")]
    write: bool,
    /// Look only for what --write wrote.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    dma: Dma,
}

/// How it went on one board.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    memories: Vec<Survival>,
}

/// What became of one memory.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Survival {
    memory: String,
    /// Bytes that were written.
    bytes: u64,
    /// How many of them were there afterwards; null if nobody has looked.
    survived: Option<u64>,
}

pub(crate) fn persistence(args: &Persistence, json: bool) -> anyhow::Result<Status> {
    let mut report = Report::new(json);
    let session = Session::open(&args.selection)?;
    let targets = targets::find(&session, &args.selection, &report, |board| !places(board).is_empty())?;
    if targets.boards.is_empty() {
        return nothing_tested("board with memory", json);
    }
    let outcomes = targets.each(&mut report, |board, report| {
        let outcome = test(board, args)?;
        for Survival { memory, bytes, survived } in &outcome.memories {
            report.line(match survived {
                None => format!("{memory}: {bytes} bytes written; look for them with --check"),
                Some(survived) if survived == bytes => format!("{memory}: all {bytes} bytes survived"),
                // What --write would have written begins nowhere: whether it ever did cannot be told.
                Some(0) if args.check => {
                    format!("{memory}: nothing that --write writes is there: it was not run before, or nothing survived")
                }
                Some(0) => format!("{memory}: nothing survived"),
                Some(survived) => format!("{memory}: {survived} of {bytes} bytes survived"),
            });
        }
        Ok(outcome)
    });
    report.finish(&outcomes)?;
    Ok(targets.status(outcomes.iter().any(|one| one.failed(|_| false))))
}

/// Memory that the host reaches.
#[derive(Debug)]
enum Place {
    ByDma {
        base: u64,
        size: u64,
    },
    /// The peripheral of kind `ram` of this number.
    InBar {
        index: usize,
        size: u64,
    },
}

/// The most that is written to a memory.
const MOST: u64 = 64 << 10;

fn places(board: &Board) -> Vec<Place> {
    let mut places = Vec::new();
    if targets::has_memory(board) {
        let memories = board.memories().iter();
        places.extend(memories.map(|memory| Place::ByDma { base: memory.base, size: memory.size.min(MOST) }));
    }
    let peripherals = board.summary().peripherals;
    let rams = peripherals.iter().filter(|peripheral| peripheral.kind == Kind::Ram);
    places.extend(rams.enumerate().map(|(index, ram)| Place::InBar { index, size: ram.size.min(MOST) }));
    places
}

fn test(board: &Board, args: &Persistence) -> anyhow::Result<Outcome> {
    let places = places(board);
    if !args.check {
        places.iter().try_for_each(|place| place.write(board, args.dma))?;
    }
    if !args.check && !args.write {
        board.card().reset()?;
    }
    let look = |place: &Place| {
        let survived = (!args.write).then(|| place.survived(board, args.dma)).transpose()?;
        let (memory, bytes) = match place {
            Place::ByDma { base, size } => (format!("card address {base:#x}, by DMA"), *size),
            Place::InBar { index, size } => {
                let frame = board.peripheral(Kind::Ram, *index)?;
                (format!("BAR {} at {:#x}", frame.peripheral().bar, frame.peripheral().offset), *size)
            }
        };
        anyhow::Ok(Survival { memory, bytes, survived })
    };
    Ok(Outcome { memories: places.iter().map(look).collect::<anyhow::Result<_>>()? })
}

impl Place {
    fn write(&self, board: &Board, dma: Dma) -> anyhow::Result<()> {
        match *self {
            Self::ByDma { base, size } => {
                let bytes: Vec<u8> = words(size).flat_map(|(_, word)| word.to_le_bytes()).collect();
                channels::to_card(&board.xdma()?, dma)?.write_bytes(&bytes, base)?;
            }
            Self::InBar { index, size } => {
                let frame = board.peripheral(Kind::Ram, index)?;
                words(size).try_for_each(|(offset, word)| frame.write32(offset, word))?;
            }
        }
        Ok(())
    }

    /// How many bytes are as they were written.
    fn survived(&self, board: &Board, dma: Dma) -> anyhow::Result<u64> {
        let mut survived = 0;
        match *self {
            Self::ByDma { base, size } => {
                let mut bytes = vec![0; usize::try_from(size)?];
                channels::from_card(&board.xdma()?, dma)?.read_bytes(&mut bytes, base)?;
                for ((_, word), seen) in words(size).zip(bytes.chunks_exact(4)) {
                    survived += 4 * u64::from(word.to_le_bytes() == seen);
                }
            }
            Self::InBar { index, size } => {
                let frame = board.peripheral(Kind::Ram, index)?;
                for (offset, word) in words(size) {
                    survived += 4 * u64::from(frame.read32(offset)? == word);
                }
            }
        }
        Ok(survived)
    }
}

/// What is written: the same each time, so that it can be looked for later.
fn words(size: u64) -> impl Iterator<Item = (u64, u32)> {
    let mut word = 0x6a69_746e_u32;
    (0..size / 4).map(move |index| {
        word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (4 * index, word)
    })
}
