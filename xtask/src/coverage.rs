//! `cargo xtask coverage`: which lines the tests run, in all of their processes.
//!
//! Programs of our own around LLVM's, not cargo-llvm-cov: that gathers what processes write when they end in order, and on one
//! machine; here many are killed, some become other programs, and some run in a guest.

mod html;
mod lcov;
mod tools;

use crate::instruments::Instruments;
use crate::test::{self, Wish};
use crate::workspace;
use anyhow::{Context, bail};
use clap::Args;
use jitney_lab::Llvm;
use lcov::Lines;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

pub(crate) const HELP: &str = "\
Examples:
  cargo xtask coverage                  all tests, the lab included
  cargo xtask coverage --kernel small   those of the lab on one kernel
  cargo xtask coverage --no-lab         without real kernels
  cargo xtask coverage lease            what the tests with \"lease\" in their name run

Writes target/coverage/report/index.html, line by line, and lcov.info for editors. A process counts as
long as it lives, also one that is killed or becomes another program. The table is of the code alone,
without the tests in it; the lines of the command and of the libraries count whoever runs them.

Exit status: 0 all tests passed, 1 something failed; the table is printed all the same.";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Without the lab.
    #[arg(long)]
    no_lab: bool,
    /// The lab's tests on this row of its matrix only.
    #[arg(long, value_name = "NAME", conflicts_with = "no_lab")]
    kernel: Option<String>,
    /// Show what the tests say, not only that of those that fail.
    #[arg(long, short)]
    verbose: bool,
    /// Print each file's lines instead of each crate's, those with the most uncovered first.
    #[arg(long)]
    files: bool,
    /// Only tests with this in their name.
    filter: Option<String>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    tools::check_release()?;
    let llvm = Llvm::fetch()?;
    let instruments = Instruments::new();
    clear(&instruments)?;
    let programs = step("building instrumented programs", || tools::build(&instruments))?;
    let wish = Wish {
        filter: options.filter.as_deref(),
        echo: options.verbose,
        kernel: options.kernel.as_deref(),
        instruments: Some(&instruments),
    };
    let passed = test::run_only_tests(wish, options.no_lab)?;
    let data = step("merging profiles", || tools::merge(&llvm, &instruments))?;
    let programs = [programs, tools::guest_programs(&instruments)?].concat();
    let lines = step("reading lines", || read(&llvm, &data, &programs))?;
    let report = html::write(&lines, workspace::root(), &instruments.folder().join("report"))?;
    let lcov = instruments.folder().join("lcov.info");
    fs::write(&lcov, lines.to_lcov(workspace::root()))
        .with_context(|| format!("cannot write {}", lcov.display()))?;
    println!("\n{}", if options.files { lines.by_file() } else { lines.by_crate() });
    println!("{}\n{}", report.display(), lcov.display());
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The lines of all programs.
fn read(llvm: &Llvm, data: &Path, programs: &[PathBuf]) -> anyhow::Result<Lines> {
    let mut lines = Lines::default();
    for program in programs {
        lines.add(&tools::export(llvm, data, program)?, workspace::root());
    }
    lines.leave_out_tests(|file| fs::read_to_string(workspace::root().join(file)).unwrap_or_default());
    Ok(lines)
}

/// Does something that takes long, and says so.
fn step<T>(what: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    print!("{what} … ");
    std::io::stdout().flush()?;
    let start = Instant::now();
    let outcome = work()?;
    println!("ok ({:.1} s)", start.elapsed().as_secs_f64());
    Ok(outcome)
}

/// Removes what an earlier run counted, and makes the place for this one's.
fn clear(instruments: &Instruments) -> anyhow::Result<()> {
    for old in
        [instruments.profiles(), instruments.lab().join("profiles"), instruments.lab().join("programs")]
    {
        match fs::remove_dir_all(&old) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                bail!("cannot remove {}: {error}", old.display())
            }
            _ => {}
        }
    }
    let profiles = instruments.profiles();
    fs::create_dir_all(&profiles).with_context(|| format!("cannot make {}", profiles.display()))
}
