//! The Python package as others get it: a wheel for every Linux whose C library is new enough, and the sources.

use crate::process::{self, must};
use crate::workspace;
use anyhow::{Context, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a program that has just installed the package does: a board, its registers, DMA.
const PROGRAM: &str = "
import jitney
with jitney.emulate('nitefury') as card:
    card.bar(0)[0x2004] = 5
    assert card.bar(0)[0x2004] == 5
    card.h2c(0).write(b'x' * 4096, at=0)
    back = bytearray(4096)
    card.c2h(0).read(back, at=0)
    assert back == b'x' * 4096
    print(jitney.__file__, card.board)
";

/// Makes both in `folder` and returns where they are.
pub(super) fn make(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let own = folder.join("python");
    if own.exists() {
        fs::remove_dir_all(&own).with_context(|| own.display().to_string())?;
    }
    let maturin = maturin()?;
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&maturin);
        command.args(arguments).arg("--out").arg(&own).current_dir(workspace::python());
        must(command.env("CARGO_TARGET_DIR", workspace::target()))
    };
    run(&["sdist"])?;
    // It names the oldest C library with which the extension works, and fails if there is none that the package index takes.
    run(&["build", "--release", "--locked", "--compatibility", "pypi"])?;
    let mut made = Vec::new();
    for entry in fs::read_dir(&own)? {
        made.push(entry?.path());
    }
    made.sort();
    ensure!(made.len() == 2, "maturin made {made:?}");
    Ok(made)
}

/// Installs each into an environment in which nothing else is, and runs a program; the sources are built for that.
pub(super) fn check(made: &[PathBuf]) -> anyhow::Result<()> {
    for package in made {
        let folder = tempfile::tempdir()?;
        must(Command::new("python3").args(["-m", "venv"]).arg(folder.path()))?;
        let python = folder.path().join("bin/python");
        let mut install = Command::new(&python);
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).arg(package);
        must(install.env("CARGO_TARGET_DIR", workspace::target()).current_dir("/"))?;
        let said = process::run(Command::new(&python).args(["-c", PROGRAM]).current_dir("/"), false)?;
        let name = package.file_name().unwrap_or_default().to_string_lossy();
        ensure!(said.success, "{name}, installed into an empty environment: {}", said.text);
        println!("{name}: installed into an empty environment, and used");
    }
    Ok(())
}

/// maturin of the release that the tests use, in an environment of its own.
fn maturin() -> anyhow::Result<PathBuf> {
    let requirements = fs::read_to_string(workspace::python().join("tests/requirements.txt"))?;
    let pinned = requirements.lines().find(|line| line.starts_with("maturin==")).context("no maturin")?;
    let folder = workspace::target().join("tools").join(pinned);
    let maturin = folder.join("bin/maturin");
    if !maturin.exists() {
        must(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        let mut install = Command::new(folder.join("bin/python"));
        must(install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", pinned]))?;
    }
    Ok(maturin)
}
