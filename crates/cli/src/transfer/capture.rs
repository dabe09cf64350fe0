//! `jitney capture`: what a stream says, into a file or a pipe.

use super::ending::{Ending, LOOK};
use super::output::{Interrupted, Output};
use super::shared;
use super::stream_channel::ChannelName;
use crate::args::OneCard;
use crate::boards::catalogue;
use crate::cards::Session;
use crate::contract::CardName;
use crate::progress::Progress;
use crate::rates::Moved;
use crate::signals::StopFlag;
use crate::size;
use crate::status::Status;
use anyhow::Context;
use clap::{Args, ValueEnum};
use jitney_boards::identify_in;
use jitney_vfio::Card;
use jitney_xdma::{C2h, Capture, Captured, Direction, Overrun, Xdma};
use schemars::JsonSchema;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

const HELP: &str = "\
Examples:
  jitney capture 10ee:7011 --channel c2h0 --bytes 1G --to samples.bin
  jitney capture 10ee:7011 --for 60s --to - | my-analysis
  jitney capture 10ee:7011 --overrun overwrite --to /dev/null --for 1h
  jitney capture 10ee:7011 --share adc        # for any number of: jitney tap adc

Ctrl-C ends it, and what came until then is kept; a second one ends it at once. The card waits while the disk does, unless \
it is told to overwrite: then what was lost is counted, said where it is missing, and the exit status is 1. What the card \
itself drops in front of its DMA, no program is told.

With --share the card puts its blocks where other programs of this user see them, without a copy: see `jitney tap --help`. Who of them is too slow loses blocks, and nobody waits for it. That takes a broker (jitney broker, jitney run).";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct CaptureArgs {
    #[command(flatten)]
    card: OneCard,
    /// Which channel.
    #[arg(long, value_name = "CHANNEL", default_value = "c2h0")]
    channel: ChannelName,
    /// The file, or - for standard output.
    #[arg(long, value_name = "FILE", default_value = "-")]
    to: PathBuf,
    /// Replace the file if there is one.
    #[arg(long)]
    force: bool,
    /// Into memory instead, from which other programs read it by this name: lower-case letters, digits and -.
    #[arg(long, value_name = "NAME", value_parser = share_name, conflicts_with_all = ["to", "force", "overrun"])]
    share: Option<String>,
    #[command(flatten)]
    pub(super) end: Ending,
    /// End after so many packets.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    packets: Option<u64>,
    /// What happens when blocks come faster than they are written.
    #[arg(long, value_enum, default_value = "wait")]
    overrun: OverrunArg,
    /// Bytes of a block, a multiple of 64 up to 8M. A packet that ends early ends its block.
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = block)]
    pub(super) block: u64,
    /// How many blocks of memory there are, 3 to 1023.
    #[arg(long, value_name = "N", default_value = "64", value_parser = clap::value_parser!(u32).range(3..=1023))]
    pub(super) blocks: u32,
}

fn block(text: &str) -> Result<u64, String> {
    match size::parse_length(text)? {
        length if length.is_multiple_of(64) && length <= 8 << 20 => Ok(length),
        _ => Err("give a multiple of 64 bytes, at most 8M".into()),
    }
}

/// What can name a part of a card can name a shared buffer.
fn share_name(text: &str) -> Result<String, String> {
    match text.parse::<jitney_vfio::Part>() {
        Ok(name) => Ok(name.name().to_owned()),
        Err(_) => Err("use 1 to 32 lower-case letters, digits and '-'".into()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OverrunArg {
    /// The card waits, and so does what feeds the stream, if it can.
    Wait,
    /// The oldest blocks are lost, and counted.
    Overwrite,
}

/// What was captured.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    #[serde(flatten)]
    pub(super) card: CardName,
    pub(super) channel: String,
    /// The file that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<String>,
    /// By what name other programs could read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) shared: Option<String>,
    #[serde(flatten)]
    pub(super) moved: Moved,
    /// Packets that have ended.
    pub(super) packets: u64,
    /// Blocks that were overwritten before they were read.
    pub(super) lost_blocks: u64,
}

/// What happens while it runs.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum Event<'a> {
    /// Other programs can read it from now on.
    Sharing { name: &'a str },
}

/// A stream that is to be captured.
pub(super) struct Source<'a> {
    pub(super) args: &'a CaptureArgs,
    pub(super) card: Arc<dyn Card>,
    xdma: Xdma,
    /// The channel in words.
    pub(super) channel: String,
    pub(super) stop: StopFlag,
    pub(super) json: bool,
}

impl Source<'_> {
    pub(super) fn open(&self) -> anyhow::Result<C2h> {
        let channel = self.xdma.c2h(self.args.channel.index)?;
        // A card that can interrupt lets this process sleep, and others have the processor.
        Ok(if self.card.vectors()? > 0 { channel.adaptive()? } else { channel })
    }

    /// Whether what was captured is enough.
    pub(super) fn has_enough(&self, bytes: u64, packets: u64) -> bool {
        self.args.end.has(bytes) || self.args.packets.is_some_and(|most| packets >= most)
    }
}

pub(crate) fn capture(args: &CaptureArgs, json: bool) -> anyhow::Result<Status> {
    let (session, card) = Session::open_card(&args.card)?;
    let board = identify_in(&catalogue(&args.card.source.emulate)?, &card)?;
    let xdma = board.xdma()?;
    let channel = args.channel.must_be_stream(&xdma, Direction::CardToHost, "save")?.to_string();
    let source = Source { args, card, xdma, channel, stop: StopFlag::new()?, json };
    match &args.share {
        Some(name) => shared::share(&session, name, source),
        None => write_down(source),
    }
}

fn write_down(source: Source<'_>) -> anyhow::Result<Status> {
    let args = source.args;
    let output = Output::open(&args.to, args.force, Interrupted::Keeps)?;
    let mut report = output.report(source.json);
    let overrun = match args.overrun {
        OverrunArg::Wait => Overrun::Wait,
        OverrunArg::Overwrite => Overrun::Overwrite,
    };
    let mut capture = source.open()?.capture(args.blocks, args.block, overrun)?;

    let progress = Progress::new(&mut report, "capturing", args.end.bytes);
    let mut sink = Sink { source: &source, output, progress, packets: 0, first_loss: None };
    let end = sink.run(&mut capture);
    let Sink { output, progress, packets, first_loss, .. } = sink;
    let lost_blocks = capture.lost();
    let stopped = capture.stop();
    let done = progress.end();
    let file = output.name().to_owned();
    // What came is kept whatever ended it.
    output.finish()?;
    end.with_context(|| format!("after {} bytes; they are kept in {file}", done.0))?;
    stopped.with_context(|| format!("{} bytes are kept in {file}, but the card", done.0))?;
    let (moved, name, channel) = (Moved::in_time(done), source.card.identity(), source.channel);
    report.line(format!("captured {moved} in {packets} packets from {channel} of {name} to {file}"));
    if let Some(at) = first_loss {
        report.complain(format!(
            "LOST: {lost_blocks} blocks of up to {} bytes were overwritten before they were written down, the first of them \
             behind byte {at}",
            args.block
        ));
    }
    let card = CardName::from(name);
    report.finish(&Outcome { card, channel, file: Some(file), shared: None, moved, packets, lost_blocks })?;
    Ok(if lost_blocks == 0 { Status::Passed } else { Status::Failed })
}

/// Where blocks go.
struct Sink<'a> {
    source: &'a Source<'a>,
    output: Output,
    progress: Progress<'a>,
    packets: u64,
    /// How many bytes came before what was lost first.
    first_loss: Option<u64>,
}

impl Sink<'_> {
    /// Writes down blocks until it is enough.
    fn run(&mut self, capture: &mut Capture) -> anyhow::Result<()> {
        let mut block = vec![0; capture.block_size()];
        let started = Instant::now();
        let mut last = started;
        loop {
            if self.source.stop.is_set() || self.source.args.end.is_due(started, last) {
                return Ok(());
            }
            let Some(captured) = capture.read(&mut block, Some(LOOK))? else { continue };
            last = Instant::now();
            if self.take(&block, captured)? {
                return Ok(());
            }
        }
    }

    /// Writes down a block; whether it was the last one wanted.
    fn take(&mut self, block: &[u8], captured: Captured) -> anyhow::Result<bool> {
        let done = self.progress.done();
        if captured.lost > 0 && self.first_loss.is_none() {
            self.first_loss = Some(done);
        }
        let length = self.source.args.end.wanted(done, captured.bytes);
        self.output.write(&block[..length])?;
        self.progress.advance(length as u64);
        self.packets += u64::from(captured.ends_packet && length == captured.bytes);
        Ok(self.source.has_enough(self.progress.done(), self.packets))
    }
}
