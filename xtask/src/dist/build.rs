//! What is built, and what the command says of itself.

use super::libraries::{Needs, must_be_static};
use super::third_party;
use crate::process::{self, must};
use crate::workspace;
use anyhow::{Context, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

/// Built programs, without what only a debugger reads.
pub(super) struct Built {
    /// The command.
    pub(super) command: PathBuf,
    /// The same without any library of the system.
    pub(super) alone: PathBuf,
    /// What `jitney xdma-compat` loads into programs.
    pub(super) library: PathBuf,
    /// What the command and the library need of the system.
    pub(super) needs: Needs,
    /// Name and text of each page of the manual.
    pub(super) pages: Vec<(String, Vec<u8>)>,
    /// The script of each shell.
    pub(super) completions: Vec<(&'static str, Vec<u8>)>,
    /// What of others is in the programs, and under which licences.
    pub(super) third_party: String,
}

pub(super) const LIBRARY: &str = "libjitney_xdma_compat.so";

pub(super) fn build(folder: &Path, profile: &str, time: u32) -> anyhow::Result<Built> {
    // Cargo calls the folder of its own profile otherwise.
    let from = workspace::target().join(if profile == "dev" { "debug" } else { profile });
    let profile = format!("--profile={profile}");
    let keep = |file: &Path, name: &str| {
        let to = folder.join(name);
        fs::copy(file, &to).with_context(|| file.display().to_string())?;
        must(Command::new("strip").arg("--strip-unneeded").arg(&to))?;
        anyhow::Ok(to)
    };
    // Only the command itself is built twice: all that it is made of is the same in both.
    let alone =
        ["rustc", &profile, "--package=jitney-cli", "--bin=jitney", "--", "-Ctarget-feature=+crt-static"];
    must(&mut workspace::cargo(alone))?;
    let alone = keep(&from.join("jitney"), "jitney-static")?;
    must_be_static(&alone)?;
    must(&mut workspace::cargo(["build", &profile, "--package=jitney-cli"]))?;
    must(&mut workspace::cargo(["build", &profile, "--package=jitney-xdma-compat"]))?;
    let command = keep(&from.join("jitney"), "jitney")?;
    let library = keep(&from.join(LIBRARY), LIBRARY)?;

    let needs = Needs::of(&[&command, &library])?;
    let shells =
        ["bash", "zsh", "fish"].map(|shell| anyhow::Ok((shell, says(&alone, &["completions", shell])?)));
    let completions = shells.into_iter().collect::<anyhow::Result<_>>()?;
    let pages = pages(&command, &folder.join("manual"), time)?;
    Ok(Built { command, alone, library, needs, pages, completions, third_party: third_party::list()? })
}

fn says(program: &Path, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
    let said = process::run(Command::new(program).args(arguments), false)?;
    ensure!(said.success, "{} {}: {}", program.display(), arguments.join(" "), said.text);
    Ok(said.text.into_bytes())
}

fn pages(command: &Path, folder: &Path, time: u32) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let date = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(time.into())).to_string();
    let date = date.split('T').next().unwrap_or_default().to_owned();
    must(Command::new(command).arg("manual").arg(folder).arg(date))?;
    let mut pages = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        pages.push((name, fs::read(&path)?));
    }
    ensure!(pages.iter().any(|(name, _)| name == "jitney.1"), "the manual has no first page");
    pages.sort();
    Ok(pages)
}
