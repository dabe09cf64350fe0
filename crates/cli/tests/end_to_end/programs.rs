//! What becomes of the programs of `jitney run`, and what they get from it.

use crate::support::{Ground, Process};
use std::time::Duration;

#[test]
fn programs_that_fail_are_named_and_the_others_go_on() {
    let ground = Ground::new();
    let before = ground.files();
    let outcome = ground
        .run_args([
            "run",
            "--emulate",
            "nitefury",
            "/no/such/program",
            "/etc/passwd",
            "sh -c 'exit 5'",
            "sh -c 'kill -KILL $$'",
            "sh -c 'kill -SEGV $$'",
            "jitney test ddr --size 4M --passes 4",
        ])
        .exits(1);
    let row = |name: &str| {
        let found = outcome.out.lines().find(|line| line.trim_start().starts_with(&format!("{name} ")));
        found
            .filter(|line| !line.contains('|'))
            .unwrap_or_else(|| panic!("no row {name}: {outcome}"))
            .to_owned()
    };
    assert!(row("program").contains("result"));
    let table = outcome.out.rsplit("result").next().unwrap();
    for text in [
        "could not be started: /no/such/program: ENOENT",
        "could not be started: /etc/passwd: EACCES",
        "failed with exit status 5",
        "killed by SIGKILL",
        "killed by SIGSEGV",
    ] {
        assert!(table.contains(text), "{text}: {outcome}");
    }
    let ddr = table.lines().find(|line| line.trim_start().starts_with("ddr ")).unwrap();
    assert!(ddr.contains("passed"), "{outcome}");
    ground.assert_nothing_left(&before);
}

#[test]
fn a_command_line_that_cannot_be_taken_apart_is_named() {
    let ground = Ground::new();
    ground.run_args(["run", "--emulate", "nitefury", "sh -c 'exit"]).exits(2).complains("sh -c 'exit");
    ground.run_args(["run", "--emulate", "nitefury", " "]).exits(2).complains("empty program name");
    ground.run_args(["run", "--emulate", "nitefury"]).exits(2);
}

#[test]
fn a_program_inherits_one_socket_and_nothing_else() {
    let ground = Ground::new();
    let mut command = ground.jitney([
        "run",
        "--fds",
        "--emulate",
        "nitefury",
        "--emulate",
        "tef1001-dma-blkram",
        "sh -c 'sleep 0.3; exec ls -l /proc/self/fd'",
        "sh -c 'sleep 0.3; exec ls -l /proc/self/fd'",
    ]);
    // What it was started with itself is not for its programs either.
    command.env("PATH", std::env::var_os("PATH").unwrap());
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "exec 7</dev/zero 9>/dev/null; exec \"$0\" \"$@\""]).arg(command.get_program());
    shell.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let outcome = crate::support::Process::start(shell).wait().exits(0);
    for mark in ["sh   |", "sh.2 |"] {
        let targets: Vec<&str> = outcome
            .out
            .lines()
            .filter(|line| line.starts_with(mark) && line.contains(" -> "))
            .map(|line| line.rsplit(" -> ").next().unwrap())
            // The folder that `ls` itself reads.
            .filter(|target| !target.contains("/proc/"))
            .collect();
        let sockets = targets.iter().filter(|target| target.starts_with("socket:")).count();
        let pipes = targets.iter().filter(|target| target.starts_with("pipe:")).count();
        assert_eq!((sockets, pipes, targets.len()), (1, 2, 4), "its output, its input, a socket: {outcome}");
        assert!(targets.contains(&"/dev/null"), "{outcome}");
    }
    // The same as `--fds` sees it from outside, and what the owner itself has open.
    let listed = |name: &str| -> Vec<String> {
        let lines =
            outcome.out.lines().skip_while(|line| !line.starts_with(&format!("open in {name} (pid ")));
        lines.skip(1).take_while(|line| line.starts_with("  fd ")).map(str::to_owned).collect()
    };
    assert_eq!(listed("sh").iter().filter(|line| line.contains("socket:")).count(), 1, "{outcome}");
    assert!(
        !listed("sh").iter().any(|line| line.contains("memfd:") || line.contains("anon_inode")),
        "{outcome}"
    );
    let own = listed("jitney");
    assert!(own.iter().filter(|line| line.contains("socket:")).count() >= 2, "{outcome}");
    assert!(own.iter().any(|line| line.contains("/dev/null")), "--fds shows all of them: {outcome}");
}

#[test]
fn one_program_has_the_input_the_output_and_the_exit_status_of_the_command() {
    let ground = Ground::new();
    std::fs::write(ground.path("input"), "\"$J\" list | grep -c 10ee:7011\nexit 7\n").unwrap();
    let shell = |last: &str| {
        let mut command = ground.jitney(["run", "--emulate", "nitefury", "--", "sh", "-c", last]);
        command.env("J", env!("CARGO_BIN_EXE_jitney"));
        command.stdin(std::fs::File::open(ground.path("input")).unwrap());
        Process::start(command).wait()
    };
    let outcome = shell("exec sh").exits(7);
    assert_eq!(outcome.out, "1\n", "{outcome}");
    assert!(outcome.err.contains("card vfio-user:"), "{outcome}");
    shell("kill -TERM $$").exits(128 + 15).complains("killed by SIGTERM");
}

#[test]
fn without_fds_no_descriptors_are_shown() {
    let ground = Ground::new();
    let outcome = ground.run_args(["run", "--emulate", "nitefury", "true"]).exits(0);
    assert!(!outcome.out.contains("  fd "), "{outcome}");
}

#[test]
fn behind_two_dashes_is_one_program_and_p_names_several() {
    let ground = Ground::new();
    let run = |args: &[&str]| ground.run_args(["run", "--emulate", "nitefury"].iter().chain(args));
    run(&["--", "jitney", "test", "general"]).exits(0).says("Found NiteFury");
    let script = "echo \"$0 $1\" --fds";
    assert_eq!(run(&["--", "sh", "-c", script, "a b", "c"]).exits(0).out, "a b c --fds\n");
    let both = run(&["-p", "sh -c 'echo one'", "-p", "jitney test general"]).exits(0);
    assert!(both.out.contains("sh      | one") && both.out.contains("general | Found NiteFury"), "{both}");
    run(&["--", "jitney test general"]).exits(127).complains("several are given by -p");
    run(&["true", "--", "true"]).exits(2);
    run(&["-p", "true", "true"]).exits(2);
    run(&[]).exits(2);
}

#[test]
fn a_daemon_that_keeps_the_output_open_does_not_hold_up_the_end() {
    let ground = Ground::new();
    let outcome = ground
        .run_args(["run", "--emulate", "nitefury", "sh -c 'setsid sleep 30 & sleep 0.5; echo done'"])
        .exits(0)
        .says("sh | done");
    assert!(outcome.time < Duration::from_secs(5), "{:?}", outcome.time);
}

#[test]
fn what_a_program_leaves_behind_in_its_group_ends_with_it() {
    let ground = Ground::new();
    let outcome = ground
        .run_args(["run", "--emulate", "nitefury", "sh -c 'sleep 30 & echo done'"])
        .exits(0)
        .says("done");
    assert!(outcome.time < Duration::from_secs(5), "{:?}", outcome.time);
    assert!(ground.processes().is_empty());
}

#[test]
fn lines_come_whole_whatever_a_program_prints() {
    let ground = Ground::new();
    let script =
        r"sh -c 'printf \377\376; printf no-newline; head -c 300000 /dev/zero | tr \\0 x; echo; echo last'";
    let outcome = ground.run_args(["run", "--emulate", "nitefury", script]).exits(0);
    assert!(outcome.out.contains("no-newlinexxx"));
    assert!(outcome.out.contains("sh | last\n"));
}
