//! What a card gets at every start of the machine, as files below `/etc`: a rule of udev, a module, a limit.
//!
//! Each card has files of its own, so that forgetting one leaves those of the others alone. A first line says whose they are, and
//! what does not begin so is never overwritten and never removed. All are written beside their places, and only when all are there
//! are they put in place: no disk that is full leaves half of one.

use crate::error::{Error, Result};
use crate::root::{Root, system};
use crate::udev;
use jitney_host::accounts;
use jitney_pci::Address;
use jitney_vfio::ErrorKind;
use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// How every one of the files begins.
const MARK: &str = "# Written by jitney bind --persist;";

/// What is to be written for a card.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) card: Address,
    pub(crate) rule: &'a str,
    /// Who is to lock memory without a limit.
    pub(crate) owner: Option<&'a str>,
}

/// The files that a card can have, below the root.
fn places(card: Address) -> [String; 3] {
    [
        udev::file(card),
        format!("etc/modules-load.d/jitney-{card}.conf"),
        format!("etc/security/limits.d/70-jitney-{card}.conf"),
    ]
}

/// Refuses an owner that would mean something else in the files; [`write`] would write nonsense for it.
pub(crate) fn check_owner(owner: Option<&str>) -> Result<()> {
    // What useradd(8) lets through.
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    match owner {
        Some(name) if name.is_empty() || name.starts_with('-') || !name.chars().all(fits) => {
            Err(Error::OddUser { name: name.to_owned() })
        }
        _ => Ok(()),
    }
}

/// Writes a card's files, and returns where they are. Those that it had, and does not get again, are removed.
pub(crate) fn write(root: &Root, wanted: Wanted<'_>) -> Result<Vec<PathBuf>> {
    let Wanted { card, rule, owner } = wanted;
    let head = format!("{MARK} jitney unbind --forget {card} removes it.\n");
    let limit = owner.map(|owner| {
        let domain = match owner.parse::<u32>() {
            // Of a number limits.conf(5) wants to be told that it is one.
            Ok(uid) => accounts::user_name(root, uid).unwrap_or_else(|| format!(":{uid}")),
            Err(_) => owner.to_owned(),
        };
        format!("{domain} - memlock unlimited\n")
    });
    let contents = [Some(rule.to_owned()), Some("vfio-pci\n".to_owned()), limit];
    for place in places(card) {
        is_ours(root, &place)?;
    }
    let mut staged = Vec::new();
    for (place, content) in places(card).into_iter().zip(contents) {
        match content {
            Some(content) => {
                let file = Staged::new(root, place);
                file.write(&format!("{head}{content}"))?;
                staged.push(file);
            }
            None => remove(root, &place).map(drop)?,
        }
    }
    staged.into_iter().map(Staged::put_in_place).collect()
}

/// Fails if a card has a file, under the name of one of ours, that is somebody else's.
pub(crate) fn check(root: &Root, card: Address) -> Result<()> {
    places(card).iter().try_for_each(|place| is_ours(root, place).map(drop))
}

/// Removes a card's files, and returns which were there.
pub(crate) fn forget(root: &Root, card: Address) -> Result<Vec<PathBuf>> {
    check(root, card)?;
    let mut removed = Vec::new();
    for place in places(card) {
        if remove(root, &place)? {
            removed.push(shown(&place));
        }
    }
    Ok(removed)
}

/// Whether there is a file of ours; an error if there is something else. A link is something else: it leads to what others wrote.
fn is_ours(root: &Root, place: &str) -> Result<bool> {
    let path = root.path(place);
    let found = match fs::symlink_metadata(&path) {
        Ok(found) => found,
        Err(error) if is_absent(&error) => return Ok(false),
        Err(error) => return Err(failed("reading", place, &error)),
    };
    let ours = found.is_file()
        && fs::read(&path).map_err(|error| failed("reading", place, &error))?.starts_with(MARK.as_bytes());
    if ours { Ok(true) } else { Err(Error::NotOurs { file: shown(place) }) }
}

/// Whether there is no such file, or no folder that it could be in.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn remove(root: &Root, place: &str) -> Result<bool> {
    match fs::remove_file(root.path(place)) {
        Ok(()) => Ok(true),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(failed("removing", place, &error)),
    }
}

/// A file beside its place. If it is not put there it is removed.
struct Staged {
    place: String,
    path: PathBuf,
    beside: PathBuf,
}

impl Staged {
    fn new(root: &Root, place: String) -> Self {
        let path = root.path(&place);
        // Neither udev nor the others read what ends so. One that a killed program has left is taken.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let beside = path.with_file_name(format!(".{name}.new"));
        Self { place, path, beside }
    }

    fn write(&self, text: &str) -> Result<()> {
        let written = || {
            if let Some(folder) = self.path.parent() {
                fs::create_dir_all(folder)?;
            }
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o644);
            options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
            let mut file = options.open(&self.beside)?;
            // Whatever the umask says, everybody may read it, as everything beside it.
            file.set_permissions(fs::Permissions::from_mode(0o644))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        written().map_err(|error| failed("writing", &self.place, &error))
    }

    fn put_in_place(self) -> Result<PathBuf> {
        fs::rename(&self.beside, &self.path).map_err(|error| failed("writing", &self.place, &error))?;
        // That the name lasts as well is worth trying; the file is there in any case.
        let _ = self
            .path
            .parent()
            .map(File::open)
            .transpose()
            .map(|folder| folder.map(|folder| folder.sync_all()));
        Ok(shown(&self.place))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After it was put in place there is nothing any more.
        let _ = fs::remove_file(&self.beside);
    }
}

/// As the user knows it.
fn shown(place: &str) -> PathBuf {
    Path::new("/").join(place)
}

fn failed(what: impl Display, place: &str, error: &io::Error) -> Error {
    let error = system(format_args!("{what} /{place}"), error);
    match error.kind() {
        ErrorKind::Denied => {
            error.with_remedy("only root may do this: put sudo in front of the command").into()
        }
        _ => error.into(),
    }
}
