//! `cargo xtask dist`: what is handed out. Packages for Debian and for who uses rpm, and an archive for everybody else.
//!
//! The same sources give the same bytes: times are those of the commit (or `SOURCE_DATE_EPOCH`), everything is root's, and nothing
//! depends on the order in which a folder is read. Each package is a value of [`Package`]; another one, as that of the C library, is
//! another function in [`contents`].

mod build;
mod check;
mod contents;
mod crates;
mod deb;
mod libraries;
mod package;
mod python;
mod rpm;
mod service;
mod system;
mod tarball;
mod third_party;

pub(crate) use crates::not_published;

use crate::workspace;
use anyhow::Context;
use clap::Args;
use package::Package;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(crate) const HELP: &str = "\
Examples:
  cargo xtask dist                  target/dist/jitney_VERSION_amd64.deb, .rpm, and .tar.gz of the static command
  cargo xtask dist --check          and installs them into empty systems, upgrades, and removes them; needs root and debootstrap
  cargo xtask dist --crates         only looks whether cargo would publish the crates
  cargo xtask dist --python --check the wheel and the sources of the Python package, installed into empty environments

SOURCE_DATE_EPOCH is the time that everything gets; without it, that of the last commit.";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Install what was made into empty systems, upgrade it, and see that its removal leaves nothing; with --python, into empty
    /// environments.
    #[arg(long)]
    check: bool,
    /// The releases of Debian to install into; all that are known if none is named.
    #[arg(long, value_name = "NAME", requires = "check")]
    suite: Vec<String>,
    /// Which of cargo's profiles to build with; dev is for trying the packages without waiting for the compiler.
    #[arg(long, value_name = "NAME", default_value = "release")]
    profile: String,
    /// Only pack the crates as `cargo publish` does, in order; nothing is published.
    #[arg(long, conflicts_with = "check")]
    crates: bool,
    /// Only make the Python package: a wheel, and the sources.
    #[arg(long, conflicts_with_all = ["crates", "suite"])]
    python: bool,
    /// With --crates: do not build what was packed.
    #[arg(long, requires = "crates")]
    no_verify: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    if options.crates {
        return crates::dry_run(!options.no_verify);
    }
    let (folder, time) = (workspace::target().join("dist"), time()?);
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    if options.python {
        let made = python::make(&folder)?;
        made.iter().for_each(|file| println!("{}", file.display()));
        if options.check {
            python::check(&made)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let built = build::build(&folder, &options.profile, time)?;
    let made = make(&contents::command(&built, env!("CARGO_PKG_VERSION"), time)?, &built, &folder)?;
    for file in &made {
        println!("{}", file.display());
    }
    if options.check {
        return check::run(&built, &folder, &options.suite, time);
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes a package in every form.
fn make(package: &Package, built: &build::Built, folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let write = |name: String, bytes: Vec<u8>| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).with_context(|| path.display().to_string())?;
        anyhow::Ok(path)
    };
    let Package { name, version, .. } = package;
    Ok(vec![
        write(format!("{name}_{version}_amd64.deb"), deb::bytes(package)?)?,
        write(format!("{name}-{version}-1.x86_64.rpm"), rpm::bytes(package)?)?,
        write(
            format!("{name}-{version}-x86_64-linux.tar.gz"),
            tarball::bytes(&contents::portable(built, package)?)?,
        )?,
    ])
}

/// The time that all files get, in seconds since 1970.
fn time() -> anyhow::Result<u32> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => {
            let mut git = std::process::Command::new("git");
            git.args(["log", "-1", "--format=%ct"]).current_dir(workspace::root());
            let said = crate::process::run(&mut git, false)?;
            anyhow::ensure!(
                said.success,
                "git does not tell when the last commit was; set SOURCE_DATE_EPOCH"
            );
            said.text
        }
    };
    text.trim().parse().with_context(|| format!("{text:?} is no time: give seconds since 1970"))
}
