//! What `jitney load` and `play` read from.

use crate::errno::FileError;
use crate::status::Misuse;
use anyhow::bail;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek};
use std::os::fd::AsFd;
use std::path::Path;

/// What is read from.
#[derive(Debug)]
pub(crate) struct Input {
    /// In errors.
    pub(crate) name: String,
    file: File,
    /// How many bytes are left of it, if it is a file.
    pub(crate) length: Option<u64>,
}

impl Input {
    /// The file at `path`, or standard input if that is `-`.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let is_standard = path.as_os_str() == "-";
        let name = if is_standard { "standard input".to_owned() } else { path.display().to_string() };
        let failed = |error| FileError::new(&name, error);
        let mut file = if is_standard {
            let input = io::stdin();
            if input.is_terminal() {
                return Err(Misuse("standard input is a terminal: name a file, or pipe one in".into()).into());
            }
            File::from(input.as_fd().try_clone_to_owned().map_err(failed)?)
        } else {
            File::open(path).map_err(failed)?
        };
        let kind = file.metadata().map_err(failed)?;
        if kind.is_dir() {
            bail!("{name}: EISDIR (Is a directory)");
        }
        let length = match kind.is_file() {
            true => Some(kind.len().saturating_sub(file.stream_position().map_err(failed)?)),
            false => None,
        };
        Ok(Self { name, file, length })
    }

    /// Reads until `buffer` is full or there is no more, and says how many bytes.
    pub(crate) fn fill(&mut self, buffer: &mut [u8]) -> anyhow::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(FileError::new(&self.name, error).into()),
            }
        }
        Ok(filled)
    }
}
