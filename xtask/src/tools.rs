//! Programs of others that check our own: built at their first use, in the folder of targets and not among the user's programs.

use crate::process;
use crate::workspace;
use anyhow::{Context, ensure};
use std::path::PathBuf;

/// A program that cargo can install.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tool {
    /// Its package's name, and its own.
    pub(crate) name: &'static str,
    pub(crate) release: &'static str,
}

impl Tool {
    /// Where the program is, built if it is not there yet.
    pub(crate) fn get(self) -> anyhow::Result<PathBuf> {
        let Self { name, release } = self;
        let folder = workspace::target().join("tools").join(format!("{name}-{release}"));
        let program = folder.join("bin").join(name);
        if !program.exists() {
            let version = format!("={release}");
            let mut install = workspace::cargo(["install", name, "--locked", "--version", &version]);
            // Not with the flags and the profile that ours are built with here.
            install.current_dir("/").arg("--root").arg(&folder);
            process::must(&mut install).with_context(|| format!("{name} {release} could not be built"))?;
            ensure!(program.exists(), "{name} is not where it was installed: {}", program.display());
        }
        Ok(program)
    }
}
