//! `libjitney.so`, linked from the archive that cargo builds.
//!
//! Not rustc's cdylib: that brings a version script of its own, and a linker takes only one. So the archive is linked here, with the
//! name under which programs find it and a node of versions for its symbols.

use crate::{process, workspace};
use anyhow::{Context, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the archive needs besides.
pub(crate) const NEEDS: [&str; 6] = ["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl"];

/// The library's version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The part of the version that says which programs fit: while it is 0.x, each minor version is another interface.
pub(crate) fn compatible() -> String {
    let mut numbers = VERSION.split('.');
    match (numbers.next(), numbers.next()) {
        (Some("0"), Some(minor)) => format!("0.{minor}"),
        (major, _) => major.unwrap_or("0").to_owned(),
    }
}

/// What programs that are linked to the library look for.
pub(crate) fn soname() -> String {
    format!("libjitney.so.{}", compatible())
}

/// The file itself.
pub(crate) fn file_name() -> String {
    format!("libjitney.so.{VERSION}")
}

/// The node that the library's symbols are of.
pub(crate) fn node() -> String {
    format!("JITNEY_{}", compatible())
}

/// How cargo builds the archive that is installed.
pub(crate) fn build() -> Command {
    workspace::cargo(["build", "--package=jitney-c", "--release"])
}

/// Where cargo leaves it.
pub(crate) fn archive(release: bool) -> PathBuf {
    workspace::target().join(if release { "release" } else { "debug" }).join("libjitney_c.a")
}

/// Links the library into `folder`, without what is only for debuggers.
pub(crate) fn link(archive: &Path, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let script = folder.join("jitney.map");
    fs::write(&script, format!("{} {{ global: jitney_*; local: *; }};\n", node()))?;
    let mut cc = Command::new("cc");
    cc.args([
        "-shared",
        "-Wl,--strip-debug",
        "-Wl,--gc-sections",
        "-Wl,--no-undefined",
        "-Wl,-z,relro,-z,now",
    ]);
    cc.arg(format!("-Wl,-soname,{}", soname())).arg(format!("-Wl,--version-script={}", script.display()));
    cc.arg("-Wl,--whole-archive").arg(archive).arg("-Wl,--no-whole-archive").args(NEEDS);
    cc.arg("-o").arg(folder.join(file_name()));
    let said = process::run(&mut cc, false)?;
    fs::remove_file(&script)?;
    if !said.success {
        bail!("linking the library failed: {}", said.text);
    }
    for (name, target) in [(soname(), file_name()), ("libjitney.so".to_owned(), soname())] {
        let link = folder.join(name);
        if link.is_symlink() {
            fs::remove_file(&link)?;
        }
        std::os::unix::fs::symlink(target, &link).with_context(|| format!("making {}", link.display()))?;
    }
    Ok(())
}
