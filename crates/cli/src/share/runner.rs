//! Starts programs at once, shows what they print as it happens, passes signals on, and waits for all.

use super::in_place::InPlace;
use super::programs::{End, Ended, Program};
use super::run::Event;
use super::witness::Witness;
use crate::report::{print_event, print_line};
use crate::say::say;
use crate::signals;
use console::Style;
use jitney_broker::Door;
use jitney_memory::{Explained, Inherited};
use rustix::process::{Pid, Signal, kill_process_group};
use schemars::JsonSchema;
use serde::Serialize;
use signal_hook::consts::SIGHUP;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long the output of a program is waited for when it has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The programs that run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Running(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    groups: Vec<Pid>,
    /// A program that runs in this process's place.
    alone: Option<InPlace>,
    /// How often the user has asked to stop.
    asked: u32,
}

/// What becomes of a program's input and output.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Files<'a> {
    /// They are this process's: the program is alone, and runs as if it had been started in this one's place.
    /// It inherits these descriptors, too.
    Own(&'a Inherited),
    /// No input; each line of output is shown with a mark of that style and width.
    Marked { style: &'a Style, width: usize },
    /// No input; each line of output is an event.
    Events,
}

/// A program that was started, with the threads that show what it prints.
#[derive(Debug)]
pub(crate) struct Started {
    program: Program,
    child: Child,
    alone: Option<InPlace>,
    since: Instant,
    shown: Vec<JoinHandle<()>>,
}

impl Running {
    /// Passes SIGINT, SIGTERM and SIGHUP on to every program; from the third time on it is SIGKILL.
    pub(crate) fn pass_signals_on(&self) -> anyhow::Result<()> {
        let running = self.clone();
        signals::on_stop_at(move |signal, at| running.signal(signal, at))
    }

    /// Whether the user has asked to stop.
    pub(crate) fn was_stopped(&self) -> bool {
        self.state().asked > 0
    }

    fn signal(&self, number: i32, at: Instant) {
        let mut state = self.state();
        if state.alone.as_ref().is_some_and(|program| program.has_got(number, at)) {
            return;
        }
        state.asked += 1;
        let signal = match number {
            _ if state.asked > 2 => Signal::KILL,
            SIGHUP => Signal::HUP,
            signal_hook::consts::SIGINT => Signal::INT,
            _ => Signal::TERM,
        };
        for group in &state.groups {
            send(*group, signal);
        }
        if let Some(program) = &state.alone {
            program.tell(signal);
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts `program` with `door` as the only thing that it inherits besides its input and output.
    pub(crate) fn start(&self, program: &Program, door: &Door, files: Files<'_>) -> Result<Started, End> {
        let fail = |error: &dyn std::fmt::Display| End::NotStarted { why: error.to_string() };
        let mut command = program.command().map_err(|error| fail(&error))?;
        let place = if let Files::Own(inherited) = files {
            let witness = Witness::start().map_err(|error| fail(&format!("{error:#}")))?;
            door.hand_to_as(&mut command, inherited.free_number()).map_err(|error| fail(&error))?;
            inherited.hand_on().map_err(|error| fail(&error))?;
            Some(witness)
        } else {
            door.hand_to(&mut command).map_err(|error| fail(&error))?;
            // A group of its own: a Ctrl-C reaches it once, through us, and so do its children.
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
            None
        };
        let mut state = self.state();
        if state.asked > 0 {
            return Err(End::NotStarted { why: "the user asked to stop".into() });
        }
        let (alone, mut child) = match place {
            Some(witness) => InPlace::start(&mut command, witness).map(|(own, child)| (Some(own), child)),
            None => command.spawn().map(|child| (None, child)),
        }
        .map_err(|error| program.not_started(&error))?;
        let pid = Pid::from_raw(child.id().cast_signed());
        let mark = match files {
            Files::Own(_) => None,
            Files::Marked { style, width } => {
                state.groups.extend(pid);
                Some(style.apply_to(format!("{:width$} |", program.mark)).to_string())
            }
            Files::Events => {
                state.groups.extend(pid);
                None
            }
        };
        state.alone.clone_from(&alone);
        drop(state);
        let name = program.mark.clone();
        let shown = [
            child.stdout.take().map(|out| show(out, mark.clone(), name.clone(), Stream::Stdout)),
            child.stderr.take().map(|err| show(err, mark, name, Stream::Stderr)),
        ];
        let shown = shown.into_iter().flatten().collect();
        Ok(Started { program: program.clone(), child, alone, since: Instant::now(), shown })
    }

    /// Waits until a program has ended and everything that it printed is shown.
    pub(crate) fn wait(&self, mut started: Started) -> Ended {
        let pid = started.child.id();
        let waited = match &started.alone {
            Some(program) => program.wait(&mut started.child),
            None => started.child.wait(),
        };
        let end = match waited {
            Ok(status) => End::of(status),
            Err(error) => End::NotStarted { why: format!("cannot be waited for: {error}") },
        };
        let time = started.since.elapsed();
        let mut state = self.state();
        let group = Pid::from_raw(pid.cast_signed()).filter(|pid| state.groups.contains(pid));
        state.groups.retain(|other| Some(*other) != group);
        state.alone = None;
        drop(state);
        if let Some(group) = group {
            // What it left behind would keep its output open.
            send(group, Signal::TERM);
        }
        let since = Instant::now();
        for thread in started.shown {
            // A process that left the group and goes on may keep the output open for ever.
            while !thread.is_finished() && since.elapsed() < LAST_WORDS {
                thread::sleep(Duration::from_millis(1));
            }
            if thread.is_finished() {
                // It only prints; if it panicked, the panic has been shown.
                let _ = thread.join();
            }
        }
        Ended::new(&started.program, Some(pid), time, end)
    }
}

impl Started {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn mark(&self) -> &str {
        &self.program.mark
    }
}

/// Signals a process group. That it is gone already is what is wanted.
fn send(group: Pid, signal: Signal) {
    match kill_process_group(group, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(errno) => {
            say!("jitney: process group {} got no signal: {}", group.as_raw_nonzero(), Explained(errno))
        }
    }
}

/// Where a program printed something.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// Shows each line of `output` as it comes, marked with its program; as an event without a mark.
fn show(
    output: impl Read + Send + 'static,
    mark: Option<String>,
    program: String,
    stream: Stream,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut lines = BufReader::new(output);
        let mut line = Vec::new();
        while matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\n', '\r']);
            match &mark {
                Some(mark) => print_line(&format!("{mark} {text}")),
                None => {
                    let event = Event::Output { program: &program, stream, text };
                    if let Err(error) = print_event(&event) {
                        say!("jitney: a line of {program}: {error:#}");
                    }
                }
            }
            line.clear();
        }
    })
}
