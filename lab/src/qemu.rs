//! QEMU with a client of the vfio-user protocol (10.1 or later), unpacked from Debian's backports.

use std::process::Command;

use crate::Error;
use crate::cache::Cache;
use crate::debian::Debian;
use crate::progress::Step;
use crate::unpacked::Unpacked;

/// QEMU in the cache.
#[derive(Debug)]
pub(crate) struct Qemu {
    files: Unpacked,
}

impl Qemu {
    pub(crate) fn fetch(cache: &Cache, debian: &Debian) -> Result<Self, Error> {
        let (package, suite) = ("qemu-system-x86", "trixie-backports");
        let path = cache.entry("qemu", &format!("{package} {suite}"), |shop| {
            let archive = debian.archive(shop)?;
            let _step = Step::start("fetching QEMU");
            archive.unpack_with_dependencies(&[package], suite, shop.entry)
        })?;
        Ok(Self { files: Unpacked::at(path) })
    }

    /// A command that starts QEMU; the machine's options are the caller's.
    pub(crate) fn command(&self) -> Command {
        let mut command = self.files.command("usr/bin/qemu-system-x86_64");
        for folder in ["usr/share/qemu", "usr/share/seabios"] {
            command.arg("-L").arg(self.files.path(folder));
        }
        command
    }
}
