//! Where things are, and how cargo is called.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder with the workspace's `Cargo.toml`.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The folder that the fuzz targets live in, a workspace of their own.
pub(crate) fn fuzz() -> PathBuf {
    root().join("fuzz")
}

/// The folder of the Python package, a workspace of its own.
pub(crate) fn python() -> PathBuf {
    root().join("python")
}

/// The folder of the C library.
pub(crate) fn c() -> PathBuf {
    root().join("crates/c")
}

/// Where cargo builds.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |folder| root().join(folder))
}

/// What this machine's programs are built for: with the target named, flags do not hold for build scripts and procedural
/// macros.
pub(crate) fn triple() -> String {
    format!("{}-unknown-linux-gnu", env::consts::ARCH)
}

/// The cargo that started this program, at the workspace's root. Its messages are for reading by programs, too.
pub(crate) fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(arguments);
    command
}

/// Builds all there is as the tests use it: with the features that the workspace's tests have together, each crate once. Parts that want
/// a program or a library of it call this, too, and find it built; what users get is built by `dist` and `install-c`.
pub(crate) fn everything() -> Command {
    cargo(["build", "--quiet", "--workspace", "--all-features", "--all-targets"])
}

/// A program that [`everything`] built.
pub(crate) fn program(name: &str) -> PathBuf {
    target().join("debug").join(name)
}
