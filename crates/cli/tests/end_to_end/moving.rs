//! `jitney load` and `save`: files to and from card memory, alone and beside others, and everything that can go wrong
//! with a file.

use crate::support::{Board, Broker, Ground, Outcome, Process, eventually};
use rustix::process::Signal;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const MIB: usize = 1 << 20;

/// Bytes of which no two blocks are alike.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A board, owned by a broker, so that what one command writes the next can read.
struct Bench {
    ground: Ground,
    _board: Board,
    broker: Broker,
}

impl Bench {
    fn of(board: &str) -> Self {
        let ground = Ground::new();
        let board = ground.board(board);
        let broker = ground.broker(&[&board]);
        Self { ground, _board: board, broker }
    }

    fn line(&self, line: &str) -> String {
        line.replacen(' ', &format!(" 10ee:7011 {} ", self.broker.option()), 1)
    }

    /// `jitney COMMAND CARD REST`.
    fn run(&self, line: &str) -> Outcome {
        self.ground.run(&self.line(line))
    }

    fn start(&self, line: &str) -> Process {
        self.ground.start(&self.line(line))
    }

    /// The same, in a shell's command line: `$J COMMAND $C REST | …`.
    fn shell(&self, script: &str) -> Outcome {
        let mut command = Command::new("bash");
        command.args(["-o", "pipefail", "-c", script]).current_dir(self.ground.path(""));
        command.env("J", env!("CARGO_BIN_EXE_jitney"));
        command.env("C", format!("10ee:7011 {}", self.broker.option()));
        command.env("XDG_RUNTIME_DIR", self.ground.path("run")).stdin(Stdio::null());
        Process::start(command).wait()
    }

    fn file(&self, name: &str, bytes: &[u8]) {
        fs::write(self.ground.path(name), bytes).unwrap();
    }

    fn has(&self, name: &str) -> Vec<u8> {
        fs::read(self.ground.path(name)).unwrap()
    }

    /// Fails unless there is no file but these, and what a broker has for itself.
    fn has_only(&self, names: &[&str]) {
        let mut files: Vec<String> = fs::read_dir(self.ground.path(""))
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_type().unwrap().is_file())
            .map(|entry| entry.file_name().into_string().unwrap())
            .filter(|name| !name.ends_with(".lock"))
            .collect();
        files.sort();
        assert_eq!(files, names);
    }
}

#[test]
fn what_takes_long_says_now_and_then_how_far_it_is() {
    let ground = Ground::new();
    let boards = [(); 2].map(|()| ground.board("nitefury --link 64K"));
    let line = |board: &Board, rest: &str| {
        format!("save 10ee:7011 0 768K {rest} --timeout 60 --card {}", board.address())
    };
    let programs = ground.start(&line(&boards[0], "a.bin --json"));
    let outcome = ground.run(&line(&boards[1], "b.bin")).exits(0);
    assert!(outcome.err.contains("jitney: saving: ") && outcome.err.contains(" of 768 KiB"), "{outcome}");
    let outcome = programs.wait().exits(0);
    assert!(!outcome.err.contains("saving: "), "{outcome}");
}

#[test]
fn what_was_loaded_is_saved_again() {
    let bench = Bench::of("nitefury");
    let bytes = noise(64 * MIB);
    bench.file("in.bin", &bytes);
    bench
        .run("load 0x1001 in.bin --verify")
        .exits(0)
        .says("loaded 64 MiB (67108864 bytes) in ")
        .says(" MB/s) from in.bin to card address 0x1001 of NiteFury")
        .says("read back 64 MiB (67108864 bytes)")
        .says("all as in in.bin");
    bench.run("save 0x1001 64M out.bin").exits(0).says("saved 64 MiB (67108864 bytes)").says(" to out.bin");
    assert!(bench.has("out.bin") == bytes, "byte by byte");
    bench.has_only(&["in.bin", "out.bin"]);

    // Any part of it at any place, by pipes.
    let outcome = bench.shell("$J save $C 0x1004 4100 - > part.bin").exits(0);
    assert!(
        outcome.err.contains("saved 4.0 KiB (4100 bytes)") && outcome.err.contains("standard output"),
        "{outcome}"
    );
    assert!(bench.has("part.bin") == bytes[3..4103]);
    bench.shell("head -c 4194305 in.bin | $J load $C 0x3c00_0001 - --verify").exits(0).says("standard input");
    bench.shell("$J save $C 0x3c00_0001 4194305 - | cmp - <(head -c 4194305 in.bin)").exits(0);
    // From where standard input stands.
    bench.shell("{ head -c 5 > /dev/null; $J load $C 0 -; } < part.bin").exits(0).says(" bytes");

    let json = bench.run("load 0 part.bin --verify --json").exits(0).json();
    assert_eq!(
        (&json["bytes"], &json["address"], &json["file"]),
        (&json!(4100), &json!(0), &json!("part.bin"))
    );
    assert_eq!((&json["verified"]["bytes"], &json["failure"]), (&json!(4100), &json!(null)));
    assert!(json["mb_per_s"].as_f64().unwrap() > 0.0 && json["seconds"].as_f64().unwrap() > 0.0, "{json}");
    let json = bench.run("save 0 1 one.bin --json").exits(0).json();
    assert_eq!((&json["bytes"], &json["board"]), (&json!(1), &json!("NiteFury")));
    assert_eq!(bench.has("one.bin"), bytes[3..4]);
    // Nothing is no failure.
    bench.file("empty.bin", &[]);
    bench.run("load 0 empty.bin --verify").exits(0).says("loaded 0 bytes");
}

#[test]
fn a_command_alone_starts_its_own_board() {
    let ground = Ground::new();
    fs::write(ground.path("in.bin"), noise(5 * MIB + 3)).unwrap();
    let line = "load --emulate nitefury --isolate 10ee:7011 0x100 in.bin --verify";
    ground.run(line).exits(0).says("5.0 MiB (5242883 bytes)").says("all as in in.bin");
    ground.run("save --emulate nitefury 10ee:7011 0 9M out.bin --completion interrupt").exits(0);
    assert_eq!(fs::read(ground.path("out.bin")).unwrap(), vec![0; 9 * MIB]);
}

#[test]
fn memory_that_does_not_begin_at_zero_and_several_memories() {
    let ground = Ground::new();
    let file = ground.path("two.toml");
    let text = r#"
[[design]]
name = "two"
board = "Two"
pci = ["10ee:7024"]
subsystem = "1234:0001"
dma = { ip = "xdma", bar = 0, h2c = 1, c2h = 1, interface = "memory-mapped" }
memory = [
  { kind = "ddr", base = 0x8000_0000, size = 0x10_0000 },
  { kind = "block-ram", base = 0x8010_0000, size = 0x1_0000 },
  { kind = "block-ram", base = 0x1_0000_0000, size = 0x1_0000 },
]
"#;
    fs::write(&file, text).unwrap();
    fs::write(ground.path("in.bin"), noise(0x11_0000)).unwrap();
    let run = |command: &str, rest: &str| {
        ground.run(&format!("{command} --emulate {} 10ee:7024 {rest}", file.display()))
    };
    // The first two follow each other.
    run("load", "0x8000_0000 in.bin --verify").exits(0).says("to card address 0x80000000 of Two");
    run("load", "0x8000_0001 in.bin")
        .exits(2)
        .complains("0x110000 bytes do not fit")
        .complains("there are 0x10ffff");
    run("load", "0 in.bin")
        .exits(2)
        .complains("in no memory")
        .complains("block-ram from 0x100000000 to 0x10000ffff");
    run("save", "0x1_0000_0000 64K out.bin").exits(0);
    run("save", "0x1_0000_0000 65537 more.bin").exits(2).complains("do not fit");
    run("save", "0xffff_ffff_ffff_ffff 1 more.bin").exits(2).complains("in no memory");
    assert!(!ground.path("more.bin").exists());
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() {
    let bench = Bench::of("nitefury");
    bench.file("in.bin", &noise(MIB));
    bench
        .run("load 0x3ff0_0001 in.bin")
        .exits(2)
        .complains("do not fit")
        .complains("1 GiB of ddr from 0x0 to 0x3fffffff");
    bench.run("load 0x4000_0000 in.bin").exits(2).complains("in no memory");
    bench.run("save 0x3ff0_0001 1M out.bin").exits(2).complains("do not fit");
    bench.run("save 0 0 out.bin").exits(2).complains("LENGTH");
    bench.run("save 0 many out.bin").exits(2).complains("LENGTH");
    bench.run("load nowhere in.bin").exits(2).complains("ADDRESS");
    bench.shell("$J load $C 0x3fff_0000 - < in.bin").exits(2).complains("do not fit");
    bench.run("save 0x3ff0_0000 1M out.bin").exits(0);
    assert_eq!(bench.has("out.bin"), vec![0; MIB], "nothing of it was written");
    // How long a pipe is shows at its end.
    bench
        .shell("cat in.bin | $J load $C 0x3fff_0000 -")
        .exits(1)
        .complains("after 65536 bytes were written to card address 0x3fff0000")
        .complains("standard input goes on behind the 0x10000 bytes of memory");
    bench.shell("head -c 65536 in.bin | $J load $C 0x3fff_0000 - --verify").exits(0);

    let ground = &bench.ground;
    for (board, complaint) in
        [("NiteFury_dma_stream_loopback", "has no memory that DMA reaches"), ("U200_qdma_ram", "QDMA")]
    {
        let json = ground.run(&format!("info --emulate {board} --json")).exits(0).json();
        let id = json[0]["id"].as_str().unwrap();
        let outcome = ground.run(&format!("load --emulate {board} {id} 0 in.bin"));
        outcome.exits(1).complains(complaint);
    }
}

#[test]
fn every_error_of_a_file_has_its_name() {
    let bench = Bench::of("nitefury");
    bench.file("there.bin", b"precious");
    bench.run("load 0 nothing.bin").exits(1).complains("nothing.bin: ENOENT (No such file or directory)");
    bench.run("load 0 /tmp").exits(1).complains("/tmp: EISDIR");
    bench.run("save 0 4K /tmp").exits(1).complains("/tmp: EISDIR");
    bench.run("save 0 4K nowhere/out.bin").exits(1).complains("nowhere/out.bin: ENOENT");
    bench
        .run("save 0 4K there.bin")
        .exits(1)
        .complains("there.bin: EEXIST (File exists)")
        .complains("--force");
    assert_eq!(bench.has("there.bin"), b"precious");
    bench.run("save 0 64M /dev/full").exits(1).complains("/dev/full: ENOSPC (No space left on device)");
    bench.shell("$J save $C 0 64M - > /dev/full").exits(1).complains("standard output: ENOSPC");
    assert!(Path::new("/dev/full").exists(), "a device is written to and not replaced");
    bench.run("save 0 64M /dev/null").exits(0);
    bench
        .shell("$J save $C 0 64M - | head -c 10 > ten.bin; exit ${PIPESTATUS[0]}")
        .exits(1)
        .complains("EPIPE (Broken pipe)");
    assert_eq!(bench.has("ten.bin").len(), 10);
    bench.shell("mkfifo fifo; cat fifo > got.bin & $J save $C 0 5M fifo && wait").exits(0);
    assert_eq!(bench.has("got.bin").len(), 5 * MIB);
    bench.has_only(&["got.bin", "ten.bin", "there.bin"]);

    bench.run("save 0 4K there.bin --force").exits(0);
    assert_eq!(bench.has("there.bin"), vec![0; 4096]);
    // A link leads to the file, before and after.
    std::os::unix::fs::symlink("there.bin", bench.ground.path("link.bin")).unwrap();
    bench.run("save 0 8K link.bin").exits(1).complains("EEXIST");
    bench.run("save 0 8K link.bin --force").exits(0);
    assert!(fs::symlink_metadata(bench.ground.path("link.bin")).unwrap().is_symlink());
    assert_eq!(bench.has("there.bin").len(), 8192);
}

#[test]
fn a_disk_that_is_full_has_no_half_file() {
    let bench = Bench::of("nitefury");
    let script = "mkdir full && mount -t tmpfs -o size=1m tmpfs full || exit 77; $J save $C 0 64M full/out.bin; \
                  status=$?; ls -A full; exit $status";
    let outcome = bench.shell(&format!("unshare -rm bash -c '{script}' || exit"));
    if outcome.status.code() == Some(77) || outcome.err.contains("unshare") {
        println!("skipped: no file system can be mounted here: {outcome}");
        return;
    }
    let outcome = outcome.exits(1).complains("full/out.bin: ENOSPC (No space left on device)");
    assert_eq!(outcome.out, "", "nothing is left in the folder: {outcome}");
}

#[test]
fn whoever_is_stopped_leaves_no_half_file() {
    let bench = Bench::of("nitefury --link 16M");
    for signal in [Signal::INT, Signal::TERM] {
        let saving = bench.start("save 0 1G out.bin");
        let folder = bench.ground.path("");
        let parts = || {
            let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name());
            entries.filter(|name| name.to_string_lossy().ends_with(".part")).count()
        };
        eventually("it has not begun", || if parts() == 1 { Ok(()) } else { Err(String::new()) });
        saving.signal(signal);
        saving.wait_at_most(Duration::from_secs(10)).dies_of(signal);
        bench.has_only(&[]);
    }
    // Its channel is free again.
    bench.run("save 0 64K out.bin").exits(0);
}

#[test]
fn two_on_one_card_at_once() {
    let bench = Bench::of("nitefury --link 32M");
    let bytes = noise(24 * MIB);
    bench.file("in.bin", &bytes);
    let first = bench.start("load 0 in.bin");
    let second = bench.start("save 0x2000_0000 24M out.bin");
    // Each has a channel, of which the card has one each way.
    eventually("nobody has the channels", || {
        let list = bench.shell("JITNEY_BROKER=${C##* } $J list");
        if list.out.contains("h2c0") && list.out.contains("c2h0") { Ok(()) } else { Err(list.out) }
    });
    let holder = format!("h2c0 is held by pid {}", first.pid());
    bench.run("load 0x1000_0000 in.bin").exits(1).complains(&holder).complains("EBUSY");
    bench.run("load 0x1000_0000 in.bin --verify").exits(1).complains(&holder);
    let holder = format!("c2h0 is held by pid {}", second.pid());
    bench.run("save 0 4K other.bin").exits(1).complains(&holder);
    bench.run("write gpio2+4 1").exits(0);
    bench.run("write xdma:h2c0.control_clear 1").exits(1).complains("h2c0 is held");
    first.wait().exits(0);
    second.wait().exits(0);
    assert_eq!(bench.has("out.bin"), vec![0; 24 * MIB]);
    bench.run("save 0 24M back.bin").exits(0);
    assert!(bench.has("back.bin") == bytes);
    bench.has_only(&["back.bin", "in.bin", "out.bin"]);
}

#[test]
fn two_on_two_cards_and_two_channels_of_one() {
    let ground = Ground::new();
    let boards = [ground.board("nitefury"), ground.board("nitefury-dma-ddr3")];
    let broker = ground.broker(&[&boards[0], &boards[1]]);
    let bytes = noise(8 * MIB);
    fs::write(ground.path("in.bin"), &bytes).unwrap();
    let [one, two] = boards.each_ref().map(|board| board.address());
    let loads: Vec<_> = [format!("{one} 0"), format!("{two} 0"), format!("{two} 0x1000_0000 --channel 1")]
        .iter()
        .map(|rest| ground.start(&format!("load {rest} in.bin --verify {}", broker.option())))
        .collect();
    loads.into_iter().for_each(|load| drop(load.wait().exits(0)));
    ground.run(&format!("save {two} 0x1000_0000 8M out.bin {}", broker.option())).exits(0);
    assert!(fs::read(ground.path("out.bin")).unwrap() == bytes);
}

#[test]
fn what_a_card_does_wrong_is_found() {
    let ground = Ground::new();
    fs::write(ground.path("in.bin"), noise(20 * MIB)).unwrap();
    // Less memory than the boards file says.
    let board = ground.board("nitefury --memory 16M");
    let card = format!("10ee:7011 --card {}", board.address());
    ground
        .run(&format!("load {card} 0 in.bin"))
        .exits(1)
        .complains("decode error")
        .complains("bytes were written");
    ground.run(&format!("save {card} 0 20M out.bin")).exits(1).complains("decode error");
    assert!(!ground.path("out.bin").exists());
    for fault in ["data-fault:h2c0@1", "link-down@1", "hang:h2c0@1"] {
        let board = ground.board(&format!("nitefury --fault {fault}"));
        let line = format!("load 10ee:7011 --card {} 0 in.bin --timeout 0.5", board.address());
        ground.run(&line).exits(1).complains("card address 0x");
    }
    // A board that dies.
    let board = ground.board("nitefury --link 16M");
    let saving = ground.start(&format!("save 10ee:7011 --card {} 0 1G out.bin", board.address()));
    eventually("it has not begun", || {
        let files = fs::read_dir(ground.path("")).unwrap().map(|entry| entry.unwrap().file_name());
        let begun = files.filter(|name| name.to_string_lossy().ends_with(".part")).count() == 1;
        if begun { Ok(()) } else { Err(String::new()) }
    });
    board.process.signal(Signal::KILL);
    saving.wait_at_most(Duration::from_secs(10)).exits(1).complains("is gone");
    let files = fs::read_dir(ground.path("")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(files.filter(|name| name.to_string_lossy().starts_with("out.bin")).count(), 0);
}
