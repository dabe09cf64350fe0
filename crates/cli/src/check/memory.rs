//! `jitney test memory` and `test ddr`: write all of a card's memory by DMA, read it back, compare every word.

use super::verdict::Found;
use crate::args::{Dma, Selection, count};
use crate::cards::Session;
use crate::channels;
use crate::rates::{Rates, Summary};
use crate::report::Report;
use crate::size;
use crate::size::human;
use crate::status::{Misuse, Status};
use crate::targets::{self, dram, nothing_tested};
use clap::{Args, ValueEnum};
use jitney_boards::{Board, Memory};
use jitney_memory::PageSize;
use jitney_pattern::{Mismatch, Pattern};
use jitney_vfio::{DmaBuffer, DmaRequest};
use jitney_xdma::{C2h, H2c};
use schemars::JsonSchema;
use serde::Serialize;
use std::num::NonZeroU32;

const HELP: &str = "\
Examples:
  jitney test memory --emulate nitefury --passes 2
  jitney test memory --size 1G --align 4096 --buffer huge --only 10ee:7011

Larger memory than 1 GiB is written a GiB at a time, and read when all of it is written. `test ddr` is the same for DDR and HBM \
alone, of each board the first, with 16 passes.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct MemoryArgs {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Test this much of the memory, from its start, instead of all: 4096, 0x128000, 64K, 8M, 1G.
    #[arg(long, value_parser = size::parse_nonzero)]
    pub(crate) size: Option<u64>,
    /// How often to write and read all of it: 2 times if nothing is said.
    #[arg(long, value_parser = passes)]
    pub(crate) passes: Option<NonZeroU32>,
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

/// Which memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// All that DMA reaches.
    All,
    /// The first that is DDR or HBM, or may be.
    Dram,
}

impl Which {
    fn of(self, board: &Board) -> Vec<Memory> {
        match self {
            Self::All => board.memories().to_vec(),
            Self::Dram => dram(board).into_iter().collect(),
        }
    }
}

/// How it went on one board.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    memories: Vec<Tested>,
}

/// How it went with one memory.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Tested {
    /// Its first address on the card.
    base: u64,
    bytes: u64,
    /// Of the first transfer.
    h2c_descriptors: Vec<u32>,
    c2h_descriptors: Vec<u32>,
    passes: u32,
    pub(crate) failures: Vec<String>,
    pub(crate) host_to_card: Summary,
    pub(crate) card_to_host: Summary,
}

pub(crate) fn memory(args: &MemoryArgs, which: Which, json: bool) -> anyhow::Result<Status> {
    let mut report = Report::new(json);
    let session = Session::open(&args.selection)?;
    let targets = targets::find(&session, &args.selection, &report, |board| {
        targets::has_memory(board) && !which.of(board).is_empty()
    })?;
    if targets.boards.is_empty() {
        return match which {
            Which::All => nothing_tested("board with memory that DMA reaches", json),
            Which::Dram => nothing_tested("board with DDR memory and DMA", json),
        };
    }
    targets.boards.iter().try_for_each(|board| fits(board, which, args.size))?;
    let outcomes = targets.each(&mut report, |board, report| {
        let memories = which.of(board).into_iter().map(|memory| test(board, memory, which, args, report));
        Ok(Outcome { memories: memories.collect::<anyhow::Result<_>>()? })
    });
    report.finish(&outcomes)?;
    let failed = |one: &targets::OnBoard<Outcome>| {
        one.failed(|outcome| outcome.memories.iter().any(|tested| !tested.failures.is_empty()))
    };
    Ok(targets.status(outcomes.iter().any(failed)))
}

/// Fails if less than that is in a memory of `board` that is to be tested.
fn fits(board: &Board, which: Which, size: Option<u64>) -> Result<(), Misuse> {
    let small = which.of(board).into_iter().find(|memory| size.is_some_and(|size| size > memory.size));
    match (small, size) {
        (Some(Memory { base, size: own, .. }), Some(size)) => Err(Misuse(format!(
            "{} has {own:#x} bytes of memory at {base:#x}, fewer than --size {size:#x}; name other boards with --only",
            board.name()
        ))),
        _ => Ok(()),
    }
}

/// As one check of several: once, and no more of each memory than `most`.
pub(crate) fn check(board: &Board, most: u64, dma: Dma, report: &Report) -> anyhow::Result<Found> {
    let mut said = Vec::new();
    for memory in board.memories() {
        let args = MemoryArgs {
            selection: Selection::default(),
            size: Some(memory.size.min(most)),
            passes: NonZeroU32::new(1),
            align: None,
            descriptors_of: None,
            buffer: Pages::Normal,
            dma,
        };
        let tested = test(board, *memory, Which::All, &args, &mut report.quiet())?;
        if !tested.failures.is_empty() {
            return Ok(Found::Bad(tested.failures.join("; ")));
        }
        said.push(format!("{} of {} at {:#x}", human(tested.bytes), human(memory.size), memory.base));
    }
    Ok(Found::Good(format!("{} written, read and compared", said.join(" and "))))
}

/// What is moved at a time: more memory than this is not asked of the host.
const PIECE: u64 = 1 << 30;

/// A memory, a channel each way, and a buffer for each.
struct Bench {
    base: u64,
    size: u64,
    h2c: H2c,
    c2h: C2h,
    sent: DmaBuffer,
    received: DmaBuffer,
}

fn test(
    board: &Board,
    memory: Memory,
    which: Which,
    args: &MemoryArgs,
    report: &mut Report,
) -> anyhow::Result<Tested> {
    let card = board.card().identity().to_string();
    let bench = Bench::new(board, memory, args)?;
    report.line(format!("Testing {} with {} of memory at {card}", board.name(), human(bench.size)));
    let first = 0..bench.size.min(PIECE);
    let h2c_descriptors = lengths(bench.h2c.plan(&bench.sent, first.clone(), bench.base)?);
    let c2h_descriptors = lengths(bench.c2h.plan(&bench.received, first.clone(), bench.base)?);
    report.line(sizes("h2c", &h2c_descriptors));
    report.line(sizes("c2h", &c2h_descriptors));

    let (mut to_card, mut from_card) = (Rates::of(first.end), Rates::of(first.end));
    let mut pattern = Pattern::starting_at(0);
    let mut failures = Vec::new();
    let passes = args.passes.map_or(if which == Which::Dram { 16 } else { 2 }, NonZeroU32::get);
    // Written and read.
    report.start(board.name(), bench.size.saturating_mul(2 * u64::from(passes)));
    for pass in 1..=passes {
        match bench.pass(&mut pattern, &mut to_card, &mut from_card, report)? {
            None => report.line(format!("pass {pass} of {passes}: test pattern matches")),
            Some(mismatch) => {
                let failure = format!("pass {pass} of {passes}: {mismatch}");
                report.line(&failure);
                failures.push(failure);
            }
        }
    }
    let (host_to_card, card_to_host) = (to_card.summary(), from_card.summary());
    report.line(host_to_card.describe("host to card"));
    report.line(card_to_host.describe("card to host"));
    let (base, bytes) = (bench.base, bench.size);
    Ok(Tested { base, bytes, h2c_descriptors, c2h_descriptors, passes, failures, host_to_card, card_to_host })
}

impl Bench {
    fn new(board: &Board, memory: Memory, args: &MemoryArgs) -> anyhow::Result<Self> {
        let size = args.size.unwrap_or(memory.size);
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
        let request = DmaRequest::new(size.min(PIECE)).of(pages).aligned(align).below(top);
        let card = board.card();
        let (sent, received) = (card.dma_buffer(request)?, card.dma_buffer(request)?);
        Ok(Self { base: memory.base, size, h2c, c2h, sent, received })
    }

    /// Fills, writes, reads back and compares all of the memory once; the pattern goes on from the last pass.
    fn pass(
        &self,
        pattern: &mut Pattern,
        to_card: &mut Rates,
        from_card: &mut Rates,
        report: &Report,
    ) -> anyhow::Result<Option<Mismatch>> {
        let mut expected = pattern.clone();
        for (start, length) in self.pieces() {
            pattern.fill(self.sent.view(), 0, length)?;
            let written = self.h2c.write_range(&self.sent, 0..length, self.base + start)?;
            if length == PIECE.min(self.size) {
                to_card.add(written.duration);
            }
            report.advance(length);
        }
        for (start, length) in self.pieces() {
            let read = self.c2h.read_range(&self.received, 0..length, self.base + start)?;
            if length == PIECE.min(self.size) {
                from_card.add(read.duration);
            }
            report.advance(length);
            if let Some(mismatch) = expected.compare(self.received.view(), 0, length)? {
                return Ok(Some(mismatch.further_on(start)));
            }
        }
        Ok(None)
    }

    /// Where each piece begins, and its length.
    fn pieces(&self) -> impl Iterator<Item = (u64, u64)> + use<> {
        let size = self.size;
        (0..size.div_ceil(PIECE)).map(move |piece| (piece * PIECE, PIECE.min(size - piece * PIECE)))
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
