//! The folders in which a machine describes itself.

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
pub type Seen<T> = io::Result<Option<T>>;

impl Root {
    /// The machine whose `sys`, `proc`, `dev`, `etc` and `boot` are in `folder`.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// Whether it is the machine that this runs on, and not one that is imitated.
    #[must_use]
    pub fn is_this_machine(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// The path of a file that is named as `sys/class/iommu`.
    pub fn path(&self, file: impl AsRef<Path>) -> PathBuf {
        self.0.join(file)
    }

    /// Whether there is such a file, as far as can be seen.
    pub fn exists(&self, file: impl AsRef<Path>) -> bool {
        self.path(file).exists()
    }

    /// What a file says, without the white space around it.
    ///
    /// # Errors
    /// It could not be seen.
    pub fn text(&self, file: impl AsRef<Path>) -> Seen<String> {
        // The command line of a boot loader, or the name of a program, need not be UTF-8.
        let bytes = if_there(fs::read(self.path(file)))?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()))
    }

    /// The last part of what a symbolic link leads to.
    ///
    /// # Errors
    /// It could not be seen.
    pub fn link_name(&self, link: impl AsRef<Path>) -> Seen<String> {
        let target = if_there(fs::read_link(self.path(link)))?;
        Ok(target.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned()))
    }

    /// The names in a folder, in order; none if there is no such folder.
    ///
    /// # Errors
    /// It could not be seen.
    pub fn names(&self, folder: impl AsRef<Path>) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in if_there(fs::read_dir(self.path(folder)))?.into_iter().flatten() {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// Owner, group and mode of a file.
    ///
    /// # Errors
    /// It could not be seen.
    pub fn metadata(&self, file: impl AsRef<Path>) -> Seen<Metadata> {
        if_there(fs::metadata(self.path(file)))
    }
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
