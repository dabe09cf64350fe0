//! `jitney test ddr`: write all of a card's memory by DMA, read it back, compare every word.

use crate::cli::args::{Dma, Selection, count};
use crate::cli::cards::Session;
use crate::cli::channels;
use crate::cli::rates::{Rates, Summary};
use crate::cli::report::Report;
use crate::cli::size;
use crate::cli::size::human;
use crate::cli::status::Status;
use crate::cli::targets::{self, dram, nothing_tested};
use anyhow::bail;
use clap::{Args, ValueEnum};
use jitney_boards::Board;
use jitney_memory::PageSize;
use jitney_pattern::{Mismatch, Pattern};
use jitney_vfio::{DmaBuffer, DmaRequest};
use jitney_xdma::{C2h, H2c};
use schemars::JsonSchema;
use serde::Serialize;
use std::num::NonZeroU32;

const HELP: &str = "\
Examples:
  jitney test ddr --emulate nitefury --passes 2
  jitney test ddr --align 4096 --buffer huge --only 10ee:7011";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Ddr {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Test this much of the memory, from its start, instead of all: 4096, 0x128000, 64K, 8M, 1G.
    #[arg(long, value_parser = size::parse_nonzero)]
    pub(crate) size: Option<u64>,
    /// How often to write and read all of it.
    #[arg(long, default_value = "16", value_parser = passes)]
    pub(crate) passes: NonZeroU32,
    /// Make descriptors of whole multiples of this many bytes.
    #[arg(long, value_name = "BYTES", value_parser = size::parse_alignment)]
    pub(crate) align: Option<u64>,
    /// Make descriptors of at most this many bytes, up to 0x0fffffff, instead of 8M: fewer, each of which takes longer to stop.
    #[arg(long, value_name = "BYTES", value_parser = size::parse_descriptor)]
    pub(crate) descriptors_of: Option<u32>,
    /// Which pages to make the buffers of.
    #[arg(long, value_enum, default_value = "normal")]
    pub(crate) buffer: Pages,
    #[command(flatten)]
    pub(crate) dma: Dma,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pages {
    /// Pages of 4 KiB.
    Normal,
    /// Pages of 2 MiB, which have to be reserved.
    Huge,
}

fn passes(text: &str) -> Result<NonZeroU32, String> {
    NonZeroU32::try_from(count(text)?).map_err(|_| format!("at most {} are possible", u32::MAX))
}

/// How it went on one board.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    bytes: u64,
    h2c_descriptors: Vec<u32>,
    c2h_descriptors: Vec<u32>,
    passes: u32,
    failures: Vec<String>,
    host_to_card: Summary,
    card_to_host: Summary,
}

pub(crate) fn ddr(args: &Ddr, json: bool) -> anyhow::Result<Status> {
    let mut report = Report::new(json);
    let session = Session::open(&args.selection)?;
    let targets = targets::find(&session, &args.selection, &report, |board| dram(board).is_some())?;
    if targets.boards.is_empty() {
        return nothing_tested("board with DDR memory and DMA", json);
    }
    let outcomes = targets.each(&mut report, |board, report| test(board, args, report));
    report.finish(&outcomes)?;
    let failed = outcomes.iter().any(|one| one.failed(|outcome| !outcome.failures.is_empty()));
    Ok(targets.status(failed))
}

/// A board's memory, a channel each way, and a buffer for each.
struct Bench {
    base: u64,
    size: u64,
    h2c: H2c,
    c2h: C2h,
    sent: DmaBuffer,
    received: DmaBuffer,
}

fn test(board: &Board, args: &Ddr, report: &mut Report) -> anyhow::Result<Outcome> {
    let card = board.card().identity().to_string();
    let mut bench = Bench::new(board, args)?;
    report.line(format!("Testing {} with {} of memory at {card}", board.name(), human(bench.size)));
    let h2c_descriptors = lengths(bench.h2c.plan(&bench.sent, 0..bench.size, bench.base)?);
    let c2h_descriptors = lengths(bench.c2h.plan(&bench.received, 0..bench.size, bench.base)?);
    report.line(sizes("h2c", &h2c_descriptors));
    report.line(sizes("c2h", &c2h_descriptors));

    let (mut to_card, mut from_card) = (Rates::of(bench.size), Rates::of(bench.size));
    let mut pattern = Pattern::starting_at(0);
    let mut failures = Vec::new();
    // Filled, written, read and compared.
    report.start(board.name(), bench.size.saturating_mul(4 * u64::from(args.passes.get())));
    for pass in 1..=args.passes.get() {
        match bench.pass(&mut pattern, &mut to_card, &mut from_card, report)? {
            None => report.line(format!("pass {pass} of {}: test pattern matches", args.passes)),
            Some(mismatch) => {
                let failure = format!("pass {pass} of {}: {mismatch}", args.passes);
                report.line(&failure);
                failures.push(failure);
            }
        }
    }
    let (host_to_card, card_to_host) = (to_card.summary(), from_card.summary());
    report.line(host_to_card.describe("host to card"));
    report.line(card_to_host.describe("card to host"));
    Ok(Outcome {
        bytes: bench.size,
        h2c_descriptors,
        c2h_descriptors,
        passes: args.passes.get(),
        failures,
        host_to_card,
        card_to_host,
    })
}

impl Bench {
    fn new(board: &Board, args: &Ddr) -> anyhow::Result<Self> {
        let Some(memory) = dram(board) else { bail!("{} has no DDR memory that DMA reaches", board.name()) };
        let size = args.size.unwrap_or(memory.size);
        if size > memory.size {
            bail!("{} has {:#x} bytes of memory, fewer than --size {size:#x}", board.name(), memory.size);
        }
        let xdma = board.xdma()?;
        let align = args.align.unwrap_or(1);
        let (h2c, c2h) = channels::open(&xdma, args.dma)?;
        let (h2c, c2h) = (h2c.aligned(align), c2h.aligned(align));
        let (h2c, c2h) = match args.descriptors_of {
            Some(longest) => (h2c.descriptors_of_at_most(longest), c2h.descriptors_of_at_most(longest)),
            None => (h2c, c2h),
        };
        let pages = match args.buffer {
            Pages::Normal => PageSize::Normal,
            Pages::Huge => PageSize::Huge2M,
        };
        let top = h2c.limits().top().min(c2h.limits().top());
        let request = DmaRequest::new(size).of(pages).aligned(align).below(top);
        let card = board.card();
        let (sent, received) = (card.dma_buffer(request)?, card.dma_buffer(request)?);
        Ok(Self { base: memory.base, size, h2c, c2h, sent, received })
    }

    /// Fills, writes, reads back and compares all of the memory once; the pattern goes on from the last pass.
    fn pass(
        &mut self,
        pattern: &mut Pattern,
        to_card: &mut Rates,
        from_card: &mut Rates,
        report: &Report,
    ) -> anyhow::Result<Option<Mismatch>> {
        let all = 0..self.size;
        let mut expected = pattern.clone();
        pattern.fill(self.sent.view(), 0, self.size)?;
        report.advance(self.size);
        to_card.add(self.h2c.write_range(&self.sent, all.clone(), self.base)?.duration);
        report.advance(self.size);
        from_card.add(self.c2h.read_range(&self.received, all, self.base)?.duration);
        report.advance(self.size);
        let mismatch = expected.compare(self.received.view(), 0, self.size)?;
        report.advance(self.size);
        Ok(mismatch)
    }
}

/// The lengths of a plan's descriptors.
fn lengths(plan: jitney_xdma::Plan) -> Vec<u32> {
    plan.map(|chunk| chunk.length).collect()
}

/// `Size of DMA descriptors used for h2c: [0]=0xfffffff …`, the first and last few of many.
fn sizes(direction: &str, lengths: &[u32]) -> String {
    const SHOWN: usize = 8;
    let mut line = format!("Size of DMA descriptors used for {direction}:");
    for (index, length) in lengths.iter().enumerate() {
        if index + 1 == lengths.len() || index < SHOWN {
            line += &format!(" [{index}]={length:#x}");
        } else if index == SHOWN {
            line += " …";
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use jitney_xdma::{Limits, Transfer, plan};

    #[test]
    fn the_sizes_of_1_gib() {
        let transfer = Transfer { host: 0, card: 0, length: 1 << 30 };
        let any = lengths(plan(transfer, &Limits::ANY).unwrap());
        assert_eq!(
            sizes("h2c", &any),
            "Size of DMA descriptors used for h2c: [0]=0xfffffff [1]=0xfffffff [2]=0xfffffff [3]=0xfffffff [4]=0x4"
        );
        let aligned = lengths(plan(transfer, &Limits::ANY.aligned(4096)).unwrap());
        assert_eq!(aligned, [0x0fff_f000, 0x0fff_f000, 0x0fff_f000, 0x0fff_f000, 0x4000]);
    }
}
