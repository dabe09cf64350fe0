//! docs/operating.md, word by word.

use crate::machine::{MANAGER, Machine};
use crate::pages::commands;
use crate::support::Process;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

const TEXT: &str = include_str!("../../../../docs/operating.md");

/// What stands in for programs that a test cannot have. `systemctl` starts and ends the test's own service manager.
const STUBS: &[(&str, &str)] = &[
    ("cargo", "exit 0"),
    ("journalctl", "exit 0"),
    (
        "sudo",
        r#"[ "$1" = -u ] || exec "$@"
user=$2; shift 2
exec setpriv --reuid "$user" --regid "$user" --init-groups "$@""#,
    ),
    (
        "systemctl",
        r#"echo "$*" >> systemctl.log
broker() { sed -n 's/^started //p' manager.log | tail -1; }
end() { kill -TERM "$1" && while [ -d "/proc/$1" ] && ! grep -q '^State:.Z' "/proc/$1/status"; do sleep 0.02; done; }
case "$*" in
"enable --now jitney.socket")
    [ -f /etc/systemd/system/jitney.socket ] && [ -f /etc/systemd/system/jitney.service ] || exit 5
    JITNEY_CARDS=$(cat board) python3 -c "$(cat manager.py)" /usr/local/bin/jitney "$(getent group jitney | cut -d: -f3)" 30000000 \
        > manager.log 2>&1 < /dev/null &
    echo $! > manager.pid
    until grep -q "socket ready" manager.log; do sleep 0.02; done ;;
"restart jitney.service") end "$(broker)" ;;
"disable --now jitney.socket jitney.service") kill -KILL "$(cat manager.pid)"; end "$(broker)"; rm /run/jitney/broker.sock ;;
"daemon-reload" | "status jitney.service") ;;
*) echo "systemctl $*: not in this test" >&2; exit 1 ;;
esac"#,
    ),
    ("systemd-sysusers", "grep -q '^g jitney -$' \"$1\" && groupadd --system jitney"),
    ("systemd-tmpfiles", "grep -q '^d /run/jitney 0755 root root -$' \"$2\" && mkdir -m 0755 /run/jitney"),
];

#[test]
fn the_text_does_what_it_says() {
    let machine = match Machine::new() {
        Ok(machine) => machine,
        Err(why) => return println!("skipped: {why}"),
    };
    let ground = &machine.ground;
    let board = ground.board("nitefury --memory 16M");
    std::fs::write(ground.path("board"), board.address()).unwrap();
    std::fs::write(ground.path("manager.py"), MANAGER).unwrap();
    let stubs = ground.path("stubs");
    std::fs::create_dir(&stubs).unwrap();
    for (name, script) in STUBS {
        std::fs::write(stubs.join(name), format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(stubs.join(name), Permissions::from_mode(0o755)).unwrap();
    }
    // As it looks in the repository after a build.
    std::fs::create_dir_all(ground.path("target/release")).unwrap();
    symlink(env!("CARGO_BIN_EXE_jitney"), ground.path("target/release/jitney")).unwrap();
    symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging"), ground.path("packaging")).unwrap();

    let path = format!("{}:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", stubs.display());
    let run = |line: &str| {
        let mut command =
            machine.command("sh", &["-ec", &format!("cd {}\n{line}", ground.path("").display())]);
        command.env("PATH", &path);
        Process::start(command).wait()
    };
    let mut said = Vec::new();
    for line in commands(TEXT) {
        let outcome = run(line).exits(0);
        if line.starts_with("sudo -u") {
            said.push((line, outcome.out));
        } else if line.contains("--check --user bob") {
            assert!(outcome.out.contains("group:jitney"), "{outcome}");
        } else if line.contains("usermod -aG jitney bob") {
            // Whoever is not told so is not let in, and told so.
            run("sudo -u carol jitney info").exits(1).complains(line.rsplit_once(' ').unwrap().0);
        }
    }
    assert!(said.len() >= 3, "{said:?}");
    for (line, out) in &said {
        assert!(out.contains("broker") || out.contains("NiteFury"), "{line}: {out}");
    }
    let log = std::fs::read_to_string(ground.path("manager.log")).unwrap();
    // Served before and after the restarts, by brokers that all ended as they should.
    assert!(log.matches("heard READY=1").count() >= 1 && log.contains("ended 0"), "{log}");
    // Nothing is left of it.
    for left in ["etc/jitney", "etc/systemd/system/jitney.socket", "etc/tmpfiles.d/jitney.conf", "bin/jitney"]
    {
        assert!(!ground.path(left).exists(), "{left}");
    }
    assert!(!std::fs::read_to_string(ground.path("etc/group")).unwrap().contains("jitney:"));
}

#[test]
fn every_setting_is_described() {
    for key in ["cards", "isolate", "on-demand", "iommu", "group", "policy", "exit-when-idle"] {
        assert!(TEXT.contains(&format!("| `{key}` | ")), "{key}");
    }
}
