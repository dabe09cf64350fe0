//! Where brokers and emulated boards of this user are found.

use jitney_vfio::{CardAddress, Error, ErrorKind, Result};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The folder for sockets of this user: `$XDG_RUNTIME_DIR/jitney`, or `/run/jitney` for root, or `/tmp/jitney-UID`.
#[must_use]
pub fn directory() -> PathBuf {
    let user = rustix::process::getuid();
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(runtime) if !runtime.is_empty() => Path::new(&runtime).join("jitney"),
        _ if user.is_root() => PathBuf::from("/run/jitney"),
        _ => PathBuf::from(format!("/tmp/jitney-{}", user.as_raw())),
    }
}

/// The well-known socket of this user's broker.
#[must_use]
pub fn broker_socket() -> PathBuf {
    directory().join("broker.sock")
}

/// The folder in which emulated boards put their sockets if nobody says otherwise.
#[must_use]
pub fn boards_directory() -> PathBuf {
    directory().join("boards")
}

/// Makes a folder that only this user can enter, and the folders above it.
///
/// # Errors
/// [`ErrorKind::Denied`] if it is there and belongs to somebody else; what the system says.
pub fn make_private(folder: &Path) -> Result<()> {
    let failed = |error: std::io::Error| {
        let what = format!("folder {}", folder.display());
        match rustix::io::Errno::from_io_error(&error) {
            Some(errno) => Error::from_errno(errno, what),
            None => Error::new(ErrorKind::System, format!("{what}: {error}")),
        }
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let owner = std::fs::symlink_metadata(folder).map_err(failed)?.uid();
    if owner != rustix::process::getuid().as_raw() {
        return Err(Error::new(
            ErrorKind::Denied,
            format!(
                "folder {} belongs to user {owner}, who could read and replace what is in it",
                folder.display()
            ),
        )
        .with_remedy("set XDG_RUNTIME_DIR to a folder of your own"));
    }
    Ok(())
}

/// The sockets of this user's emulated boards, in the order of their names.
///
/// # Errors
/// What reading the folder says; that it is not there is no error.
pub fn boards() -> Result<Vec<CardAddress>> {
    let folder = boards_directory();
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(Error::new(ErrorKind::System, format!("folder {}: {error}", folder.display())));
        }
    };
    let sockets = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut boards: Vec<CardAddress> = sockets
        .filter(|path| path.extension().is_some_and(|extension| extension == "sock"))
        .map(CardAddress::VfioUser)
        .collect();
    boards.sort();
    Ok(boards)
}
