//! The socket with a name that clients of a broker connect to.

use crate::socket;
use jitney_vfio::{Error, ErrorKind, Result};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, bind, listen};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(super) struct Listener {
    socket: OwnedFd,
    path: PathBuf,
}

impl Listener {
    /// Binds a socket at `path` with permission bits `mode`. One that a dead broker left there is replaced.
    pub(super) fn bind(path: &Path, mode: u32) -> Result<Self> {
        if socket::connect(path).is_ok() {
            return Err(Error::new(
                ErrorKind::Held,
                format!("a broker is listening at {} already", path.display()),
            )
            .with_errno(Errno::ADDRINUSE)
            .with_remedy("use that one, stop it, or give another --socket"));
        }
        let system = |errno| Error::from_errno(errno, format!("socket {}", path.display()));
        let socket = socket::create(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        // Bound under another name and moved, so that nobody can connect before its mode is set.
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{}", std::process::id()));
        let unfinished = path.with_file_name(name);
        bind(&socket, &socket::address_of(&unfinished)?).map_err(system)?;
        let placed = rustix::fs::chmod(&unfinished, Mode::from_raw_mode(mode))
            .and_then(|()| listen(&socket, 64))
            .and_then(|()| rustix::fs::rename(&unfinished, path));
        if let Err(errno) = placed {
            let _ = std::fs::remove_file(&unfinished);
            return Err(system(errno));
        }
        Ok(Self { socket, path: path.to_path_buf() })
    }

    /// The next client, if one waits.
    pub(super) fn accept(&self) -> Option<OwnedFd> {
        match accept_with(&self.socket, SocketFlags::CLOEXEC) {
            Ok(socket) => Some(socket),
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => None,
            Err(errno) => {
                tracing::warn!(path = %self.path.display(), %errno, "a client could not be accepted");
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
