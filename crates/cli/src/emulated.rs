//! Emulated boards that a command starts for itself, each in a process of its own.

use super::boards::Choice;
use anyhow::{Context, bail};
use jitney_broker::RuntimeFolder;
use jitney_vfio::CardAddress;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// The first line that a board's process prints once clients can connect.
pub(crate) const READY: &str = "serving";
/// How long a board's process may take to end once it was told to.
const END_LIMIT: Duration = Duration::from_secs(2);

/// Boards that live as long as this value.
#[derive(Debug, Default)]
pub(crate) struct EmulatedBoards(Vec<BoardProcess>);

#[derive(Debug)]
struct BoardProcess {
    child: Child,
    /// The process ends when this is closed, also if we are killed.
    stdin: Option<ChildStdin>,
    address: CardAddress,
}

impl EmulatedBoards {
    /// Starts each board and waits until all can be used.
    pub(crate) fn start(boards: &[Choice]) -> anyhow::Result<Self> {
        if boards.is_empty() {
            return Ok(Self::default());
        }
        let folder = RuntimeFolder::of_this_user()?;
        let folder = folder.make()?;
        // No folder of our own, which nobody would remove if we were killed: each board removes its own socket.
        let own = std::process::id();
        let start = |(index, board): (usize, &Choice)| {
            let socket = format!("run-{own}-{index}-{}.sock", board.file_name());
            BoardProcess::start(&board.text, &folder.join(socket))
        };
        Ok(Self(boards.iter().enumerate().map(start).collect::<anyhow::Result<_>>()?))
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = CardAddress> {
        self.0.iter().map(|board| board.address.clone())
    }
}

impl BoardProcess {
    fn start(name: &str, socket: &Path) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program's own path")?;
        let mut command = Command::new(program);
        // What a service manager says is for this process alone.
        jitney_broker::MANAGER_VARIABLES.iter().for_each(|name| {
            command.env_remove(name);
        });
        let mut child = command
            .args(["emulate", name, "--with-parent", "--socket"])
            .arg(socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C is not for it: it ends after those who use it.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start a process for the emulated board {name}"))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take();
        let board = Self { child, stdin, address: CardAddress::VfioUser(socket.to_path_buf()) };
        let mut line = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        if !line.starts_with(READY) {
            bail!("the emulated board {name} did not start; see its message above");
        }
        Ok(board)
    }
}

impl Drop for BoardProcess {
    fn drop(&mut self) {
        self.stdin.take();
        let told = Instant::now();
        while told.elapsed() < END_LIMIT {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        // It hangs, as it may have been asked to by a fault. Either call fails only if it has ended meanwhile.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
