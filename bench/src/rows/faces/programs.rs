//! Programs in other languages that do what they are told, and say how long it took.

use crate::processes::{Board, beside};
use anyhow::{Context, ensure};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// What a program is written in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Language {
    C,
    Python,
}

/// A program that does what the lines of its input say.
#[derive(Debug)]
pub(super) struct Program {
    child: Child,
    /// `None` once it was told to end.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Program {
    /// Starts the one of a language, for which the folder is there, on a board.
    pub(super) fn start(language: Language, folder: &Path, board: &Board) -> anyhow::Result<Self> {
        let mut command = match language {
            Language::C => Command::new(compile(folder)?),
            Language::Python => {
                let mut command = Command::new("python3");
                command.arg(root().join("programs/faces.py")).env("PYTHONPATH", package(folder)?);
                command.env("PYTHONDONTWRITEBYTECODE", "1");
                command
            }
        };
        command.env("JITNEY_CARDS", board.address().to_string()).env_remove("JITNEY_BROKER");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child =
            command.spawn().with_context(|| format!("cannot start the program in {language:?}"))?;
        let (input, output) = (child.stdin.take(), child.stdout.take().context("no output")?);
        Ok(Self { child, input, output: BufReader::new(output) })
    }

    /// Does something so often; how long it took.
    pub(super) fn does(&mut self, what: &str, count: u32) -> anyhow::Result<Duration> {
        let input = self.input.as_mut().context("it has ended")?;
        writeln!(input, "{what} {count}").context("the program has ended")?;
        input.flush()?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let nanoseconds = line.trim().parse().with_context(|| format!("the program said {line:?}"))?;
        Ok(Duration::from_nanos(nanoseconds))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // At the end of its input it ends.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Compiles the program in C with the library as it is installed, linked statically.
fn compile(folder: &Path) -> anyhow::Result<PathBuf> {
    let program = folder.join("faces");
    let compiled = Command::new("cc")
        .args(["-std=c11", "-O2", "-D_POSIX_C_SOURCE=200809L", "-I"])
        .arg(root().join("../crates/c/include"))
        .arg(root().join("programs/faces.c"))
        .arg(beside("libjitney_c.a")?)
        .args(["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-o"])
        .arg(&program)
        .status()
        .context("cannot start cc, the C compiler")?;
    ensure!(compiled.success(), "programs/faces.c could not be compiled");
    Ok(program)
}

/// Why no program in Python can run here.
pub(super) fn no_python() -> Option<&'static str> {
    let probe = ["-c", "import sys; sys.exit(sys.version_info < (3, 11))"];
    let probed = Command::new("python3").args(probe).stderr(Stdio::null()).status();
    (!probed.is_ok_and(|status| status.success())).then_some("there is no python3 of 3.11 or later")
}

/// A folder in which Python finds the package as it would be installed.
fn package(folder: &Path) -> anyhow::Result<PathBuf> {
    let packages = folder.join("packages");
    let package = packages.join("jitney");
    if package.exists() {
        return Ok(packages);
    }
    fs::create_dir_all(&package).with_context(|| package.display().to_string())?;
    for entry in fs::read_dir(root().join("../python/package/jitney"))? {
        let entry = entry?;
        symlink(fs::canonicalize(entry.path())?, package.join(entry.file_name()))?;
    }
    symlink(beside("lib_jitney.so")?, package.join("_jitney.abi3.so"))?;
    Ok(packages)
}
