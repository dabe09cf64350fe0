//! `jitney time dma`: how fast each channel is, by the size of transfers and how many are under way.

use super::link::LinkNow;
use super::plot::{Axis, Curve, Plot, svg};
use super::table::table;
use crate::args::{Dma, Selection, limit};
use crate::cards::Session;
use crate::channels;
use crate::report::Report;
use crate::size::{self, human};
use crate::status::Status;
use crate::targets::{self, has_memory, nothing_tested};
use anyhow::bail;
use clap::Args;
use jitney_boards::Board;
use jitney_vfio::DmaRequest;
use jitney_xdma::{Channel, Direction, Pending};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

const HELP: &str = "\
Examples:
  jitney time dma --emulate nitefury
  jitney time dma --sizes 4K,1M,16M --depth 1,32 --only 10ee:7011
  jitney time dma --plot rates.svg --only 10ee:7011

The share is that of what the card's PCIe link carries as it is now, headers left out. Streams: `jitney test streams`. The data in \
the card's memory is read and written back to other places: what was there is lost.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct DmaArgs {
    #[command(flatten)]
    selection: Selection,
    /// Bytes of a transfer.
    #[arg(long, value_name = "SIZE,…", value_delimiter = ',', default_value = "4K,16K,64K,256K,1M,4M,16M", value_parser = transfer)]
    sizes: Vec<u64>,
    /// How many transfers are under way at once.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,8", value_parser = clap::value_parser!(u32).range(1..=1024))]
    depth: Vec<u32>,
    /// How long each is measured: 100ms, 1s.
    #[arg(long = "for", value_name = "TIME", default_value = "200ms", value_parser = limit)]
    time: Duration,
    #[command(flatten)]
    plot: Plot,
    #[command(flatten)]
    dma: Dma,
}

fn transfer(text: &str) -> Result<u64, String> {
    match size::parse_length(text)? {
        length if length <= 1 << 30 => Ok(length),
        _ => Err("a transfer has at most 1G here".into()),
    }
}

/// How it went on one board.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    /// The link as it is now, as `5 GT/s x4`.
    link: Option<String>,
    rates: Vec<Rate>,
}

/// How fast transfers of a size are.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct Rate {
    /// `h2c0`
    channel: String,
    /// Bytes of a transfer.
    size: u64,
    /// How many were under way at once.
    depth: u32,
    transfers: u64,
    pub(crate) mb_per_s: f64,
    /// The most that the link carries in this direction, in 10^6 bytes a second.
    limit_mb_per_s: Option<f64>,
}

pub(crate) fn dma(args: &DmaArgs, json: bool) -> anyhow::Result<Status> {
    let mut report = Report::new(json);
    let session = Session::open(&args.selection)?;
    let targets = targets::find(&session, &args.selection, &report, has_memory)?;
    if targets.boards.is_empty() {
        return nothing_tested("board with memory that DMA reaches", json);
    }
    args.plot.check(targets.boards.len())?;
    let wish = Wish { sizes: &args.sizes, depths: &args.depth, time: args.time };
    let mut picture = None;
    let outcomes = targets.each(&mut report, |board, report| {
        let name = format!("{} at {}", board.name(), board.card().identity());
        report.line(&name);
        let outcome = measure(board, args.dma, wish, report)?;
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

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish<'a> {
    pub(crate) sizes: &'a [u64],
    pub(crate) depths: &'a [u32],
    /// Each of them.
    pub(crate) time: Duration,
}

pub(crate) fn measure(
    board: &Board,
    dma: Dma,
    wish: Wish<'_>,
    report: &mut Report,
) -> anyhow::Result<Outcome> {
    let Some(memory) = board.memory() else { bail!("the design of {} names no memory", board.name()) };
    let (h2c, c2h) = channels::open(&board.xdma()?, dma)?;
    let link = LinkNow::of(&**board.card())?;
    let mut rates = Vec::new();
    let sizes: Vec<u64> = wish.sizes.iter().copied().filter(|size| *size <= memory.size).collect();
    let steps = sizes.len() * wish.depths.len() * 2;
    report.start_steps("measuring", steps as u64);
    for direction in Direction::ALL {
        for size in &sizes {
            for depth in wish.depths {
                let place = Place { base: memory.base, end: memory.size, size: *size, depth: *depth };
                let (transfers, seconds) = match direction {
                    Direction::HostToCard => place.measure(board, &h2c, wish.time)?,
                    Direction::CardToHost => place.measure(board, &c2h, wish.time)?,
                };
                #[expect(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
                let mb = |bytes: u64| bytes as f64 / 1e6;
                rates.push(Rate {
                    channel: format!("{direction}{}", dma.channel),
                    size: *size,
                    depth: *depth,
                    transfers,
                    mb_per_s: mb(transfers * size) / seconds,
                    limit_mb_per_s: link.and_then(|link| link.limit(direction)).map(mb),
                });
                report.advance(1);
            }
        }
    }
    report.stop();
    Ok(Outcome { link: link.map(|link| link.link.to_string()), rates })
}

/// What is moved, and where it is on the card.
struct Place {
    base: u64,
    /// Bytes of the memory.
    end: u64,
    size: u64,
    depth: u32,
}

/// The most that the host gives for a measurement.
const MOST: u64 = 256 << 20;

impl Place {
    /// Transfers for about so long, and how long it took.
    fn measure<D>(&self, board: &Board, channel: &Channel<D>, time: Duration) -> anyhow::Result<(u64, f64)> {
        let slots = u64::from(self.depth).min(MOST / self.size).min(self.end / self.size).max(1);
        let request = DmaRequest::new(slots * self.size).below(channel.limits().top());
        let buffer = board.card().dma_buffer(request)?;
        let submit = |number: u64| {
            let start = number % slots * self.size;
            channel.submit(&buffer, start..start + self.size, self.base + start)
        };
        // Once for pages and caches.
        submit(0)?.wait()?;
        let mut under_way: VecDeque<Pending> = VecDeque::new();
        let (mut begun, mut done) = (0, 0);
        let started = Instant::now();
        loop {
            let enough = started.elapsed() >= time && done >= 3;
            while !enough && under_way.len() < self.depth as usize {
                under_way.push_back(submit(begun)?);
                begun += 1;
            }
            let Some(oldest) = under_way.pop_front() else { break };
            oldest.wait()?;
            done += 1;
        }
        Ok((done, started.elapsed().as_secs_f64().max(f64::MIN_POSITIVE)))
    }
}

impl Outcome {
    fn table(&self) -> String {
        let link = self.link.as_deref().unwrap_or("unknown");
        let rows = self.rates.iter().map(|rate| {
            let share = rate.limit_mb_per_s.map(|limit| format!("{:.0} %", 100.0 * rate.mb_per_s / limit));
            vec![
                rate.channel.clone(),
                human(rate.size),
                rate.depth.to_string(),
                format!("{:.1}", rate.mb_per_s),
                share.unwrap_or_else(|| "-".into()),
            ]
        });
        let limit = |channel: &str| {
            let rate = self.rates.iter().find(|rate| rate.channel.starts_with(channel))?;
            Some(format!("{:.0} MB/s {channel}", rate.limit_mb_per_s?))
        };
        let limits: Vec<String> = ["h2c", "c2h"].into_iter().filter_map(limit).collect();
        let carries =
            if limits.is_empty() { String::new() } else { format!(", which carries {}", limits.join(", ")) };
        format!("link {link}{carries}\n{}", table(&["channel", "size", "depth", "MB/s", "of the link"], rows))
    }

    /// Rate over size, a curve for each channel and depth.
    pub(crate) fn picture(&self, title: &str) -> anyhow::Result<String> {
        let mut curves: Vec<Curve> = Vec::new();
        for rate in &self.rates {
            let name = format!("{}, {} at once", rate.channel, rate.depth);
            #[expect(clippy::cast_precision_loss, reason = "a picture needs no 53 bits")]
            let point = (rate.size as f64, rate.mb_per_s);
            Curve::add(&mut curves, name, point);
        }
        svg(title, Axis::BYTES, Axis::measured("MB/s", |value| format!("{value:.0}")), &curves)
    }

    /// The fastest in each direction, in words.
    pub(crate) fn best(&self) -> String {
        let best = |way: &str| {
            let rates = self.rates.iter().filter(|rate| rate.channel.starts_with(way));
            rates.map(|rate| rate.mb_per_s).fold(0.0, f64::max)
        };
        format!("at best {:.0} MB/s to the card and {:.0} MB/s from it", best("h2c"), best("c2h"))
    }
}
