//! The socket's place in the file system.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::ServerError;

/// Longest path of a socket in bytes: `sun_path` has 108, of which one is the NUL (`unix(7)`).
const MAX_PATH: usize = 107;

/// A listening socket and the file it is reached by, which goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Endpoint {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file we made: whoever replaced it keeps theirs.
    identity: (u64, u64),
}

impl Endpoint {
    /// Listens at `path`. A socket that a server which is gone has left there is replaced.
    pub(crate) fn bind(path: &Path) -> Result<Self, ServerError> {
        let length = path.as_os_str().as_bytes().len();
        if length > MAX_PATH {
            return Err(ServerError::PathTooLong { path: path.into(), length, limit: MAX_PATH });
        }
        let failed = |source| ServerError::Bind { path: path.into(), source };
        let _alone = Folder::of(path);
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_leftover(path)?;
                UnixListener::bind(path)
            }
            other => other,
        }
        .map_err(failed)?;
        let identity = identity(path).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self { listener, path: path.into(), identity })
    }

    /// Listens at the first of `paths` at which nobody else does.
    pub(crate) fn bind_first(paths: impl IntoIterator<Item = PathBuf>) -> Result<Self, ServerError> {
        let mut tried = 0;
        for path in paths {
            match Self::bind(&path) {
                Err(ServerError::Taken { .. }) => tried += 1,
                other => return other,
            }
        }
        Err(ServerError::AllTaken { tried })
    }

    /// The socket. It does not block.
    pub(crate) fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let _alone = Folder::of(&self.path);
        if identity(&self.path).is_ok_and(|now| now == self.identity)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!("the socket {} stays behind: {error}", self.path.display());
        }
    }
}

/// The folder of a path, locked for whoever makes and removes sockets there: so that no two take a name at the same time,
/// and none removes as left over what another has just made.
struct Folder {
    _lock: Option<OwnedFd>,
}

impl Folder {
    /// How long others may keep it: in a folder that everybody may open, somebody could for ever.
    const PATIENCE: Duration = Duration::from_secs(2);

    fn of(path: &Path) -> Self {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // Without a lock it goes on as well, only not against others who do the same at the same time.
        let Ok(folder) = rustix::fs::open(folder.unwrap_or(Path::new(".")), flags, Mode::empty()) else {
            return Self { _lock: None };
        };
        let deadline = Instant::now() + Self::PATIENCE;
        loop {
            match rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Self { _lock: Some(folder) },
                Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => {
                    tracing::warn!("the folder of {} cannot be locked: {error}", path.display());
                    return Self { _lock: None };
                }
            }
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Removes what is at `path` if it is a socket that nobody listens to.
fn remove_leftover(path: &Path) -> Result<(), ServerError> {
    let failed = |source| ServerError::Bind { path: path.into(), source };
    let kind = std::fs::symlink_metadata(path).map_err(failed)?.file_type();
    if !kind.is_socket() {
        return Err(ServerError::NotASocket { path: path.into() });
    }
    match connect_now(path) {
        // A queue that is full has somebody to fill it.
        Ok(()) => Err(ServerError::Taken { path: path.into() }),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(ServerError::Taken { path: path.into() })
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!("replacing the socket {} that a server which is gone has left", path.display());
            std::fs::remove_file(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Connects to the socket at `path`, and does not wait until there is room for that.
fn connect_now(path: &Path) -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    Ok(rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_path_that_is_too_long_is_refused_with_numbers() {
        let path = Path::new("/tmp").join("x".repeat(120));
        let error = Endpoint::bind(&path).unwrap_err().to_string();
        assert!(error.contains("125 bytes") && error.contains("107"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let room = MAX_PATH - folder.path().as_os_str().len() - 1;
        drop(Endpoint::bind(&folder.path().join("y".repeat(room))).unwrap());
        assert!(Endpoint::bind(&folder.path().join("y".repeat(room + 1))).is_err());
    }

    #[test]
    fn a_live_server_keeps_its_socket_and_a_dead_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let first = Endpoint::bind(&path).unwrap();
        assert!(matches!(Endpoint::bind(&path), Err(ServerError::Taken { .. })));
        drop(first);
        assert!(!path.exists());
        // A server that was killed closes its socket and leaves the file.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(Endpoint::bind(&path).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn many_at_once_each_get_a_path_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let paths = |count: u32| (0..count).map(|number| folder.path().join(number.to_string()));
        for _ in 0..100 {
            // As servers leave them that are killed.
            paths(8).for_each(|path| drop(UnixListener::bind(path).unwrap()));
            let start = std::sync::Barrier::new(8);
            let bind = || {
                start.wait();
                Endpoint::bind_first(paths(8)).unwrap()
            };
            let bound: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(bind)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            for endpoint in &bound {
                UnixStream::connect(endpoint.path()).expect("nobody removed it");
            }
            let mut taken: Vec<_> = bound.iter().map(Endpoint::path).collect();
            taken.sort_unstable();
            taken.dedup();
            assert_eq!(taken.len(), 8);
            let error = Endpoint::bind_first(paths(8)).unwrap_err().to_string();
            assert!(error.contains("all 8"), "{error}");
        }
    }

    #[test]
    fn what_is_not_ours_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        std::fs::write(&path, "a letter").unwrap();
        assert!(matches!(Endpoint::bind(&path), Err(ServerError::NotASocket { .. })));
        std::fs::remove_file(&path).unwrap();
        let ours = Endpoint::bind(&path).unwrap();
        std::fs::rename(&path, folder.path().join("elsewhere")).unwrap();
        let _theirs = UnixListener::bind(&path).unwrap();
        drop(ours);
        assert!(path.exists());
    }
}
