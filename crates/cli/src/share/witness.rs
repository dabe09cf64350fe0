//! A process beside the program that this one runs, in the same process group. It does nothing but notice signals, and so tells
//! which were sent to the whole group (Ctrl-C, `timeout`, kill(2) of a group) and which to this process alone: the system does
//! not say.

use crate::say::to_stdout;
use crate::signals::FOR_PROGRAMS;
use crate::status::Status;
use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How long it may take to answer. It does at once, unless somebody has stopped it.
const PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// What it says when it has begun.
const READY: u8 = b'r';

/// The process. It ends with this value, and with this process however that ends.
#[derive(Debug)]
pub(crate) struct Witness {
    child: Child,
    questions: ChildStdin,
    answers: ChildStdout,
}

impl Witness {
    /// Starts it, and waits until it notices signals.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("this program's own path")?;
        let mut child = Command::new(own)
            .arg("witness")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("a process that notices signals could not be started")?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (questions, answers) = pipes.context("a process without pipes")?;
        let mut own = Self { child, questions, answers };
        let mut ready = [0];
        own.answers.read_exact(&mut ready).context("the process that notices signals")?;
        Ok(own)
    }

    /// Whether `signal` has been sent to the group since it was asked last.
    ///
    /// A group is signalled at one go, from its youngest process on (kernel/signal.c): it was told before this process.
    pub(crate) fn has_heard(&mut self, signal: i32) -> io::Result<bool> {
        self.questions.write_all(&[u8::try_from(signal).unwrap_or_default()])?;
        let mut waiting = [PollFd::new(&self.answers, PollFlags::IN)];
        if poll(&mut waiting, Some(&PATIENCE))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut answer = [0];
        self.answers.read_exact(&mut answer)?;
        Ok(answer != [0])
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the process does.
pub(crate) fn witness() -> anyhow::Result<Status> {
    let mut heard = Vec::new();
    for signal in [SIGINT, SIGTERM, SIGHUP].into_iter().chain(FOR_PROGRAMS) {
        let flag = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
        heard.push((signal, flag));
    }
    to_stdout(&[READY])?;
    let mut question = [0];
    let mut questions = io::stdin().lock();
    while questions.read(&mut question)? == 1 {
        let flag = heard.iter().find(|(signal, _)| *signal == i32::from(question[0]));
        let answer = flag.is_some_and(|(_, flag)| flag.swap(false, Ordering::Relaxed));
        to_stdout(&[u8::from(answer)])?;
    }
    Ok(Status::Passed)
}
