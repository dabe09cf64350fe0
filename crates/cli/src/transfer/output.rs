//! Where `jitney save` and `capture` put what they read: a file that is there as a whole or not at all, or what standard output is.

use crate::errno::FileError;
use crate::report::Report;
use crate::signals;
use crate::status::Misuse;
use anyhow::{Context, bail};
use rustix::fs::{Advice, CWD, RenameFlags, fadvise, renameat_with};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// What is written to.
#[derive(Debug)]
pub(crate) struct Output {
    /// In errors.
    name: String,
    file: File,
    is_standard: bool,
    unfinished: Option<Unfinished>,
    /// Bytes that were written, and how many of them the disk was asked to take.
    written: u64,
    asked: u64,
}

/// So many bytes at once are handed to the disk while the next ones come. Else all of them would be only at the end, which
/// waits for the disk.
const ON_ITS_WAY: u64 = 16 << 20;

/// What Ctrl-C means for a file that is not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interrupted {
    /// It goes, and the program ends.
    Removes,
    /// It is the end of what is written; the program finishes it.
    Keeps,
}

/// A file under a name that is not its own, which goes with this.
#[derive(Debug)]
struct Unfinished {
    path: PathBuf,
    /// What it is to be called.
    target: PathBuf,
    /// Whether another file of that name goes.
    force: bool,
}

impl Output {
    fn new(name: String, file: File, unfinished: Option<Unfinished>) -> Self {
        Self { name, file, is_standard: false, unfinished, written: 0, asked: 0 }
    }

    /// Standard output for `-`, else the file at `path` as [`create`](Self::create) makes it.
    pub(crate) fn open(path: &Path, force: bool, interrupted: Interrupted) -> anyhow::Result<Self> {
        if path.as_os_str() == "-" { Self::standard() } else { Self::create(path, force, interrupted) }
    }

    fn standard() -> anyhow::Result<Self> {
        let out = io::stdout();
        if out.is_terminal() {
            return Err(Misuse(
                "standard output is a terminal: name a file, or have a program read it".into(),
            )
            .into());
        }
        let file = File::from(out.as_fd().try_clone_to_owned().context("standard output")?);
        Ok(Self { is_standard: true, ..Self::new("standard output".into(), file, None) })
    }

    /// The file at `path`. One that is there is replaced only by `force`, and only when the new one is complete; what is
    /// no file, as a pipe or /dev/null, is written to.
    pub(crate) fn create(path: &Path, force: bool, interrupted: Interrupted) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let open = |path: &Path, options: &mut OpenOptions| {
            options.write(true).open(path).map_err(|error| FileError::new(&name, error))
        };
        let there = match fs::metadata(path) {
            Ok(there) => Some(there.file_type()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(FileError::new(name, error).into()),
        };
        match there {
            Some(kind) if kind.is_dir() => bail!("{name}: EISDIR (Is a directory)"),
            // A disk is overwritten as easily as a file, and by root.
            Some(kind) if (kind.is_file() || kind.is_block_device()) && !force => {
                let errno = jitney_memory::Explained(Errno::EXIST);
                bail!("{name}: {errno}; --force replaces it");
            }
            Some(kind) if !kind.is_file() => {
                let file = open(path, &mut OpenOptions::new())?;
                return Ok(Self::new(name, file, None));
            }
            _ => {}
        }
        // What a link leads to is replaced, not the link.
        let target = match there {
            Some(_) => path.canonicalize().with_context(|| name.clone())?,
            None => path.to_owned(),
        };
        let mut own = target.file_name().with_context(|| format!("{name} names no file"))?.to_owned();
        own.push(format!(".{}.part", std::process::id()));
        let path = target.with_file_name(own);
        if fs::symlink_metadata(&path).is_ok() {
            let errno = jitney_memory::Explained(Errno::EXIST);
            bail!("{}: {errno}; a program that was killed has left it: remove it", path.display());
        }
        // Ctrl-C leaves no half file behind either, from its first moment on.
        if interrupted == Interrupted::Removes {
            let half = path.clone();
            signals::on_stop(move |signal| {
                // It may not be there yet, or have its name by now.
                let _ = fs::remove_file(&half);
                // It fails for no signal that is heard here.
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            })?;
        }
        let file = open(&path, OpenOptions::new().create_new(true))?;
        let unfinished = Unfinished { path, target, force };
        Ok(Self::new(name, file, Some(unfinished)))
    }

    /// Where the results of the command go: not between its data.
    pub(crate) fn report(&self, json: bool) -> Report {
        if self.is_standard { Report::beside_data(json) } else { Report::new(json) }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(bytes).map_err(|error| self.failed(error))?;
        self.written += bytes.len() as u64;
        if self.unfinished.is_some() && self.written - self.asked >= ON_ITS_WAY {
            // Pages that are not written yet cannot be let go: Linux begins to write them, and waits for nothing
            // (mm/fadvise.c). If it does not, the end takes longer.
            let _ =
                fadvise(&self.file, self.asked, NonZeroU64::new(self.written - self.asked), Advice::DontNeed);
            self.asked = self.written;
        }
        Ok(())
    }

    /// All was written: the file gets its name, once the disk has it.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        let Some(unfinished) = self.unfinished.take() else { return Ok(()) };
        self.file.sync_data().map_err(|error| self.failed(error))?;
        unfinished.rename().map_err(|errno| self.failed(errno.into()))
    }

    fn failed(&self, error: io::Error) -> anyhow::Error {
        FileError::new(&self.name, error).into()
    }
}

impl Unfinished {
    fn rename(&self) -> rustix::io::Result<()> {
        if self.force {
            return rustix::fs::rename(&self.path, &self.target);
        }
        match renameat_with(CWD, &self.path, CWD, &self.target, RenameFlags::NOREPLACE) {
            // The file system cannot do that at once. Who makes a file of that name just now loses it.
            Err(Errno::INVAL | Errno::NOSYS) if !self.target.exists() => {
                rustix::fs::rename(&self.path, &self.target)
            }
            outcome => outcome,
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It has its name now, or nobody needs it.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_program_left_is_named_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join(format!("dump.bin.{}.part", std::process::id()));
        fs::write(&left, "half").unwrap();
        let error = Output::create(&folder.path().join("dump.bin"), false, Interrupted::Removes)
            .unwrap_err()
            .to_string();
        assert!(error.contains(".part: EEXIST") && error.ends_with("remove it"), "{error}");
        assert!(left.exists());
    }
}
