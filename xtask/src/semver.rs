//! `cargo xtask semver`: whether what the crate `jitney` offers is still what it offered.

use crate::process;
use crate::tools::Tool;
use crate::workspace;
use clap::Args;
use std::process::{Command, ExitCode};

pub(crate) const HELP: &str = "\
Examples:
  cargo xtask semver --since v0.1.0   the public items now, compared with those of a release
  cargo xtask semver --since HEAD~10

Builds cargo-semver-checks into the target folder at its first use; docs/versions.md says what is promised.

Exit status: 0 nothing breaks, 1 something does that the version number does not say.";

const TOOL: Tool = Tool { name: "cargo-semver-checks", release: "0.51.0" };

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The commit, branch or tag to compare with.
    #[arg(long, value_name = "REVISION")]
    since: String,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let mut check = Command::new(TOOL.get()?);
    check.current_dir(workspace::root()).args(["semver-checks", "--package", "jitney", "--baseline-rev"]);
    check.arg(&options.since);
    let said = process::hand_over(&mut check)?;
    Ok(if said == ExitCode::SUCCESS { said } else { ExitCode::FAILURE })
}
