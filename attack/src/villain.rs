//! A villain: this program in a process of its own, with a role to play.

use crate::stage::{BROKEN, DID, READY};
use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// The user that villains are, where this program is root: "nobody" on all systems.
pub(crate) const NOBODY: u32 = 65534;

/// What a villain has told.
#[derive(Debug, Default, Clone)]
pub(crate) struct Told {
    pub(crate) did: u64,
    pub(crate) broken: Vec<String>,
    pub(crate) skipped: Option<String>,
}

impl Told {
    pub(crate) fn add(&mut self, other: Self) {
        self.did += other.did;
        self.broken.extend(other.broken);
        self.skipped = self.skipped.take().or(other.skipped);
    }
}

/// How to start one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Role<'a> {
    pub(crate) play: &'a str,
    pub(crate) count: u32,
    pub(crate) choices: u64,
    pub(crate) word: String,
    /// The user to be, where this program is root.
    pub(crate) user: Option<u32>,
    /// A program that starts it, with arguments.
    pub(crate) starter: &'a [&'a str],
}

#[derive(Debug)]
pub(crate) struct Villain {
    child: Child,
    lines: Receiver<String>,
    name: String,
    ready: bool,
    pub(crate) told: Told,
}

impl Villain {
    /// Starts `program` in that role, against the broker at `socket`.
    pub(crate) fn start(program: &Path, socket: &Path, card: u32, role: &Role<'_>) -> anyhow::Result<Self> {
        let mut command = match role.starter {
            [] => Command::new(program),
            [starter, arguments @ ..] => {
                let mut command = Command::new(starter);
                command.args(arguments).arg(program);
                command
            }
        };
        command.args(["--play", role.play, "--socket"]).arg(socket);
        command.args(["--card", &card.to_string(), "--count", &role.count.to_string()]);
        command.args(["--choices", &role.choices.to_string(), "--word", &role.word]);
        if let Some(user) = role.user.filter(|_| rustix::process::getuid().is_root()) {
            // The group stays root's, which the broker lets in.
            command.uid(user).gid(0);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting the villain {}", role.play))?;
        let lines = child.stdout.take().map(listen).context("a villain without a voice")?;
        Ok(Self { child, lines, name: role.play.to_owned(), ready: false, told: Told::default() })
    }

    /// Waits until it is in its place, or has ended.
    pub(crate) fn wait_until_ready(&mut self, limit: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            if self.ready {
                return Ok(());
            }
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.heard(&line),
                Err(RecvTimeoutError::Disconnected) => return self.ended(),
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the villain {} got no further in {} s", self.name, limit.as_secs())
                }
            }
        }
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait(&mut self, limit: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.heard(&line),
                Err(RecvTimeoutError::Disconnected) => return self.ended(),
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the villain {} did not end in {} s", self.name, limit.as_secs())
                }
            }
        }
    }

    fn heard(&mut self, line: &str) {
        if line == READY {
            self.ready = true;
        } else if let Some(count) = line.strip_prefix(DID) {
            self.told.did += count.parse::<u64>().unwrap_or(0);
        } else if let Some(what) = line.strip_prefix(BROKEN) {
            self.told.broken.push(format!("{}: {what}", self.name));
        }
    }

    fn ended(&mut self) -> anyhow::Result<()> {
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { bail!("the villain {} ended with {status}", self.name) }
    }

    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a villain's pid")?;
        kill_process(pid, signal).with_context(|| format!("signalling the villain {}", self.name))
    }

    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        while let Ok(line) = self.lines.try_recv() {
            self.heard(&line);
        }
        Ok(())
    }
}

impl Drop for Villain {
    fn drop(&mut self) {
        // It fails only for one that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads lines in a thread of its own, so that waiting for one can have a limit.
pub(crate) fn listen(output: ChildStdout) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                // Nobody listens any more; the pipe is emptied all the same, so that nobody waits for it.
            }
        }
    });
    lines
}
