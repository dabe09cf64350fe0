//! A broker that several users share, by a policy. It takes root to be several users.

use crate::support::{Ground, Process, eventually};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

const ALICE: u32 = 4721;
const BOB: u32 = 4722;
/// A group that both are in, and nobody else.
const LAB: u32 = 4720;

const POLICY: &str = r#"
[[rule]]
who = ["user:4721"]
access = "alone"

[[rule]]
who = ["group:4720"]
cards = ["board:nitefury"]
access = "shared"

[[quota]]
who = ["user:4722"]
memory = "1 MiB"
lease-time = "200ms"
"#;

/// A NiteFury and a block RAM behind a broker with that policy; nothing without root.
struct Lab {
    ground: Ground,
    socket: PathBuf,
    broker: Process,
    nitefury: String,
    blkram: String,
    _boards: [crate::support::Board; 2],
}

impl Lab {
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let ground = Ground::new();
        for (name, mode) in [("", 0o755), ("tmp", 0o1777)] {
            std::fs::set_permissions(ground.path(name), Permissions::from_mode(mode)).unwrap();
        }
        let boards = [ground.board("nitefury --memory 16M"), ground.board("tef1001-dma-blkram")];
        let (nitefury, blkram) = (boards[0].address(), boards[1].address());
        let policy = ground.path("policy.toml");
        std::fs::write(&policy, POLICY).unwrap();
        let socket = ground.path("shared.sock");
        let mut command = ground.jitney(["broker", "--isolate", "--group"]);
        command.args(["--card", &nitefury, "--card", &blkram]).arg("--policy").arg(&policy);
        command.arg("--socket").arg(&socket);
        // Its socket is its group's.
        command.gid(LAB);
        let mut broker = Process::start(command);
        broker.wait_for_line("listening at ");
        Some(Self { ground, socket, broker, nitefury, blkram, _boards: boards })
    }

    fn start(&self, uid: u32, line: &str) -> Process {
        let mut command = self.ground.jitney(line.split_whitespace());
        command.env("JITNEY_BROKER", &self.socket).uid(uid).gid(LAB);
        Process::start(command)
    }
}

#[test]
fn each_user_sees_and_uses_what_the_policy_says() {
    let Some(lab) = Lab::new() else {
        println!("skipped: only root can start processes of other users");
        return;
    };
    let cards = |uid| {
        let status = lab.start(uid, "status --json").wait().exits(0).json();
        status["cards"]
            .as_array()
            .unwrap()
            .iter()
            .map(|card| card["card"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(cards(ALICE), [lab.nitefury.as_str(), lab.blkram.as_str()]);
    assert_eq!(cards(BOB), [lab.nitefury.as_str()]);
    lab.start(ALICE, "time blkram --transfers 20").wait().exits(0);
    lab.start(BOB, "test ddr --size 256K --passes 1").wait().exits(0);
    // Not the other card, not the whole one, not more memory than he may have.
    lab.start(BOB, &format!("info {}", lab.blkram)).wait().exits(1).complains("no card");
    let denied = "who may not reset it: rule 2 (who group:4720, cards board:nitefury, access shared)";
    lab.start(BOB, &format!("reset {}", lab.nitefury)).wait().exits(1).complains(denied);
    let denied = lab.start(BOB, "test ddr --size 8M --passes 1").wait().exits(1);
    denied.complains("may have 0x100000");
    lab.start(ALICE, "test ddr --size 8M --passes 1 --only 10ee:7011").wait();
}

#[test]
fn who_has_held_for_too_long_what_others_wait_for_is_dropped() {
    let Some(mut lab) = Lab::new() else {
        println!("skipped: only root can start processes of other users");
        return;
    };
    let leases = |count: usize| {
        eventually("leases", || {
            let status = lab.start(ALICE, "status --json").wait().exits(0).json();
            let held = status["cards"][0]["leases"].as_array().unwrap().len();
            if held == count { Ok(()) } else { Err(format!("{held}")) }
        });
    };
    let holder = lab.start(BOB, &format!("lease {} h2c0 -- sleep 1000", lab.nitefury));
    leases(1);
    let waiter = lab.start(ALICE, &format!("lease {} h2c0 --wait forever -- true", lab.nitefury));
    waiter.wait().exits(0).complains("waiting in line: h2c0 is held by pid");
    // Nobody else can tell a program that knows nothing of it.
    let text = "was held for longer than the policy allows while others wait (quota 1 (who user:4722";
    holder.wait().exits(1).complains(text).complains("the program is told to end");
    assert!(lab.broker.runs());
}

#[test]
fn a_policy_is_checked_and_explained() {
    let ground = Ground::new();
    let policy = ground.path("policy.toml");
    std::fs::write(&policy, POLICY).unwrap();
    let check = |more: &str| ground.run(&format!("broker --policy {} --check {more}", policy.display()));
    check("")
        .exits(0)
        .says("rule 2 (who group:4720, cards board:nitefury, access shared)")
        .says("everybody else: nothing");
    check("--user 4722")
        .exits(0)
        .says("user 4722:")
        .says("quota 1 (who user:4722, memory 1048576 bytes, lease-time 200ms)");
    let json = check("--user 4722 --json").exits(0).json();
    assert_eq!(json["user"]["uid"], 4722, "{json}");
    check("--user nobody-of-that-name").exits(2).complains("there is no user");
    check("--group=no-group-of-that-name").exits(2).complains("groupadd --system no-group-of-that-name");
    check("--group").exits(0);
    std::fs::write(&policy, "[[rule]]\nwho = [\"everybody\"]\naccess = \"maybe\"\n").unwrap();
    for line in ["--check", ""] {
        let line = format!("broker --policy {} --emulate nitefury {line}", policy.display());
        ground.run(&line).exits(1).complains("line 3").complains("policy.toml");
    }
    let line = format!("broker --policy {}/none.toml --emulate nitefury", ground.path("").display());
    ground.run(&line).exits(1).complains("none.toml: ENOENT");
}
