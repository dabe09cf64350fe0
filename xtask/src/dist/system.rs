//! A Debian in a folder of its own, unpacked from the lab's cache. Its programs run there by `chroot`, with processes and mounts that the
//! machine does not see.

use crate::process::{self, Said};
use anyhow::{Context, bail};
use jitney_lab::{Contents, empty_system};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// What changes without being the package's: logs, dpkg's own books, copies that the tools for accounts make.
const OTHERS: [&str; 9] = [
    "/proc",
    "/tmp",
    "/var/lib/dpkg",
    "/var/log",
    "/var/cache",
    "/etc/group-",
    "/etc/gshadow-",
    "/etc/.pwd.lock",
    "/etc/subgid-",
];

/// What programs in it see of the environment.
pub(super) const ENVIRONMENT: [(&str, &str); 4] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("LC_ALL", "C.UTF-8"),
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("HOME", "/root"),
];

/// A system in a folder.
pub(super) struct System {
    pub(super) suite: String,
    root: TempDir,
}

impl System {
    pub(super) fn unpack(suite: &str, contents: Contents) -> anyhow::Result<Self> {
        let archive = empty_system(suite, contents)?;
        let root = tempfile::Builder::new().prefix("jitney-dist-").tempdir()?;
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755))?;
        process::must(
            Command::new("tar").args(["--numeric-owner", "-xpf"]).arg(archive).arg("-C").arg(root.path()),
        )?;
        Ok(Self { suite: suite.to_owned(), root })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(super) fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        fs::write(&path, bytes).with_context(|| path.display().to_string())
    }

    /// Runs a line of shell as root of the system, which has to succeed.
    pub(super) fn must(&self, line: &str) -> anyhow::Result<String> {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-ec"]);
        command
            .arg("mount -t proc proc \"$0/proc\"; exec chroot \"$0\" sh -ec \"$1\"")
            .arg(self.root.path())
            .arg(line);
        command.env_clear().envs(ENVIRONMENT);
        let Said { success, text } = process::run(&mut command, false)?;
        if !success {
            bail!("{line}: {text}");
        }
        Ok(text)
    }

    /// Every file with what there is to tell of it.
    pub(super) fn files(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut files = BTreeMap::new();
        collect(self.root.path(), self.root.path(), &mut files)?;
        Ok(files)
    }
}

fn collect(root: &Path, folder: &Path, into: &mut BTreeMap<String, String>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = format!("/{}", path.strip_prefix(root)?.display());
        if OTHERS
            .iter()
            .any(|other| name == *other || name.strip_prefix(other).is_some_and(|rest| rest.starts_with('/')))
        {
            continue;
        }
        let about = fs::symlink_metadata(&path)?;
        let mut what = format!("{:o} {}:{}", about.mode(), about.uid(), about.gid());
        if about.is_dir() {
            collect(root, &path, into)?;
        } else if about.is_file() && name.starts_with("/etc/") {
            what += &String::from_utf8_lossy(&fs::read(&path)?);
        } else if about.is_file() {
            what += &format!(" {}", about.len());
        }
        into.insert(name, what);
    }
    Ok(())
}
