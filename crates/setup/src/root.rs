//! The folders in which a machine describes itself.

use rustix::io::Errno;
use std::fmt::Display;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Where `sys`, `proc`, `dev`, `etc` and `boot` are: `/` for this machine, or a folder that imitates one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root(PathBuf);

impl Default for Root {
    /// This machine.
    fn default() -> Self {
        Self::new("/")
    }
}

/// `Ok(None)` means that there is no such file, an error that it could not be seen.
pub(crate) type Seen<T> = io::Result<Option<T>>;

impl Root {
    /// The machine whose `sys`, `proc`, `dev`, `etc` and `boot` are in `folder`.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// The path of a file that is named as `sys/class/iommu`.
    pub(crate) fn path(&self, file: impl AsRef<Path>) -> PathBuf {
        self.0.join(file)
    }

    pub(crate) fn exists(&self, file: impl AsRef<Path>) -> bool {
        self.path(file).exists()
    }

    /// What a file says, without the white space around it.
    pub(crate) fn text(&self, file: impl AsRef<Path>) -> Seen<String> {
        // The command line of a boot loader, or the name of a program, need not be UTF-8.
        let bytes = if_there(fs::read(self.path(file)))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()))
    }

    /// The last part of what a symbolic link leads to.
    pub(crate) fn link_name(&self, link: impl AsRef<Path>) -> Seen<String> {
        let target = if_there(fs::read_link(self.path(link)))?;
        Ok(target.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned()))
    }

    /// The names in a folder, in order; none if there is no such folder.
    pub(crate) fn names(&self, folder: impl AsRef<Path>) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in if_there(fs::read_dir(self.path(folder)))?.into_iter().flatten() {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// Owner, group and mode of a file.
    pub(crate) fn metadata(&self, file: impl AsRef<Path>) -> Seen<Metadata> {
        if_there(fs::metadata(self.path(file)))
    }
}

/// A failed operation on a file, with the errno by name.
pub(crate) fn system(what: impl Display, error: &io::Error) -> jitney_vfio::Error {
    match Errno::from_io_error(error) {
        Some(errno) => jitney_vfio::Error::from_errno(errno, what.to_string()),
        None => jitney_vfio::Error::new(jitney_vfio::ErrorKind::System, format!("{what}: {error}")),
    }
}

/// Why something could not be seen: the file, and the errno by name.
pub(crate) fn unseen(file: &str, error: &io::Error) -> String {
    system(format_args!("could not be seen, reading /{file}"), error).to_string()
}

fn if_there<T>(result: io::Result<T>) -> Seen<T> {
    match result {
        Ok(found) => Ok(Some(found)),
        // ENOTDIR: a part of the path is a file. ESRCH: the process ended while its folder was read.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}
