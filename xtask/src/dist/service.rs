//! The broker as a service of a system that systemd starts: docs/operating.md word by word, then the package, under two users' programs.
//!
//! systemd runs as it does in a container: first process of namespaces of its own, with a cgroup of its own below the machine's. Real
//! cards there are none; an emulated board is a service beside the broker's.

use super::build::Built;
use super::system::{ENVIRONMENT, System};
use crate::process::{self, Said};
use anyhow::{Context, bail, ensure};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const PAGE: &str = include_str!("../../../docs/operating.md");

/// How long the system may take to start, and the broker to do what it is to do.
const LIMIT: Duration = Duration::from_secs(90);

/// What systemd finds when it starts: its own files, and of the machine's devices those that everybody has. `$0` is the system's folder.
const START: &str = "
mount --rbind \"$0\" \"$0\"
cd \"$0\"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm
for node in null zero full random urandom tty; do
    touch dev/$node
    mount --bind /dev/$node dev/$node
done
ln -s /proc/self/fd dev/fd
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
exec chroot . env -i container=jitney PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --log-target=journal";

/// Puts what follows into a cgroup of its own, `$1`, before it has a view of its own on them.
const IN_GROUP: &str = "
mount -t tmpfs tmpfs /mnt
mkdir /mnt/cgroup
mount -t cgroup2 cgroup2 /mnt/cgroup
mkdir -p /mnt/cgroup/$1
echo $$ > /mnt/cgroup/$1/cgroup.procs
umount /mnt/cgroup /mnt
exec unshare --mount --pid --fork --kill-child --uts --ipc --cgroup --net sh -ec \"$2\" \"$0\"";

/// Takes the cgroup away again, with those that systemd has made in it.
const OUT_OF_GROUP: &str = "
mount -t tmpfs tmpfs /mnt
mkdir /mnt/cgroup
mount -t cgroup2 cgroup2 /mnt/cgroup
find /mnt/cgroup/$0 -depth -type d -exec rmdir {} +";

/// A board for the broker, and users.
const SCENE: &str = "
useradd --create-home alice
useradd --create-home bob
useradd --create-home carol
echo '127.0.0.1 jitney-service' >> /etc/hosts
printf '#!/bin/sh\n' > /usr/local/sbin/cargo
chmod +x /usr/local/sbin/cargo
cat > /etc/systemd/system/board.service <<END
[Service]
Type=exec
ExecStart=/root/repository/target/release/jitney emulate nitefury --memory 64M --socket /run/board.sock
END
mkdir -p /etc/systemd/system/jitney.service.d
printf '[Service]\nEnvironment=JITNEY_CARDS=vfio-user:/run/board.sock\n' > /etc/systemd/system/jitney.service.d/board.conf
systemctl daemon-reload
systemctl start board.service
until [ -S /run/board.sock ]; do sleep 0.1; done";

pub(super) fn serve(system: &System, built: &Built) -> anyhow::Result<()> {
    system.write("root/repository/target/release/jitney", &fs::read(&built.command)?)?;
    for file in ["sysusers", "tmpfiles", "service", "socket"].map(|kind| format!("jitney.{kind}")) {
        copy(system, &file)?;
    }
    ["config.toml", "policy.toml"].iter().try_for_each(|file| copy(system, file))?;
    system.write("etc/hostname", b"jitney-service\n")?;
    system.must("chmod 0755 /root/repository/target/release/jitney")?;
    let running = Running::start(system)?;
    running.must(SCENE)?;
    by_hand(&running).context("docs/operating.md")?;
    by_package(&running).context("the package")?;
    println!(
        "{}: served two users under systemd, was upgraded, killed and removed; nothing is left",
        system.suite
    );
    Ok(())
}

fn copy(system: &System, file: &str) -> anyhow::Result<()> {
    let from = crate::workspace::root().join("packaging").join(file);
    system.write(&format!("root/repository/packaging/{file}"), &fs::read(&from)?)
}

/// What the page says, word by word.
fn by_hand(running: &Running<'_>) -> anyhow::Result<()> {
    let mut lines = PAGE.lines();
    let mut said = String::new();
    while lines.by_ref().any(|line| line == "```sh") {
        for line in lines.by_ref().take_while(|line| *line != "```") {
            if line.contains("usermod -aG jitney bob") {
                refuses_carol(running)?;
            }
            said += &running.must(&format!("cd /root/repository; {line}"))?;
        }
    }
    for words in
        ["as the client of a broker", "NiteFury", "No program uses it", "group:jitney", "listening at"]
    {
        ensure!(said.contains(words), "nothing says {words:?}: {said}");
    }
    for left in [
        "/etc/jitney",
        "/usr/local/bin/jitney",
        "/etc/systemd/system/jitney.service",
        "/run/jitney/broker.sock",
    ] {
        running.must(&format!("[ ! -e {left} ]"))?;
    }
    Ok(())
}

fn refuses_carol(running: &Running<'_>) -> anyhow::Result<()> {
    let said = running.must("! sudo -u carol jitney info 2>&1")?;
    ensure!(said.contains("sudo usermod -aG jitney carol"), "carol hears {said}");
    Ok(())
}

/// A version before, this one in its place, a crash, a fresh start and the end, under a program of alice's that goes on.
fn by_package(running: &Running<'_>) -> anyhow::Result<()> {
    running.must("dpkg --install /root/earlier.deb; systemctl enable --now jitney.socket")?;
    running.must("usermod -aG jitney alice; usermod -aG jitney bob")?;
    refuses_carol(running)?;
    let start = "systemd-run --quiet --unit=alice --uid=alice jitney test ddr --size 1M --passes 100000000";
    running.must(start)?;
    running.waits_for("sudo -u bob jitney status", "c2h0")?;
    running.waits_for("systemctl show -p StatusText jitney.service", "1 card, 1 program")?;

    let (first, before) = (running.broker()?, running.takeovers()?);
    running.must("dpkg --install /root/jitney.deb")?;
    let second = running.another_than(&first)?;
    running.goes_on()?;
    running.must(&format!("kill -KILL {second}"))?;
    running.another_than(&second)?;
    running.goes_on()?;
    // What was logged is in the journal a moment later.
    let since = Instant::now();
    while running.takeovers()? < before + 2 && since.elapsed() < LIMIT {
        sleep(Duration::from_millis(100));
    }
    let times = running.takeovers()? - before;
    ensure!(times == 2, "{times} brokers went on where another had stopped, by the journal");

    // Sessions end, and the service goes on.
    running.must("systemctl restart jitney.service")?;
    running.waits_for("systemctl is-active alice.service || true", "failed")?;
    running.waits_for("journalctl --unit alice.service --output cat", "the broker is gone")?;
    running.waits_for("sudo -u bob jitney status", "No program uses it")?;
    running.must("dpkg --purge jitney; [ ! -e /run/jitney/broker.sock ]; [ ! -e /etc/jitney ]")?;
    running.must(
        "if systemctl is-active jitney.socket || systemctl is-active jitney.service; then exit 1; fi",
    )?;
    Ok(())
}

/// A system that systemd has started.
struct Running<'a> {
    system: &'a System,
    outside: Child,
    /// As the machine counts, systemd's process.
    systemd: String,
    group: String,
}

impl<'a> Running<'a> {
    fn start(system: &'a System) -> anyhow::Result<Self> {
        let group = format!("jitney-service-{}", std::process::id());
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec", IN_GROUP]).arg(system.path("")).args([&group, START]);
        let outside = command.stdin(Stdio::null()).spawn().context("cannot start unshare")?;
        let mut running = Self { system, outside, systemd: String::new(), group };
        let since = Instant::now();
        loop {
            let pid = running.outside.id();
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            running.systemd = children.trim().to_owned();
            let state = running.says("systemctl is-system-running || true").map(|said| said.text);
            match state.as_deref().unwrap_or_default().trim() {
                "running" | "degraded" => return Ok(running),
                state => {
                    ensure!(since.elapsed() < LIMIT, "systemd does not come up: {state}");
                    let ended = running.outside.try_wait().context("waiting for systemd")?;
                    ensure!(ended.is_none(), "systemd cannot start: {state}");
                    sleep(Duration::from_millis(100));
                }
            }
        }
    }

    fn says(&self, line: &str) -> anyhow::Result<Said> {
        let mut command = Command::new("nsenter");
        command.args([
            "--target",
            &self.systemd,
            "--mount",
            "--pid",
            "--uts",
            "--ipc",
            "--cgroup",
            "--net",
            "chroot",
        ]);
        command.arg(self.system.path("")).args(["sh", "-ec", line]).env_clear().envs(ENVIRONMENT);
        process::run(&mut command, false)
    }

    /// Runs a line of shell as root of the system, which has to succeed.
    fn must(&self, line: &str) -> anyhow::Result<String> {
        let Said { success, text } = self.says(line)?;
        if !success {
            let log = self.says("journalctl --no-pager --lines 30").map(|said| said.text).unwrap_or_default();
            bail!("{line}: {text}\nthe journal: {log}");
        }
        Ok(text)
    }

    /// Asks until the answer has `words` in it.
    fn waits_for(&self, line: &str, words: &str) -> anyhow::Result<()> {
        let since = Instant::now();
        loop {
            let said = self.must(line)?;
            if said.contains(words) {
                return Ok(());
            }
            ensure!(since.elapsed() < LIMIT, "{line} does not say {words:?}: {said}");
            sleep(Duration::from_millis(100));
        }
    }

    /// The broker's process.
    fn broker(&self) -> anyhow::Result<String> {
        Ok(self.must("systemctl show --property MainPID --value jitney.service")?.trim().to_owned())
    }

    /// How many brokers went on where another had stopped.
    fn takeovers(&self) -> anyhow::Result<usize> {
        let log = self.must("journalctl --unit jitney.service --output cat")?;
        Ok(log.matches("the broker goes on where another one has stopped").count())
    }

    /// Waits for a broker that is another process than `before`.
    fn another_than(&self, before: &str) -> anyhow::Result<String> {
        let since = Instant::now();
        loop {
            let now = self.broker()?;
            if now != before && now != "0" {
                return Ok(now);
            }
            ensure!(since.elapsed() < LIMIT, "no other broker");
            sleep(Duration::from_millis(50));
        }
    }

    /// Alice's program goes on, and what it has is known.
    fn goes_on(&self) -> anyhow::Result<()> {
        self.waits_for("sudo -u bob jitney status", "test ddr")?;
        self.waits_for("systemctl show -p StatusText jitney.service", "1 card, 1 program")?;
        self.must("systemctl is-active alice.service").map(drop)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // The kernel ends everything in it with systemd, which unshare ends with itself.
        let _ = self.outside.kill();
        let _ = self.outside.wait();
        let mut remove = Command::new("unshare");
        remove.args(["--mount", "sh", "-ec", OUT_OF_GROUP, &self.group]);
        let since = Instant::now();
        // Until all of them are gone.
        while !process::run(&mut remove, false).is_ok_and(|said| said.success) {
            if since.elapsed() > LIMIT {
                return;
            }
            sleep(Duration::from_millis(100));
        }
    }
}
