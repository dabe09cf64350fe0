//! Which processes hold a file, from `/proc`: who it is that keeps a group or a device busy.

use crate::error::{Error, ErrorKind, Result};
use jitney_host::{OpenFile, Process, Root};
use rustix::io::Errno;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What a device that was opened through its group is called in `/proc/PID/fd`. It does not say which one it is.
const DEVICE_BY_GROUP: &str = "anon_inode:[vfio-device]";

/// What a search through `/proc` has found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Who holds the file, by process id.
    pub holders: Vec<Process>,
    /// How many processes did not let this one see what they hold: another user's, unless this process is root's.
    pub hidden: usize,
}

/// Which processes hold the file at `path`, this one included. A process that has it twice is named once.
///
/// # Errors
/// `/proc` cannot be read.
pub fn who_holds(path: &Path) -> Result<Found> {
    // Another name of the node is the same node; in another mount namespace its name may be different.
    let canonical = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let number = std::fs::metadata(path).ok().map(|file| file.rdev()).filter(|&number| number != 0);
    search(|file| {
        let same_name = file.target == canonical;
        let is_node = || {
            file.target.starts_with("/dev")
                && std::fs::metadata(&file.link).is_ok_and(|file| Some(file.rdev()) == number)
        };
        same_name || (number.is_some() && is_node())
    })
}

/// Which processes hold a device of VFIO that was opened through its group. Which device it is cannot be told.
///
/// # Errors
/// `/proc` cannot be read.
pub fn who_holds_devices() -> Result<Found> {
    search(|file| file.target.as_os_str() == DEVICE_BY_GROUP)
}

/// Names who holds one of `paths`, as the end of a sentence.
pub(crate) fn explain(paths: &[PathBuf]) -> String {
    let mut hidden = 0;
    for path in paths {
        let Ok(found) = who_holds(path) else { continue };
        if !found.holders.is_empty() {
            return list(&found.holders);
        }
        hidden = hidden.max(found.hidden);
    }
    match who_holds_devices() {
        // Whoever was handed the device keeps the group busy after the group's own file was closed.
        Ok(found) if !found.holders.is_empty() => {
            format!("a process that has a card of it open, among them {}", list(&found.holders))
        }
        _ if hidden > 0 => {
            format!("a process of another user ({hidden} could not be looked into; try as root)")
        }
        _ => "a process that cannot be found, maybe outside of this container".to_owned(),
    }
}

fn list(holders: &[Process]) -> String {
    holders.iter().map(Process::to_string).collect::<Vec<_>>().join(" and ")
}

/// All processes with a file for which `wanted` is true.
fn search(wanted: impl Fn(&OpenFile) -> bool) -> Result<Found> {
    let found = jitney_host::search(&Root::default(), |_, files| files.iter().any(&wanted).then_some(()));
    let found = found.map_err(|error| {
        let what = "reading /proc";
        match Errno::from_io_error(&error) {
            Some(errno) => Error::from_errno(errno, what),
            None => Error::new(ErrorKind::System, format!("{what}: {error}")),
        }
    })?;
    let holders = found.processes.into_iter().map(|(process, ())| process).collect();
    Ok(Found { holders, hidden: found.hidden })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_file_that_this_process_holds_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("held");
        let file = File::create(&path).unwrap();
        let found = who_holds(&path).unwrap();
        let [holder] = &found.holders[..] else { unreachable!("{found:?}") };
        assert_eq!(holder.pid, std::process::id());
        assert!(explain(std::slice::from_ref(&path)).contains(&format!("pid {}", std::process::id())));
        drop(file);
        assert_eq!(who_holds(&path).unwrap().holders, []);
    }

    #[test]
    fn a_node_is_found_by_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let other_name = folder.path().join("also-full");
        std::os::unix::fs::symlink("/dev/full", &other_name).unwrap();
        let file = File::open("/dev/full").unwrap();
        let mine = |found: Found| found.holders.iter().any(|holder| holder.pid == std::process::id());
        assert!(mine(who_holds(&other_name).unwrap()));
        drop(file);
    }

    #[test]
    fn nobody_holds_what_is_not_there() {
        assert_eq!(who_holds(Path::new("/dev/vfio/no-such-group")).unwrap().holders, []);
    }
}
