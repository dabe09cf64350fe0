//! Emulated boards and brokers, each a `jitney` process of its own.

use anyhow::{Context, bail};
use jitney_vfio::CardAddress;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a process may take to end.
const END_LIMIT: Duration = Duration::from_secs(5);

/// An emulated board.
#[derive(Debug)]
pub(crate) struct Board {
    process: Jitney,
    socket: PathBuf,
}

impl Board {
    /// Starts a board of that name, with its socket in `folder`.
    pub(crate) fn start(name: &str, folder: &Path) -> anyhow::Result<Self> {
        let socket = folder.join(format!("{name}.sock"));
        let arguments = ["emulate".as_ref(), name.as_ref(), "--socket".as_ref(), socket.as_os_str()];
        Ok(Self { process: Jitney::start(&arguments, "serving")?, socket })
    }

    pub(crate) fn address(&self) -> CardAddress {
        CardAddress::VfioUser(self.socket.clone())
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.0.id()
    }
}

/// A broker that owns one card.
#[derive(Debug)]
pub(crate) struct Broker {
    process: Jitney,
    socket: PathBuf,
}

impl Broker {
    /// Starts a broker that owns `card`, with its socket in `folder`.
    pub(crate) fn start(card: &CardAddress, options: &[&str], folder: &Path) -> anyhow::Result<Self> {
        let socket = folder.join("broker.sock");
        let card = card.to_string();
        let mut arguments: Vec<&OsStr> = vec![
            "broker".as_ref(),
            "--card".as_ref(),
            card.as_ref(),
            "--socket".as_ref(),
            socket.as_os_str(),
        ];
        arguments.extend(options.iter().map(OsStr::new));
        Ok(Self { process: Jitney::start(&arguments, "listening")?, socket })
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.0.id()
    }
}

/// The command, which is built beside this program.
pub(crate) fn jitney() -> anyhow::Result<Command> {
    beside("jitney").map(Command::new)
}

/// What is built beside this program.
pub(crate) fn beside(name: &str) -> anyhow::Result<PathBuf> {
    Ok(std::env::current_exe().context("this program's own path")?.with_file_name(name))
}

/// A `jitney` that serves until this is dropped.
#[derive(Debug)]
struct Jitney(Child);

impl Jitney {
    /// Starts it and waits for the line that begins with `ready`.
    fn start(arguments: &[&OsStr], ready: &str) -> anyhow::Result<Self> {
        let mut command = jitney()?;
        let child = command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}; `cargo xtask bench` builds it"))?;
        let mut jitney = Self(child);
        if let Some(output) = jitney.0.stdout.take() {
            for line in BufReader::new(output).lines() {
                if line.context("reading what jitney says")?.starts_with(ready) {
                    return Ok(jitney);
                }
            }
        }
        bail!("`jitney {}` ended before it was ready", arguments.join(" ".as_ref()).to_string_lossy())
    }
}

impl Drop for Jitney {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            // It fails only if the process has ended, which the next call notices.
            let _ = kill_process(pid, Signal::TERM);
        }
        let told = Instant::now();
        while told.elapsed() < END_LIMIT {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
