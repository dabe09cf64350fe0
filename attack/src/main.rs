//! The attack: a hostile client in every way that a client can be, against a real broker, with well-behaved clients beside
//! it whose every request is timed and whose data is checked.
//!
//! It knows the protocol from docs/protocol.md and nothing of the client that jitney has. `cargo xtask attack` builds what
//! this needs and runs it.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is what a person sees")]

mod arena;
mod body;
mod census;
mod client;
mod figures;
mod good;
mod grant;
mod probe;
mod progress;
mod protocol;
mod report;
mod round;
mod rows;
mod stage;
mod trial;
mod villain;
mod xdma;

use clap::Parser;
use progress::Progress;
use rows::{ROWS, Row};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use stage::Stage;
use std::process::ExitCode;
use trial::Trials;

/// Attack a broker in every way that a client can, and say whether it kept its promise.
#[derive(Debug, Parser)]
#[command(name = "jitney-attack", max_term_width = 110)]
struct Options {
    /// Print JSON for programs instead of a table for people.
    #[arg(long)]
    json: bool,
    /// Only the rows with this in their name.
    #[arg(long, value_name = "NAME")]
    row: Option<String>,
    /// What rows there are.
    #[arg(long)]
    list: bool,
    /// As many rounds as it takes to be sure, which takes long.
    #[arg(long)]
    long: bool,
    /// Show how long requests took and do not judge it: for machines that are busy with something else.
    #[arg(long)]
    untimed: bool,
    /// Make the same random choices as the run that showed this number.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Be a villain.
    #[arg(long, hide = true, value_name = "PLAY")]
    play: Option<String>,
    #[command(flatten)]
    stage: Stage,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match act(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!(
                "attack: {}{error:#}",
                options.play.map(|play| format!("{play}: ")).unwrap_or_default()
            );
            ExitCode::FAILURE
        }
    }
}

fn act(options: &Options) -> anyhow::Result<bool> {
    let limit = getrlimit(Resource::Nofile);
    // It fails nowhere; with fewer descriptors some attacks are smaller.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    if let Some(play) = &options.play {
        return rows::play(play, &options.stage).map(|()| true);
    }
    if options.list {
        for row in ROWS {
            println!("{:22}{}", row.name, row.about);
        }
        return Ok(true);
    }
    attack(options)
}

fn attack(options: &Options) -> anyhow::Result<bool> {
    let chosen: Vec<&Row> =
        ROWS.iter().filter(|row| options.row.as_ref().is_none_or(|name| row.name.contains(name))).collect();
    if chosen.is_empty() {
        anyhow::bail!(
            "no row has {:?} in its name; --list shows them",
            options.row.as_deref().unwrap_or_default()
        );
    }
    let seed = options.seed.unwrap_or_else(|| u64::from(std::process::id()));
    if !options.json {
        println!("seed {seed}");
    }
    let progress = Progress::new(chosen.len());
    progress.at("the good clients alone");
    let mut trials = Trials::new(options.long, !options.untimed, seed)?;
    let mut outcomes = Vec::new();
    for row in chosen {
        progress.at(row.name);
        let outcome = trials.run(row);
        if !options.json {
            progress.suspend(|| println!("{}", report::line(&outcome)));
        }
        outcomes.push(outcome);
        progress.advance();
    }
    drop(progress);
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report::json(&trials.alone, &outcomes, seed))?);
    } else {
        print!("\n{}", report::table(&trials.alone, &outcomes));
    }
    let tested = outcomes.iter().any(|outcome| outcome.skipped.is_none());
    Ok(tested && outcomes.iter().all(|outcome| outcome.broken.is_empty()))
}
