//! `jitney program`: a stand-in for a programmer's tool, and what becomes of the board before and after it.

use crate::flash::{A200T, K160T, bit, bitstream};
use crate::support::{Broker, Ground, Outcome};
use jitney::vfio::LeaseRequest;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// A tool that keeps what it was given, and ends with a status that a file says.
const TOOL: &str = "#!/bin/sh\necho \"loading $1\"\ncp \"$1\" loaded || exit 9\nexit $(cat status)\n";

/// A broker of one board, a tool, and two bitstreams of which one is for the board.
fn ready() -> (Ground, crate::support::Board, Broker) {
    let ground = Ground::new();
    fs::write(ground.path("loader.sh"), TOOL).unwrap();
    fs::set_permissions(ground.path("loader.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(ground.path("status"), "0").unwrap();
    fs::write(ground.path("top.bit"), bit("7a200tfbg484\0", &bitstream(A200T, 300, 1))).unwrap();
    fs::write(ground.path("other.bin"), bitstream(K160T, 300, 1)).unwrap();
    let board = ground.board("nitefury");
    let broker = ground.broker(&[&board]);
    (ground, board, broker)
}

fn program(ground: &Ground, broker: &Broker, file: &str, rest: &[&str]) -> Outcome {
    let socket = broker.socket.display().to_string();
    let own = ["program", "10ee:7011", file, "--tool", "./loader.sh {file}", "--broker", &socket];
    ground.run_args(own.iter().chain(rest))
}

#[test]
fn a_bitstream_is_loaded_and_an_emulated_board_is_reset() {
    let (ground, _board, broker) = ready();
    // Who has it open keeps the registers as they are, and takes nothing.
    let mut holder = ground.start(&format!("hold 10ee:7011 {}", broker.option()));
    holder.wait_for_line("holding ");
    let on = |line: &str| ground.run(&format!("{line} {}", broker.option())).exits(0);
    on("write 10ee:7011 2:0x88 0x40");
    on("read 10ee:7011 2:0x88").says("0x00000040");

    let dry = program(&ground, &broker, "top.bit", &["--dry-run"]).exits(0);
    dry.says("would be reset after: ./loader.sh top.bit");
    assert!(!ground.path("loaded").exists());
    on("read 10ee:7011 2:0x88").says("0x00000040");

    let done = program(&ground, &broker, "top.bit", &[]).exits(0);
    assert!(done.err.contains("loading top.bit"), "the tool's own output: {done}");
    done.says("top.bit is loaded;").says("is NiteFury");
    assert_eq!(fs::read(ground.path("loaded")).unwrap(), fs::read(ground.path("top.bit")).unwrap());
    on("read 10ee:7011 2:0x88").says("0x00000000");

    let json = program(&ground, &broker, "top.bit", &["--json"]).exits(0).json();
    assert_eq!((&json["before"], &json["board"]), (&json!("NiteFury"), &json!("NiteFury")));
    assert_eq!((&json["tool"], &json["removed"]), (&json!("./loader.sh top.bit"), &json!(false)));
    assert!(json["seconds"].is_number(), "{json}");
    assert!(holder.runs(), "who only holds it is left alone");
}

#[test]
fn what_is_for_another_fpga_is_loaded_only_by_force() {
    let (ground, _board, broker) = ready();
    let refused = program(&ground, &broker, "other.bin", &[]).exits(2);
    refused.complains("is for XC7K160T by its IDCODE").complains("nothing was loaded (--force loads it)");
    assert!(!ground.path("loaded").exists());
    program(&ground, &broker, "other.bin", &["--force"]).exits(0);
    assert_eq!(fs::read(ground.path("loaded")).unwrap(), fs::read(ground.path("other.bin")).unwrap());
}

#[test]
fn a_card_that_somebody_uses_is_left_alone() {
    let (ground, _board, broker) = ready();
    let bus = jitney::Bus::options().broker(&broker.socket).open().unwrap();
    let card = bus.card("10ee:7011").unwrap();
    let lease = card.lease(LeaseRequest::exclusive("h2c0".parse().unwrap())).unwrap();
    let own = format!("is held by pid {}", std::process::id());
    program(&ground, &broker, "top.bit", &[]).exits(1).complains(&own).complains("EBUSY");
    assert!(!ground.path("loaded").exists());
    drop(lease);
    program(&ground, &broker, "top.bit", &[]).exits(0);
}

#[test]
fn a_tool_that_fails_or_is_missing_is_told_with_what_became_of_the_board() {
    let (ground, _board, broker) = ready();
    fs::write(ground.path("status"), "3").unwrap();
    let failed = program(&ground, &broker, "top.bit", &[]).exits(1);
    failed.complains("./loader.sh failed with exit status 3").complains("; the board was reset");
    let error = program(&ground, &broker, "top.bit", &["--json"]).exits(1).json_error();
    assert!(error["what"].as_str().unwrap().contains("exit status 3"), "{error}");
    assert_eq!(error["remedy"], Value::Null);

    let mut lone = ground.jitney(["program", "10ee:7011", "top.bit", "--broker"]);
    lone.arg(&broker.socket).env("PATH", ground.path("run"));
    let missing = crate::support::Process::start(lone).wait().exits(1);
    missing.complains("\"openFPGALoader\"").complains("apt install openfpgaloader").complains("--tool");
    ground.run_args(["program", "10ee:7011", "top.bit", "--tool", "load it"]).exits(2).complains("{file}");
}

#[test]
fn a_boards_file_names_the_cable() {
    let ground = Ground::new();
    fs::write(ground.path("top.bin"), bitstream(A200T, 300, 1)).unwrap();
    let text = "[[design]]\nname = \"mine\"\nboard = \"Mine\"\npci = [\"10ee:7024\"]\nfpga = [\"XC7A200T\"]\n\
                programmer = { cable = \"digilent_hs2\" }\n\
                peripherals = [{ kind = \"other\", bar = 0, offset = 0, size = 0x1000 }]\n";
    fs::write(ground.path("mine.toml"), text).unwrap();
    let tool = ground.path("openFPGALoader");
    fs::write(&tool, TOOL).unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command =
        ground.jitney(["program", "10ee:7024", "top.bin", "--dry-run", "--emulate", "./mine.toml"]);
    command.env("PATH", ground.path(""));
    let outcome = crate::support::Process::start(command).wait().exits(0);
    outcome.says("after: openFPGALoader -c digilent_hs2 top.bin");
}
