//! Output that cannot be written: what a command is for goes on, and its exit status is the documented one.

use crate::support::{Ground, Outcome, Process, eventually, in_shell};
use rustix::process::Signal;
use std::process::Stdio;
use std::time::Duration;

/// `jitney` with one of its outputs at /dev/full, which takes nothing.
fn full(ground: &Ground, descriptor: u8, args: &[&str]) -> Process {
    let mut shell = in_shell(&ground.jitney(args), &format!("exec \"$@\" {descriptor}>/dev/full"));
    shell.current_dir(ground.path("")).stdin(Stdio::null());
    Process::start(shell)
}

fn without_stderr(ground: &Ground, line: &str) -> Outcome {
    full(ground, 2, &line.split_whitespace().collect::<Vec<_>>()).wait()
}

#[test]
fn a_program_is_told_that_its_lease_is_lost_also_if_nobody_else_can_be() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 16M");
    let broker = ground.broker(&[&board]);
    let socket = broker.socket.display().to_string();
    let script = "trap 'echo told; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let mut lease =
        full(&ground, 2, &["lease", "10ee:7011", "whole", "--broker", &socket, "--", "sh", "-c", script]);
    lease.wait_for_line("ready");
    broker.process.signal(Signal::KILL);
    lease.wait_at_most(Duration::from_secs(10)).exits(1).says("told");
}

#[test]
fn the_exit_status_is_the_documented_one_if_errors_cannot_be_written() {
    let ground = Ground::new();
    without_stderr(&ground, "info 10ee:7011").exits(1);
    without_stderr(&ground, "--json info 10ee:7011").exits(1).says("\"error\"");
    without_stderr(&ground, "info --nonsense").exits(2);
    without_stderr(&ground, "test general").exits(3);
    without_stderr(&ground, "-vv test general --emulate nitefury").exits(0);
    without_stderr(&ground, "run -- /no/such/program").exits(3);
    without_stderr(&ground, "run --emulate nitefury -- /no/such/program").exits(127);
    let killed = ["run", "--emulate", "nitefury", "--", "sh", "-c", "kill -KILL $$"];
    full(&ground, 2, &killed).wait().exits(137);
    let board = ground.board("nitefury --memory 16M");
    let broker = ground.broker(&[&board]);
    without_stderr(&ground, &format!("lease 10ee:7011 {} -- true", broker.option())).exits(0);
    without_stderr(&ground, &format!("lease 10ee:7011 {} -- /no/such/program", broker.option())).exits(127);
}

#[test]
fn output_that_cannot_be_written_is_a_failure_that_is_named() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 16M");
    let info = format!("info --card {} 10ee:7011", board.address());
    for line in ["--help", "--version", "run --help", "boards", "completions bash", "schema", &info] {
        let line: Vec<_> = line.split_whitespace().collect();
        full(&ground, 1, &line).wait().exits(1).complains("standard output: ENOSPC");
    }
    eventually("the board goes on", || {
        let outcome = ground.run(&info);
        outcome.status.success().then_some(()).ok_or_else(|| outcome.to_string())
    });
}
