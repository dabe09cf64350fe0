//! `jitney play`: a file or a pipe into a stream.

use super::in_flight::{InFlight, Piece};
use super::input::Input;
use super::stream_channel::ChannelName;
use crate::args::{Completion, Dma, OneCard, seconds};
use crate::boards::catalogue;
use crate::cards::Session;
use crate::channels::to_card;
use crate::contract::CardName;
use crate::progress::Progress;
use crate::rates::Moved;
use crate::report::Report;
use crate::size;
use crate::status::Status;
use anyhow::Context;
use clap::Args;
use jitney_boards::identify_in;
use jitney_vfio::Card;
use jitney_xdma::{Direction, H2c};
use schemars::JsonSchema;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

const HELP: &str = "\
Examples:
  jitney play 10ee:7011 waveform.bin --channel h2c0
  jitney play 10ee:7011 - --packet 1500 < frames.bin

Each packet but the last has as many bytes as --packet says. What takes the stream may be slow, but not for ever: when nothing \
was taken for --timeout seconds, that is said with how many bytes were.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Play {
    #[command(flatten)]
    card: OneCard,
    /// The file, or - for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Which channel.
    #[arg(long, value_name = "CHANNEL", default_value = "h2c0")]
    channel: ChannelName,
    /// Bytes of a packet, up to 64M.
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = packet)]
    packet: u64,
    /// Give up when nothing was taken for this many seconds.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    timeout: Duration,
}

fn packet(text: &str) -> Result<u64, String> {
    match size::parse_length(text)? {
        length if length <= 64 << 20 => Ok(length),
        _ => Err("a packet has at most 64M here".into()),
    }
}

/// What was played.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    #[serde(flatten)]
    card: CardName,
    channel: String,
    file: String,
    #[serde(flatten)]
    moved: Moved,
    packets: u64,
}

pub(crate) fn play(args: &Play, json: bool) -> anyhow::Result<Status> {
    let mut input = Input::open(&args.file)?;
    let (_session, card) = Session::open_card(&args.card)?;
    let board = identify_in(&catalogue(&args.card.source.emulate)?, &card)?;
    let xdma = board.xdma()?;
    let name = args.channel.must_be_stream(&xdma, Direction::HostToCard, "load")?.to_string();
    let completion = if card.vectors()? > 0 { Completion::Adaptive } else { Completion::Poll };
    let channel = to_card(&xdma, Dma { channel: args.channel.index, timeout: args.timeout, completion })?;
    let mut report = Report::new(json);
    let mut progress = Progress::new(&mut report, "playing", input.length);
    let mut packets = 0;
    let played = play_all(&*card, &channel, &mut input, args.packet, &mut progress, &mut packets);
    let done = progress.end();
    let file = input.name;
    played.with_context(|| format!("after {} bytes in {packets} packets of {file} were taken", done.0))?;
    let (moved, identity) = (Moved::in_time(done), card.identity());
    report.line(format!("played {moved} in {packets} packets from {file} to {name} of {identity}"));
    report.finish(&Outcome { card: CardName::from(identity), channel: name, file, moved, packets })?;
    Ok(Status::Passed)
}

/// Sends all of `input`, while more of it is read.
fn play_all(
    card: &dyn Card,
    channel: &H2c,
    input: &mut Input,
    packet: u64,
    progress: &mut Progress<'_>,
    packets: &mut u64,
) -> anyhow::Result<()> {
    let mut in_flight = InFlight::of_packets(card, channel, packet)?;
    let mut taken = |in_flight: &mut InFlight<'_, _>| {
        let oldest = in_flight.oldest()?;
        if let Some((_, piece)) = &oldest {
            progress.advance(piece.length);
            *packets += 1;
        }
        anyhow::Ok(oldest.map(|(buffer, _)| buffer))
    };
    loop {
        let free = in_flight.free();
        let free = if free.is_some() { free } else { taken(&mut in_flight)? };
        let mut buffer = free.context("there is no buffer left")?;
        let most = usize::try_from(packet).unwrap_or(usize::MAX).min(buffer.len());
        let length = input.fill(&mut buffer[..most])?;
        if length > 0 {
            in_flight.submit(buffer, Piece { address: 0, length: length as u64 })?;
        }
        if length < most {
            break;
        }
    }
    while taken(&mut in_flight)?.is_some() {}
    Ok(())
}
