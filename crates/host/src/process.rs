//! Processes, and the files that they have open: who it is that keeps something busy.

use crate::root::Root;
use std::ffi::OsStr;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its process id.
    pub pid: u32,
    /// The user that it runs as.
    pub uid: u32,
    /// Its executable, fit to be shown; the short name in brackets where the path cannot be read.
    pub executable: String,
    /// When it started, which is the earliest that it can have opened a file.
    pub since: Option<SystemTime>,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} ({}, uid {})", self.pid, self.executable, self.uid)
    }
}

impl Process {
    /// Who process `pid` is; nothing if it has ended.
    #[must_use]
    pub fn of(root: &Root, pid: u32) -> Option<Self> {
        let folder = format!("proc/{pid}");
        let uid = std::os::unix::fs::MetadataExt::uid(&root.metadata(&folder).ok()??);
        let executable = match std::fs::read_link(root.path(&folder).join("exe")) {
            Ok(path) => presentable(&path),
            Err(_) => format!("[{}]", presentable(root.text(format!("{folder}/comm")).ok()??)),
        };
        let stat = root.text(format!("{folder}/stat")).ok().flatten();
        let machine = root.text("proc/stat").ok().flatten();
        let since = stat.zip(machine).and_then(|(stat, machine)| started(&stat, &machine));
        Some(Self { pid, uid, executable, since })
    }
}

/// A file that a process has open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenFile {
    /// Its number in the process.
    pub number: String,
    /// Where its link in `/proc/PID/fd` leads: a path as that process sees it, or `anon_inode:[vfio-device]`.
    pub target: PathBuf,
    /// That link.
    pub link: PathBuf,
}

/// What process `pid` has open; nothing if it has ended.
///
/// # Errors
/// `EACCES` for another user's process, unless root asks.
pub fn open_files(root: &Root, pid: u32) -> io::Result<Vec<OpenFile>> {
    let folder = format!("proc/{pid}/fd");
    let links = root.names(&folder)?.into_iter().map(|number| {
        let link = root.path(&folder).join(&number);
        // A descriptor that was closed meanwhile is no longer open.
        let target = std::fs::read_link(&link).ok()?;
        Some(OpenFile { number, target, link })
    });
    Ok(links.flatten().collect())
}

/// Whether process `pid` has a handler for `signal`: who has none and does not ignore it may be ended by it. No for one that has
/// ended.
pub fn catches(root: &Root, pid: u32, signal: i32) -> bool {
    let status = root.text(format!("proc/{pid}/status")).ok().flatten().unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
    let bit = u32::try_from(signal).ok().and_then(|signal| signal.checked_sub(1));
    bit.is_some_and(|bit| caught.checked_shr(bit).unwrap_or(0) & 1 != 0)
}

/// What a search through all processes has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<T> {
    /// Each process that has what was looked for, with what it has, by process id.
    pub processes: Vec<(Process, T)>,
    /// How many processes did not let this one see what they have open: other users', unless root asks.
    pub hidden: usize,
}

/// Looks at the open files of each process; `wanted` makes of them what is looked for, or nothing.
///
/// # Errors
/// `/proc` cannot be read.
pub fn search<T>(
    root: &Root,
    mut wanted: impl FnMut(u32, Vec<OpenFile>) -> Option<T>,
) -> io::Result<Found<T>> {
    let mut found = Found { processes: Vec::new(), hidden: 0 };
    for pid in root.names("proc")?.iter().filter_map(|name| name.parse().ok()) {
        match open_files(root, pid) {
            // One that ended meanwhile has nothing open.
            Ok(files) => {
                found.processes.extend(wanted(pid, files).and_then(|it| Some((Process::of(root, pid)?, it))))
            }
            Err(error) if error.kind() == ErrorKind::PermissionDenied => found.hidden += 1,
            Err(error) => return Err(error),
        }
    }
    found.processes.sort_by_key(|(process, _)| process.pid);
    Ok(found)
}

/// A name that somebody else chose, as it may be shown on a terminal: control characters, and what is not UTF-8, as
/// U+FFFD.
pub fn presentable(name: impl AsRef<OsStr>) -> String {
    let is_unfit = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    name.as_ref()
        .to_string_lossy()
        .chars()
        .map(|c| if is_unfit(c) { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
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
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn holders(path: &Path) -> Vec<Process> {
        let wanted = |_, files: Vec<OpenFile>| files.iter().any(|file| file.target == path).then_some(());
        let found = search(&Root::default(), wanted).unwrap();
        found.processes.into_iter().map(|(process, ())| process).collect()
    }

    #[test]
    fn a_file_that_this_process_has_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("held");
        let file = File::create(&path).unwrap();
        let [process] = &holders(&path)[..] else { unreachable!("one process has it open") };
        assert_eq!(process.pid, std::process::id());
        assert_eq!(process.uid, rustix::process::geteuid().as_raw());
        assert_eq!(Path::new(&process.executable), std::env::current_exe().unwrap());
        let age = SystemTime::now().duration_since(process.since.unwrap()).unwrap();
        assert!(age < Duration::from_secs(3600), "{age:?}");
        drop(file);
        assert_eq!(holders(&path), []);
    }

    #[test]
    fn names_that_others_chose_are_fit_to_be_shown() {
        assert_eq!(presentable("/usr/bin/träge x"), "/usr/bin/träge x");
        assert_eq!(presentable("a\x1b[2Jb\nc\u{9b}d\u{202e}e"), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d\u{fffd}e");
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        fs::create_dir_all(folder.path().join("proc/7/fd")).unwrap();
        symlink("/tmp/\x1b]0;root\x07", folder.path().join("proc/7/exe")).unwrap();
        assert_eq!(Process::of(&root, 7).unwrap().executable, "/tmp/\u{fffd}]0;root\u{fffd}");
        fs::remove_file(folder.path().join("proc/7/exe")).unwrap();
        fs::write(folder.path().join("proc/7/comm"), "evil\x1b[31m\n").unwrap();
        assert_eq!(Process::of(&root, 7).unwrap().executable, "[evil\u{fffd}[31m]");
        assert_eq!(Process::of(&root, 8), None);
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
