//! The socket's place in the file system.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

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
        if identity(&self.path).is_ok_and(|now| now == self.identity)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!("the socket {} stays behind: {error}", self.path.display());
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
    match UnixStream::connect(path) {
        // A queue that is full has somebody to fill it.
        Ok(_) => Err(ServerError::Taken { path: path.into() }),
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

#[cfg(test)]
mod tests {
    use super::*;

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
