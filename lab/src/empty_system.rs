//! A Debian with nothing installed, or next to nothing, for trying packages.

use crate::Error;
use crate::cache::Cache;
use crate::command::output;
use crate::debian;
use crate::progress::Step;
use std::path::PathBuf;
use std::process::Command;

/// The releases that packages are tried on.
pub const SUITES: [&str; 2] = ["bookworm", "trixie"];

/// What is in a system besides what every Debian has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// Nothing.
    Nothing,
    /// What starts services, and `sudo`.
    Services,
}

/// An archive (tar) of what debootstrap makes of `suite` in its smallest variant, from the cache or made now, which takes root.
///
/// # Errors
/// What debootstrap says, or that it is not there; no Debian mirror among the machine's package sources.
pub fn empty_system(suite: &str, contents: Contents) -> Result<PathBuf, Error> {
    let (kind, packages) = match contents {
        Contents::Nothing => ("empty", ""),
        Contents::Services => ("services", "systemd,systemd-sysv,dbus,sudo"),
    };
    let entry = Cache::open()?.entry(&format!("{kind}-{suite}"), "minbase 1", |shop| {
        let _step = Step::start(format!("installing a Debian {suite}, as small as it gets"));
        let (root, archive) = (shop.scratch.join("root"), shop.entry.join("system.tar"));
        let mut debootstrap = Command::new("debootstrap");
        debootstrap.arg("--variant=minbase");
        if !packages.is_empty() {
            debootstrap.arg(format!("--include={packages}"));
        }
        debootstrap.arg(suite).arg(&root).arg(debian::mirror()?);
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
