//! `cargo xtask attack`: build the hostile client and what it attacks, and let it loose.

use crate::process;
use crate::workspace;
use clap::Args;
use std::process::{Command, ExitCode};

pub(crate) const HELP: &str = "\
Examples:
  cargo xtask attack                     every row, about a minute and a half
  cargo xtask attack --row departures    the rows with \"departures\" in their name
  cargo xtask attack --long              as many rounds as it takes to be sure
  cargo xtask attack --list              what rows there are

Two well-behaved clients go on all the while, one on the card that is attacked and one on another.
A row passes if the broker is alive, has nothing more than before, told nobody else's data apart from
what was written, and let no good client wait. Run it as root: some rows need to be several users.
Exit status: 0 all rows passed, 1 one failed, or none was run.";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Print JSON for programs instead of a table for people.
    #[arg(long)]
    json: bool,
    /// Only the rows with this in their name.
    #[arg(long, value_name = "NAME")]
    row: Option<String>,
    /// What rows there are.
    #[arg(long)]
    list: bool,
    /// As many rounds as it takes to be sure.
    #[arg(long)]
    long: bool,
    /// Show how long requests took and do not judge it: for machines that are busy with something else.
    #[arg(long)]
    untimed: bool,
    /// Make the same random choices as the run that showed this number.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    builds().iter_mut().try_for_each(process::must)?;
    let mut attack = Command::new(workspace::target().join("release").join(PROGRAM));
    for (flag, is_set) in [
        ("--json", options.json),
        ("--list", options.list),
        ("--long", options.long),
        ("--untimed", options.untimed),
    ] {
        attack.args(is_set.then_some(flag));
    }
    if let Some(row) = &options.row {
        attack.args(["--row", row]);
    }
    if let Some(seed) = options.seed {
        attack.args(["--seed", &seed.to_string()]);
    }
    process::hand_over(&mut attack)
}

/// What builds the attack, and the broker and boards that are attacked. Each by itself: together they would have other features than
/// the command has elsewhere, and be built again.
fn builds() -> [Command; 2] {
    ["--package=jitney-cli", "--package=jitney-attack"]
        .map(|package| workspace::cargo(["build", package, "--release"]))
}

/// The name of the program.
pub(crate) const PROGRAM: &str = "jitney-attack";

/// The names of its rows.
pub(crate) fn rows() -> anyhow::Result<Vec<String>> {
    let list = process::run(Command::new(workspace::program(PROGRAM)).arg("--list"), false)?;
    let name = |line: &str| line.split_whitespace().next().map(str::to_owned);
    Ok(list.text.lines().filter_map(name).collect())
}
