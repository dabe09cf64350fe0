//! A client in another language, written from docs/protocol.md alone: `tests/python`.

use crate::support::{Ground, Outcome, Process};
use std::process::Command;

/// The folder that has the client and what it goes through.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python");

fn there_is_python() -> bool {
    Command::new("python3").arg("--version").output().is_ok()
}

/// The class `name` of scenario.py.
fn scenario(ground: &Ground, name: &str) -> Command {
    let mut command = Command::new("python3");
    // Without -B it would leave compiled files beside its source.
    command.args(["-B", &format!("{FOLDER}/scenario.py"), name]).env_remove("JITNEY_BROKER");
    command.env("JITNEY", env!("CARGO_BIN_EXE_jitney")).env("XDG_RUNTIME_DIR", ground.path("run"));
    command
}

/// Fails unless all `count` of its tests have passed.
fn assert_all_passed(outcome: Outcome, count: usize) {
    let outcome = outcome.exits(0);
    let all = format!("{}{}", outcome.out, outcome.err);
    assert!(all.contains(&format!("Ran {count} test")) && !all.contains("skipped"), "{outcome}");
}

#[test]
fn a_python_client_does_on_a_board_what_the_protocol_says() {
    if !there_is_python() {
        println!("skipped: no python3 here, which this client is written in");
        return;
    }
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 16M");
    let mut broker = ground.start(&format!("broker --card {}", board.address()));
    broker.wait_for_line("listening at ");
    assert_all_passed(Process::start(scenario(&ground, "OnABoard")).wait(), 10);
    let left = ground.run("status --json").exits(0).json();
    assert_eq!(left["programs"].as_array().map(Vec::len), Some(0), "{left}");
}

#[test]
fn a_python_client_and_its_child_come_through_the_door() {
    if !there_is_python() {
        println!("skipped: no python3 here, which this client is written in");
        return;
    }
    let ground = Ground::new();
    let words = ["run", "--emulate", "nitefury", "--", "python3", "-B"];
    let mut command = ground.jitney(words);
    command.args([&format!("{FOLDER}/scenario.py"), "ThroughTheDoor"]);
    command.env("JITNEY", env!("CARGO_BIN_EXE_jitney"));
    assert_all_passed(Process::start(command).wait(), 1);
}

#[test]
fn a_python_client_reads_a_capture_as_a_ring() {
    const CARD: &str = "10ee:7024";
    const PACKETS: usize = 40;
    const BYTES: usize = 4000;
    if !there_is_python() {
        println!("skipped: no python3 here, which this client is written in");
        return;
    }
    let ground = Ground::new();
    let board = ground.board("NiteFury_dma_stream_loopback");
    let broker = ground.broker(&[&board]);
    let option = broker.option();
    let mut holder = ground.start(&format!("hold {CARD} {option}"));
    holder.wait_for_line("holding ");
    ground.run(&format!("route {CARD} {option} h2c0:c2h0")).exits(0);
    let bytes = PACKETS * BYTES;
    let mut capture =
        ground.start(&format!("capture {CARD} --share adc {option} --block 4K --bytes {bytes}"));
    capture.wait_for_line("sharing");

    let sent: Vec<u8> = (0..bytes).map(|at| (at * 7 + at / 251).to_le_bytes()[0]).collect();
    std::fs::write(ground.path("sent.bin"), sent).unwrap();
    let mut command = scenario(&ground, "OfAStream");
    command.env("JITNEY_BROKER", &broker.socket).env("SENT", ground.path("sent.bin"));
    command.env("PACKETS", PACKETS.to_string()).env("BYTES", BYTES.to_string());
    let mut reader = Process::start(command);
    reader.wait_for_line("attached");
    ground.run(&format!("play {CARD} sent.bin {option} --packet {BYTES}")).exits(0);
    assert_all_passed(reader.wait(), 1);
    capture.wait().exits(0);
}
