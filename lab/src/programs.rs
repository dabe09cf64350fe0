//! Our own programs for the guest, and the libraries of this machine that they need there.
//!
//! They are those that the tests of this machine are built of: nothing is compiled for the guest alone.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::Error;
use crate::command::output;
use crate::coverage::{self, Coverage};
use crate::lab::run_folder;
use crate::progress::Step;

/// A program for the guest's `/usr/bin`.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// What the guest calls it.
    pub(crate) name: String,
    /// Where it is on the host.
    pub(crate) path: PathBuf,
}

/// Programs, and what they are linked with.
#[derive(Debug)]
pub(crate) struct Built {
    /// Of this run alone: another one may be running its own.
    _folder: TempDir,
    /// The programs.
    pub(crate) programs: Vec<Program>,
    /// The host's shared libraries and the program that loads them, by the paths under which programs look for them.
    pub(crate) libraries: BTreeSet<PathBuf>,
}

/// A binary, an example or a test program of this workspace.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its package.
    pub package: &'static str,
    /// Cargo's word for it: `--bin`, `--example` or `--test`.
    pub kind: &'static str,
    /// Its name.
    pub name: &'static str,
}

/// What programs are built for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose<'a> {
    /// For tests; they may count what they run.
    Tests(Option<&'a Coverage>),
    /// To be as fast as they are for users.
    Measurements,
}

/// What the tests need.
pub(crate) const TARGETS: [Target; 16] = [
    Target { package: "jitney-cli", kind: "--bin", name: JITNEY },
    Target { package: "jitney-vfio", kind: "--example", name: "edu" },
    Target { package: "jitney-vfio", kind: "--example", name: "nvme_identify" },
    Target { package: "jitney-vfio", kind: "--test", name: "kernel_vfio" },
    Target { package: "jitney-vfio", kind: "--test", name: "kernel_noiommu" },
    Target { package: "jitney-lab", kind: "--example", name: "bar_race" },
    Target { package: "jitney-lab", kind: "--example", name: "naive" },
    Target { package: "jitney-lab", kind: "--example", name: "endless_dma" },
    Target { package: "jitney-lab", kind: "--example", name: "stray_dma" },
    Target { package: "jitney-lab", kind: "--example", name: "streams" },
    Target { package: "jitney-lab", kind: "--example", name: "narrow_card" },
    Target { package: "jitney-lab", kind: "--example", name: "rude_decode" },
    Target { package: "jitney-lab", kind: "--example", name: "late_dma" },
    Target { package: "jitney-lab", kind: "--example", name: "successor" },
    Target { package: "jitney-lab", kind: "--example", name: "near_card" },
    Target { package: "jitney-lab", kind: "--example", name: "nvme_queues" },
];

/// The command that tests run in the guest, and the lab on the host, where it serves the boards.
pub(crate) const JITNEY: &str = "jitney";

/// Builds programs, all with one call of cargo.
pub(crate) fn build(targets: &[Target], purpose: Purpose<'_>) -> Result<Built, Error> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace);
    cargo.args(["build", "--quiet", "--message-format", "json-render-diagnostics"]);
    match purpose {
        // With the features of the workspace's tests, for which most of it is built by now.
        Purpose::Tests(None) => {
            cargo.args(["--workspace", "--all-features"]);
        }
        Purpose::Tests(Some(coverage)) => {
            cargo.args(["--workspace", "--all-features", "--target-dir"]).arg(coverage.build());
            // With the target named, the flags do not hold for build scripts and procedural macros.
            cargo.args(["--target", TRIPLE]).env("RUSTFLAGS", coverage::FLAGS);
            cargo.env("CARGO_PROFILE_DEV_DEBUG", "0");
        }
        Purpose::Measurements => {
            cargo.arg("--release");
            targets.iter().for_each(|target| {
                cargo.args(["--package", target.package]);
            });
        }
    }
    targets.iter().for_each(|target| {
        cargo.args([target.kind, target.name]);
    });
    let _step = Step::start("building programs for the guest");
    let messages = output(&mut cargo, "to build programs for the guest")?;
    let folder = run_folder()?;
    let keep = |target: &Target| {
        let built = executable(&messages, target.name).ok_or_else(|| Error::Missing {
            what: format!("the program {}", target.name),
            place: "cargo's messages".to_owned(),
        })?;
        if let Purpose::Tests(Some(coverage)) = purpose {
            coverage.keep(target.name, &built)?;
        }
        let path = folder.path().join(target.name);
        // The guest unpacks them into its memory: they are smaller without what only a debugger reads.
        let mut strip = Command::new("strip");
        output(strip.arg("--strip-debug").arg("-o").arg(&path).arg(&built), "to make programs smaller")?;
        Ok(Program { name: target.name.to_owned(), path })
    };
    let programs = targets.iter().map(keep).collect::<Result<Vec<_>, _>>()?;
    let libraries = libraries(programs.iter().map(|program| program.path.as_path()))?;
    Ok(Built { _folder: folder, programs, libraries })
}

/// What the loader of this machine would load for programs, and the loader itself.
fn libraries<'a>(programs: impl Iterator<Item = &'a Path>) -> Result<BTreeSet<PathBuf>, Error> {
    let said = output(Command::new("ldd").args(programs), "to tell which libraries programs need")?;
    Ok(paths(&said).map(PathBuf::from).collect())
}

/// The paths in what `ldd` says: `NAME => PATH (ADDRESS)`, or for the loader `PATH (ADDRESS)`.
fn paths(said: &str) -> impl Iterator<Item = &str> {
    let libraries = said.lines().filter_map(|line| line.trim().rsplit_once(" (")).map(|(library, _)| library);
    libraries
        .map(|library| library.split_once(" => ").map_or(library, |(_, path)| path))
        .filter(|path| path.starts_with('/'))
}

/// What coverage is built for.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// Finds what was built among cargo's messages, one JSON object per line.
fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()).find_map(
        |message| {
            let is_it = message["target"]["name"] == name;
            message["executable"].as_str().filter(|_| is_it).map(PathBuf::from)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_found_among_other_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"jitney"},"executable":null}
not json
{"reason":"compiler-artifact","target":{"name":"other"},"executable":"/t/other"}
{"reason":"compiler-artifact","target":{"name":"jitney"},"executable":"/t/jitney"}"#;
        assert_eq!(executable(messages, "jitney"), Some(PathBuf::from("/t/jitney")));
        assert_eq!(executable(messages, "third"), None);
    }

    #[test]
    fn libraries_are_those_that_are_files() {
        let said = "/t/jitney:\n\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)
\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n/t/other:\n\tstatically linked\n";
        assert_eq!(
            paths(said).collect::<Vec<_>>(),
            ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]
        );
    }
}
