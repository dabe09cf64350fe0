//! Tests whose programs count which lines they run.

use crate::workspace;
use jitney_lab::coverage::{FILE, FLAGS, VARIABLE};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder in which instrumented programs are built and leave their counters.
#[derive(Debug)]
pub(crate) struct Instruments {
    folder: PathBuf,
}

impl Instruments {
    /// Apart from everything else that is built, since the flags hold for all crates.
    pub(crate) fn new() -> Self {
        Self { folder: workspace::target().join("coverage") }
    }

    /// Where everything about coverage is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where processes on this machine count.
    pub(crate) fn profiles(&self) -> PathBuf {
        self.folder.join("profiles")
    }

    /// What the lab is given: it has `profiles` and `programs` of its own in there.
    pub(crate) fn lab(&self) -> PathBuf {
        self.folder.join("lab")
    }

    /// Makes cargo build instrumented programs, and those that it starts count.
    pub(crate) fn apply(&self, cargo: &mut Command) {
        cargo.env("RUSTFLAGS", FLAGS).env("RUSTDOCFLAGS", FLAGS);
        cargo.env("CARGO_TARGET_DIR", self.folder.join("build"));
        cargo.env("CARGO_BUILD_TARGET", workspace::triple());
        // Lines are told by the instruments: debug information would only be slow to build and to read.
        cargo.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_INCREMENTAL", "0");
        cargo.env(VARIABLE, self.profiles().join(FILE));
    }
}
