//! The Python package as a part of all tests: its wheel is built and installed into an environment of its own, and pytest runs on
//! emulated boards.
//!
//! The environment is kept, by what is installed in it: only the wheel is new each time.

use super::parts::{Ran, Wish};
use super::pytest;
use super::tally::Tally;
use crate::process::{self, Said};
use crate::workspace;
use anyhow::{Context, bail};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::process::Command;

pub(crate) const NAME: &str = "python";

/// Says on standard output what it is, and fails if it cannot be used.
const PROBE: &str =
    "import sys, venv, ensurepip; print(sys.version, sys.base_prefix); sys.exit(sys.version_info < (3, 11))";

/// What pip says if it reaches nobody.
const NO_NETWORK: [&str; 3] = ["Retrying (", "NewConnectionError", "name resolution"];

pub(crate) fn run(wish: Wish<'_>) -> anyhow::Result<Ran> {
    let skip = |why: &str| Ok(Ran { tally: Tally::skip(NAME, why), text: String::new() });
    if wish.instruments.is_some() {
        return skip("the extension is built by another tool, without counters");
    }
    if let Some(filter) = wish.filter
        && !has_test(filter)?
    {
        return Ok(Ran::default());
    }
    let Some(python) = python() else {
        return skip("there is no python3 of 3.11 or later with venv and ensurepip");
    };
    let environment = match Environment::of(&python, wish)? {
        Ok(environment) => environment,
        Err(why) => return skip(&why),
    };
    let mut text = String::new();
    let mut succeeds = |step: &mut Command| {
        let Said { success, text: said } = process::run(step, wish.echo)?;
        text += &said;
        anyhow::Ok(success)
    };
    for mut step in environment.steps()? {
        if !succeeds(&mut step)? {
            return Ok(Ran { tally: Tally { failed: 1, ..Tally::default() }, text });
        }
    }
    if !succeeds(&mut environment.lints()?)? {
        return Ok(Ran { tally: Tally { failed: 1, ..Tally::default() }, text });
    }
    let Said { success, text: said } = process::run(&mut environment.pytest(wish.filter), wish.echo)?;
    let mut tally = pytest::count(&said);
    if !success && tally.failed == 0 && !said.contains("no tests ran") && !said.contains(" deselected") {
        tally.failed = 1;
    }
    Ok(Ran { tally, text: text + &said })
}

/// Whether a test has this in its name. The parameters of tests have names, too, which are known only when it is too late to
/// save the time.
fn has_test(filter: &str) -> anyhow::Result<bool> {
    for entry in fs::read_dir(workspace::python().join("tests"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "py") {
            let text = fs::read_to_string(&path)?;
            let mut names = text.lines().filter_map(|line| line.strip_prefix("def test_"));
            if names.any(|name| name.split('(').next().is_some_and(|name| name.contains(filter))) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// What the interpreter says of itself, if there is one that can be used.
fn python() -> Option<String> {
    let mut probe = Command::new("python3");
    probe.args(["-c", PROBE]);
    process::run(&mut probe, false).ok().filter(|said| said.success).map(|said| said.text)
}

/// Where what the tests need is installed.
struct Environment {
    folder: PathBuf,
}

impl Environment {
    /// The one for this interpreter and the pinned requirements, made if need be; or why it cannot be.
    fn of(python: &str, wish: Wish<'_>) -> anyhow::Result<Result<Self, String>> {
        let requirements = workspace::python().join("tests/requirements.txt");
        let mut hasher = DefaultHasher::new();
        (python, fs::read(&requirements)?).hash(&mut hasher);
        let environments = workspace::target().join("python-environments");
        let environment = Self { folder: environments.join(format!("{:016x}", hasher.finish())) };
        let ready = environment.folder.join("ready");
        if ready.exists() {
            return Ok(Ok(environment));
        }
        // Others are of other requirements, or half made.
        if environments.exists() {
            fs::remove_dir_all(&environments).context("removing old environments")?;
        }
        fs::create_dir_all(&environments)?;
        let mut make = Command::new("python3");
        make.args(["-m", "venv"]).arg(&environment.folder);
        let mut install = environment.python();
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
        install.arg(requirements);
        for mut step in [make, install] {
            let Said { success, text } = process::run(&mut step, wish.echo)?;
            if !success && NO_NETWORK.iter().any(|sign| text.contains(sign)) {
                return Ok(Err("what its tests need cannot be fetched: there is no network".into()));
            }
            if !success {
                bail!("{} failed: {text}", process::name(&step));
            }
        }
        fs::write(ready, "")?;
        Ok(Ok(environment))
    }

    fn program(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }

    fn python(&self) -> Command {
        Command::new(self.program("python"))
    }

    /// What has to be before the tests can run: the wheel, and the command, which they start.
    fn steps(&self) -> anyhow::Result<[Command; 3]> {
        let wheels = self.folder.join("wheels");
        // There is one at a time.
        if wheels.exists() {
            fs::remove_dir_all(&wheels)?;
        }
        let mut build = self.of_the_package(Command::new(self.program("maturin")));
        build.args(["build", "--quiet", "--locked", "--profile", "dev", "--out"]).arg(&wheels);
        build.arg("--interpreter").arg(self.program("python"));
        let mut install = self.python();
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]);
        install.args(["--no-deps", "--force-reinstall", "--find-links"]).arg(&wheels).arg("jitney");
        Ok([build, install, workspace::everything()])
    }

    /// The lints, after the wheel was built: with what maturin has told PyO3 then, so that PyO3 is not built anew for each of them.
    fn lints(&self) -> anyhow::Result<Command> {
        let mut clippy = self.of_the_package(workspace::cargo([
            "clippy",
            "--locked",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]));
        let told = workspace::target().join("maturin");
        for entry in fs::read_dir(&told).into_iter().flatten() {
            let file = entry?.path();
            if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pyo3-config-")) {
                clippy.env("PYO3_CONFIG_FILE", file);
            }
        }
        Ok(clippy)
    }

    /// A command for the package, which is built where all else is: what it has in common with it is built once.
    fn of_the_package(&self, mut command: Command) -> Command {
        command.current_dir(workspace::python());
        command.env("CARGO_TARGET_DIR", workspace::target());
        command.env("PYO3_PYTHON", self.program("python")).env("PYO3_BUILD_EXTENSION_MODULE", "1");
        command
    }

    fn pytest(&self, filter: Option<&str>) -> Command {
        let mut pytest = self.python();
        // What is wrong with memory is found, and where a crash was is said.
        pytest.env("PYTHONMALLOC", "debug").env("JITNEY_COMMAND", workspace::program("jitney"));
        pytest.args([
            "-X",
            "faulthandler",
            "-m",
            "pytest",
            "-q",
            "-rs",
            "--color=no",
            "-p",
            "no:cacheprovider",
        ]);
        pytest.args(filter.map(|filter| ["-k", filter]).into_iter().flatten());
        pytest.current_dir(workspace::python());
        pytest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_finds_tests_by_their_names() {
        assert!(has_test("ctrl_c_ends").unwrap());
        assert!(!has_test("no_test_is_called_so").unwrap());
    }
}
