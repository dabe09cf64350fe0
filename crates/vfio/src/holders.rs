//! Which processes hold a file, from `/proc`: who it is that keeps a group or a device busy.

use crate::error::{Error, ErrorKind, Result};
use rustix::io::Errno;
use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What a device that was opened through its group is called in `/proc/PID/fd`. It does not say which one it is.
const DEVICE_BY_GROUP: &str = "anon_inode:[vfio-device]";

/// A process that holds a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// The user that it runs as.
    pub uid: u32,
    /// Its executable; the short name in brackets where the path cannot be read.
    pub executable: String,
    /// When it started, which is the earliest that it can have opened the file.
    pub since: Option<SystemTime>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} ({}, uid {})", self.pid, self.executable, self.uid)
    }
}

/// What a search through `/proc` has found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// Who holds the file, by process id.
    pub holders: Vec<Holder>,
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
    search(|link, target| {
        let same_name = target == canonical;
        let is_node = || {
            target.starts_with("/dev")
                && std::fs::metadata(link).is_ok_and(|file| Some(file.rdev()) == number)
        };
        same_name || (number.is_some() && is_node())
    })
}

/// Which processes hold a device of VFIO that was opened through its group. Which device it is cannot be told.
///
/// # Errors
/// `/proc` cannot be read.
pub fn who_holds_devices() -> Result<Found> {
    search(|_, target| target.as_os_str() == DEVICE_BY_GROUP)
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

fn list(holders: &[Holder]) -> String {
    holders.iter().map(Holder::to_string).collect::<Vec<_>>().join(" and ")
}

/// All processes with a descriptor for which `wanted` is true, given its link in `/proc` and where that leads.
fn search(wanted: impl Fn(&Path, &Path) -> bool) -> Result<Found> {
    let proc = Path::new("/proc");
    let unreadable = |error: io::Error| {
        let what = "reading /proc";
        match Errno::from_io_error(&error) {
            Some(errno) => Error::from_errno(errno, what),
            None => Error::new(ErrorKind::System, format!("{what}: {error}")),
        }
    };
    let mut found = Found::default();
    for entry in std::fs::read_dir(proc).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        match holds(pid, &wanted) {
            Ok(true) => found.holders.extend(Holder::of(proc, pid)),
            Ok(false) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => found.hidden += 1,
            // It has ended meanwhile.
            Err(_) => {}
        }
    }
    found.holders.sort_by_key(|holder| holder.pid);
    Ok(found)
}

fn holds(pid: u32, wanted: impl Fn(&Path, &Path) -> bool) -> io::Result<bool> {
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let link = entry?.path();
        // A descriptor that was closed meanwhile is no longer held.
        if std::fs::read_link(&link).is_ok_and(|target| wanted(&link, &target)) {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Holder {
    /// Who process `pid` is, as the folder `proc` says; nothing if it has ended.
    #[must_use]
    pub fn of(proc: &Path, pid: u32) -> Option<Self> {
        let folder = proc.join(pid.to_string());
        let uid = std::fs::metadata(&folder).ok()?.uid();
        let executable = match std::fs::read_link(folder.join("exe")) {
            Ok(path) => path.display().to_string(),
            Err(_) => format!("[{}]", std::fs::read_to_string(folder.join("comm")).ok()?.trim()),
        };
        let stat = std::fs::read_to_string(folder.join("stat")).ok();
        let machine = std::fs::read_to_string(proc.join("stat")).ok();
        let since = stat.zip(machine).and_then(|(stat, machine)| started(&stat, &machine));
        Some(Self { pid, uid, executable, since })
    }
}

/// When a process started: ticks since the machine did (field 22 of `/proc/PID/stat`), and when that was (`btime` of
/// `/proc/stat`).
fn started(stat: &str, machine: &str) -> Option<SystemTime> {
    // The second field is a name in parentheses, in which anything may stand.
    let ticks: u64 = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()?;
    let boot: u64 = machine.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    let after = Duration::from_millis(ticks.checked_mul(1000)? / per_second);
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(boot))?.checked_add(after)
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
        assert_eq!(holder.uid, rustix::process::getuid().as_raw());
        assert_eq!(Path::new(&holder.executable), std::env::current_exe().unwrap());
        let age = SystemTime::now().duration_since(holder.since.unwrap()).unwrap();
        assert!(age < Duration::from_secs(3600), "{age:?}");
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

    #[test]
    fn a_name_cannot_forge_the_start() {
        let stat = "7 (a) 9 9 (b)) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 500 0 0";
        let at = started(stat, "cpu 1\nbtime 1000\n").unwrap();
        let ticks = rustix::param::clock_ticks_per_second();
        assert_eq!(
            at,
            SystemTime::UNIX_EPOCH + Duration::from_secs(1000) + Duration::from_millis(500_000 / ticks)
        );
        assert_eq!(started("7 (a", "btime 1"), None);
        assert_eq!(started(stat, ""), None);
        assert_eq!(started(&stat.replace("500", &u64::MAX.to_string()), "btime 1000"), None);
    }
}
