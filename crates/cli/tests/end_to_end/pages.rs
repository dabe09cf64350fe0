//! Pages of docs/ that a newcomer types word by word, in a shell.

use crate::support::{Ground, Outcome, Process};
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

/// The commands of a page, in its order.
fn commands(page: &str) -> Vec<&str> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in page.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            _ if inside => found.push(line),
            _ => {}
        }
    }
    found
}

/// Runs a page in a shell that ends at the first command that fails. A line that starts a shell is answered with the lines behind it,
/// up to `exit`.
fn follow(ground: &Ground, page: &str) -> Outcome {
    let mut script = String::from("set -e\n");
    for line in commands(page) {
        match line {
            line if line.ends_with("-- bash") => script += &format!("{line} -e <<'END_OF_SHELL'\n"),
            "exit" => script += "exit\nEND_OF_SHELL\n",
            line => script += &format!("{line}\n"),
        }
    }
    let stubs = ground.path("stubs");
    std::fs::create_dir(&stubs).unwrap();
    // What it builds is there.
    std::fs::write(stubs.join("cargo"), "#!/bin/sh\nexit 0\n").unwrap();
    std::fs::set_permissions(stubs.join("cargo"), Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir_all(ground.path("target/release")).unwrap();
    symlink(env!("CARGO_BIN_EXE_jitney"), ground.path("target/release/jitney")).unwrap();
    let mut command = Command::new("bash");
    let path = std::env::var("PATH").unwrap_or_default();
    command.args(["-c", &script]).current_dir(ground.path(""));
    command.env("PATH", format!("{}:{path}", stubs.display())).env("XDG_RUNTIME_DIR", ground.path("run"));
    Process::start(command).wait()
}

#[test]
fn the_first_hour_without_a_card_goes_as_it_is_printed() {
    let ground = Ground::new();
    let outcome = follow(&ground, include_str!("../../../../docs/first-hour.md")).exits(0);
    for said in ["NiteFury", "0x4e495445", "0x1fc00006", "all as in there.bin", "test pattern matches"] {
        assert!(outcome.out.contains(said), "{said}: {outcome}");
    }
    for (said, why) in
        [("refused, as it should be", "h2c0 is held by"), ("found, as it should be", "transfer")]
    {
        assert!(outcome.out.contains(said) && outcome.err.contains(why), "{said}: {outcome}");
    }
    assert!(outcome.err.contains("waiting in line: h2c0 is held by"), "{outcome}");
}
