//! What the system says of files, with the errno's name.

use jitney_memory::Explained;
use rustix::io::Errno;
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::{fmt, io};

/// `ENOSPC (No space left on device)`, or what `error` says that has no errno.
pub(crate) fn explained(error: &io::Error) -> String {
    match Errno::from_io_error(error) {
        Some(errno) => Explained(errno).to_string(),
        None => error.to_string(),
    }
}

/// What could not be done with a file, or what is used as one.
#[derive(Debug)]
pub(crate) struct FileError {
    name: String,
    error: io::Error,
}

impl FileError {
    pub(crate) fn new(name: impl Into<String>, error: io::Error) -> Self {
        Self { name: name.into(), error }
    }

    pub(crate) fn errno(&self) -> Option<Errno> {
        Errno::from_io_error(&self.error)
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, explained(&self.error))
    }
}

impl std::error::Error for FileError {}

/// Fails if a file cannot be written at `path` later: whoever measures for an hour hears it before.
pub(crate) fn must_be_writable(path: &Path) -> anyhow::Result<()> {
    let is_new = !path.exists();
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.map_err(|error| FileError::new(path.display().to_string(), error))?;
    if is_new {
        // It is made anew when there is something in it.
        let _ = fs::remove_file(path);
    }
    Ok(())
}
