//! Whether a library can be loaded into a program: whether it is one that the loader of glibc starts, with this user's rights.

use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Why not, in words. A program that is not there, or that cannot be read, is let through: starting it says more.
pub(super) fn can_be_preloaded(name: &OsStr) -> Result<(), String> {
    let Some(path) = find(name) else { return Ok(()) };
    check(&path, 0)
}

/// Where the program is that a shell would start.
fn find(name: &OsStr) -> Option<PathBuf> {
    if name.as_encoded_bytes().contains(&b'/') {
        return Some(PathBuf::from(name));
    }
    let paths = std::env::var_os("PATH")?;
    std::env::split_paths(&paths).map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn check(path: &Path, depth: u32) -> Result<(), String> {
    let Ok(mut file) = File::open(path) else { return Ok(()) };
    let name = path.display();
    if let Some(rights) = others_rights(path) {
        return Err(format!(
            "{name} has {rights}, and the loader then loads no library that a user names: run a copy of it without"
        ));
    }
    let mut start = [0; 256];
    let Ok(count) = file.read(&mut start) else { return Ok(()) };
    let start = start.get(..count).unwrap_or_default();
    match start {
        [b'#', b'!', line @ ..] if depth < 4 => match interpreter(line) {
            Some(interpreter) => check(Path::new(&interpreter), depth + 1),
            None => Ok(()),
        },
        [0x7f, b'E', b'L', b'F', ..] => match loader(&file, start) {
            Loader::Glibc | Loader::Unknown => Ok(()),
            Loader::Other(loader) => Err(format!(
                "{name} is not a program of glibc's: {loader} starts it, and cannot load the library"
            )),
            Loader::Bits32 => Err(format!("{name} is a program of 32 bits, and the library one of 64")),
            Loader::None => Err(format!(
                "{name} is statically linked: no library can be loaded into it. Link it dynamically (without -static), \
                 or use jitney load, save, read and write"
            )),
        },
        _ => Ok(()),
    }
}

/// What starts a script, by its first line.
fn interpreter(line: &[u8]) -> Option<String> {
    let line = line.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?;
    line.split_whitespace().next().map(str::to_owned)
}

/// Which rights a program has that its user has not.
fn others_rights(path: &Path) -> Option<&'static str> {
    let about = path.metadata().ok()?;
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let (mode, other_user, other_group) = (about.mode(), about.uid() != user, about.gid() != group);
    if mode & 0o4000 != 0 && other_user {
        return Some("the rights of another user (setuid)");
    }
    if mode & 0o2000 != 0 && other_group {
        return Some("the rights of another group (setgid)");
    }
    let mut room = [0_u8; 64];
    let capabilities = rustix::fs::getxattr(path, "security.capability", &mut room);
    (user != 0 && matches!(capabilities, Ok(1..) | Err(Errno::RANGE))).then_some("capabilities of its own")
}

/// What starts a program.
#[derive(Debug, PartialEq, Eq)]
enum Loader {
    /// glibc's loader.
    Glibc,
    /// Another one.
    Other(String),
    /// Nobody: it is whole.
    None,
    /// The program is of 32 bits.
    Bits32,
    /// The file is not what it seems to be.
    Unknown,
}

/// Which loader a program names (System V ABI, "Program Header").
fn loader(file: &File, start: &[u8]) -> Loader {
    const BITS_64: u8 = 2;
    const INTERPRETER: u32 = 3;
    match start.get(4) {
        Some(&BITS_64) => {}
        Some(_) => return Loader::Bits32,
        None => return Loader::Unknown,
    }
    let (Some(table), Some(size), Some(count)) = (word(start, 32), half(start, 54), half(start, 56)) else {
        return Loader::Unknown;
    };
    for index in 0..u64::from(count) {
        let mut header = [0; 56];
        let place = table.checked_add(index * u64::from(size));
        if place.is_none_or(|place| file.read_exact_at(&mut header, place).is_err()) {
            return Loader::Unknown;
        }
        if header.get(..4) != Some(&INTERPRETER.to_le_bytes()) {
            continue;
        }
        let mut path = vec![0; 256];
        let length = word(&header, 32).and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        path.truncate(length);
        if word(&header, 8).is_none_or(|place| file.read_exact_at(&mut path, place).is_err()) {
            return Loader::Unknown;
        }
        let path = String::from_utf8_lossy(&path).trim_end_matches('\0').to_owned();
        let is_glibcs = path.rsplit('/').next().is_some_and(|name| name.starts_with("ld-linux"));
        // NixOS and others have it elsewhere, under its name.
        return if is_glibcs { Loader::Glibc } else { Loader::Other(path) };
    }
    Loader::None
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_loader_starts_can_be_preloaded_and_scripts_by_who_starts_them() {
        can_be_preloaded("sh".as_ref()).unwrap();
        can_be_preloaded("/no/such/program".as_ref()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("script");
        std::fs::write(&path, "#!/bin/sh -e\ntrue\n").unwrap();
        can_be_preloaded(path.as_os_str()).unwrap();
        // A header that promises what is not there.
        let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
        elf.resize(64, 0);
        std::fs::write(&path, &elf).unwrap();
        let error = can_be_preloaded(path.as_os_str()).unwrap_err();
        assert!(error.contains("statically linked"), "{error}");
        (elf[33], elf[56]) = (1, 9);
        std::fs::write(&path, &elf).unwrap();
        can_be_preloaded(path.as_os_str()).unwrap();
        elf[4] = 1;
        std::fs::write(&path, &elf).unwrap();
        assert!(can_be_preloaded(path.as_os_str()).unwrap_err().contains("32 bits"));
    }
}
