//! `cargo xtask lab`: hand over to the lab.

use clap::Args;
use jitney_lab::Options as LabOptions;
use std::process::ExitCode;

pub(crate) const HELP: &str = "\
Examples:
  cargo xtask lab                     every test on every kernel
  cargo xtask lab --kernel debian-12  on one
  cargo xtask lab bind                the tests with \"bind\" in their name
  cargo xtask lab --long killed       those that kill processes, ten times as many of them
  cargo xtask lab --shell             a prompt in the guest; \"exit\" ends it";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The row of the lab's matrix; all of them if none is named, for a prompt the first.
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
    /// A prompt in the guest instead of tests.
    #[arg(long, conflicts_with = "test")]
    shell: bool,
    /// What tests do again and again they do ten times as often.
    #[arg(long)]
    long: bool,
    /// Only the tests with this in their name.
    test: Option<String>,
}

pub(crate) fn run(options: Options) -> anyhow::Result<ExitCode> {
    let lab = LabOptions {
        kernel: options.kernel,
        test: options.test,
        long: options.long,
        ..LabOptions::default()
    };
    if options.shell {
        jitney_lab::shell(&lab)?;
        return Ok(ExitCode::SUCCESS);
    }
    let summary = jitney_lab::run(&lab, &mut std::io::stdout())?;
    Ok(if summary.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
