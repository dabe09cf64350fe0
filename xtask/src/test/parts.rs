//! What there is to check, in the order in which it is: what is quick comes first, and what builds little that is new after
//! what builds it all.

use super::libtest;
use super::tally::Tally;
use super::{attack, c, lab, packages, python};
use crate::fuzz::{self, Profile, Until};
use crate::instruments::Instruments;
use crate::process::{self, Said};
use crate::workspace;
use anyhow::anyhow;
use jitney_lab::Browser;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// How long a fuzz target runs: a target that breaks at once is noticed, the rest is for `cargo xtask fuzz`.
const FUZZ_SECONDS: u64 = 5;

/// Which tests to run, and how much to show of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish<'a> {
    pub(crate) filter: Option<&'a str>,
    pub(crate) echo: bool,
    /// The row of the lab's matrix; all of them if none is named.
    pub(crate) kernel: Option<&'a str>,
    /// Count which lines run, with these.
    pub(crate) instruments: Option<&'a Instruments>,
}

/// What came of a part.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    pub(crate) tally: Tally,
    /// What was said about it, to be shown if it failed.
    pub(crate) text: String,
}

/// Something to check.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    /// Whether it consists of tests with names, from which a filter chooses.
    pub(crate) has_names: bool,
    pub(crate) run: fn(Wish<'_>) -> anyhow::Result<Ran>,
}

pub(crate) const PARTS: [Part; 14] = [
    Part { name: "formatting", has_names: false, run: formatting },
    Part { name: "lints", has_names: false, run: lints },
    Part { name: "library without the command", has_names: false, run: library_alone },
    Part { name: "crates to be published", has_names: false, run: packages::crates },
    Part { name: "documentation", has_names: false, run: documentation },
    Part { name: "tests", has_names: true, run: tests },
    Part { name: "pages", has_names: false, run: pages },
    Part { name: "tests in documentation", has_names: true, run: doc_tests },
    Part { name: "fuzz targets", has_names: false, run: fuzz_targets },
    Part { name: c::NAME, has_names: true, run: c::run },
    Part { name: python::NAME, has_names: true, run: python::run },
    Part { name: attack::NAME, has_names: true, run: attack::run },
    Part { name: packages::NAME, has_names: false, run: packages::run },
    Part { name: lab::NAME, has_names: true, run: lab::run },
];

fn formatting(wish: Wish<'_>) -> anyhow::Result<Ran> {
    let of_its_own = |folder: PathBuf| {
        let mut format = workspace::cargo(["fmt", "--check"]);
        format.current_dir(folder);
        format
    };
    let others = [of_its_own(workspace::fuzz()), of_its_own(workspace::python())];
    checks([workspace::cargo(["fmt", "--all", "--check"])].into_iter().chain(others), wish)
}

/// How many random histories of the broker are tried; see `machine/tests/many.rs` there.
const HISTORIES: &str = "JITNEY_HISTORIES";

/// The browser that shows the pages which the command makes; see `end_to_end/browser.rs` of the command.
const BROWSER: &str = "JITNEY_BROWSER";

fn lints(wish: Wish<'_>) -> anyhow::Result<Ran> {
    let clippy = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
    checks([workspace::cargo(clippy)], wish)
}

fn library_alone(wish: Wish<'_>) -> anyhow::Result<Ran> {
    checks([workspace::cargo(["check", "--package=jitney"])], wish)
}

fn documentation(wish: Wish<'_>) -> anyhow::Result<Ran> {
    let mut doc = workspace::cargo(["doc", "--workspace", "--no-deps", "--all-features"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    checks([doc], wish)
}

fn pages(wish: Wish<'_>) -> anyhow::Result<Ran> {
    let mut site = Command::new(workspace::program("jitney-site"));
    site.current_dir(workspace::root());
    checks([workspace::everything(), site], wish)
}

fn tests(wish: Wish<'_>) -> anyhow::Result<Ran> {
    if wish.instruments.is_none() {
        let built = checks([workspace::everything()], wish)?;
        if built.tally.failed > 0 {
            return Ok(built);
        }
    }
    // Examples have no tests in them: they are built, and other tests run them.
    cargo_test(&["--lib", "--bins", "--tests"], wish)
}

fn doc_tests(wish: Wish<'_>) -> anyhow::Result<Ran> {
    cargo_test(&["--doc"], wish)
}

fn fuzz_targets(wish: Wish<'_>) -> anyhow::Result<Ran> {
    if let Some(missing) = fuzz::missing() {
        return Ok(Ran { tally: Tally::skip("fuzz targets", missing), text: String::new() });
    }
    let targets = fuzz::targets()?;
    let mut ran = checks([fuzz::build(&targets, Profile::Look)], wish)?;
    if ran.tally.failed > 0 {
        return Ok(ran);
    }
    // As many at once as there are processors: none waits for anything.
    let next = AtomicUsize::new(0);
    let work = || {
        let mut said = Vec::new();
        while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
            let until = Until::Seconds(FUZZ_SECONDS);
            said.push((target, fuzz::run_target(target, Profile::Look, until, wish.echo)?));
        }
        anyhow::Ok(said)
    };
    let said = thread::scope(|scope| {
        let lanes = thread::available_parallelism().map_or(1, usize::from);
        let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(work)).collect();
        lanes
            .into_iter()
            .map(|lane| lane.join().map_err(|_| anyhow!("a thread panicked"))?)
            .collect::<anyhow::Result<Vec<_>>>()
    })?;
    for (target, Said { success, text }) in said.into_iter().flatten() {
        if success {
            ran.tally.passed += 1;
        } else {
            ran.tally.failed += 1;
            ran.text += &format!("{target}:\n{text}");
        }
    }
    Ok(ran)
}

/// Runs programs that are content or not. They are no tests: only a failure counts.
fn checks(commands: impl IntoIterator<Item = Command>, wish: Wish<'_>) -> anyhow::Result<Ran> {
    let mut ran = Ran::default();
    for mut command in commands {
        let Said { success, text } = process::run(&mut command, wish.echo)?;
        ran.tally.failed += usize::from(!success);
        ran.text += &text;
    }
    Ok(ran)
}

fn cargo_test(which: &[&str], wish: Wish<'_>) -> anyhow::Result<Ran> {
    let mut command = workspace::cargo(["test", "--workspace", "--all-features", "--no-fail-fast"]);
    command.args(which);
    // Read below, whatever the environment says about colours.
    command.env("CARGO_TERM_COLOR", "never").args(wish.filter).args(["--", "--show-output"]);
    // What a change of the broker breaks seldom shows in a million histories, and not in the usual few.
    if wish.filter.is_none() && wish.instruments.is_none() && std::env::var_os(HISTORIES).is_none() {
        command.env(HISTORIES, "1000000");
    }
    if wish.filter.is_none() && std::env::var_os(BROWSER).is_none() {
        match Browser::fetch() {
            Ok(browser) => {
                command.env(BROWSER, browser.program());
            }
            // The test that wants one looks for the machine's, or is skipped.
            Err(error) => println!("no browser was fetched: {error}"),
        }
    }
    if let Some(instruments) = wish.instruments {
        instruments.apply(&mut command);
    }
    let Said { success, text } = process::run(&mut command, wish.echo)?;
    let mut tally = libtest::count(&text);
    if !success && tally.failed == 0 {
        // It did not compile, or a test took its whole process down.
        tally.failed = 1;
    }
    Ok(Ran { tally, text })
}
