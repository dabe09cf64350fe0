//! Our own programs for the guest, which has no C library of its own: linked statically.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;
use crate::command::output;
use crate::coverage::{self, Coverage};
use crate::progress::Step;

/// A program for the guest's `/usr/bin`. It must be linked statically.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// What the guest calls it.
    pub(crate) name: String,
    /// Where it is on the host.
    pub(crate) path: PathBuf,
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

/// The instructions that QEMU's software emulation is certain to have, whatever the host's processor has.
const FLAGS: &str = "-C target-feature=+crt-static -C target-cpu=x86-64-v2";

/// A static binary needs the target named, or else the flags would hold for procedural macros, too.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// Builds programs, in a target folder of their own because of their flags.
pub(crate) fn build(targets: &[Target], purpose: Purpose<'_>) -> Result<Vec<Program>, Error> {
    let (coverage, profile) = match purpose {
        Purpose::Tests(coverage) => (coverage, "dev"),
        Purpose::Measurements => (None, "release"),
    };
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let target = || env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let folder = coverage.map_or_else(|| target().join("lab"), Coverage::build);
    let flags = [FLAGS, coverage.map_or("", |_| coverage::FLAGS)].join(" ");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let _step = Step::start("building programs for the guest");
    let build_one = |target: &Target| {
        let mut command = Command::new(&cargo);
        // The guest unpacks them into its memory: they are smaller without debug information, and sooner built.
        command.current_dir(workspace).env("RUSTFLAGS", &flags);
        command.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_PROFILE_RELEASE_DEBUG", "0");
        command.args(["build", "--quiet", "--message-format", "json-render-diagnostics", "--target", TRIPLE]);
        command.args(["--profile", profile]).arg("--target-dir").arg(&folder);
        command.args(["--package", target.package, target.kind, target.name]);
        let messages = output(&mut command, &format!("to build {} for the guest", target.name))?;
        let path = executable(&messages, target.name).ok_or_else(|| Error::Missing {
            what: format!("the program {}", target.name),
            place: "cargo's messages".to_owned(),
        })?;
        Ok(Program { name: target.name.to_owned(), path })
    };
    targets.iter().map(build_one).collect()
}

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
}
