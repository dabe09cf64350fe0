//! Programs that stand in line for what others hold, and those that hold it for programs that know nothing of jitney.

use crate::support::{Ground, eventually};
use rustix::process::Signal;
use serde_json::Value;

/// What the first card's parts are leased to, and who waits.
fn status(ground: &Ground, option: &str) -> Value {
    ground.run(&format!("status {option} --json")).exits(0).json()
}

fn in_line(ground: &Ground, option: &str) -> usize {
    status(ground, option)["cards"][0]["waits"].as_array().unwrap().len()
}

fn wait_for_line(ground: &Ground, option: &str, length: usize) {
    eventually("who waits is not in line", || match in_line(ground, option) {
        now if now == length => Ok(()),
        now => Err(format!("{now} in line, not {length}")),
    });
}

#[test]
fn programs_run_one_after_the_other_where_they_need_the_same() {
    let ground = Ground::new();
    let test = "jitney test ddr --size 1M --passes 1";
    let outcome = ground.run_args(["run", "--emulate", "nitefury", "--wait", "1m", test, test, test]);
    outcome.exits(0);
    // Without it two of them fail, unless one has ended before the next begins.
    let long = "jitney test ddr --size 16M --passes 20";
    let outcome = ground.run_args(["run", "--emulate", "nitefury", long, long]);
    outcome.exits(1).says("is held by pid");
}

#[test]
fn a_lease_is_held_for_a_program_that_knows_nothing_of_it() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 16M");
    let broker = ground.broker(&[&board]);
    let option = broker.option();
    let script = ground.path("script");
    std::fs::write(&script, "echo \"it runs\"; read line < \"$1\"; exit 7").unwrap();
    let pipe = ground.path("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    let line = format!("lease 10ee:7011 {option} -- /bin/sh {} {}", script.display(), pipe.display());
    let mut holder = ground.start(&line);
    holder.wait_for_line("it runs");
    let now = status(&ground, &option);
    assert_eq!(now["cards"][0]["leases"][0]["part"], "whole", "{now}");
    assert_eq!(now["cards"][0]["leases"][0]["pid"], holder.pid(), "{now}");
    ground.run(&format!("test ddr --size 1M --passes 1 {option}")).exits(1).complains("whole is held by pid");

    let test = ground.start(&format!("test ddr --size 1M --passes 1 --wait forever {option}"));
    wait_for_line(&ground, &option, 1);
    let text = ground.run(&format!("status {option}")).exits(0);
    assert!(text.out.contains("1. jitney test ddr"), "{text}");
    std::fs::write(&pipe, "go on\n").unwrap();
    holder.wait().exits(7);
    test.wait().exits(0).complains("waiting in line: whole is held by pid");
}

#[test]
fn who_has_waited_long_enough_fails_and_says_for_whom() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 16M");
    let broker = ground.broker(&[&board]);
    let option = broker.option();
    let mut holder = ground.start(&format!("lease 10ee:7011 h2c0 {option} --json"));
    holder.wait_for_line("leased");
    let outcome = ground.run(&format!("lease 10ee:7011 --wait 50ms {option} --json -- true")).exits(1);
    let error = outcome.json_error();
    assert_eq!(error["kind"], "timed-out", "{error}");
    assert!(error["what"].as_str().unwrap().contains("h2c0 is held by pid"), "{error}");
    holder.signal(Signal::INT);
    holder.wait().exits(0);
    ground.run(&format!("lease 10ee:7011 --wait 50ms {option} -- true")).exits(0);
}

/// A lease that ended under a program which goes on would give the card to two.
#[test]
fn a_program_does_not_outlive_the_leases_that_were_held_for_it() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 16M");
    let broker = ground.broker(&[&board]);
    let option = broker.option();
    let holder = ground.start(&format!("lease 10ee:7011 {option} -- /bin/sleep 1000"));
    let running =
        || ground.processes().into_iter().filter(|(_, line)| line.starts_with("/bin/sleep")).count();
    eventually("the program does not run", || if running() == 1 { Ok(()) } else { Err(String::new()) });
    holder.signal(Signal::KILL);
    eventually("the program is left", || if running() == 0 { Ok(()) } else { Err(format!("{}", running())) });
    ground.run(&format!("lease 10ee:7011 {option} -- true")).exits(0);
}

#[test]
fn a_signal_ends_the_program_and_says_so_by_the_status() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 16M");
    let broker = ground.broker(&[&board]);
    let option = broker.option();
    let mut holder = ground.start(&format!("lease 10ee:7011 {option} -- sleep 1000"));
    eventually("nobody has it", || match status(&ground, &option)["cards"][0]["leases"].as_array() {
        Some(leases) if leases.len() == 1 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let sleeps = || ground.processes().into_iter().any(|(_, line)| line.starts_with("sleep"));
    eventually("it does not run", || if sleeps() { Ok(()) } else { Err(String::new()) });
    holder.signal(Signal::TERM);
    assert!(holder.runs() || !sleeps());
    holder.wait().exits(128 + 15);
    ground.run(&format!("lease 10ee:7011 {option} -- ./no-such-program")).exits(127).complains("ENOENT");
}

#[test]
fn who_is_killed_in_line_leaves_its_place() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 16M");
    let broker = ground.broker(&[&board]);
    let option = broker.option();
    let mut holder = ground.start(&format!("lease 10ee:7011 h2c0 {option} --json"));
    holder.wait_for_line("leased");
    let waiter = ground.start(&format!("lease 10ee:7011 whole --wait forever {option}"));
    wait_for_line(&ground, &option, 1);
    let second = ground.start(&format!("lease 10ee:7011 c2h0 --wait forever {option} -- true"));
    wait_for_line(&ground, &option, 2);
    waiter.signal(Signal::KILL);
    second.wait().exits(0);
    assert_eq!(in_line(&ground, &option), 0);
}

#[test]
fn nothing_is_said_where_there_is_no_broker() {
    let ground = Ground::new();
    let _board = ground.board("nitefury --memory 16M");
    ground.run("status").exits(1).complains("no broker runs for this user");
    ground.run("lease 10ee:7011 -- true").exits(1).complains("no broker runs for this user");
}

/// Others may have the card from then on.
#[test]
fn a_program_is_told_when_its_leases_have_ended() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 16M");
    let broker = ground.broker(&[&board]);
    let mut holder = ground.start(&format!("lease 10ee:7011 {} --json -- sleep 1000", broker.option()));
    holder.wait_for_line("leased");
    broker.process.signal(Signal::KILL);
    holder.wait().exits(1).complains("the program is told to end");
}

#[test]
fn parts_that_are_one_another_are_a_mistake() {
    let ground = Ground::new();
    for parts in ["h2c0 h2c0", "c2h0 whole"] {
        ground
            .run(&format!("lease 10ee:7011 {parts} -- true"))
            .exits(2)
            .complains("are the same, or one has the other");
    }
}
