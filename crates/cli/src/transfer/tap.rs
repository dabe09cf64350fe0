//! `jitney tap`: a stream that another program captures and shares.

use super::ending::{Ending, LOOK};
use super::output::{Interrupted, Output};
use crate::args::ItsBroker;
use crate::cards::Session;
use crate::progress::Progress;
use crate::rates::Moved;
use crate::signals::StopFlag;
use crate::status::Status;
use anyhow::Context;
use clap::Args;
use jitney_ring::{End, Next, Reader};
use schemars::JsonSchema;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Instant;

const HELP: &str = "\
Examples:
  jitney tap adc --to samples.bin --for 10s
  jitney tap adc --to - | my-analysis
  jitney tap adc --to /dev/null --lossy      # how much does this machine keep up with?

It begins with what comes now, and ends when the capture does. Any number of taps read the same memory, and none holds up the \
capture or another tap: who is too slow loses whole blocks, is told how much that was, and the exit status is 1 unless \
--lossy allows it. It is 1, too, if the capture was killed.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Tap {
    /// The name by which it is shared: jitney capture --share NAME.
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    broker: ItsBroker,
    /// The file, or - for standard output.
    #[arg(long, value_name = "FILE", default_value = "-")]
    to: PathBuf,
    /// Replace the file if there is one.
    #[arg(long)]
    force: bool,
    /// That something was lost is no failure.
    #[arg(long)]
    lossy: bool,
    #[command(flatten)]
    end: Ending,
}

/// What was read.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    name: String,
    file: String,
    #[serde(flatten)]
    moved: Moved,
    /// Packets that have ended.
    packets: u64,
    /// Blocks that were overwritten before they were read.
    lost_blocks: u64,
    /// Bytes in them.
    lost_bytes: u64,
    /// Packets that ended in them.
    lost_packets: u64,
    /// Whether the capture is over, and not this alone.
    ended: bool,
}

pub(crate) fn tap(args: &Tap, json: bool) -> anyhow::Result<Status> {
    let bus = Session::of_broker(&args.broker, None)?;
    let mut reader = Reader::new(bus.view(args.name.as_str())?)?;
    let stop = StopFlag::new()?;
    let output = Output::open(&args.to, args.force, Interrupted::Keeps)?;
    let mut report = output.report(json);
    // Who starts something that is to be seen here waits for that.
    report.line(format!("tapping {}", args.name));
    let progress = Progress::new(&mut report, "tapping", args.end.bytes);
    let mut sink = Sink { args, output, progress, packets: 0 };
    let how = sink.run(&mut reader, &stop);
    let Sink { output, progress, packets, .. } = sink;
    let done = progress.end();
    let file = output.name().to_owned();
    output.finish()?;
    let how = how.with_context(|| format!("after {} bytes; they are kept in {file}", done.0))?;
    let (moved, lost) = (Moved::in_time(done), reader.lost());
    let name = &args.name;
    report.line(format!("read {moved} in {packets} packets of {name} to {file}"));
    if how == Some(End::Gone) {
        report.complain(format!("the program that shared {name} has ended without saying so"));
    }
    if lost.blocks > 0 {
        report.complain(format!(
            "LOST: {} blocks with {} bytes, in which {} packets ended, were overwritten before they were read",
            lost.blocks, lost.bytes, lost.packets
        ));
    }
    report.finish(&Outcome {
        name: name.clone(),
        file,
        moved,
        packets,
        lost_blocks: lost.blocks,
        lost_bytes: lost.bytes,
        lost_packets: lost.packets,
        ended: how.is_some(),
    })?;
    let complete = lost.blocks == 0 || args.lossy;
    Ok(if complete && how != Some(End::Gone) { Status::Passed } else { Status::Failed })
}

/// Where blocks go.
struct Sink<'a> {
    args: &'a Tap,
    output: Output,
    progress: Progress<'a>,
    packets: u64,
}

impl Sink<'_> {
    /// Writes down blocks until it is enough, or there are no more: then it says how that came.
    fn run(&mut self, reader: &mut Reader, stop: &StopFlag) -> anyhow::Result<Option<End>> {
        let mut bytes = vec![0; reader.shape().block_size()];
        let started = Instant::now();
        let mut last = started;
        loop {
            if stop.is_set() || self.args.end.is_due(started, last) {
                return Ok(None);
            }
            let mut block = match reader.next(LOOK)? {
                Next::Block(block) => block,
                Next::Nothing => continue,
                Next::Ended(how) => return Ok(Some(how)),
            };
            last = Instant::now();
            let (length, ends_packet) = (block.len(), block.ends_packet());
            match block.read(0, &mut bytes[..length]) {
                Ok(()) => {}
                Err(error) if error.is_overrun() => continue,
                Err(error) => return Err(error.into()),
            }
            let wanted = self.args.end.wanted(self.progress.done(), length);
            self.output.write(&bytes[..wanted])?;
            self.progress.advance(wanted as u64);
            self.packets += u64::from(ends_packet && wanted == length);
            if self.args.end.has(self.progress.done()) {
                return Ok(None);
            }
        }
    }
}
