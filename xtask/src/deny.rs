//! `cargo xtask deny`: whether what others wrote may be used, by its licence and where it comes from (`deny.toml`).

use crate::process;
use crate::tools::Tool;
use crate::workspace;
use std::process::{Command, ExitCode};

pub(crate) const HELP: &str = "\
Looks at all that Cargo.lock names, also for the fuzz targets and the Python package. Builds cargo-deny into the target folder at its
first use. Known defects (advisories) are not looked at: that takes a data base from the net, cargo deny check advisories.

Exit status: 0 all of it may be used, 1 something may not.";

const TOOL: Tool = Tool { name: "cargo-deny", release: "0.20.2" };

pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let tool = TOOL.get()?;
    let mut worst = ExitCode::SUCCESS;
    for folder in [workspace::root().to_owned(), workspace::fuzz(), workspace::python()] {
        let mut deny = Command::new(&tool);
        deny.arg("--manifest-path").arg(folder.join("Cargo.toml")).arg("--config");
        deny.arg(workspace::root().join("deny.toml")).args(["--locked", "check"]);
        deny.args(["licenses", "sources", "bans"]);
        if process::hand_over(&mut deny)? != ExitCode::SUCCESS {
            worst = ExitCode::FAILURE;
        }
    }
    Ok(worst)
}
