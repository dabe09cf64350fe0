//! The whole matrix: every chosen test on every chosen row.

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::available_parallelism;

use crate::Error;
use crate::boot::{self, Outcome, Report, await_ready, follow};
use crate::card::Card;
use crate::initramfs::Task;
use crate::kernel::{Kernel, Source};
use crate::lab::{Lab, run_folder};
use crate::machine::{Guest, run_on_terminal};
use crate::progress::Step;
use crate::suites::{ROWS, Row, SUITES, Suite, Test};

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The row's name; none means all rows for [`run`] and the first for [`shell`].
    pub kernel: Option<String>,
    /// Only tests with this in their name.
    pub test: Option<String>,
    /// Leave out the rows that others mostly cover.
    pub short: bool,
    /// In the long form: tests that do something again and again do it ten times as often.
    pub long: bool,
    /// Cards that the guest has beside those that its tests ask for.
    pub cards: Vec<Card>,
    /// A folder for line coverage. With it the programs are built to count what they run, and are kept in `programs` there,
    /// what they counted in `profiles`. The counters of a guest that dies are lost.
    pub coverage: Option<PathBuf>,
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

/// Runs tests on every chosen row, as many rows at once as there are processors, and writes a line for each to `out`, with the output of
/// those that fail, row by row.
///
/// # Errors
///
/// What cannot be fetched, built or booted, and names that do not exist. A test that fails is counted, not an error.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<Summary, Error> {
    let mut rows = choose_rows(options.kernel.as_deref())?;
    rows.retain(|row| !(options.short && row.spare && options.kernel.is_none()));
    let suites = choose_tests(options.test.as_deref(), options.long)?;
    let lab = Lab::open(options.coverage.as_deref(), options.long)?;
    for row in rows.iter().filter(|row| matches!(row.kernel, Source::Stock(_))) {
        // What the network lacks is known before anything is built.
        lab.kernel(row)?;
    }
    if let [row] = rows[..] {
        // Nobody else writes: each test is told when it is over.
        let total = lab.run_row(row, &suites, &options.cards, out)?;
        say(out, &total.to_string())?;
        return Ok(total);
    }
    // A guest keeps one processor busy.
    let lanes = available_parallelism().map_or(1, usize::from).min(rows.len());
    let (next, (sender, ended)) = (AtomicUsize::new(0), mpsc::channel());
    let work = |sender: mpsc::Sender<Result<(Summary, Vec<u8>), Error>>| {
        while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut report = Vec::new();
            let ran = lab.run_row(row, &suites, &options.cards, &mut report);
            if sender.send(ran.map(|summary| (summary, report))).is_err() {
                return;
            }
        }
    };
    let mut total = Summary::default();
    std::thread::scope(|scope| {
        for _ in 0..lanes {
            let sender = sender.clone();
            scope.spawn(|| work(sender));
        }
        drop(sender);
        // A row's report is one piece; which of two is first is theirs.
        for ran in ended {
            let (summary, report) = ran?;
            let written = out.write_all(&report).and_then(|()| out.flush());
            written.map_err(|source| Error::Io { what: "write the report".to_owned(), source })?;
            total.add(summary);
        }
        Ok(())
    })?;
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
    let lab = Lab::open(None, options.long)?;
    let kernel = lab.kernel(row)?;
    let folder = run_folder()?;
    let initramfs = folder.path().join("initramfs");
    lab.pack(&initramfs, &kernel, Task::Shell)?;
    let (_boards, cards) = lab.cards(&SUITES[0], &options.cards, folder.path())?;
    let nodes = SUITES[0].nodes;
    run_on_terminal(&lab.machine((row, SUITES[0].boot), nodes, &kernel, &initramfs, &cards), folder.path())
}

impl Lab {
    /// Runs the tests on a row, and writes their report.
    fn run_row(
        &self,
        row: &Row,
        suites: &[(&'static Suite, Vec<Test>)],
        more: &[Card],
        out: &mut dyn Write,
    ) -> Result<Summary, Error> {
        let kernel = self.kernel(row)?;
        let mut summary = Summary::default();
        say(out, row.name)?;
        for (suite, tests) in suites {
            summary.add(self.run_suite(row, &kernel, suite, more, tests, out)?);
        }
        say(out, &format!("{}: {summary}\n", row.name))?;
        Ok(summary)
    }

    /// Boots as often as is needed: a test that takes the guest down fails, and the tests after it get a new one.
    fn run_suite(
        &self,
        row: &Row,
        kernel: &Kernel,
        suite: &Suite,
        more: &[Card],
        tests: &[Test],
        out: &mut dyn Write,
    ) -> Result<Summary, Error> {
        let mut summary = Summary::default();
        let mut written = Ok(());
        let mut left = tests;
        while !left.is_empty() {
            let folder = run_folder()?;
            let initramfs = folder.path().join("initramfs");
            self.pack(&initramfs, kernel, Task::Tests(left))?;
            let step = Step::start(format!("booting {}", row.name));
            let (_boards, cards) = self.cards(suite, more, folder.path())?;
            let machine = self.machine((row, suite.boot), suite.nodes, kernel, &initramfs, &cards);
            let guest = Guest::start(&machine, folder.path())?;
            await_ready(&guest)?;
            drop(step);
            let ran = follow(&guest, left, |report| {
                summary.count(&report.outcome);
                written = std::mem::replace(&mut written, Ok(())).and_then(|()| say(out, &line(&report)));
            });
            left = &left[ran..];
            if let Some(coverage) = self.coverage().filter(|_| left.is_empty()) {
                match boot::profiles(&guest) {
                    Ok(text) => coverage.unpack(&text, folder.path())?,
                    // Its last test has failed, and says what the console said.
                    Err(silence) => say(out, &format!("  {silence}: what was counted in it is lost"))?,
                }
            }
        }
        written.map(|()| summary)
    }
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
fn choose_tests(filter: Option<&str>, long: bool) -> Result<Vec<(&'static Suite, Vec<Test>)>, Error> {
    let chosen = |test: &&Test| filter.is_none_or(|filter| test.name.contains(filter));
    let form = |test: &Test| if long { test.long() } else { *test };
    let suites =
        SUITES.iter().map(|suite| (suite, suite.tests.iter().filter(chosen).map(form).collect::<Vec<_>>()));
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
        let error = choose_tests(Some("nonsense"), false).unwrap_err().to_string();
        assert!(error.contains("kernel-boots"), "{error}");
        let [short, long] = [false, true].map(|long| choose_tests(Some("kernel-boots"), long).unwrap());
        assert_eq!((short[0].1.len(), long[0].1.len()), (1, 1));
        assert!(long[0].1[0].limit > short[0].1[0].limit);
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
    fn nothing_tested_is_no_success() {
        assert!(!Summary::default().is_success());
        assert!(!Summary { skipped: 3, ..Summary::default() }.is_success());
        assert!(!Summary { passed: 1, failed: 1, skipped: 0 }.is_success());
        assert!(Summary { passed: 1, failed: 0, skipped: 9 }.is_success());
    }
}
