//! The bench program: figures as ratios within one run, each with the bar that it has to meet.
//!
//! Both sides of a ratio are measured in turns, so that whatever else the machine does hits both; the figure is the
//! median of the rounds' ratios. `cargo xtask bench` builds what this needs and runs it.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is what a person sees")]

mod echo;
mod figure;
mod processes;
mod processor;
mod progress;
mod report;
mod rounds;
mod rows;

use clap::Parser;
use jitney_vfio::CardAddress;
use report::Report;
use rows::kernel::{guest, work};
use rows::{ROWS, Wish};
use std::process::ExitCode;

/// Measure how fast jitney is, each figure as a ratio, and compare with the bars.
#[derive(Debug, Parser)]
#[command(name = "jitney-bench", max_term_width = 110)]
struct Options {
    /// Print JSON for programs instead of a table for people.
    #[arg(long)]
    json: bool,
    /// Fewer rounds.
    #[arg(long)]
    quick: bool,
    /// Only the rows with this in their name.
    row: Option<String>,
    /// Without the rows that need the lab's virtual machine.
    #[arg(long)]
    no_lab: bool,
    /// Be the other process of a ping-pong over the socket that is standard input.
    #[arg(long, hide = true)]
    echo: bool,
    /// Measure on the kernel of this machine, the lab's guest, with two edu cards that are bound to vfio-pci.
    #[arg(long, hide = true, num_args = 2, value_name = "CARD")]
    in_guest: Vec<CardAddress>,
    /// The same with two emulated boards, one with DDR and one with block RAM.
    #[arg(long, hide = true, num_args = 2, value_name = "CARD")]
    in_guest_boards: Vec<CardAddress>,
    /// Be a program that reads one register.
    #[arg(long, hide = true)]
    first_read: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match act(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(options: &Options) -> anyhow::Result<bool> {
    if options.echo {
        return echo::serve().map(|()| true);
    }
    if options.first_read {
        return guest::read_first().map(|()| true);
    }
    if !options.in_guest.is_empty() {
        return guest::run(&options.in_guest, options.quick).map(|()| true);
    }
    if !options.in_guest_boards.is_empty() {
        return work::run(&options.in_guest_boards, options.quick).map(|()| true);
    }
    measure(options)
}

/// Measures the rows that are wished for and says whether all bars are met.
fn measure(options: &Options) -> anyhow::Result<bool> {
    let wish = Wish { quick: options.quick, no_lab: options.no_lab };
    let chosen: Vec<_> =
        ROWS.iter().filter(|row| options.row.as_ref().is_none_or(|name| row.name.contains(name))).collect();
    if chosen.is_empty() {
        let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        anyhow::bail!(
            "no row has {:?} in its name; there are {}",
            options.row.as_deref().unwrap_or_default(),
            names.join(", ")
        );
    }
    let mut report = Report::default();
    for row in chosen {
        let load = report::load_average();
        let outcome = (row.measure)(wish);
        report.add(row.name, load, outcome);
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(report.all_met())
}
