//! Emulated boards for the guest: each is a process of the `jitney` command, on the host, which QEMU reaches by a socket.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::card::Card;
use crate::{Error, lines, logs};

/// How long a board may take until it serves.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A board that is served until this is dropped.
pub(crate) struct Board {
    process: Child,
    socket: PathBuf,
}

impl Board {
    /// Starts a board by the name that `jitney emulate` knows it by, and options after it; `command` is `jitney` without arguments. Socket and log are
    /// in `folder`; `number` tells boards apart.
    pub(crate) fn start(
        mut command: Command,
        name: &str,
        number: usize,
        folder: &Path,
    ) -> Result<Self, Error> {
        let socket = folder.join(format!("board{number}.sock"));
        let log = folder.join(format!("board{number}-{}.log", name.split(' ').next().unwrap_or(name)));
        let log = File::create(&log).map_err(Error::io("write", &log))?;
        // The board ends when its input does: it does not outlive the lab, however the lab ends.
        command.arg("emulate").args(name.split(' ')).args(["--with-parent", "--socket"]).arg(&socket);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut process = command.spawn().map_err(|source| Error::Start {
            program: command.get_program().to_string_lossy().into_owned(),
            what: format!("to serve the board {name}"),
            source,
        })?;
        let lines = lines::of(process.stdout.take());
        let board = Self { process, socket };
        // Its one line says that it serves; before, it may not listen yet.
        lines.recv_timeout(START_LIMIT).map_err(|_| Error::Guest {
            what: format!("the board {name} did not say within {} s that it serves", START_LIMIT.as_secs()),
            logs: logs::ends(folder),
        })?;
        Ok(board)
    }

    /// The board as a card of the machine.
    pub(crate) fn card(&self) -> Card {
        Card::VfioUser { socket: self.socket.clone() }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        // It fails when the board has ended already, and then there is nothing to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
