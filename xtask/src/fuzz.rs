//! `cargo xtask fuzz`: libFuzzer on stable Rust, by the compiler's own coverage pass.

use crate::process::{self, Said};
use crate::workspace;
use anyhow::{Context, bail};
use clap::Args;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

pub(crate) const HELP: &str = "\
Examples:
  cargo xtask fuzz                               every target, a minute each
  cargo xtask fuzz broker_machine --seconds 600  one for ten minutes
  cargo xtask fuzz xdma_driver --inputs 10000000 one with so many inputs; minutes before find more than they do

Inputs that found something new are kept in fuzz/corpus/TARGET, one that failed in fuzz/artifacts,
to be given to the same program as its only argument. Needs a C++ compiler.";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The target; all of them if none is named.
    target: Option<String>,
    /// How long each target runs.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How many inputs each target tries, instead of for how long. Inputs are then compared by what they reach alone, and
    /// not by how often and how nearly, so that more of them are tried in a second.
    #[arg(long, conflicts_with = "seconds")]
    inputs: Option<u64>,
}

/// When a target ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    /// After so many seconds.
    Seconds(u64),
    /// After so many inputs.
    Inputs(u64),
}

/// What targets are built for: a profile of `fuzz/Cargo.toml`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Profile {
    /// Many inputs in a second.
    Release,
    /// To be built soon.
    Look,
}

impl Profile {
    const fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Look => "look",
        }
    }
}

/// What cargo-fuzz passes, less the sanitizers, which are the nightly compiler's.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=3 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    if let Some(missing) = missing() {
        bail!("{missing}; install g++, or name another compiler in CXX");
    }
    let known = targets()?;
    let chosen = match &options.target {
        Some(name) if !known.contains(name) => {
            bail!("no fuzz target {name:?}; there are {}", known.join(", "))
        }
        Some(name) => vec![name.clone()],
        None => known,
    };
    process::must(&mut build(&chosen, Profile::Release))?;
    let until = options.inputs.map_or(Until::Seconds(options.seconds), Until::Inputs);
    for target in chosen {
        println!("{target}:");
        process::must(&mut target_command(&target, Profile::Release, until)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What this machine lacks for building fuzz targets.
pub(crate) fn missing() -> Option<String> {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let there = Command::new(&compiler).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let name = compiler.to_string_lossy();
    there.err().map(|error| format!("no C++ compiler for libFuzzer ({name}: {error})"))
}

/// The fuzz targets by name.
pub(crate) fn targets() -> anyhow::Result<Vec<String>> {
    let folder = workspace::fuzz().join("fuzz_targets");
    let files = std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names = Vec::new();
    for file in files {
        let path = file.with_context(|| format!("cannot read {}", folder.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

/// Builds targets.
pub(crate) fn build(targets: &[String], profile: Profile) -> Command {
    let mut command = workspace::cargo(["build", "--locked", "--target", &workspace::triple()]);
    command.args(["--profile", profile.name()]);
    command.current_dir(workspace::fuzz()).env("RUSTFLAGS", FLAGS).arg("--target-dir").arg(built());
    targets.iter().for_each(|target| {
        command.args(["--bin", target]);
    });
    command
}

/// Runs a target and says what came of it.
pub(crate) fn run_target(target: &str, profile: Profile, until: Until, echo: bool) -> anyhow::Result<Said> {
    process::run(&mut target_command(target, profile, until)?, echo)
}

fn target_command(target: &str, profile: Profile, until: Until) -> anyhow::Result<Command> {
    let folder = workspace::fuzz();
    let corpus = folder.join("corpus").join(target);
    for needed in [&corpus, &folder.join("artifacts")] {
        std::fs::create_dir_all(needed).with_context(|| format!("cannot make {}", needed.display()))?;
    }
    let mut command = Command::new(built().join(workspace::triple()).join(profile.name()).join(target));
    command.current_dir(folder).arg(corpus);
    command.args(["-timeout=10", "-artifact_prefix=artifacts/"]);
    match until {
        Until::Seconds(seconds) => {
            command.arg(format!("-max_total_time={seconds}")).arg("-use_value_profile=1")
        }
        Until::Inputs(inputs) => {
            command.arg(format!("-runs={inputs}")).args(["-use_counters=0", "-entropic=0", "-max_len=512"])
        }
    };
    Ok(command)
}

/// Apart from everything else that is built, since the flags instrument all crates.
fn built() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(_) => workspace::target().join("fuzz"),
        None => workspace::fuzz().join("target"),
    }
}
