//! The whole matrix: every chosen test on every chosen row.

use std::io::Write;
use std::path::Path;

use crate::Error;
use crate::boards::Board;
use crate::boot::{Outcome, Report, await_ready, follow};
use crate::cache::Cache;
use crate::debian::Debian;
use crate::initramfs::{self, Task};
use crate::kernel::Kernel;
use crate::machine::{Card, Guest, Machine, run_on_terminal};
use crate::programs::{self, Program};
use crate::progress::Step;
use crate::qemu::Qemu;
use crate::suites::{ROWS, Row, SUITES, Suite, Test};

/// Guest memory. Pages that the guest does not touch cost the host nothing.
const MEMORY_MIB: u32 = 1024;

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The row's name; none means all rows for [`run`] and the first for [`shell`].
    pub kernel: Option<String>,
    /// Only tests with this in their name.
    pub test: Option<String>,
    /// Cards that the guest has beside those that its tests ask for.
    pub cards: Vec<Card>,
}

/// How many tests ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Tests that passed.
    pub passed: usize,
    /// Tests that failed.
    pub failed: usize,
    /// Tests that did not apply.
    pub skipped: usize,
}

impl Summary {
    /// Whether something was tested and nothing failed. That nothing was tested is no success.
    pub fn is_success(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }

    fn count(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Passed => self.passed += 1,
            Outcome::Failed(_) => self.failed += 1,
            Outcome::Skipped(_) => self.skipped += 1,
        }
    }

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Runs tests on every chosen row and writes a line for each to `out`, with the output of those that fail.
///
/// # Errors
///
/// What cannot be fetched, built or booted, and names that do not exist. A test that fails is counted, not an error.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<Summary, Error> {
    let rows = choose_rows(options.kernel.as_deref())?;
    let suites = choose_tests(options.test.as_deref())?;
    let lab = Lab::open()?;
    let mut total = Summary::default();
    for row in rows {
        let kernel = Kernel::prepare(row.kernel, &lab.cache, &lab.debian)?;
        say(out, row.name)?;
        let mut summary = Summary::default();
        for (suite, tests) in &suites {
            summary.add(lab.run_suite(row, &kernel, suite, &options.cards, tests, out)?);
        }
        say(out, &format!("{}: {summary}\n", row.name))?;
        total.add(summary);
    }
    say(out, &total.to_string())?;
    Ok(total)
}

/// Gives a prompt in a guest, on this process's terminal, until the guest's shell ends.
///
/// # Errors
///
/// What cannot be fetched, built or booted.
pub fn shell(options: &Options) -> Result<(), Error> {
    let rows = choose_rows(options.kernel.as_deref())?;
    let Some(row) = rows.first() else { return Ok(()) };
    let lab = Lab::open()?;
    let kernel = Kernel::prepare(row.kernel, &lab.cache, &lab.debian)?;
    let folder = boot_folder()?;
    let initramfs = folder.path().join("initramfs");
    initramfs::pack(&initramfs, &lab.busybox, &kernel, &lab.programs, Task::Shell)?;
    let (_boards, cards) = lab.cards(&SUITES[0], &options.cards, folder.path())?;
    run_on_terminal(&lab.machine(row, &kernel, &initramfs, &cards), folder.path())
}

/// What every boot needs.
struct Lab {
    cache: Cache,
    debian: Debian,
    qemu: Qemu,
    busybox: std::path::PathBuf,
    programs: Vec<Program>,
}

impl Lab {
    fn open() -> Result<Self, Error> {
        let (cache, debian) = (Cache::open()?, Debian::default());
        let programs = programs::build(&programs::TARGETS)?;
        let qemu = Qemu::fetch(&cache, &debian)?;
        let busybox = initramfs::fetch_busybox(&cache, &debian)?;
        Ok(Self { cache, debian, qemu, busybox, programs })
    }

    /// Starts a suite's boards and lists all cards of the machine. It ends before the boards do: keep them for longer.
    fn cards(&self, suite: &Suite, more: &[Card], folder: &Path) -> Result<(Vec<Board>, Vec<Card>), Error> {
        let jitney = self.programs.iter().find(|program| program.name == programs::JITNEY);
        let jitney = jitney.map_or(Path::new(programs::JITNEY), |program| &program.path);
        let start = |(number, name): (usize, &&str)| Board::start(jitney, name, number, folder);
        let boards = suite.boards.iter().enumerate().map(start).collect::<Result<Vec<_>, _>>()?;
        let served: Vec<Card> = boards.iter().map(Board::card).collect();
        Ok((boards, [suite.cards, &served, more].concat()))
    }

    fn machine<'a>(
        &'a self,
        row: &Row,
        kernel: &'a Kernel,
        initramfs: &'a Path,
        cards: &'a [Card],
    ) -> Machine<'a> {
        Machine { qemu: &self.qemu, kernel, initramfs, cards, iommu: row.iommu, memory_mib: MEMORY_MIB }
    }

    /// Boots as often as is needed: a test that takes the guest down fails, and the tests after it get a new one.
    fn run_suite(
        &self,
        row: &Row,
        kernel: &Kernel,
        suite: &Suite,
        more: &[Card],
        tests: &[&'static Test],
        out: &mut dyn Write,
    ) -> Result<Summary, Error> {
        let mut summary = Summary::default();
        let mut written = Ok(());
        let mut left = tests;
        while !left.is_empty() {
            let folder = boot_folder()?;
            let initramfs = folder.path().join("initramfs");
            initramfs::pack(&initramfs, &self.busybox, kernel, &self.programs, Task::Tests(left))?;
            let step = Step::start(format!("booting {}", row.name));
            let (_boards, cards) = self.cards(suite, more, folder.path())?;
            let guest = Guest::start(&self.machine(row, kernel, &initramfs, &cards), folder.path())?;
            await_ready(&guest)?;
            drop(step);
            let ran = follow(&guest, left, |report| {
                summary.count(&report.outcome);
                written = std::mem::replace(&mut written, Ok(())).and_then(|()| say(out, &line(&report)));
            });
            left = &left[ran..];
        }
        written.map(|()| summary)
    }
}

/// What boot folders are called, followed by the process that made them.
const BOOT_FOLDER: &str = "jitney-lab-";

/// A folder for one boot's files, with a path short enough for sockets. Folders of runs that were killed are removed here.
fn boot_folder() -> Result<tempfile::TempDir, Error> {
    let parent = std::env::temp_dir();
    for item in std::fs::read_dir(&parent).map_err(Error::io("read", &parent))?.flatten() {
        let name = item.file_name().to_string_lossy().into_owned();
        if maker(&name).is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            // It may be another user's, or another run may be removing it, too.
            let _ = std::fs::remove_dir_all(item.path());
        }
    }
    let prefix = format!("{BOOT_FOLDER}{}-", std::process::id());
    tempfile::Builder::new()
        .prefix(&prefix)
        .tempdir_in(&parent)
        .map_err(Error::io("make a folder in", &parent))
}

/// The process that made a boot folder of this name.
fn maker(name: &str) -> Option<&str> {
    let (process, _) = name.strip_prefix(BOOT_FOLDER)?.split_once('-')?;
    Some(process).filter(|process| !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit()))
}

fn line(report: &Report) -> String {
    let (word, text) = match &report.outcome {
        Outcome::Passed => ("pass", String::new()),
        Outcome::Skipped(why) => ("skip", format!(": {why}")),
        Outcome::Failed(text) => ("FAIL", text.lines().map(|line| format!("\n        {line}")).collect()),
    };
    format!("  {word}  {} ({:.1} s){text}", report.test, report.time.as_secs_f64())
}

fn say(out: &mut dyn Write, line: &str) -> Result<(), Error> {
    writeln!(out, "{line}").map_err(|source| Error::Io { what: "write the report".to_owned(), source })
}

fn choose_rows(name: Option<&str>) -> Result<Vec<&'static Row>, Error> {
    let Some(name) = name else { return Ok(ROWS.iter().collect()) };
    let row = ROWS.iter().find(|row| row.name == name);
    let known = || ROWS.map(|row| row.name).join(", ");
    row.map(|row| vec![row]).ok_or_else(|| Error::UnknownRow { name: name.to_owned(), known: known() })
}

/// The suites that have tests left, with those tests.
fn choose_tests(filter: Option<&str>) -> Result<Vec<(&'static Suite, Vec<&'static Test>)>, Error> {
    let chosen = |test: &&Test| filter.is_none_or(|filter| test.name.contains(filter));
    let suites = SUITES.iter().map(|suite| (suite, suite.tests.iter().filter(chosen).collect::<Vec<_>>()));
    let suites: Vec<_> = suites.filter(|(_, tests)| !tests.is_empty()).collect();
    if suites.is_empty() {
        let names: Vec<_> = SUITES.iter().flat_map(|suite| suite.tests).map(|test| test.name).collect();
        return Err(Error::NoSuchTest {
            filter: filter.unwrap_or_default().to_owned(),
            known: names.join(", "),
        });
    }
    Ok(suites)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::time::Duration;

    #[test]
    fn names_that_do_not_exist_are_answered_with_those_that_do() {
        assert_eq!(choose_rows(None).unwrap().len(), ROWS.len());
        let error = choose_rows(Some("debian-1")).unwrap_err().to_string();
        assert!(error.contains("debian-12"), "{error}");
        let error = choose_tests(Some("nonsense")).unwrap_err().to_string();
        assert!(error.contains("kernel-boots"), "{error}");
        assert_eq!(choose_tests(Some("kernel-boots")).unwrap()[0].1.len(), 1);
    }

    #[test]
    fn the_guest_can_tell_tests_by_their_names() {
        let names: Vec<_> = SUITES.iter().flat_map(|suite| suite.tests).map(|test| test.name).collect();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
        assert!(names.iter().all(|name| !name.is_empty() && !name.contains([' ', '/', '\n'])));
    }

    #[test]
    fn a_report_is_one_line_and_the_output_of_what_failed() {
        let time = Duration::from_millis(1250);
        let report = |outcome| line(&Report { test: "t", time, outcome });
        assert_eq!(report(Outcome::Passed), "  pass  t (1.2 s)");
        assert_eq!(report(Outcome::Skipped("no IOMMU".into())), "  skip  t (1.2 s): no IOMMU");
        assert_eq!(report(Outcome::Failed("a\nb".into())), "  FAIL  t (1.2 s)\n        a\n        b");
    }

    #[test]
    fn only_folders_of_ours_have_a_maker() {
        assert_eq!(maker("jitney-lab-4711-abc"), Some("4711"));
        for name in [
            "jitney-lab-",
            "jitney-lab-x-y",
            "jitney-lab-..-y",
            "jitney-lab--y",
            "jitney-lab-12",
            "other-12-x",
        ] {
            assert_eq!(maker(name), None, "{name}");
        }
    }

    #[test]
    fn nothing_tested_is_no_success() {
        assert!(!Summary::default().is_success());
        assert!(!Summary { skipped: 3, ..Summary::default() }.is_success());
        assert!(!Summary { passed: 1, failed: 1, skipped: 0 }.is_success());
        assert!(Summary { passed: 1, failed: 0, skipped: 9 }.is_success());
    }
}
