//! `jitney run`: own the cards, and start programs that share them.

use super::broker::open;
use super::descriptors::{self, Descriptor};
use super::programs::{End, Ended, Program, overall};
use super::runner::{Files, Running, Stream};
use crate::args::Source;
use crate::boards;
use crate::contract::CardName;
use crate::emulated::EmulatedBoards;
use crate::report::{print_event, print_line, print_result};
use crate::say::say;
use crate::status::Status;
use anyhow::Context;
use clap::Args;
use console::{Color, Style};
use jitney_broker::Broker;
use jitney_vfio::OpenedCard;
use schemars::JsonSchema;
use serde::Serialize;
use std::ffi::OsString;
use std::thread;

const HELP: &str = "\
Examples:
  jitney run --emulate nitefury --emulate tef1001-dma-blkram \"jitney test ddr\" \"jitney time blkram\"
  jitney run --card vfio-user:/tmp/nf.sock -p \"./my-program --fast\" -p \"jitney test general\"
  jitney run --emulate nitefury -- python3 my_test.py --verbose      # one program
  jitney run --emulate nitefury -- bash                              # a shell in which all commands have the board
  jitney run --emulate nitefury --wait 1m \"jitney test ddr\" \"jitney test ddr\"   # one after the other

One program behind -- runs as if it had been started instead of this command: it has its terminal, input, output and other \
descriptors, it gets each signal once, whether that was for the command or for the whole process group, when it stops the command \
does, and its exit status is the command's. Those are SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, \
SIGWINCH, SIGIO and SIGURG; others are for whoever they were sent to. A program outlives a command that is killed by SIGKILL, without its cards. Of several programs, and with --json, each \
line of output is marked with its program, they have no input, and the exit status says whether all of them ended well.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Show every open descriptor of this process and of each program.
    #[arg(long)]
    pub(crate) fds: bool,
    /// The programs stand in line for what another of them holds, for this long (30s, 10m, forever), instead of failing.
    #[arg(long, value_name = "TIME", value_parser = wait)]
    pub(crate) wait: Option<String>,
    /// The programs, each with its arguments as one word.
    #[arg(value_name = "PROGRAM ARGS", required_unless_present_any = ["program", "command"])]
    pub(crate) programs: Vec<String>,
    /// A program with its arguments as one word; can be repeated, for several at once.
    #[arg(short = 'p', long = "program", value_name = "PROGRAM ARGS", conflicts_with = "programs")]
    pub(crate) program: Vec<String>,
    /// One program, and its arguments as they are, with this command's input and output.
    #[arg(last = true, value_name = "PROGRAM ARGS", conflicts_with_all = ["programs", "program"])]
    pub(crate) command: Vec<OsString>,
}

const COLORS: [Color; 6] =
    [Color::Cyan, Color::Yellow, Color::Green, Color::Magenta, Color::Blue, Color::Red];

pub(crate) fn run(args: Run, json: bool) -> anyhow::Result<Status> {
    let boards = boards::variable(&args.source.emulate)?;
    let boards = boards.as_deref();
    let alone = !args.command.is_empty() && !json;
    let programs = if args.command.is_empty() {
        Program::parse_all(if args.program.is_empty() { &args.programs } else { &args.program }, boards)?
    } else {
        Program::of_words(vec![args.command], boards)?
    };
    let programs: Vec<_> = programs.into_iter().map(|program| program.waiting(args.wait.clone())).collect();
    let how = match (json, alone) {
        (true, _) => How::Events,
        (false, true) => How::Alone,
        (false, false) => How::Marked,
    };
    let (status, ended) = run_programs(&args.source, &programs, args.fds, how)?;
    Ok(match ended.first() {
        Some(ended) if alone => ended.end.of_program(),
        _ => status,
    })
}

/// How programs are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// The only one has this process's files, and what this process says of it goes to standard error.
    Alone,
    /// What they print is marked.
    Marked,
    /// What happens is printed for programs.
    Events,
}

impl How {
    fn is_json(self) -> bool {
        self == Self::Events
    }

    fn say(self, line: &str) {
        match self {
            Self::Alone => say!("{line}"),
            _ => print_line(line),
        }
    }
}

/// A time that the programs will understand.
fn wait(text: &str) -> Result<String, String> {
    jitney_broker::parse_wait(text).map(|_| text.to_owned())
}

/// What happens while programs run.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum Event<'a> {
    /// A card is owned.
    Card(CardName),
    /// What a process has open.
    Descriptors { process: &'a str, pid: u32, descriptors: Vec<Descriptor> },
    /// A program printed a line.
    Output { program: &'a str, stream: Stream, text: &'a str },
}

/// What came of the programs.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome<'a> {
    ended: &'a [Ended],
}

/// Runs `lines` under a broker of the cards that `source` names; returns how it went as a whole, and how each did.
pub(crate) fn run_programs(
    source: &Source,
    programs: &[Program],
    all_descriptors: bool,
    how: How,
) -> anyhow::Result<(Status, Vec<Ended>)> {
    let inherited = jitney_memory::keep_from_children()?;
    let running = Running::default();
    running.pass_signals_on()?;
    let boards = EmulatedBoards::start(&source.emulate)?;
    let spaces = open(source, &boards)?;
    if spaces.is_empty() {
        say!("jitney: nothing tested: there is no card to own; name one with --card or --emulate");
        if how.is_json() {
            summarize(&[], how)?;
        }
        return Ok((Status::NothingTested, Vec::new()));
    }
    spaces.iter().flat_map(|opened| &opened.cards).try_for_each(|card| describe(card, how))?;
    let mut broker = Broker::new(spaces)?;
    // A door for each, so that what one does to its own is nothing to the others.
    let doors = programs.iter().map(|_| broker.door()).collect::<Result<Vec<_>, _>>()?;
    let stop = broker.stop_handle();
    let serving = thread::Builder::new().name("broker".into()).spawn(move || broker.run())?;
    if all_descriptors {
        show_descriptors("jitney", std::process::id(), how)?;
    }

    let width = programs.iter().map(|program| program.mark.len()).max().unwrap_or(0);
    let mut ended = Vec::new();
    let mut started = Vec::new();
    for ((program, door), color) in programs.iter().zip(doors).zip(COLORS.into_iter().cycle()) {
        let style = Style::new().fg(color);
        let files = match how {
            How::Alone => Files::Own(&inherited),
            How::Marked => Files::Marked { style: &style, width },
            How::Events => Files::Events,
        };
        match running.start(program, &door, files) {
            Ok(program) => started.push(program),
            Err(end) => ended.push(Ended::new(program, None, std::time::Duration::ZERO, end)),
        }
    }
    if all_descriptors {
        for program in &started {
            show_descriptors(program.mark(), program.pid(), how)?;
        }
    }
    thread::scope(|scope| {
        let waiting: Vec<_> = started.into_iter().map(|one| scope.spawn(|| running.wait(one))).collect();
        ended.extend(waiting.into_iter().filter_map(|one| one.join().ok()));
    });
    stop.stop()?;
    serving.join().ok().context("the broker's thread panicked")??;
    drop(boards);
    summarize(&ended, how)?;
    let status = if running.was_stopped() { Status::Failed } else { overall(&ended) };
    Ok((status, ended))
}

fn describe(card: &OpenedCard, how: How) -> anyhow::Result<()> {
    let identity = card.identity();
    if how.is_json() {
        return print_event(&Event::Card(CardName::from(identity)));
    }
    how.say(&format!(
        "card {identity}, subsystem {:04x}:{:04x}, revision {:02x}",
        identity.subsystem_vendor, identity.subsystem_device, identity.revision
    ));
    Ok(())
}

fn show_descriptors(name: &str, pid: u32, how: How) -> anyhow::Result<()> {
    let descriptors = descriptors::of(pid);
    if how.is_json() {
        return print_event(&Event::Descriptors { process: name, pid, descriptors });
    }
    how.say(&format!("open in {name} (pid {pid}):"));
    for descriptor in descriptors {
        how.say(&format!("  fd {} -> {}", descriptor.number, descriptor.target));
    }
    Ok(())
}

fn summarize(ended: &[Ended], how: How) -> anyhow::Result<()> {
    match how {
        How::Events => return print_result(&Outcome { ended }),
        How::Alone => {
            for Ended { program, end, .. } in ended {
                if matches!(end, End::NotStarted { .. } | End::Killed { .. }) {
                    say!("jitney: {program}: {end}");
                }
            }
            return Ok(());
        }
        How::Marked => {}
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["program", "pid", "seconds", "result"]);
    for program in ended {
        table.add_row([
            program.program.clone(),
            program.pid.map_or_else(|| "-".into(), |pid| pid.to_string()),
            format!("{:.1}", program.seconds),
            program.end.to_string(),
        ]);
    }
    print_line(&table.to_string());
    Ok(())
}
