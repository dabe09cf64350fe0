//! `jitney capture`: what a stream says, into a file or a pipe.

use super::output::{Interrupted, Output};
use super::shared;
use super::stream_channel::ChannelName;
use crate::cli::args::{OneCard, limit, seconds};
use crate::cli::boards::catalogue;
use crate::cli::cards::Session;
use crate::cli::contract::CardName;
use crate::cli::progress::Progress;
use crate::cli::rates::Moved;
use crate::cli::report::Report;
use crate::cli::signals::StopFlag;
use crate::cli::size;
use crate::cli::status::Status;
use anyhow::Context;
use clap::{Args, ValueEnum};
use jitney_boards::identify_in;
use jitney_xdma::{Capture, Captured, Direction, Overrun};
use schemars::JsonSchema;
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

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
    /// End after so many bytes: 4096, 64K, 1G.
    #[arg(long, value_name = "SIZE", value_parser = size::parse_length)]
    bytes: Option<u64>,
    /// End after so many packets.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    packets: Option<u64>,
    /// End after this time: 500ms, 10s, 5m, 1h.
    #[arg(long = "for", value_name = "TIME", value_parser = limit)]
    time: Option<Duration>,
    /// End when nothing came for so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    until_idle: Option<Duration>,
    /// What happens when blocks come faster than they are written.
    #[arg(long, value_enum, default_value = "wait")]
    overrun: OverrunArg,
    /// Bytes of a block, a multiple of 64 up to 8M. A packet that ends early ends its block.
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = block)]
    block: u64,
    /// How many blocks of memory there are, 3 to 1023.
    #[arg(long, value_name = "N", default_value = "64", value_parser = clap::value_parser!(u32).range(3..=1023))]
    blocks: u32,
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
    card: CardName,
    channel: String,
    /// The file that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// By what name other programs could read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    shared: Option<String>,
    #[serde(flatten)]
    moved: Moved,
    /// Packets that have ended.
    packets: u64,
    /// Blocks that were overwritten before they were read.
    lost_blocks: u64,
}

/// What happens while it runs.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum Event<'a> {
    /// Other programs can read it from now on.
    Sharing { name: &'a str },
}

/// How often it is looked whether it is to end.
pub(super) const LOOK: Duration = Duration::from_millis(50);

pub(crate) fn capture(args: &CaptureArgs, json: bool) -> anyhow::Result<Status> {
    let (session, card) = Session::open_card(&args.card)?;
    let board = identify_in(&catalogue(&args.card.source.emulate)?, &card)?;
    let xdma = board.xdma()?;
    let info = args.channel.must_be_stream(&xdma, Direction::CardToHost, "save")?.to_string();
    let stop = StopFlag::new()?;
    if let Some(name) = &args.share {
        let channel = xdma.c2h(args.channel.index)?;
        let channel = if card.vectors()? > 0 { channel.adaptive()? } else { channel };
        let (blocks, block) = (args.blocks, args.block);
        let moved =
            shared::share(&session, &card, channel, (name, blocks, block), &args.end(), (&stop, json))?;
        let line = format!(
            "captured {} in {} packets from {info} of {} for {name}",
            moved.0,
            moved.1,
            card.identity()
        );
        let report = Report::new(json);
        report.line(line);
        let card = CardName::from(card.identity());
        let (moved, packets) = moved;
        let shared = Some(name.clone());
        report.finish(&Outcome {
            card,
            channel: info,
            file: None,
            shared,
            moved,
            packets,
            lost_blocks: 0,
        })?;
        return Ok(Status::Passed);
    }
    let output = Output::open(&args.to, args.force, Interrupted::Keeps)?;
    let mut report = output.report(json);
    let overrun = match args.overrun {
        OverrunArg::Wait => Overrun::Wait,
        OverrunArg::Overwrite => Overrun::Overwrite,
    };
    let channel = xdma.c2h(args.channel.index)?;
    // A card that can interrupt lets this process sleep, and others have the processor.
    let channel = if card.vectors()? > 0 { channel.adaptive()? } else { channel };
    let mut source = channel.capture(args.blocks, args.block, overrun)?;

    let progress = Progress::new(&mut report, "capturing", args.bytes);
    let mut sink = Sink { args, output, progress, packets: 0, first_loss: None };
    let end = sink.run(&mut source, &stop);
    let Sink { output, progress, packets, first_loss, .. } = sink;
    let lost_blocks = source.lost();
    let stopped = source.stop();
    let done = progress.end();
    let file = output.name().to_owned();
    // What came is kept whatever ended it.
    output.finish()?;
    end.with_context(|| format!("after {} bytes; they are kept in {file}", done.0))?;
    stopped.with_context(|| format!("{} bytes are kept in {file}, but the card", done.0))?;
    let (moved, name) = (Moved::in_time(done), card.identity());
    report.line(format!("captured {moved} in {packets} packets from {info} of {name} to {file}"));
    if let Some(at) = first_loss {
        report.complain(format!(
            "LOST: {lost_blocks} blocks of up to {} bytes were overwritten before they were written down, the first of them \
             behind byte {at}",
            args.block
        ));
    }
    let card = CardName::from(name);
    report.finish(&Outcome {
        card,
        channel: info,
        file: Some(file),
        shared: None,
        moved,
        packets,
        lost_blocks,
    })?;
    Ok(if lost_blocks == 0 { Status::Passed } else { Status::Failed })
}

/// When it is enough.
#[derive(Debug, Clone, Copy)]
pub(super) struct EndsAfter {
    pub(super) bytes: Option<u64>,
    pub(super) packets: Option<u64>,
    time: Option<Duration>,
    idle: Option<Duration>,
}

impl CaptureArgs {
    const fn end(&self) -> EndsAfter {
        EndsAfter { bytes: self.bytes, packets: self.packets, time: self.time, idle: self.until_idle }
    }
}

impl EndsAfter {
    /// Whether its time is over, or nothing came since `last` for too long.
    pub(super) fn is_due(&self, started: Instant, last: Instant) -> bool {
        self.time.is_some_and(|time| started.elapsed() >= time)
            || self.idle.is_some_and(|idle| last.elapsed() >= idle)
    }
}

/// Where blocks go.
struct Sink<'a> {
    args: &'a CaptureArgs,
    output: Output,
    progress: Progress<'a>,
    packets: u64,
    /// How many bytes came before what was lost first.
    first_loss: Option<u64>,
}

impl Sink<'_> {
    /// Writes down blocks until it is enough.
    fn run(&mut self, source: &mut Capture, stop: &StopFlag) -> anyhow::Result<()> {
        let mut block = vec![0; source.block_size()];
        let started = Instant::now();
        let mut last = started;
        let end = self.args.end();
        loop {
            if stop.is_set() || end.is_due(started, last) {
                return Ok(());
            }
            let Some(captured) = source.read(&mut block, Some(LOOK))? else { continue };
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
        let wanted = self.args.bytes.map_or(u64::MAX, |bytes| bytes - done);
        let length = usize::try_from(wanted).unwrap_or(usize::MAX).min(captured.bytes);
        self.output.write(&block[..length])?;
        self.progress.advance(length as u64);
        self.packets += u64::from(captured.ends_packet && length == captured.bytes);
        Ok(self.args.bytes.is_some_and(|bytes| self.progress.done() >= bytes)
            || self.args.packets.is_some_and(|packets| self.packets >= packets))
    }
}
