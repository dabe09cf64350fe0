//! `cargo xtask mutants`: what the tests do not notice when a line is wrong.
//!
//! cargo-mutants changes one thing at a time in a copy of the sources and runs the tests of that crate. A change that no test
//! notices either shows a test that is missing, or makes no difference; those of the second kind are listed with the reason
//! in `.cargo/mutants.toml`.

use crate::process;
use crate::tools::Tool;
use crate::workspace;
use anyhow::Context;
use clap::Args;
use std::path::Path;
use std::process::{Command, ExitCode};

pub(crate) const HELP: &str = "\
Examples:
  cargo xtask mutants                    all rooms, one after the other; takes hours
  cargo xtask mutants iova               the one that gives out addresses
  cargo xtask mutants machine --part 0/8 an eighth of the broker's state machine
  cargo xtask mutants vfio --list        what would be changed

Builds cargo-mutants into the target folder at its first use. What was found is in target/mutants/ROOM/mutants.out.

Exit status: 0 each change was noticed, 2 some were not, 3 the tests took too long with some, 4 the tests fail unchanged.";

/// Another release makes other changes.
const TOOL: Tool = Tool { name: "cargo-mutants", release: "27.1.0" };

/// What a wrong line would give to the wrong process.
const ROOMS: [Room; 3] = [
    Room {
        name: "iova",
        package: "jitney-iova",
        files: &["crates/iova/src/**/*.rs"],
        tests: ("--tests", ""),
        cases: Some("16"),
    },
    Room {
        name: "machine",
        package: "jitney-broker",
        files: &["crates/broker/src/machine/*.rs"],
        tests: ("--lib", "machine::"),
        cases: None,
    },
    Room {
        name: "vfio",
        package: "jitney-vfio",
        files: &[
            "crates/vfio/src/lease.rs",
            "crates/vfio/src/leased.rs",
            "crates/vfio/src/will.rs",
            "crates/vfio/src/running_will.rs",
            "crates/vfio/src/buffers.rs",
        ],
        tests: ("--tests", ""),
        cases: None,
    },
];

/// Some files of a crate.
#[derive(Debug, Clone, Copy)]
struct Room {
    name: &'static str,
    package: &'static str,
    files: &'static [&'static str],
    /// Which tests are asked: cargo's option for where they are, and what is in their names.
    tests: (&'static str, &'static str),
    /// How many cases a property is given, where the usual number takes long beside a model that is slow.
    cases: Option<&'static str>,
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The room: iova, machine or vfio; all of them if none is named.
    #[arg(value_parser = ROOMS.map(|room| room.name))]
    room: Option<String>,
    /// Only say what would be changed.
    #[arg(long)]
    list: bool,
    /// One of so many parts, to be done one after the other or by several machines, as 0/8.
    #[arg(long, value_name = "NUMBER/OF")]
    part: Option<String>,
    /// Only changes whose name has a match of this regular expression.
    #[arg(long, value_name = "REGEX")]
    only: Option<String>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let tool = TOOL.get()?;
    let chosen = ROOMS.iter().filter(|room| options.room.as_deref().is_none_or(|name| name == room.name));
    let mut outcome = ExitCode::SUCCESS;
    for room in chosen {
        let folder = workspace::target().join("mutants").join(room.name);
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let code = process::hand_over(&mut command(&tool, room, &folder, options))?;
        // The first room in which something was missed says how it ended; the others go on.
        if outcome == ExitCode::SUCCESS {
            outcome = code;
        }
    }
    Ok(outcome)
}

fn command(tool: &Path, room: &Room, folder: &Path, options: &Options) -> Command {
    let mut command = Command::new(tool);
    command.current_dir(workspace::root()).args(["mutants", "--package", room.package]);
    room.files.iter().for_each(|file| {
        command.args(["--file", file]);
    });
    if let Some(part) = &options.part {
        command.args(["--shard", part]);
    }
    if let Some(only) = &options.only {
        command.args(["--re", only]);
    }
    if options.list {
        command.arg("--list");
        return command;
    }
    command.arg("--output").arg(folder);
    // Fewer random histories than usual: a change that breaks the rules shows in the first of them or not at all.
    command.env("JITNEY_HISTORIES", "2000").env("JITNEY_STATES", "3000");
    if let Some(cases) = room.cases {
        command.env("PROPTEST_CASES", cases);
    }
    // Most of the time would be the compiler's: it does again only what a change touches, and only what a test needs to run.
    command.env("CARGO_INCREMENTAL", "1");
    command.env("CARGO_PROFILE_DEV_OPT_LEVEL", "0").env("CARGO_PROFILE_DEV_DEBUG", "none");
    let (place, names) = room.tests;
    // Seconds: several times what the tests take, and no more where a change makes one go on for ever.
    command.args(["--timeout", "30"]);
    // Also where it only builds: else it would build other tests first, with other features.
    command.args([&format!("--cargo-arg={place}"), "--cargo-arg=--all-features"]);
    command.args(["--no-shuffle", "--baseline", "run", "--", "--", names]);
    command
}
