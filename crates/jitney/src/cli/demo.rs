//! `jitney demo`: the main job, on emulated boards.

use super::args::{Demo, Source};
use super::report::print_line;
use super::run::run_programs;
use super::status::Status;

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
    let (status, ended) = run_programs(&source, &programs, false, json)?;
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
