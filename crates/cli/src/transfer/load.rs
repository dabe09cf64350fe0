//! `jitney load`: a file to a card's memory, by DMA.

use super::in_flight::{InFlight, PIECE, Piece, read_all};
use super::input::Input;
use super::memory_range::{must_fit, room};
use crate::args::{Dma, OneCard};
use crate::boards::catalogue;
use crate::cards::Session;
use crate::channels::{from_card, to_card};
use crate::contract::CardName;
use crate::progress::Progress;
use crate::rates::Moved;
use crate::report::Report;
use crate::size;
use crate::status::Status;
use anyhow::{Context, bail};
use clap::Args;
use jitney_boards::identify_in;
use jitney_vfio::Card;
use jitney_xdma::H2c;
use schemars::JsonSchema;
use serde::Serialize;
use std::hash::{DefaultHasher, Hasher};
use std::path::PathBuf;

const HELP: &str = "Examples:\n  \
     jitney load 10ee:7011 0 weights.bin --verify\n  \
     zstd -dc image.zst | jitney load 10ee:7011 0x1000_0000 -\n\n\
     ADDRESS is the card's own; `jitney info` says where its memories are. What does not fit into them is refused before \
     anything is written. Of a pipe nobody knows the length: it is written as far as there is memory, and if it goes on, \
     that is an error.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Load {
    #[command(flatten)]
    pub(crate) card: OneCard,
    /// Where to, on the card: 0x8000_0000, 4096, 64M.
    #[arg(value_name = "ADDRESS", value_parser = size::parse)]
    pub(crate) address: u64,
    /// The file, or - for standard input.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Read all of it back afterwards, and compare.
    #[arg(long)]
    pub(crate) verify: bool,
    #[command(flatten)]
    pub(crate) dma: Dma,
}

/// What was loaded.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    #[serde(flatten)]
    card: CardName,
    board: String,
    address: u64,
    file: String,
    #[serde(flatten)]
    moved: Moved,
    /// Reading it back, if that was asked for.
    verified: Option<Moved>,
    failure: Option<String>,
}

pub(crate) fn load(args: &Load, json: bool) -> anyhow::Result<Status> {
    let address = args.address;
    let mut input = Input::open(&args.file)?;
    let (_session, card) = Session::open_card(&args.card)?;
    let board = identify_in(&catalogue(&args.card.source.emulate)?, &card)?;
    let room = room(&board, address)?;
    must_fit(&board, address, input.length.unwrap_or(0), room)?;
    let xdma = board.xdma()?;
    // Both before anything is written, if both are needed.
    let channel = to_card(&xdma, args.dma)?;
    let back = args.verify.then(|| from_card(&xdma, args.dma)).transpose()?;
    let mut sums = args.verify.then(Sums::default);
    let mut report = Report::new(json);

    let mut progress = Progress::new(&mut report, "loading", input.length);
    let written = write_all(&*card, &channel, &mut input, address, room, &mut progress, sums.as_mut());
    let (bytes, time) = progress.end();
    written.with_context(|| format!("after {bytes} bytes were written to card address {address:#x} on"))?;
    let moved = Moved::in_time((bytes, time));
    let (name, file) = (board.name(), &input.name);
    let identity = card.identity().to_string();
    report.line(format!("loaded {moved} from {file} to card address {address:#x} of {name} at {identity}"));

    let (mut verified, mut failure) = (None, None);
    if let (Some(channel), Some(expected)) = (back, sums) {
        let mut progress = Progress::new(&mut report, "reading back", Some(bytes));
        let mut read = Sums::default();
        read_all(&*card, &channel, address, bytes, |bytes| {
            read.add(bytes);
            progress.advance(bytes.len() as u64);
            Ok(())
        })?;
        let moved = Moved::in_time(progress.end());
        failure = expected.difference(&read, address);
        report.line(match &failure {
            None => format!("read back {moved}: all as in {file}"),
            Some(failure) => format!("read back {moved}: {failure}"),
        });
        verified = Some(moved);
    }
    let status = if failure.is_none() { Status::Passed } else { Status::Failed };
    let (board, file) = (name.to_owned(), file.clone());
    report.finish(&Outcome { card: CardName::of(&*card), board, address, file, moved, verified, failure })?;
    Ok(status)
}

/// Writes all of `input` to the card's memory from `address` on, where there is `room`.
fn write_all(
    card: &dyn Card,
    channel: &H2c,
    input: &mut Input,
    address: u64,
    room: u64,
    progress: &mut Progress<'_>,
    mut sums: Option<&mut Sums>,
) -> anyhow::Result<()> {
    let mut in_flight =
        InFlight::new(card, channel, address, input.length.unwrap_or(room.min(u64::MAX - address)))?;
    let mut read = 0;
    loop {
        let buffer = match in_flight.free() {
            Some(buffer) => Some(buffer),
            None => in_flight.oldest()?.map(|(buffer, piece)| {
                progress.advance(piece.length);
                buffer
            }),
        };
        let Some(mut buffer) = buffer else { bail!("there is no buffer left") };
        let most = usize::try_from(room - read).unwrap_or(usize::MAX).min(buffer.len());
        let length = input.fill(&mut buffer[..most])?;
        if length > 0 {
            if let Some(sums) = &mut sums {
                sums.add(&buffer[..length]);
            }
            in_flight.submit(buffer, Piece { address: address + read, length: length as u64 })?;
            read += length as u64;
        }
        // The end of the input, or of the card's memory.
        if length < most || most == 0 || read == room {
            break;
        }
    }
    while let Some((_, piece)) = in_flight.oldest()? {
        progress.advance(piece.length);
    }
    if read == room && input.fill(&mut [0])? > 0 {
        bail!("{} goes on behind the {room:#x} bytes of memory that there are", input.name);
    }
    match input.length {
        Some(length) if read < length => {
            bail!("{} has become shorter: it had {length} bytes and now has {read}", input.name)
        }
        _ => Ok(()),
    }
}

/// A sum of each block of what was loaded: a pipe cannot be read twice, and a file may have changed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sums(Vec<u64>);

impl Sums {
    /// Bytes of a block. Pieces, but for the last, are whole blocks.
    const BLOCK: usize = 4096;

    fn add(&mut self, bytes: &[u8]) {
        self.0.extend(bytes.chunks(Self::BLOCK).map(|block| {
            let mut hasher = DefaultHasher::new();
            hasher.write(block);
            hasher.finish()
        }));
    }

    /// Where `read` is not the same, in words.
    fn difference(&self, read: &Self, address: u64) -> Option<String> {
        let differ = || self.0.iter().zip(&read.0).enumerate().filter(|(_, (own, other))| own != other);
        let (first, _) = differ().next()?;
        let (blocks, count) = (self.0.len(), differ().count());
        let first = address + (first * Self::BLOCK) as u64;
        Some(format!(
            "{count} of {blocks} blocks of {} bytes are not as they were written, the first at card address {first:#x}",
            Self::BLOCK
        ))
    }
}

const _: () =
    assert!(PIECE.is_multiple_of(Sums::BLOCK as u64), "the blocks of both readings have to be the same");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_differs_is_named() {
        let of = |bytes: &[u8]| {
            let mut sums = Sums::default();
            sums.add(bytes);
            sums
        };
        let mut bytes = vec![7; 3 * Sums::BLOCK + 5];
        let written = of(&bytes);
        assert_eq!(written.difference(&of(&bytes), 0x1000), None);
        bytes[2 * Sums::BLOCK + 1] ^= 1;
        bytes[3 * Sums::BLOCK + 4] ^= 1;
        let difference = written.difference(&of(&bytes), 0x1000).unwrap();
        assert!(
            difference.starts_with("2 of 4 blocks") && difference.ends_with("at card address 0x3000"),
            "{difference}"
        );
    }
}
