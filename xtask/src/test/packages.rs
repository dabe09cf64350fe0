//! The packages as a part of all tests: crates as cargo would publish them, and packages in empty systems.

use super::parts::{Ran, Wish};
use super::tally::Tally;
use crate::process::{self, Said};
use crate::workspace;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

pub(crate) const NAME: &str = "packages";

/// Each crate is packed with all that it needs, by what its manifest says. Nothing is built, and nobody is asked.
pub(crate) fn crates(wish: Wish<'_>) -> anyhow::Result<Ran> {
    let mut package = workspace::cargo(["package", "--workspace", "--no-verify", "--offline", "--quiet"]);
    // What is not committed yet is tested, too.
    package.arg("--allow-dirty").args(crate::dist::not_published());
    let Said { success, text } = process::run(&mut package, wish.echo)?;
    Ok(Ran { tally: Tally { failed: usize::from(!success), ..Tally::default() }, text })
}

/// Packages of what is built for the other tests, too: which profile they are of does not matter here.
pub(crate) fn run(wish: Wish<'_>) -> anyhow::Result<Ran> {
    let skip = |why: &str| Ok(Ran { tally: Tally::skip(NAME, why), text: String::new() });
    if wish.instruments.is_some() {
        return skip("what is in a package has no counters");
    }
    if !fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
        return skip("installing into an empty system takes root");
    }
    if Command::new("debootstrap").arg("--version").output().is_err() {
        return skip("there is no debootstrap");
    }
    // This program itself, by a name that stays: what cargo has built since may have taken the place of its file.
    let mut dist = Command::new("/proc/self/exe");
    dist.args(["dist", "--check", "--profile", "dev"]);
    let Said { success, text } = process::run(&mut dist, wish.echo)?;
    let passed = text.lines().filter(|line| line.ends_with("nothing is left")).count();
    Ok(Ran { tally: Tally { passed, failed: usize::from(!success), ..Tally::default() }, text })
}
