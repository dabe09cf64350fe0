//! The C library as a part of all tests: it is built, linked and installed as a user has it, its header and its symbols are
//! compared with its source, and programs in C and C++ run with it on emulated boards: as they are, with sanitizers, and under
//! valgrind.

mod programs;

use super::parts::{Ran, Wish};
use super::scenarios;
use super::tally::{Skip, Tally};
use crate::c::{header, install, library};
use crate::process::{self, Said};
use crate::workspace;
use programs::Programs;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

pub(crate) const NAME: &str = "c";

pub(crate) fn run(wish: Wish<'_>) -> anyhow::Result<Ran> {
    if wish.instruments.is_some() {
        let why = "the library is linked by another tool, without counters";
        return Ok(Ran { tally: Tally::skip(NAME, why), text: String::new() });
    }
    let mut part = Part::default();
    if let Some(filter) = wish.filter
        && !scenarios::all()?.iter().any(|name| name.contains(filter))
    {
        return Ok(Ran::default());
    }
    let Said { success, text } = process::run(&mut workspace::everything(), wish.echo)?;
    part.text += &text;
    if !success {
        part.failed("building the library and the command");
        return Ok(part.ran());
    }
    part.check("header is what the source makes", header::check());
    let folder = workspace::target().join("c");
    let prefix = folder.join("prefix");
    let installed = install::install(false, &prefix, &prefix.join("lib"), None);
    let goes_on = installed.is_ok();
    part.check("installing", installed);
    if goes_on {
        part.check("symbols are those of the header", symbols(&prefix));
        part.check(
            "every scenario has a test",
            scenarios::check(&workspace::c().join("tests/scenarios.c"), "{\"", "\","),
        );
        Programs { folder: &folder, prefix: &prefix, wish }.run(&mut part)?;
    }
    Ok(part.ran())
}

/// What came of it so far.
#[derive(Default)]
struct Part {
    tally: Tally,
    text: String,
}

impl Part {
    fn passed(&mut self) {
        self.tally.passed += 1;
    }

    fn failed(&mut self, name: &str) {
        self.tally.failed += 1;
        self.text += &format!("test {name} ... FAILED\n");
    }

    fn check(&mut self, name: &str, outcome: anyhow::Result<()>) {
        match outcome {
            Ok(()) => self.passed(),
            Err(error) => {
                self.text += &format!("{error:#}\n");
                self.failed(name);
            }
        }
    }

    fn skip(&mut self, name: &str, why: &str) {
        self.tally.skipped.push(Skip::new(format!("{NAME}: {name}"), why));
    }

    fn ran(self) -> Ran {
        Ran { tally: self.tally, text: self.text }
    }
}

/// Compares what the library exports with what the header declares: the same names, each of the library's version.
fn symbols(prefix: &Path) -> anyhow::Result<()> {
    let mut nm = Command::new("nm");
    nm.args(["-D", "--defined-only", "--with-symbol-versions"]).arg(prefix.join("lib/libjitney.so"));
    let said = process::run(&mut nm, false)?;
    anyhow::ensure!(said.success, "nm: {}", said.text);
    let version = format!("@@{}", library::node());
    let mut exported = BTreeSet::new();
    for line in said.text.lines().filter(|line| !line.ends_with(&library::node()) || line.contains("@@")) {
        let name = line.rsplit(' ').next().unwrap_or_default();
        match name.strip_suffix(&version) {
            Some(name) => exported.insert(name.to_owned()),
            None => anyhow::bail!("the library exports {name}, which is not of {version}"),
        };
    }
    let declared = declared(&fs::read_to_string(header::path())?);
    anyhow::ensure!(
        exported == declared,
        "the library has {:?} beside the header, and not {:?}",
        exported.difference(&declared).collect::<Vec<_>>(),
        declared.difference(&exported).collect::<Vec<_>>()
    );
    Ok(())
}

/// The functions that a header declares.
fn declared(header: &str) -> BTreeSet<String> {
    let lines = header.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()));
    let name = |line: &str| Some(line.split_once('(')?.0.rsplit([' ', '*']).next()?.to_owned());
    lines.filter_map(name).filter(|name| name.starts_with("jitney_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_in_a_header() {
        let header = "/* jitney_not(this) */\nint jitney_a(void);\nconst struct x *jitney_b(int a,\n  int b);\n  int jitney_c(void);\nvoid *jitney_d(void);\n";
        assert_eq!(declared(header).into_iter().collect::<Vec<_>>(), ["jitney_a", "jitney_b", "jitney_d"]);
        assert!(declared(&fs::read_to_string(header::path()).unwrap()).len() > 40);
    }
}
