//! The socket with a name that clients of a broker connect to.

use crate::socket;
use jitney_vfio::{Error, ErrorKind, Result};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, bind, listen};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(super) struct Listener {
    socket: OwnedFd,
    path: PathBuf,
    /// Given up for a moment when there are no descriptors left, so that who waits can be turned away.
    spare: Option<OwnedFd>,
}

impl Listener {
    /// Binds a socket at `path` with permission bits `mode`. One that a dead broker left there is replaced, and nothing
    /// else.
    pub(super) fn bind(path: &Path, mode: u32) -> Result<Self> {
        let address = socket::address_of(path)?;
        make_room(path)?;
        let system = |errno| Error::from_errno(errno, format!("socket {}", path.display()));
        let socket = socket::create(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        bind(&socket, &address).map_err(system)?;
        let listener = Self { socket, path: path.to_path_buf(), spare: spare() };
        // Nobody can connect before it listens, so its mode is set in time.
        rustix::fs::chmod(path, Mode::from_raw_mode(mode))
            .and_then(|()| listen(&listener.socket, 64))
            .map_err(system)?;
        Ok(listener)
    }

    /// The next client, if one waits. One for whom there is no descriptor left is hung up on: it would wait in vain, and
    /// keep the broker awake.
    pub(super) fn accept(&mut self) -> Option<OwnedFd> {
        match accept_with(&self.socket, SocketFlags::CLOEXEC) {
            Ok(socket) => Some(socket),
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => None,
            Err(errno) => {
                tracing::warn!(path = %self.path.display(), %errno, "a client could not be accepted");
                if self.spare.take().is_some() {
                    // If it fails nobody waits any more.
                    drop(accept_with(&self.socket, SocketFlags::CLOEXEC));
                }
                self.spare = spare();
                None
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the broker's socket could not be removed");
        }
    }
}

/// A descriptor that is good for nothing but to be closed.
fn spare() -> Option<OwnedFd> {
    rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// Removes the socket that a dead broker has left at `path`.
fn make_room(path: &Path) -> Result<()> {
    let taken = |what: &str, remedy: &str| {
        Error::new(ErrorKind::Held, format!("{what} {}", path.display()))
            .with_errno(Errno::ADDRINUSE)
            .with_remedy(remedy)
    };
    match rustix::fs::lstat(path) {
        Ok(file) if FileType::from_raw_mode(file.st_mode) != FileType::Socket => {
            return Err(taken("something that is not a socket is at", "give another --socket"));
        }
        Ok(_) => {}
        // If it cannot be looked at, binding says why.
        Err(_) => return Ok(()),
    }
    match socket::connect(path) {
        Ok(_) => Err(taken("a broker is listening at", "use that one, stop it, or give another --socket")),
        Err(error) if error.errno() == Some(Errno::CONNREFUSED) => {
            std::fs::remove_file(path).map_err(|error| {
                super::io(&error).context(format!("the socket of a dead broker at {}", path.display()))
            })
        }
        Err(_) => Err(taken("somebody else's socket is at", "give another --socket")),
    }
}
