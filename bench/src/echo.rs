//! A bare ping-pong with another process over a Unix stream socket.

use anyhow::Context;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

/// As long as vfio-user's request to read a register of four bytes, header included.
const PING: usize = 32;
/// As long as its reply.
const PONG: usize = 36;

/// The other process, and the socket to it.
#[derive(Debug)]
pub(crate) struct Echo {
    socket: UnixStream,
    child: Child,
}

impl Echo {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let (socket, theirs) = UnixStream::pair().context("a pair of sockets")?;
        let program = std::env::current_exe().context("this program's own path")?;
        let child = Command::new(program)
            .arg("--echo")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .context("cannot start the other process of the ping-pong")?;
        Ok(Self { socket, child })
    }

    pub(crate) fn ping(&mut self) -> std::io::Result<()> {
        self.socket.write_all(&[1; PING])?;
        self.socket.read_exact(&mut [0; PONG])
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // The other process ends when the socket does. Either call fails only if it has gone already.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        let _ = self.child.wait();
    }
}

/// Is the other process, on standard input.
pub(crate) fn serve() -> anyhow::Result<()> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().context("standard input")?;
    let mut socket = UnixStream::from(socket);
    while socket.read(&mut [0; PING]).context("waiting for a ping")? > 0 {
        socket.write_all(&[2; PONG]).context("answering a ping")?;
    }
    Ok(())
}
