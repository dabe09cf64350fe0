//! `jitney validate`: all that fits a board, in one go.

mod html;
mod junit;
mod parts;

use super::verdict::{Check, Checks, Found};
use super::{addressing, dma, memory, streams};
use crate::args::{Client, Dma, Selection, Source};
use crate::cards::Session;
use crate::channels;
use crate::errno::{FileError, must_be_writable};
use crate::measure::{self, latency, pio};
use crate::report::Report;
use crate::signals::StopFlag;
use crate::status::Status;
use crate::targets::{self, OnBoard, nothing_tested};
use clap::Args;
use html::Page;
use jitney_boards::{Board, DmaIp};
use schemars::JsonSchema;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

const HELP: &str = "\
Examples:
  jitney validate --emulate nitefury
  jitney validate 10ee:7011 --report nitefury.html --junit nitefury.xml
  jitney validate --full        # all cards, and all of their memory

Ctrl-C skips what is left, and says what there is. What a design or this machine does not have is skipped, with the reason. The memory of the card is overwritten. The report is \
one page with everything in it, for people; JUnit's format is for what collects the results of tests.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Validate {
    /// Which card: its address, VENDOR:DEVICE, the name of its board, serial:NUMBER or dna:NUMBER. All that can be had if nothing is said.
    #[arg(value_name = "CARD")]
    named: Option<String>,
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    broker: Client,
    /// Test all of each memory, not the first 64 MiB.
    #[arg(long)]
    full: bool,
    /// Write a page for people into this file; one that is there is overwritten.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Write the results into this file as JUnit does; one that is there is overwritten.
    #[arg(long, value_name = "FILE.xml")]
    junit: Option<PathBuf>,
    #[command(flatten)]
    dma: Dma,
}

/// How it went on one board.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    design: String,
    checks: Vec<Check>,
    failed: bool,
    /// What was measured, as SVG; for the page.
    #[serde(skip)]
    pictures: Vec<String>,
}

pub(crate) fn validate(args: &Validate, json: bool) -> anyhow::Result<Status> {
    let mut report = Report::new(json);
    let stop = StopFlag::new()?;
    for path in args.report.iter().chain(&args.junit) {
        must_be_writable(path)?;
    }
    let selection =
        Selection { source: args.source.clone(), broker: args.broker.clone(), only: args.named.clone() };
    let session = Session::open(&selection)?;
    let targets = targets::find(&session, &selection, &report, |_| true)?;
    if targets.boards.is_empty() {
        return nothing_tested("board that is known", json);
    }
    let outcomes = targets.each(&mut report, |board, report| {
        report.line(format!("{} ({}) at {}", board.name(), board.design().name, board.card().identity()));
        let outcome = all(board, args, &stop, report);
        report.line(outcome.table());
        Ok(outcome)
    });
    if let Some(path) = &args.report {
        write(path, &Page { boards: &outcomes }.to_string())?;
        report.line(format!("report in {}", path.display()));
    }
    if let Some(path) = &args.junit {
        write(path, &junit::document(&outcomes)?)?;
        report.line(format!("JUnit's results in {}", path.display()));
    }
    report.finish(&outcomes)?;
    Ok(targets.status(stop.is_set() || outcomes.iter().any(failed)))
}

fn failed(one: &OnBoard<Outcome>) -> bool {
    one.failed(|outcome| outcome.failed)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    Ok(std::fs::write(path, text).map_err(|error| FileError::new(path.display().to_string(), error))?)
}

/// The most of a memory that is tested unless all of it is wanted.
const PART: u64 = 64 << 20;
/// How long streams carry.
const SOAK: Duration = Duration::from_secs(2);

fn all(board: &Board, args: &Validate, stop: &StopFlag, report: &mut Report) -> Outcome {
    let mut checks = Checks { stop: stop.clone(), ..Checks::default() };
    let mut pictures = Vec::new();
    let dma = args.dma;
    checks.run(report, "link", |_| parts::link(board));
    checks.run(report, "registers answer", |_| parts::registers(board));
    checks.run(report, "sensors", |_| parts::sensors(board));
    checks.run(report, "flash", |_| parts::flash(board));
    checks.run(report, "I2C devices", |_| parts::i2c(board));
    checks.run(report, "DDR controller", |_| parts::ddr(board));
    checks.run(report, "register accesses", |_| {
        let outcome = pio::measure(board, Duration::from_millis(50))?;
        Ok(match outcome.best() {
            Some(best) => Found::Good(best),
            None => {
                Found::Unfit("the design names no register that can be read without doing anything".into())
            }
        })
    });
    let engine = board.design().dma;
    let Some(engine) = engine.filter(|dma| dma.ip == DmaIp::Xdma) else {
        checks
            .run(report, "DMA", |_| Ok(Found::Unfit("the design has no XDMA that the host can use".into())));
        return Outcome::new(board, checks, pictures);
    };
    if engine.has_streams() {
        dma::add_checks(board, dma, &mut checks, report);
        checks.run(report, "all streams at once", |report| streams::check(board, dma, SOAK, report));
    } else if board.memories().is_empty() {
        checks.run(report, "transfers", |_| {
            Ok(Found::Unfit("the design names no memory behind the DMA".into()))
        });
        return Outcome::new(board, checks, pictures);
    } else {
        checks.run(report, "addressing", |_| addressing::check(board, dma));
        let most = if args.full { u64::MAX } else { PART };
        checks.run(report, "memory", |report| memory::check(board, most, dma, report));
        dma::add_checks(board, dma, &mut checks, report);
        checks.run(report, "rates", |report| {
            let sizes: Vec<u64> = [4, 16, 64, 256, 1024, 4096].map(|kib: u64| kib << 10).to_vec();
            let wish =
                measure::dma::Wish { sizes: &sizes, depths: &[1, 8], time: Duration::from_millis(100) };
            let outcome = measure::dma::measure(board, dma, wish, report)?;
            pictures.push(outcome.picture("rates")?);
            Ok(Found::Good(outcome.best()))
        });
    }
    checks.run(report, "latencies", |report| {
        if engine.has_streams() && super::joined::Joined::of(board, &board.xdma()?)?.pairs().is_empty() {
            return Ok(Found::Unfit("nothing comes for what is sent".into()));
        }
        let time = Duration::from_millis(200);
        let outcome =
            latency::measure(board, dma, &[64, 1 << 10, 4 << 10, 16 << 10, 64 << 10], time, report)?;
        pictures.push(outcome.picture("latencies")?);
        Ok(Found::Good(outcome.best()))
    });
    checks.run(report, "channels are free afterwards", |_| {
        channels::open(&board.xdma()?, dma)?;
        Ok(Found::Good("and the card answers".into()))
    });
    Outcome::new(board, checks, pictures)
}

impl Outcome {
    fn new(board: &Board, checks: Checks, pictures: Vec<String>) -> Self {
        let failed = checks.any_failed();
        Self { design: board.design().name.clone(), checks: checks.all, failed, pictures }
    }

    fn table(&self) -> String {
        Checks { all: self.checks.clone(), ..Checks::default() }.table()
    }
}
