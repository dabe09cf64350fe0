//! Where it happens: two emulated boards and the broker that owns them, each a `jitney` process of its own.

use crate::census::Census;
use crate::client::Client;
use crate::good::GoodClients;
use crate::villain::{Role, Villain, listen};
use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const BOARD: &str = "nitefury-dma-ddr3";
/// What a process takes to begin, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(30);
/// What a process takes to end that was told to.
const END_LIMIT: Duration = Duration::from_secs(20);
/// How soon the broker has to have everything back from those that are gone: a will may wait for 5 s, and so may a socket.
const SETTLE_LIMIT: Duration = Duration::from_secs(25);

/// How an arena differs from the usual one.
#[derive(Debug, Default)]
pub(crate) struct Options<'a> {
    /// Instead of a file.
    pub(crate) stderr: Option<OwnedFd>,
    pub(crate) board: &'a [&'a str],
}

#[derive(Debug)]
pub(crate) struct Arena {
    // In the order in which they end.
    pub(crate) good: GoodClients,
    pub(crate) broker: Jitney,
    pub(crate) boards: [Jitney; 2],
    pub(crate) place: Place,
    /// The ids of the cards: the one that is attacked and the other.
    pub(crate) cards: [u32; 2],
}

/// Where an arena's files are, and the programs.
#[derive(Debug)]
pub(crate) struct Place {
    folder: TempDir,
    pub(crate) socket: PathBuf,
    /// This program, where every user can start it.
    pub(crate) program: PathBuf,
    pub(crate) jitney: PathBuf,
}

impl Place {
    fn new() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("jitney-attack-").tempdir().context("a folder")?;
        // Everybody may pass through it; who may connect is the socket's business.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o711))?;
        let own = std::env::current_exe().context("this program's own path")?;
        let program = folder.path().join("jitney-attack");
        fs::copy(&own, &program).context("copying this program")?;
        fs::set_permissions(&program, Permissions::from_mode(0o755))?;
        let jitney = own.with_file_name("jitney");
        let socket = folder.path().join("broker.sock");
        Ok(Self { folder, socket, program, jitney })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// `jitney` with this folder as the only place where it finds anything.
    pub(crate) fn jitney(&self) -> Command {
        let mut command = Command::new(&self.jitney);
        for name in ["JITNEY_BROKER", "JITNEY_CARDS", "JITNEY_BOARDS", "JITNEY_IOMMU", "JITNEY_LOG"] {
            command.env_remove(name);
        }
        command.env("XDG_RUNTIME_DIR", self.path()).stdin(Stdio::null());
        command
    }

    /// The broker of both boards.
    pub(crate) fn broker(&self) -> Command {
        let mut command = self.jitney();
        command.args(["broker", "--group", "--isolate", "--socket"]).arg(&self.socket);
        for name in ["same", "other"] {
            let socket = self.path().join(format!("{name}.sock"));
            command.arg("--card").arg(format!("vfio-user:{}", socket.display()));
        }
        command
    }

    pub(crate) fn log(&self, name: &str) -> anyhow::Result<File> {
        let path = self.path().join(format!("{name}.log"));
        File::create(&path).with_context(|| format!("making {}", path.display()))
    }

    /// The end of what a process has said, for who has to find out what went wrong.
    pub(crate) fn end_of_log(&self, name: &str) -> String {
        let bytes = fs::read(self.path().join(format!("{name}.log"))).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<_> = text.lines().rev().take(12).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Arena {
    pub(crate) fn start(options: Options<'_>) -> anyhow::Result<Self> {
        let place = Place::new()?;
        let board = |name: &str| {
            let mut command = place.jitney();
            command.args(["emulate", BOARD, "--memory", "64M"]).args(options.board);
            command.arg("--socket").arg(place.path().join(format!("{name}.sock")));
            command.stderr(place.log(name)?);
            Jitney::start(command, "serving")
        };
        let boards = [board("same")?, board("other")?];
        let mut command = place.broker();
        match options.stderr {
            Some(stderr) => command.stderr(stderr),
            None => command.stderr(place.log("broker")?),
        };
        let broker = Jitney::start(command, "listening")?;
        let cards = Client::welcome(&place.socket, "looks around")?.cards()?;
        let id = |name: &str| {
            let card = cards.iter().find(|(_, address)| address.contains(&format!("/{name}.sock")));
            card.map(|(id, _)| *id).with_context(|| format!("the card {name} is not among {cards:?}"))
        };
        let cards = [id("same")?, id("other")?];
        let good = GoodClients::start(&place.socket, cards[0], cards[1])?;
        good.warm_up()?;
        Ok(Self { good, broker, boards, place, cards })
    }

    pub(crate) fn villain(&self, role: &Role<'_>) -> anyhow::Result<Villain> {
        Villain::start(&self.place.program, &self.place.socket, self.cards[0], role)
    }

    /// Where a board listens.
    pub(crate) fn board_socket(&self) -> PathBuf {
        self.place.path().join("same.sock")
    }

    /// What the broker and its boards have while the good clients rest.
    pub(crate) fn census(&self) -> anyhow::Result<[Census; 3]> {
        let _pause = self.good.pause()?;
        let [same, other] = &self.boards;
        Ok([self.broker.census()?, same.census()?, other.census()?])
    }

    /// Waits until nobody has more than `before`, and nobody but the good clients is known; says what is too much if that does
    /// not come true, and else how long it took.
    pub(crate) fn settle(&self, before: &[Census; 3]) -> anyhow::Result<Result<Duration, String>> {
        let since = Instant::now();
        loop {
            let mut left = Vec::new();
            let after = self.census()?;
            for (name, (before, after)) in
                ["the broker", "its board", "the other board"].iter().zip(before.iter().zip(&after))
            {
                left.extend(after.more_than(before).map(|more| format!("{name} has {more}")));
            }
            left.extend(self.strangers()?);
            if left.is_empty() {
                return Ok(Ok(since.elapsed()));
            }
            if since.elapsed() > SETTLE_LIMIT {
                return Ok(Err(format!("{} s later {}", SETTLE_LIMIT.as_secs(), left.join("; "))));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Who is left of those that should be gone.
    fn strangers(&self) -> anyhow::Result<Option<String>> {
        let mut client = Client::welcome(&self.place.socket, "good and looks around")?;
        let users = client.users()?;
        let strangers: Vec<_> = users
            .iter()
            .filter(|user| !user.program.starts_with("good"))
            .map(|user| {
                format!(
                    "{} (process {:?}, {} leases, {} buffers)",
                    user.program, user.pid, user.leases, user.buffers
                )
            })
            .collect();
        Ok((!strangers.is_empty()).then(|| format!("Usage still names {}", strangers.join(", "))))
    }
}

/// A `jitney` that serves until this is dropped.
#[derive(Debug)]
pub(crate) struct Jitney {
    child: Child,
    /// Keeps its standard output from being closed.
    _lines: Receiver<String>,
}

impl Jitney {
    /// Starts it and waits for the line that begins with `ready`.
    pub(crate) fn start(mut command: Command, ready: &str) -> anyhow::Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}; `cargo xtask attack` builds it"))?;
        let lines = child.stdout.take().map(listen).context("a jitney without an output")?;
        let jitney = Self { child, _lines: lines };
        let deadline = Instant::now() + START_LIMIT;
        while let Ok(line) = jitney._lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if line.starts_with(ready) {
                return Ok(jitney);
            }
        }
        bail!("{command:?} was not ready in time")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn census(&self) -> anyhow::Result<Census> {
        Census::of(self.pid())
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a pid")?;
        kill_process(pid, signal).context("signalling a jitney")
    }

    /// Waits until it has ended, which it was told to.
    pub(crate) fn wait(&mut self, limit: Duration) -> anyhow::Result<Option<ExitStatus>> {
        let since = Instant::now();
        while since.elapsed() < limit {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(None)
    }
}

impl Drop for Jitney {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // It fails only if the process has ended, which the next call notices.
        let _ = self.signal(Signal::TERM);
        if !matches!(self.wait(END_LIMIT), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
