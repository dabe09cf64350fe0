//! The list of what every face of the library has a test of.

use crate::workspace;
use anyhow::{Context, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the list is.
fn path() -> PathBuf {
    workspace::root().join("crates/faces/scenarios.txt")
}

/// The names in the list.
pub(crate) fn all() -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(path()).context("reading the list of scenarios")?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    Ok(lines.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect())
}

/// Refuses a source file without a test of each of them; a test's name there is between these words.
pub(crate) fn check(source: &Path, before: &str, behind: &str) -> anyhow::Result<()> {
    let text = fs::read_to_string(source).with_context(|| format!("reading {}", source.display()))?;
    let missing: Vec<_> =
        all()?.into_iter().filter(|name| !text.contains(&format!("{before}{name}{behind}"))).collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!("{} has no test of {}", source.display(), missing.join(", "))
}
