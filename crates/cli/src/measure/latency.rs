//! `jitney time latency`: how long transfers take, one at a time.

use super::plot::{Axis, Curve, Plot, svg};
use super::table::table;
use crate::args::{Dma, Selection, limit};
use crate::cards::Session;
use crate::channels;
use crate::check::joined::Joined;
use crate::report::Report;
use crate::size::{self, human};
use crate::status::Status;
use crate::targets::{self, nothing_tested};
use anyhow::{anyhow, bail};
use clap::Args;
use hdrhistogram::Histogram;
use jitney_boards::{Board, DmaIp};
use jitney_vfio::DmaRequest;
use jitney_xdma::Error;
use schemars::JsonSchema;
use serde::Serialize;
use std::time::{Duration, Instant};

const HELP: &str = "\
Examples:
  jitney time latency --emulate nitefury
  jitney time latency --sizes 64,4K --for 10s --only 10ee:7011
  jitney time latency --completion interrupt --plot latency.svg --only 10ee:7024

From before a transfer is given to the card until its end was seen, one after the other. Of streams: from before a packet is sent \
until all of what comes for it was received. What is in the card's memory is lost.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Latency {
    #[command(flatten)]
    selection: Selection,
    /// Bytes of a transfer.
    #[arg(long, value_name = "SIZE,…", value_delimiter = ',', default_value = "64,1K,4K,16K,64K", value_parser = transfer)]
    sizes: Vec<u64>,
    /// How long each is measured: 100ms, 1s.
    #[arg(long = "for", value_name = "TIME", default_value = "500ms", value_parser = limit)]
    time: Duration,
    #[command(flatten)]
    plot: Plot,
    #[command(flatten)]
    dma: Dma,
}

fn transfer(text: &str) -> Result<u64, String> {
    match size::parse_length(text)? {
        length if length <= 4 << 20 => Ok(length),
        _ => Err("a transfer has at most 4M here".into()),
    }
}

/// How it went on one board.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    latencies: Vec<Measured>,
}

/// How long transfers of a size take.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Measured {
    /// `h2c0`, or `h2c0 to c2h1`.
    path: String,
    /// Bytes of a transfer.
    size: u64,
    transfers: u64,
    /// In microseconds, as all of these.
    min_us: f64,
    percentiles: Vec<Percentile>,
    max_us: f64,
}

/// So many in a hundred took no longer.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub(crate) struct Percentile {
    percent: f64,
    us: f64,
}

/// Which are told. Those that too few transfers stand behind are left out.
const PERCENTS: [f64; 6] = [50.0, 90.0, 99.0, 99.9, 99.99, 99.999];

pub(crate) fn latency(args: &Latency, json: bool) -> anyhow::Result<Status> {
    let mut report = Report::new(json);
    let session = Session::open(&args.selection)?;
    let has_xdma = |board: &Board| board.design().dma.is_some_and(|dma| dma.ip == DmaIp::Xdma);
    let targets = targets::find(&session, &args.selection, &report, has_xdma)?;
    if targets.boards.is_empty() {
        return nothing_tested("board with an XDMA", json);
    }
    args.plot.check(targets.boards.len())?;
    let mut picture = None;
    let outcomes = targets.each(&mut report, |board, report| {
        let name = format!("{} at {}", board.name(), board.card().identity());
        report.line(&name);
        let outcome = measure(board, args.dma, &args.sizes, args.time, report)?;
        report.line(outcome.table());
        if args.plot.is_wanted() {
            picture = Some(outcome.picture(&name)?);
        }
        Ok(outcome)
    });
    args.plot.write(picture.as_deref(), &report)?;
    report.finish(&outcomes)?;
    Ok(targets.status(outcomes.iter().any(|one| one.failed(|_| false))))
}

pub(crate) fn measure(
    board: &Board,
    dma: Dma,
    sizes: &[u64],
    time: Duration,
    report: &mut Report,
) -> anyhow::Result<Outcome> {
    let mut latencies = Vec::new();
    if board.design().dma.is_some_and(|dma| dma.has_streams()) {
        report.start_steps("measuring", sizes.len() as u64);
        measure_stream(board, dma, sizes, time, report, &mut latencies)?;
    } else {
        report.start_steps("measuring", 2 * sizes.len() as u64);
        measure_memory(board, dma, sizes, time, report, &mut latencies)?;
    }
    report.stop();
    Ok(Outcome { latencies })
}

fn measure_memory(
    board: &Board,
    dma: Dma,
    sizes: &[u64],
    time: Duration,
    report: &Report,
    into: &mut Vec<Measured>,
) -> anyhow::Result<()> {
    let Some(memory) = board.memory() else { bail!("the design of {} names no memory", board.name()) };
    let (h2c, c2h) = channels::open(&board.xdma()?, dma)?;
    let top = h2c.limits().top().min(c2h.limits().top());
    for size in sizes.iter().copied().filter(|size| *size <= memory.size) {
        let buffer = board.card().dma_buffer(DmaRequest::new(size).below(top))?;
        into.push(many(h2c.info().to_string(), size, time, || h2c.write(&buffer, memory.base).map(drop))?);
        report.advance(1);
        into.push(many(c2h.info().to_string(), size, time, || c2h.read(&buffer, memory.base).map(drop))?);
        report.advance(1);
    }
    Ok(())
}

fn measure_stream(
    board: &Board,
    dma: Dma,
    sizes: &[u64],
    time: Duration,
    report: &Report,
    into: &mut Vec<Measured>,
) -> anyhow::Result<()> {
    let xdma = board.xdma()?;
    let joined = Joined::of(board, &xdma)?;
    let pairs = joined.at_once()?;
    let Some((from, to)) = pairs.into_iter().min() else {
        bail!("nothing comes for what is sent to {}", board.name())
    };
    let h2c = channels::to_card(&xdma, Dma { channel: from, ..dma })?;
    let c2h = channels::from_card(&xdma, Dma { channel: to, ..dma })?;
    for size in sizes {
        // A CRC takes whole words of the data path.
        let size = if matches!(joined, Joined::Crc64(_)) { size.next_multiple_of(64) } else { *size };
        let room = size.next_multiple_of(64);
        let source = board.card().dma_buffer(DmaRequest::new(size).below(h2c.limits().top()))?;
        let target = board.card().dma_buffer(DmaRequest::new(room).below(c2h.limits().top()))?;
        into.push(many(format!("h2c{from} to c2h{to}"), size, time, || {
            let armed = c2h.receive(&target, 0..room)?;
            h2c.write_range(&source, 0..size, 0)?;
            armed.wait().map(drop)
        })?);
        report.advance(1);
    }
    Ok(())
}

/// Does it again and again, and says how long it took.
fn many(
    path: String,
    size: u64,
    time: Duration,
    mut job: impl FnMut() -> Result<(), Error>,
) -> anyhow::Result<Measured> {
    // Nanoseconds to a minute, in three digits.
    let mut all =
        Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).map_err(|error| anyhow!("{error}"))?;
    job()?;
    let started = Instant::now();
    while started.elapsed() < time || all.len() < 3 {
        let begun = Instant::now();
        job()?;
        all.saturating_record(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are told")]
    let us = |nanoseconds: u64| nanoseconds as f64 / 1e3;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let stands = |percent: &&f64| all.len() as f64 * (100.0 - **percent) / 100.0 >= 1.0;
    let told = PERCENTS.iter().filter(stands);
    let percentiles =
        told.map(|percent| Percentile { percent: *percent, us: us(all.value_at_quantile(percent / 100.0)) });
    let percentiles = percentiles.collect();
    Ok(Measured {
        path,
        size,
        transfers: all.len(),
        min_us: us(all.min()),
        percentiles,
        max_us: us(all.max()),
    })
}

impl Outcome {
    /// What fits a terminal; the rest is in the JSON.
    fn table(&self) -> String {
        let shown = PERCENTS.iter().filter(|percent| **percent != 90.0);
        let rows = self.latencies.iter().map(|one| {
            let mut row = vec![one.path.replace(" to ", "→"), human(one.size), one.transfers.to_string()];
            row.extend(shown.clone().map(|percent| {
                let told = one.percentiles.iter().find(|own| own.percent >= *percent);
                told.map_or_else(|| "-".into(), |own| format!("{:.1}", own.us))
            }));
            row.push(format!("{:.1}", one.max_us));
            row
        });
        table(&["µs", "size", "count", "50%", "99%", "99.9%", "99.99%", "99.999%", "max"], rows)
    }

    /// Latency over size: the median and 99 of a hundred.
    pub(crate) fn picture(&self, title: &str) -> anyhow::Result<String> {
        let mut curves: Vec<Curve> = Vec::new();
        for one in &self.latencies {
            for percentile in one.percentiles.iter().filter(|own| [50.0, 99.0].contains(&own.percent)) {
                let name = format!("{}, {} %", one.path, percentile.percent);
                #[expect(clippy::cast_precision_loss, reason = "a picture needs no 53 bits")]
                let point = (one.size as f64, percentile.us);
                Curve::add(&mut curves, name, point);
            }
        }
        let microseconds = Axis::measured("µs", |value| format!("{value}"));
        svg(title, Axis::BYTES, microseconds, &curves)
    }

    /// The shortest median, in words.
    pub(crate) fn best(&self) -> String {
        let medians = self.latencies.iter().filter_map(|one| Some((one, one.percentiles.first()?.us)));
        match medians.min_by(|one, other| one.1.total_cmp(&other.1)) {
            Some((one, us)) => {
                format!("half of the transfers of {} take no longer than {us:.1} µs", human(one.size))
            }
            None => "nothing was measured".into(),
        }
    }
}
