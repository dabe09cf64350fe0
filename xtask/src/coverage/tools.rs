//! The compiler and LLVM's programs, as coverage needs them.

use crate::instruments::Instruments;
use crate::process;
use crate::workspace;
use anyhow::{Context, bail, ensure};
use jitney_lab::Llvm;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folders of the workspace with code in them.
const OURS: [&str; 4] = ["crates", "bench", "lab", "xtask"];

/// What in there is for tests only, or to be looked at: `src/tests.rs`, `src/x/tests/`, `tests/`, `examples/`, `guest/`.
const NO_CODE: &str = r"/(tests\.rs$|tests/|examples/|guest/)";

/// Fails if the compiler is built on a later LLVM than the one whose programs read what it makes.
pub(super) fn check_release() -> anyhow::Result<()> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(&rustc).arg("-vV").output().context("cannot start rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let release = release(&text).context("rustc -vV does not say which LLVM it is built on")?;
    ensure!(
        release <= Llvm::RELEASE,
        "this rustc is built on LLVM {release}, and the tools that read its profiles are of LLVM {}; \
         use Rust 1.95, or change Llvm::RELEASE in lab/src/llvm.rs if Debian has a later one",
        Llvm::RELEASE
    );
    Ok(())
}

/// `LLVM version: 22.1.2`.
fn release(text: &str) -> Option<u32> {
    let version = text.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.parse().ok()
}

/// Builds what `cargo test` runs, and returns each program.
pub(super) fn build(instruments: &Instruments) -> anyhow::Result<Vec<PathBuf>> {
    let mut command =
        workspace::cargo(["test", "--workspace", "--all-features", "--all-targets", "--no-run"]);
    command.args(["--quiet", "--message-format", "json-render-diagnostics"]);
    instruments.apply(&mut command);
    let messages = output(&mut command)?;
    let programs: Vec<_> = messages.lines().filter_map(executable).collect();
    ensure!(!programs.is_empty(), "cargo named no test program");
    Ok(programs)
}

/// The program that one of cargo's messages, a line of JSON, says was built.
fn executable(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    message["executable"].as_str().map(PathBuf::from)
}

/// The programs that the lab ran, if it did.
pub(super) fn guest_programs(instruments: &Instruments) -> anyhow::Result<Vec<PathBuf>> {
    files_below(&instruments.lab().join("programs"))
}

/// Makes one profile of all of them.
pub(super) fn merge(llvm: &Llvm, instruments: &Instruments) -> anyhow::Result<PathBuf> {
    let mut profiles = files_below(&instruments.profiles())?;
    profiles.extend(files_below(&instruments.lab().join("profiles"))?);
    ensure!(!profiles.is_empty(), "no program has counted anything: no test has run");
    let data = instruments.folder().join("all.profdata");
    let mut command = llvm.command("llvm-profdata");
    // A file that a process was just making when it was killed is told, and left out.
    command.args(["merge", "--sparse", "--failure-mode=all", "--output"]).arg(&data).args(profiles);
    output(&mut command)?;
    Ok(data)
}

/// The lines of a program with their counts, in the format that lcov made common.
pub(super) fn export(llvm: &Llvm, data: &Path, program: &Path) -> anyhow::Result<String> {
    let mut command = llvm.command("llvm-cov");
    command.args(["export", "--format=lcov", "--instr-profile"]).arg(data).arg(program);
    command.arg("--ignore-filename-regex").arg(format!("^{}/.*{NO_CODE}", escaped(workspace::root())));
    command.arg("--sources").args(OURS.map(|folder| workspace::root().join(folder)));
    output(&mut command)
}

/// A path as a regular expression that matches it and nothing else.
fn escaped(path: &Path) -> String {
    let special = |character: char| character.is_ascii_punctuation() && !"/_-".contains(character);
    let escape = |character| special(character).then_some('\\').into_iter().chain([character]);
    path.to_string_lossy().chars().flat_map(escape).collect()
}

/// Runs a program to its end and returns its output; what it warns of is for whoever sees this run.
fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {}", process::name(command)))?;
    let warnings = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let name = command.get_program().to_string_lossy().into_owned();
        bail!("{name} ended with {}:\n{}", output.status, warnings.trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// All files below a folder, none if it is not there.
fn files_below(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let items = match fs::read_dir(folder) {
        Ok(items) => items,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => bail!("cannot read {}: {error}", folder.display()),
    };
    let mut files = Vec::new();
    for item in items {
        let path = item.with_context(|| format!("cannot read {}", folder.display()))?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_s_llvm_is_found() {
        assert_eq!(release("rustc 1.95.0\nrelease: 1.95.0\nLLVM version: 22.1.2\n"), Some(22));
        assert_eq!(release("rustc 1.95.0\n"), None);
    }

    #[test]
    fn programs_are_found_among_cargo_s_messages() {
        let program = r#"{"reason":"compiler-artifact","executable":"/t/jitney"}"#;
        assert_eq!(executable(program), Some(PathBuf::from("/t/jitney")));
        assert_eq!(executable(r#"{"executable":null}"#), None);
        assert_eq!(executable("running"), None);
    }

    #[test]
    fn a_path_matches_itself_only() {
        assert_eq!(escaped(Path::new("/home/a_b/x-1.0+")), r"/home/a_b/x-1\.0\+");
    }
}
