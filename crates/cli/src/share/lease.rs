//! `jitney lease`: a program runs while parts of a card are leased for it.

use super::in_place::InPlace;
use super::programs::{End, Ended, spoken};
use super::witness::Witness;
use crate::args::ItsBroker;
use crate::cards::{Session, card_of};
use crate::contract::CardName;
use crate::errno::explained;
use crate::report::{print_event, print_result};
use crate::say::say;
use crate::signals;
use crate::status::{Misuse, Status};
use anyhow::Context;
use clap::Args;
use jitney_broker::Bus;
use jitney_vfio::{Lease, LeaseRequest, Mode, Part};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use schemars::JsonSchema;
use serde::Serialize;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

const HELP: &str = "\
Examples:
  jitney lease 10ee:7024 --wait 10m -- ./flash_tool image.bin     # the whole card
  jitney lease 10ee:7024 h2c0 c2h0 --wait forever -- python3 my_test.py
  jitney lease 10ee:7024 flash                                    # until Ctrl-C

The broker keeps other programs from these parts for as long as the program runs. A program that asks the broker itself is another \
program to it, and is kept from them as well. Parts are what drivers agree upon: `whole` excludes all others, an XDMA's channels are \
h2c0 to h2c3 and c2h0 to c2h3, interrupts irq0 and so on. The program has this command's files and terminal and gets each signal once; the exit status is the program's. If the leases end before it does \
(its broker is gone, or a policy's lease-time is over) it is told to end (SIGTERM), and the status is 1.";

/// How often it is asked whether the leases are still there.
const LOOK: Duration = Duration::from_millis(250);

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct LeaseArgs {
    /// Which card: its address, VENDOR:DEVICE, the name of its board, serial:NUMBER or dna:NUMBER.
    #[arg(value_name = "CARD")]
    card: String,
    /// Which parts of it.
    #[arg(value_name = "PART", default_value = "whole")]
    parts: Vec<Part>,
    /// Let others share them who share as well.
    #[arg(long)]
    shared: bool,
    #[command(flatten)]
    broker: ItsBroker,
    /// Stand in line for what another program holds, for this long (30s, 10m, forever), instead of failing.
    #[arg(long, value_name = "TIME", value_parser = jitney_broker::parse_wait)]
    wait: Option<Duration>,
    /// The program and its arguments; without one they are leased until Ctrl-C.
    #[arg(last = true, value_name = "PROGRAM ARGS")]
    program: Vec<OsString>,
}

/// Starts a program in its own place that ends when this process's parent does.
#[derive(Debug, Args)]
pub(crate) struct WithParent {
    parent: i32,
    #[arg(last = true, required = true)]
    program: Vec<OsString>,
}

/// What happens while it runs.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum Event<'a> {
    /// The parts are leased from now on.
    Leased { card: CardName, parts: Vec<&'a str> },
}

/// What came of the program.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Outcome {
    ended: Option<Ended>,
}

pub(crate) fn lease(args: &LeaseArgs, json: bool) -> anyhow::Result<Status> {
    for (index, part) in args.parts.iter().enumerate() {
        if let Some(other) = args.parts[..index].iter().find(|other| other.overlaps(part)) {
            return Err(Misuse(format!("{other} and {part} are the same, or one has the other in it")).into());
        }
    }
    let bus = Session::of_broker(&args.broker, args.wait)?;
    let card = card_of(&bus, None, &args.card)?;
    let mode = if args.shared { Mode::Shared } else { Mode::Exclusive };
    let request = |part: &Part| LeaseRequest { mode, ..LeaseRequest::exclusive(part.clone()) };
    let leases: Vec<Lease> =
        args.parts.iter().map(|part| card.lease(request(part))).collect::<Result<_, _>>()?;
    let parts: Vec<&str> = args.parts.iter().map(Part::name).collect();
    if json {
        print_event(&Event::Leased { card: CardName::of(&*card), parts })?;
    } else {
        say!("jitney: {} of {} leased", parts.join(", "), card.identity());
    }
    let (ended, status) = match args.program.first() {
        Some(_) => run(&args.program, &bus).map(|(ended, status)| (Some(ended), status))?,
        None => {
            let (told, stop) = channel();
            signals::on_stop(move |_| {
                // Who is told twice has been told.
                let _ = told.send(());
            })?;
            // The other end is there for as long as this process.
            let _ = stop.recv();
            (None, Status::Passed)
        }
    };
    drop(leases);
    if json {
        print_result(&Outcome { ended })?;
    }
    Ok(status)
}

/// Runs a program to its end, with this process's files. It does not outlive this process, whose end is that of the leases.
fn run(words: &[OsString], bus: &Bus) -> anyhow::Result<(Ended, Status)> {
    let own = std::env::current_exe().context("this program's own path")?;
    let mut command = Command::new(own);
    command
        .arg("with-parent")
        .arg(std::process::id().to_string())
        .arg("--")
        .args(words)
        .stdin(Stdio::inherit());
    let began = Instant::now();
    let started = InPlace::start(&mut command, Witness::start()?);
    let (program, mut child) = started.context("the program could not be started")?;
    program.pass_signals_on()?;
    let pid = child.id();
    // Others may have the parts from that moment on, and nobody else can tell the program.
    let (waited, lost) = std::thread::scope(|scope| {
        let (over, ended) = channel();
        let told = &program;
        let watch = scope.spawn(move || watch_leases(bus, told, &ended));
        let waited = program.wait(&mut child);
        // Who watches may have seen enough.
        let _ = over.send(());
        (waited, watch.join().unwrap_or(false))
    });
    let status = waited.context("the program cannot be waited for")?;
    if lost {
        let ended = Ended::named(spoken(words), Some(pid), began.elapsed(), End::of(status));
        return Ok((ended, Status::Failed));
    }
    let end = End::of(status);
    let status = end.of_program();
    Ok((Ended::named(spoken(words), Some(pid), began.elapsed(), end), status))
}

/// Asks the broker now and then whether the leases are still held; if not, tells the program to end. Returns whether they were lost
/// before it ended.
fn watch_leases(bus: &Bus, program: &InPlace, ended: &Receiver<()>) -> bool {
    while matches!(ended.recv_timeout(LOOK), Err(RecvTimeoutError::Timeout)) {
        let Err(error) = bus.usage() else { continue };
        // Before anything is said: who reads that may not do so.
        program.tell(Signal::TERM);
        say!("jitney: the leases have ended, so the program is told to end, too: {error}");
        return true;
    }
    false
}

pub(crate) fn with_parent(args: &WithParent) -> anyhow::Result<Status> {
    set_parent_process_death_signal(Some(Signal::TERM))
        .context("to end with the process that has the leases")?;
    // It may have gone before that was set.
    if getppid().map(Pid::as_raw_pid) != Some(args.parent) {
        return Err(Misuse("this is for `jitney lease`, which has ended".into()).into());
    }
    let error = Command::new(&args.program[0]).args(&args.program[1..]).exec();
    say!("jitney: {}: {}", args.program[0].display(), explained(&error));
    // As shells say it.
    Ok(Status::OfProgram(if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 }))
}
