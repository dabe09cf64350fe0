//! The bench program: figures as ratios within one run, each with the bar that it has to meet.
//!
//! Both sides of a ratio are measured in turns, so that whatever else the machine does hits both; the figure is the
//! median of the rounds' ratios. `cargo xtask bench` builds what this needs and runs it.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is what a person sees")]

mod echo;
mod figure;
mod processes;
mod progress;
mod report;
mod rounds;
mod rows;

use clap::Parser;
use report::Report;
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
    /// Be the other process of a ping-pong over the socket that is standard input.
    #[arg(long, hide = true)]
    echo: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = if options.echo { echo::serve().map(|()| true) } else { measure(&options) };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures the rows that are wished for and says whether all bars are met.
fn measure(options: &Options) -> anyhow::Result<bool> {
    let wish = Wish { quick: options.quick };
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
