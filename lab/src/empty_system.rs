//! A Debian with nothing installed, for trying packages.

use crate::Error;
use crate::cache::Cache;
use crate::command::output;
use crate::debian;
use crate::progress::Step;
use std::path::PathBuf;
use std::process::Command;

/// The releases that packages are tried on.
pub const SUITES: [&str; 2] = ["bookworm", "trixie"];

/// An archive (tar) of what debootstrap makes of `suite` in its smallest variant, from the cache or made now, which takes root.
///
/// # Errors
/// What debootstrap says, or that it is not there; no Debian mirror among the machine's package sources.
pub fn empty_system(suite: &str) -> Result<PathBuf, Error> {
    let entry = Cache::open()?.entry(&format!("empty-{suite}"), "minbase 1", |shop| {
        let _step = Step::start(format!("installing an empty Debian {suite}"));
        let (root, archive) = (shop.scratch.join("root"), shop.entry.join("system.tar"));
        let mut debootstrap = Command::new("debootstrap");
        debootstrap.args(["--variant=minbase", suite]).arg(&root).arg(debian::mirror()?);
        output(&mut debootstrap, "to make an empty system")?;
        let mut tar = Command::new("tar");
        // Downloaded packages and lists are no part of it.
        tar.args([
            "--numeric-owner",
            "--exclude=./var/cache/apt/archives/*.deb",
            "--exclude=./var/lib/apt/lists/*",
            "-cf",
        ]);
        output(tar.arg(archive).arg("-C").arg(&root).arg("."), "to keep an empty system").map(drop)
    })?;
    Ok(entry.join("system.tar"))
}
