//! `cargo xtask bench`: build the bench program and run it.

use crate::{process, workspace};
use clap::Args;
use std::process::ExitCode;

pub(crate) const HELP: &str = "\
Examples:
  cargo xtask bench                 all rows
  cargo xtask bench iova            the rows with \"iova\" in their name
  cargo xtask bench --no-lab        those that need no virtual machine
  cargo xtask bench --quick --json  fewer rounds, for programs

Each figure is a ratio within one run, so that it says something on any machine; a busy machine
still adds noise. A row that this machine cannot measure says why and counts as neither. Exit status:
0 all bars are met, 1 one is missed or could not be measured.";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Print JSON for programs instead of a table for people.
    #[arg(long)]
    json: bool,
    /// Fewer rounds.
    #[arg(long)]
    quick: bool,
    /// Without the rows that need the lab's virtual machine.
    #[arg(long)]
    no_lab: bool,
    /// Only the rows with this in their name.
    row: Option<String>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    // The emulated boards and the broker of the measurements are `jitney` itself. What else they start is built by itself: together they
    // would have other features than users have.
    for what in [
        &["--package=jitney-cli", "--package=jitney-bench"][..],
        &["--package=jitney", "--example=one_captures_many_analyse"],
        &["--package=jitney-c"],
    ] {
        process::must(workspace::cargo(["build", "--release"]).args(what))?;
    }
    process::must(&mut python_extension())?;
    let mut bench = std::process::Command::new(workspace::target().join("release/jitney-bench"));
    bench.args(options.json.then_some("--json"));
    bench.args(options.quick.then_some("--quick"));
    bench.args(options.no_lab.then_some("--no-lab"));
    bench.args(&options.row);
    process::hand_over(&mut bench)
}

/// Builds the library behind the Python package, which is the same for each Python: none is needed for it.
fn python_extension() -> std::process::Command {
    let mut build = workspace::cargo(["build", "--release", "--locked"]);
    build.current_dir(workspace::python()).env("CARGO_TARGET_DIR", workspace::target());
    build.env("PYO3_BUILD_EXTENSION_MODULE", "1").env("PYO3_NO_PYTHON", "1");
    build
}
