//! Whether cargo would publish the crates: each packed with what it needs, in order, and built from what was packed.

use crate::process;
use crate::workspace;
use std::process::ExitCode;

/// What is for this repository alone, or no library of Rust's, as their manifests say, too.
const OURS: [&str; 7] =
    ["jitney-attack", "jitney-bench", "jitney-c", "jitney-faces", "jitney-lab", "jitney-site", "xtask"];

/// What cargo is told to leave out.
pub(crate) fn not_published() -> impl Iterator<Item = &'static str> {
    OURS.iter().flat_map(|name| ["--exclude", name])
}

pub(super) fn dry_run(verify: bool) -> anyhow::Result<ExitCode> {
    let mut publish = workspace::cargo(["publish", "--dry-run", "--workspace", "--locked"]);
    publish.args(not_published());
    if !verify {
        publish.arg("--no-verify");
    }
    process::hand_over(&mut publish)
}
