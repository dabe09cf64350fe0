//! Programs from packages that were unpacked into a folder, not installed: each is started through the folder's own loader,
//! with the folder's own libraries, so that the machine's glibc may be older than the package's.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;
use crate::cache::write;

/// A folder that packages were unpacked into.
#[derive(Debug, Clone)]
pub(crate) struct Unpacked {
    root: PathBuf,
}

impl Unpacked {
    pub(crate) fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// A path inside, such as `usr/share/qemu`.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside)
    }

    pub(crate) fn libraries(&self) -> PathBuf {
        self.path("usr/lib/x86_64-linux-gnu")
    }

    pub(crate) fn loader(&self) -> PathBuf {
        self.libraries().join("ld-linux-x86-64.so.2")
    }

    /// A command that starts `program`, a path inside such as `usr/bin/bc`.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.loader());
        command.arg("--library-path").arg(self.libraries()).arg(self.path(program));
        command
    }

    /// Makes `bin` inside: a script per program under its own name, for builds that find their tools by PATH.
    pub(crate) fn make_wrappers(&self, programs: &[&str]) -> Result<(), Error> {
        let bin = self.path("bin");
        fs::create_dir_all(&bin).map_err(Error::io("make", &bin))?;
        for program in programs {
            let Some(name) = Path::new(program).file_name() else { continue };
            let script = bin.join(name);
            write(&script, WRAPPER.replace("PROGRAM", program))?;
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755))
                .map_err(Error::io("make executable", &script))?;
        }
        Ok(())
    }
}

/// It finds its folder from its own path, because the folder is renamed when it is finished. The program is told the script's
/// name as its own: `make` starts itself again by that.
const WRAPPER: &str = r#"#!/bin/sh
root=${0%/bin/*}
libraries=$root/usr/lib/x86_64-linux-gnu
exec "$libraries/ld-linux-x86-64.so.2" --library-path "$libraries" --argv0 "$0" "$root/PROGRAM" "$@"
"#;
