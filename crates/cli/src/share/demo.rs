//! `jitney demo`: the main job, on emulated boards.

use super::programs::Program;
use super::run::{How, run_programs};
use crate::args::Source;
use crate::report::print_line;
use crate::status::Status;
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// All 16 passes over 1 GiB and all 14170 transfers: about 10 seconds on a fast PC.
    #[arg(long)]
    pub(crate) full: bool,
}

/// The boards of the demo: one with DDR memory and sensors, one with block RAM.
const BOARDS: [&str; 2] = ["nitefury", "tef1001-dma-blkram"];

pub(crate) fn demo(args: &Demo, json: bool) -> anyhow::Result<Status> {
    let (passes, transfers) = if args.full { (16, 14_170) } else { (2, 1000) };
    let emulate = BOARDS.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
    let source = Source { emulate, ..Source::default() };
    let programs = [
        "jitney test general".to_owned(),
        format!("jitney test ddr --passes {passes}"),
        format!("jitney time blkram --transfers {transfers}"),
    ];
    let programs = programs.map(|program| if json { program + " --json" } else { program });
    if !json {
        print_line(
            "Two emulated boards, each in a process of its own; one owner of both; three programs at once.",
        );
    }
    let how = if json { How::Events } else { How::Marked };
    let (status, ended) = run_programs(&source, &Program::parse_all(&programs, None)?, false, how)?;
    if !json {
        print_line(match status {
            Status::Passed => "All three programs passed, at the same time, on the same cards.",
            _ => "The demo failed; see above.",
        });
        if status == Status::Passed && !args.full && !ended.is_empty() {
            print_line("`jitney demo --full` does 16 passes over 1 GiB and 14170 transfers each way.");
        }
    }
    Ok(status)
}
