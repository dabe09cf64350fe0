//! The socket with a name that clients of a broker connect to.

use super::closer::{Closer, Source};
use crate::manager::ListeningSocket;
use crate::seldom::Seldom;
use crate::socket;
use jitney_vfio::{Error, ErrorKind, Result};
use rustix::fs::{
    AtFlags, FileType, FlockOperation, Gid, Mode, OFlags, chownat, fchmod, flock, fstat, lstat,
};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, bind, listen};
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(super) struct Listener {
    socket: OwnedFd,
    path: PathBuf,
    /// What this process has to remove; nothing if somebody else has bound the socket, and goes on having it.
    bound: Option<Bound>,
    seldom: Seldom,
    /// Given up for a moment when there are no descriptors left, so that who waits can be turned away.
    spare: Option<OwnedFd>,
}

#[derive(Debug)]
struct Bound {
    /// Device and inode of what is at the path, so that only our own is removed.
    file: (u64, u64),
    /// Held as long as the socket is there: of two brokers that start at once one is refused.
    lock: OwnedFd,
}

impl Listener {
    /// Takes over a socket that is bound.
    pub(super) fn inherited(socket: ListeningSocket) -> Self {
        let (socket, path) = socket.into_parts();
        Self { socket, path, bound: None, seldom: Seldom::default(), spare: spare() }
    }

    /// Binds a socket at `path` with permission bits `mode`, and gives it to `group` if one is named. One that a dead broker left
    /// there is replaced, and nothing else.
    pub(super) fn bind(path: &Path, mode: u32, group: Option<u32>) -> Result<Self> {
        let address = socket::address_of(path)?;
        let lock = lock(path)?;
        make_room(path)?;
        let system = |errno| Error::from_errno(errno, format!("socket {}", path.display()));
        let socket = socket::create(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        // The file gets the mode that the socket has when it is bound, less the umask: it is never there with a wider one.
        let first = if group.is_some() { 0o600 } else { mode };
        fchmod(&socket, Mode::from_raw_mode(first)).map_err(system)?;
        bind(&socket, &address).map_err(system)?;
        let file = set_mode(path, mode, group).map_err(system)?;
        let listener = Self {
            socket,
            path: path.to_path_buf(),
            bound: Some(Bound { file, lock }),
            seldom: Seldom::default(),
            spare: spare(),
        };
        listen(&listener.socket, 64).map_err(system)?;
        Ok(listener)
    }

    /// Goes on with a socket that a broker before this one has bound, and with its lock.
    pub(super) fn resume(socket: OwnedFd, lock: OwnedFd) -> Result<Self> {
        let system = |errno| Error::from_errno(errno, "a socket of the broker before");
        let address = rustix::net::getsockname(&socket).map_err(system)?;
        let address: rustix::net::SocketAddrUnix = address.try_into().map_err(system)?;
        let path = address.path_bytes().map(|path| PathBuf::from(OsStr::from_bytes(path)));
        let path =
            path.ok_or_else(|| Error::new(ErrorKind::Protocol, "a socket of the broker before has no path"))?;
        // If it is not there any more there is nothing to remove.
        let file = lstat(&path).map_or((0, 0), |file| (file.st_dev, file.st_ino));
        let bound = Some(Bound { file, lock });
        Ok(Self { socket, path, bound, seldom: Seldom::default(), spare: spare() })
    }

    /// Where clients find it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The lock that keeps other brokers from its path, if this one has bound it.
    pub(super) fn lock(&self) -> Option<BorrowedFd<'_>> {
        self.bound.as_ref().map(|bound| bound.lock.as_fd())
    }

    /// The next client, if one waits. One for whom there is no descriptor left is hung up on: it would wait in vain, and
    /// keep the broker awake.
    pub(super) fn accept(&mut self, closer: &Closer) -> Option<OwnedFd> {
        match accept_with(&self.socket, SocketFlags::CLOEXEC) {
            Ok(socket) => Some(socket),
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => None,
            Err(errno) => {
                if let Some(before) = self.seldom.allows() {
                    tracing::warn!(path = %self.path.display(), %errno, before, "a client could not be accepted");
                }
                if self.spare.take().is_some() {
                    // If it fails nobody waits any more.
                    let refused = accept_with(&self.socket, SocketFlags::CLOEXEC);
                    closer.strange(Source::Unknown, refused.into_iter().collect());
                }
                self.spare = spare();
                None
            }
        }
    }

    /// Whether nobody can be let in, nor be hung up on, until some descriptor is free.
    pub(super) fn is_starved(&mut self) -> bool {
        // What was hung up on is closed by somebody else, a little later.
        self.spare = self.spare.take().or_else(spare);
        self.spare.is_none()
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let Some(bound) = &self.bound else { return };
        if let Err(error) = std::fs::remove_file(lock_path(&self.path)) {
            tracing::warn!(path = %self.path.display(), %error, "the lock of the broker's socket could not be removed");
        }
        // Somebody may have put another one there meanwhile.
        if lstat(&self.path).is_ok_and(|file| (file.st_dev, file.st_ino) != bound.file) {
            return;
        }
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the broker's socket could not be removed");
        }
    }
}

/// A descriptor that is good for nothing but to be closed.
fn spare() -> Option<OwnedFd> {
    rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// Gives the socket at `path` its group and mode, whatever the umask is, and nothing that somebody may have put there instead. Returns device
/// and inode.
fn set_mode(path: &Path, mode: u32, group: Option<u32>) -> rustix::io::Result<(u64, u64)> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    let status = fstat(&file)?;
    let is_socket = FileType::from_raw_mode(status.st_mode) == FileType::Socket;
    if !is_socket || status.st_uid != rustix::process::geteuid().as_raw() {
        return Err(Errno::PERM);
    }
    if let Some(group) = group {
        chownat(&file, "", None, Some(Gid::from_raw(group)), AtFlags::EMPTY_PATH)?;
    }
    rustix::fs::chmod(format!("/proc/self/fd/{}", file.as_raw_fd()), Mode::from_raw_mode(mode))?;
    Ok((status.st_dev, status.st_ino))
}

/// Locks the path against others who make room there at the same time.
fn lock(path: &Path) -> Result<OwnedFd> {
    let name = lock_path(path);
    let system = |errno| Error::from_errno(errno, format!("lock {}", name.display()));
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    loop {
        let file = rustix::fs::open(&name, flags, Mode::RUSR | Mode::WUSR).map_err(system)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let what = format!("a broker is listening at {}, or about to", path.display());
                return Err(Error::new(ErrorKind::Held, what)
                    .with_errno(Errno::ADDRINUSE)
                    .with_remedy("use that one, stop it, or give another --socket"));
            }
            Err(errno) => return Err(system(errno)),
        }
        // Who had it before may have removed the file between the two calls: then the lock is worth nothing.
        let ours = fstat(&file).map_err(system)?.st_ino;
        if lstat(&name).is_ok_and(|there| there.st_ino == ours) {
            return Ok(file);
        }
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// Removes the socket that a dead broker has left at `path`.
fn make_room(path: &Path) -> Result<()> {
    let taken = |what: &str, remedy: &str| {
        Error::new(ErrorKind::Held, format!("{what} {}", path.display()))
            .with_errno(Errno::ADDRINUSE)
            .with_remedy(remedy)
    };
    match lstat(path) {
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
