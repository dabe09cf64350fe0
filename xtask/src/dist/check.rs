//! Packages in systems in which nothing else is: installed, used, upgraded, removed, and then nothing is left.
//!
//! Each system is unpacked from the lab's cache into a folder of its own, and its programs run there by `chroot`, with processes and
//! mounts that the machine does not see. There is no systemd in it; a stand-in tells what it was asked for.

use super::build::Built;
use super::{contents, deb};
use crate::process::{self, Said};
use anyhow::{Context, bail, ensure};
use jitney_lab::{SUITES, empty_system};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use tempfile::TempDir;

/// The version that is there before the upgrade.
const EARLIER: &str = "0.0.1";

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

/// Stands in for systemd: says that it runs and that the broker is active, and writes down what it is asked for.
const SYSTEMCTL: &str = "#!/bin/sh\necho \"$*\" >> /tmp/systemctl.log\n";

pub(super) fn run(built: &Built, folder: &Path, suites: &[String], time: u32) -> anyhow::Result<ExitCode> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    ensure!(is_root, "installing into an empty system takes root: sudo -E cargo xtask dist --check");
    without_a_system(built)?;
    let version = env!("CARGO_PKG_VERSION");
    let package = fs::read(folder.join(format!("jitney_{version}_amd64.deb")))?;
    let earlier = deb::bytes(&contents::command(built, EARLIER, time)?)?;
    let all = SUITES.map(str::to_owned);
    let suites = if suites.is_empty() { &all } else { suites };
    for suite in suites {
        let system = System::unpack(suite)?;
        system.write("tmp/jitney.deb", &package)?;
        system.write("tmp/earlier.deb", &earlier)?;
        try_on(&system).with_context(|| format!("Debian {suite}"))?;
    }
    with_rpm(&folder.join(format!("jitney-{version}-1.x86_64.rpm")))?;
    Ok(ExitCode::SUCCESS)
}

fn try_on(system: &System) -> anyhow::Result<()> {
    let before = system.files()?;
    // The version before, to which an administrator has done what administrators do.
    system.must("dpkg --install /tmp/earlier.deb")?;
    system.must("echo 'exit-when-idle = \"10m\"' >> /etc/jitney/config.toml")?;
    system.must("dpkg --force-confold --install /tmp/jitney.deb")?;
    ensure!(
        system.must("cat /etc/jitney/config.toml")?.contains("exit-when-idle"),
        "an upgrade changed the settings"
    );
    ensure!(!system.must("dpkg --status jitney")?.contains(EARLIER), "the upgrade is none");

    let said = system.must("jitney --version")?;
    ensure!(said.trim() == format!("jitney {}", env!("CARGO_PKG_VERSION")), "{said}");
    system.must("getent group jitney")?;
    system.must("jitney test general --emulate nitefury")?;
    system.must("jitney xdma-compat --emulate nitefury -- ls /usr")?;
    system.must("jitney broker --system --check")?;
    for page in ["jitney", "jitney-test-memory"] {
        ensure!(
            system.must(&format!("zcat /usr/share/man/man1/{page}.1.gz"))?.contains(".SH SYNOPSIS"),
            "{page}(1) is no page"
        );
    }
    let completed = system.must(
        "bash -c '. /usr/share/bash-completion/completions/jitney; COMP_LINE=\"jitney emulate nitef\"; COMP_POINT=${#COMP_LINE}; \
         COMP_WORDS=(jitney emulate nitef); COMP_CWORD=2; COMP_TYPE=9; _jitney jitney nitef emulate; echo \"${COMPREPLY[*]}\"'",
    )?;
    ensure!(completed.contains("nitefury-dma-ddr3"), "bash completes {completed:?}");

    // An upgrade, and a removal, where systemd runs: the broker is replaced, not ended, and ended when it goes.
    system.write("usr/local/bin/systemctl", SYSTEMCTL.as_bytes())?;
    system.write("usr/local/bin/systemd-tmpfiles", SYSTEMCTL.as_bytes())?;
    system.must("chmod +x /usr/local/bin/*; mkdir -p /run/systemd/system; dpkg --install /tmp/jitney.deb")?;
    let asked = system.must("cat /tmp/systemctl.log; : > /tmp/systemctl.log")?;
    ensure!(
        asked.contains("daemon-reload") && asked.contains("is-active jitney.service"),
        "an upgrade asks {asked}"
    );
    ensure!(
        !["stop", "restart", "disable"].iter().any(|word| asked.contains(word)),
        "an upgrade asks {asked}"
    );

    // Two cards that are bound for good, one by us and one by somebody else.
    system.write(
        "etc/udev/rules.d/70-jitney-0000:2e:00.0.rules",
        b"# Written by jitney bind --persist; and so on\n",
    )?;
    system.write("etc/udev/rules.d/70-jitney-mine.rules", b"# mine\n")?;
    system.must("dpkg --remove jitney")?;
    let asked = system.must("cat /tmp/systemctl.log")?;
    ensure!(asked.contains("disable --now jitney.socket jitney.service"), "a removal asks {asked}");
    ensure!(system.exists("etc/jitney/config.toml"), "a removal that is no purge took the settings");
    system.must("dpkg --purge jitney")?;
    ensure!(system.exists("etc/udev/rules.d/70-jitney-mine.rules"), "a purge took what others wrote");
    system.must("rm -r /etc/udev/rules.d/70-jitney-mine.rules /run/systemd/system /usr/local/bin/systemctl /usr/local/bin/systemd-tmpfiles")?;
    system.must("rmdir --ignore-fail-on-non-empty /run/systemd /etc/udev/rules.d /etc/udev")?;
    let after = system.files()?;
    let left: Vec<&String> =
        after.iter().filter(|(path, what)| before.get(*path) != Some(*what)).map(|(path, _)| path).collect();
    let gone: Vec<&String> = before.keys().filter(|path| !after.contains_key(*path)).collect();
    ensure!(left.is_empty() && gone.is_empty(), "a purge leaves {left:?}, and takes {gone:?}");
    println!("{}: installed, used, upgraded, removed; nothing is left", system.suite);
    Ok(())
}

/// The static command where there is nothing but it, and two files with accounts.
fn without_a_system(built: &Built) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    fs::create_dir(folder.path().join("etc"))?;
    fs::copy(&built.alone, folder.path().join("jitney"))?;
    fs::write(folder.path().join("etc/passwd"), "root:x:0:0::/:/\nbob:x:4732:4732::/:/\n")?;
    fs::write(folder.path().join("etc/group"), "root:x:0:\njitney:x:4730:bob\n")?;
    fs::write(
        folder.path().join("policy.toml"),
        "[[rule]]\nwho = [\"group:jitney\"]\naccess = \"shared\"\n",
    )?;
    let says = |arguments: &[&str]| {
        let mut chroot = Command::new("chroot");
        process::run(chroot.arg(folder.path()).arg("/jitney").args(arguments), false)
    };
    let Said { success, text } = says(&["--version"])?;
    ensure!(success, "the static command does not run: {text}");
    let Said { text, .. } = says(&["broker", "--policy", "/policy.toml", "--check", "--user", "bob"])?;
    ensure!(text.contains("group:jitney"), "the static command does not know who is in a group: {text}");
    println!("static: runs without any library, and finds users and groups");
    Ok(())
}

/// The other form, if there is a rpm here: in a folder of its own, without the scripts, as there is no shell in it.
fn with_rpm(package: &Path) -> anyhow::Result<()> {
    let Ok(_) = Command::new("rpm").arg("--version").output() else {
        println!("rpm: not tried, there is no rpm on this machine");
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let rpm = |arguments: &[&str]| {
        let mut rpm = Command::new("rpm");
        rpm.arg("--root").arg(folder.path()).args(arguments);
        let Said { success, text } = process::run(&mut rpm, false)?;
        ensure!(success, "rpm {}: {text}", arguments.join(" "));
        anyhow::Ok(text)
    };
    rpm(&["--initdb"])?;
    let path = package.display().to_string();
    rpm(&["--install", "--nodeps", "--noscripts", "--nosignature", &path])?;
    ensure!(folder.path().join("usr/bin/jitney").exists(), "rpm has not installed the command");
    rpm(&["--verify", "--nodeps", "--noscripts", "jitney"])?;
    rpm(&["--erase", "--nodeps", "--noscripts", "jitney"])?;
    for own in ["usr/bin/jitney", "etc/jitney", "usr/lib/jitney", "usr/share/doc/jitney"] {
        ensure!(!folder.path().join(own).exists(), "/{own} is left");
    }
    println!("rpm: installed, verified, removed; nothing is left");
    Ok(())
}

/// A system in a folder.
struct System {
    suite: String,
    root: TempDir,
}

impl System {
    fn unpack(suite: &str) -> anyhow::Result<Self> {
        let archive = empty_system(suite)?;
        let root = tempfile::Builder::new().prefix("jitney-dist-").tempdir()?;
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755))?;
        process::must(
            Command::new("tar").args(["--numeric-owner", "-xpf"]).arg(archive).arg("-C").arg(root.path()),
        )?;
        Ok(Self { suite: suite.to_owned(), root })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        fs::write(&path, bytes).with_context(|| path.display().to_string())
    }

    /// Runs a line of shell as root of the system, which has to succeed.
    fn must(&self, line: &str) -> anyhow::Result<String> {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-ec"]);
        command
            .arg("mount -t proc proc \"$0/proc\"; exec chroot \"$0\" sh -ec \"$1\"")
            .arg(self.root.path())
            .arg(line);
        command.env_clear().envs([
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("LC_ALL", "C.UTF-8"),
            ("DEBIAN_FRONTEND", "noninteractive"),
            ("HOME", "/root"),
        ]);
        let Said { success, text } = process::run(&mut command, false)?;
        if !success {
            bail!("{line}: {text}");
        }
        Ok(text)
    }

    /// Every file with what there is to tell of it.
    fn files(&self) -> anyhow::Result<BTreeMap<String, String>> {
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
