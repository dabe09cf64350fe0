//! Brokers and boards of other users: nobody meets them who did not name them.

use crate::support::{Ground, Process};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

const STRANGER: u32 = 4711;
const VICTIM: u32 = 4712;

/// Surroundings in which every user can make the folder for sockets, as in /tmp; nothing without root, who alone can
/// start processes of other users.
fn shared_ground() -> Option<Ground> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let ground = Ground::new();
    for (name, mode) in [("", 0o755), ("run", 0o1777)] {
        std::fs::set_permissions(ground.path(name), Permissions::from_mode(mode)).unwrap();
    }
    Some(ground)
}

/// `jitney` as user `uid`.
fn as_user(ground: &Ground, uid: u32, line: &str) -> Process {
    let mut command = ground.jitney(line.split_whitespace());
    command.uid(uid).gid(uid);
    Process::start(command)
}

#[test]
fn a_squatters_broker_is_found_by_nobody_else() {
    let Some(ground) = shared_ground() else {
        println!("skipped: only root can start processes of other users");
        return;
    };
    let mut squatter = as_user(&ground, STRANGER, "broker --emulate nitefury");
    squatter.wait_for_line("listening at ");
    as_user(&ground, STRANGER, "list").wait().exits(0).says("NiteFury");
    for line in ["info", "test general", "run jitney", "broker --emulate nitefury"] {
        let outcome = as_user(&ground, VICTIM, line).wait().exits(1);
        outcome.complains(&format!("belongs to user {STRANGER}"));
    }
    // Root is nobody's victim either.
    ground.run("info").exits(1).complains(&format!("belongs to user {STRANGER}"));
    assert!(squatter.runs());
}

#[test]
fn a_squatters_board_is_opened_by_nobody_else() {
    let Some(ground) = shared_ground() else {
        println!("skipped: only root can start processes of other users");
        return;
    };
    let mut squatter = as_user(&ground, STRANGER, "emulate nitefury");
    squatter.wait_for_line("serving ");
    as_user(&ground, VICTIM, "info").wait().exits(1).complains(&format!("belongs to user {STRANGER}"));
    // The folder is the victim's, and what listens in it is not.
    let boards = ground.path("run/jitney/boards");
    for folder in [&ground.path("run/jitney"), &boards] {
        std::os::unix::fs::chown(folder, Some(VICTIM), Some(VICTIM)).unwrap();
    }
    for entry in std::fs::read_dir(&boards).unwrap() {
        std::os::unix::fs::chown(entry.unwrap().path(), Some(VICTIM), None).unwrap();
    }
    as_user(&ground, VICTIM, "info")
        .wait()
        .exits(1)
        .complains(&format!("is a process of user {STRANGER}, and nobody named it"));
    assert!(squatter.runs());
}

#[test]
fn without_a_folder_for_sockets_a_client_finds_nothing_and_a_broker_says_what_to_do() {
    let Some(ground) = shared_ground() else {
        println!("skipped: only root can start processes of other users");
        return;
    };
    for line in ["broker --emulate nitefury", "emulate nitefury", "run --emulate nitefury jitney"] {
        let mut command = ground.jitney(line.split_whitespace());
        command.env_remove("XDG_RUNTIME_DIR").uid(VICTIM).gid(VICTIM);
        Process::start(command).wait().exits(1).complains("set XDG_RUNTIME_DIR to a folder of your own");
    }
    let mut command = ground.jitney(["list"]);
    command.env_remove("XDG_RUNTIME_DIR").uid(VICTIM).gid(VICTIM);
    Process::start(command).wait().exits(0);
}
