//! Packages in systems in which nothing else is: installed, used, upgraded, removed, and then nothing is left.
//!
//! There is no systemd in these; a stand-in tells what it was asked for. What is one is in [`service`].

use super::build::Built;
use super::system::System;
use super::{contents, deb, service};
use crate::process::{self, Said};
use anyhow::{Context, ensure};
use jitney_lab::{Contents, SUITES};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, ExitCode};

/// The version that is there before the upgrade.
const EARLIER: &str = "0.0.1";

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
        let system = |contents| {
            let system = System::unpack(suite, contents)?;
            system.write("root/jitney.deb", &package)?;
            system.write("root/earlier.deb", &earlier)?;
            anyhow::Ok(system)
        };
        try_on(&system(Contents::Nothing)?).with_context(|| format!("Debian {suite}"))?;
        service::serve(&system(Contents::Services)?, built)
            .with_context(|| format!("Debian {suite} with systemd"))?;
    }
    with_rpm(&folder.join(format!("jitney-{version}-1.x86_64.rpm")))?;
    Ok(ExitCode::SUCCESS)
}

fn try_on(system: &System) -> anyhow::Result<()> {
    let before = system.files()?;
    // The version before, to which an administrator has done what administrators do.
    system.must("dpkg --install /root/earlier.deb")?;
    system.must("echo 'exit-when-idle = \"10m\"' >> /etc/jitney/config.toml")?;
    system.must("dpkg --force-confold --install /root/jitney.deb")?;
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
    system
        .must("chmod +x /usr/local/bin/*; mkdir -p /run/systemd/system; dpkg --install /root/jitney.deb")?;
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
