//! The programs in C that are tests: examples, what docs/c.md prints, and the tests themselves.

use super::Part;
use crate::process::{self, Said};
use crate::test::parts::Wish;
use crate::test::scenarios;
use crate::workspace;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is said of C and of C++ alike.
const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Werror", "-g"];

/// Programs in C, and how they are built and run.
pub(super) struct Programs<'a> {
    pub(super) folder: &'a Path,
    pub(super) prefix: &'a Path,
    pub(super) wish: Wish<'a>,
}

/// How a program is built.
#[derive(Clone, Copy, PartialEq)]
enum How {
    C,
    Cpp,
    Sanitized,
}

impl How {
    fn compiler(self) -> Command {
        let (program, arguments): (_, &[&str]) = match self {
            Self::C => ("gcc", &["-std=c11"]),
            Self::Cpp => ("g++", &["-x", "c++", "-std=c++17"]),
            Self::Sanitized => {
                ("gcc", &["-std=c11", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"])
            }
        };
        let mut command = Command::new(program);
        command.args(arguments).args(WARNINGS);
        command
    }

    const fn name(self) -> &'static str {
        match self {
            Self::C => "C",
            Self::Cpp => "C++",
            Self::Sanitized => "C with sanitizers",
        }
    }
}

impl Programs<'_> {
    pub(super) fn run(&self, part: &mut Part) -> anyhow::Result<()> {
        if !has("gcc") {
            part.skip("programs", "there is no gcc");
            return Ok(());
        }
        let sources = sources()?;
        for source in &sources {
            self.build_and_run(part, source, How::C)?;
            self.build_and_run(part, source, How::Sanitized)?;
        }
        if has("g++") {
            for source in &sources {
                self.build(part, source, How::Cpp)?;
            }
        } else {
            part.skip("programs in C++", "there is no g++");
        }
        if has("valgrind") {
            for source in &sources {
                self.under_valgrind(part, source)?;
            }
        } else {
            part.skip("programs under valgrind", "there is no valgrind");
        }
        self.document(part)
    }

    /// What a compiler is told about the library, by pkg-config as a user does.
    fn flags(&self) -> anyhow::Result<Vec<String>> {
        let mut config = Command::new("pkg-config");
        config.args(["--cflags", "--libs", "jitney"]);
        config.env("PKG_CONFIG_PATH", self.prefix.join("lib/pkgconfig"));
        let said = process::run(&mut config, false)?;
        anyhow::ensure!(said.success, "pkg-config: {}", said.text);
        Ok(said.text.split_whitespace().map(str::to_owned).collect())
    }

    /// Builds a program; where it is, if it could be.
    fn build(&self, part: &mut Part, source: &Path, how: How) -> anyhow::Result<Option<PathBuf>> {
        let stem = source.file_stem().unwrap_or_default().to_string_lossy();
        let name = format!("{stem} in {}", how.name());
        let program = self.folder.join(format!("{stem}-{}", how as u8));
        let mut compile = how.compiler();
        compile.arg(source).arg("-o").arg(&program);
        if has("pkg-config") {
            compile.args(self.flags()?);
        } else {
            if !part.tally.skipped.iter().any(|skip| skip.test.ends_with("pkg-config")) {
                part.skip("pkg-config", "there is no pkg-config");
            }
            compile.arg("-I").arg(self.prefix.join("include"));
            compile.arg("-L").arg(self.prefix.join("lib")).arg("-ljitney");
        }
        compile.args(["-lpthread", "-lm"]);
        let Said { success, text } = process::run(&mut compile, self.wish.echo)?;
        part.text += &text;
        if !success {
            part.failed(&format!("building {name}"));
            return Ok(None);
        }
        part.passed();
        Ok(Some(program))
    }

    fn build_and_run(&self, part: &mut Part, source: &Path, how: How) -> anyhow::Result<()> {
        let Some(program) = self.build(part, source, how)? else { return Ok(()) };
        let mut run = self.command(&program);
        // What is done in a forked child is not given back there, on purpose.
        run.env("ASAN_OPTIONS", "detect_leaks=1").env("UBSAN_OPTIONS", "print_stacktrace=1");
        self.carry_out(part, &mut run, &name_of(source, how.name()), source)
    }

    fn under_valgrind(&self, part: &mut Part, source: &Path) -> anyhow::Result<()> {
        let stem = source.file_stem().unwrap_or_default().to_string_lossy();
        let program = self.folder.join(format!("{stem}-{}", How::C as u8));
        if !program.exists() {
            return Ok(());
        }
        let mut run = self.command(Path::new("valgrind"));
        run.args(["--quiet", "--error-exitcode=9", "--fair-sched=yes", "--child-silent-after-fork=yes"]);
        let known = workspace::c().join("tests/valgrind.supp");
        run.arg(format!("--suppressions={}", known.display())).arg(program);
        self.carry_out(part, &mut run, &name_of(source, "valgrind"), source)
    }

    fn command(&self, program: &Path) -> Command {
        let mut run = Command::new(program);
        run.env("LD_LIBRARY_PATH", self.prefix.join("lib"));
        run.env("JITNEY_COMMAND", workspace::program("jitney"));
        run.env_remove("JITNEY_BROKER").env_remove("JITNEY_CARDS");
        run
    }

    /// Runs a program: each of its tests counts, or all of it.
    fn carry_out(&self, part: &mut Part, run: &mut Command, name: &str, source: &Path) -> anyhow::Result<()> {
        let is_test = source.parent().is_some_and(|parent| parent.ends_with("tests"));
        if is_test && let Some(filter) = self.wish.filter {
            let chosen: Vec<_> = scenarios::all()?.into_iter().filter(|name| name.contains(filter)).collect();
            run.args(chosen);
        }
        let Said { success, text } = process::run(run, self.wish.echo)?;
        part.text += &text;
        let passed = text.lines().filter(|line| line.starts_with("test ") && line.ends_with(" ok")).count();
        part.tally.passed += if is_test { passed } else { success.into() };
        if !success {
            // The one that was running when it ended.
            let test =
                text.lines().filter_map(|line| line.strip_prefix("test ")?.split_once(" ... ")).next_back();
            part.failed(&test.map_or_else(|| name.to_owned(), |(test, _)| format!("{name}: {test}")));
        }
        Ok(())
    }

    /// The programs that docs/c.md prints.
    fn document(&self, part: &mut Part) -> anyhow::Result<()> {
        let text = fs::read_to_string(workspace::root().join("docs/c.md"))?;
        for (number, block) in text.split("```c\n").skip(1).enumerate() {
            let source = self.folder.join(format!("document-{number}.c"));
            fs::write(&source, block.split("```").next().unwrap_or_default())?;
            self.build_and_run(part, &source, How::C)?;
            self.build(part, &source, How::Cpp)?;
        }
        Ok(())
    }
}

fn name_of(source: &Path, how: &str) -> String {
    format!("{} ({how})", source.file_stem().unwrap_or_default().to_string_lossy())
}

/// All programs, examples first.
fn sources() -> anyhow::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for folder in ["examples", "tests"] {
        for entry in fs::read_dir(workspace::c().join(folder))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "c") {
                all.push(path);
            }
        }
    }
    all.sort();
    Ok(all)
}

/// Whether a program is there.
fn has(program: &str) -> bool {
    let mut probe = Command::new(program);
    probe.arg("--version");
    process::run(&mut probe, false).is_ok_and(|said| said.success)
}
