//! `jitney capture`, `play` and `route`: files and pipes into streams and out of them, and `reset`.

use crate::support::{Ground, Process, eventually};
use rustix::process::Signal;
use std::fs;
use std::process::{Command, Stdio};

const LOOP: &str = "NiteFury_dma_stream_loopback";
const CARD: &str = "10ee:7024";

/// Bytes of which no two packets are alike.
fn noise(length: u32) -> Vec<u8> {
    (0..length)
        .flat_map(|at| (at.wrapping_mul(2_654_435_761) ^ at >> 7).to_le_bytes())
        .take(length as usize)
        .collect()
}

#[test]
fn what_is_played_is_captured_byte_for_byte() {
    let ground = Ground::new();
    let board = ground.board(LOOP);
    let broker = ground.broker(&[&board]);
    let run = |line: &str| ground.run(&line.replacen(' ', &format!(" {CARD} {} ", broker.option()), 1));
    let start = |line: &str| ground.start(&line.replacen(' ', &format!(" {CARD} {} ", broker.option()), 1));
    let mut holder = start("hold ");
    holder.wait_for_line("holding ");
    run("route h2c0:c2h1 h2c1:c2h0").exits(0).says("c2h0 <- h2c1\nc2h1 <- h2c0\n");
    let data = noise(10_000_001);
    fs::write(ground.path("in.bin"), &data).unwrap();
    for (packet, block, count) in [("1M", "64K", 10), ("1500", "4K", 6667), ("3M", "1M", 4)] {
        let _ = fs::remove_file(ground.path("out.bin"));
        let capture =
            start(&format!("capture --channel c2h1 --to out.bin --packets {count} --block {block} --json"));
        let played = run(&format!("play in.bin --channel h2c0 --packet {packet} --json")).exits(0).json();
        assert_eq!((&played["bytes"], &played["packets"]), (&data.len().into(), &count.into()));
        let captured = capture.wait().exits(0).json();
        assert_eq!((&captured["bytes"], &captured["packets"]), (&data.len().into(), &count.into()));
        assert_eq!(captured["lost_blocks"], 0);
        assert!(fs::read(ground.path("out.bin")).unwrap() == data, "{packet}");
    }
    // A part of it, and a file that is there.
    let capture = start("capture --channel c2h1 --to out.bin --bytes 1000 --force");
    run("play in.bin --packet 4096 --timeout 1").exits(1).complains("no progress").complains("were taken");
    capture.wait().exits(0).says("captured 1000 bytes in ").says(" in 0 packets from c2h1 ");
    assert!(fs::read(ground.path("out.bin")).unwrap() == data[..1000]);
    run("capture --to out.bin --packets 1").exits(1).complains("EEXIST").complains("--force");
}

#[test]
fn a_capture_ends_when_it_is_told_to_and_keeps_what_came() {
    let ground = Ground::new();
    let board = ground.board(LOOP);
    let broker = ground.broker(&[&board]);
    let run = |line: &str| ground.run(&line.replacen(' ', &format!(" {CARD} {} ", broker.option()), 1));
    let mut holder = ground.start(&format!("hold {CARD} {}", broker.option()));
    holder.wait_for_line("holding ");
    run("route h2c0:c2h0").exits(0);
    let capture = ground.start(&format!("capture {CARD} {} --to got.bin", broker.option()));
    eventually("nobody captures", || {
        if part(&ground).exists() { Ok(()) } else { Err("there is no file".into()) }
    });
    fs::write(ground.path("in.bin"), noise(100_000)).unwrap();
    run("play in.bin --packet 1000").exits(0).says("in 100 packets");
    eventually("not all has come", || match fs::metadata(part(&ground)) {
        Ok(file) if file.len() == 100_000 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    capture.signal(Signal::INT);
    capture.wait().exits(0).says("(100000 bytes)").says("in 100 packets");
    assert!(fs::read(ground.path("got.bin")).unwrap() == noise(100_000));
    // By time, and by silence.
    run("capture --for 100ms --to none.bin").exits(0).says("captured 0 bytes");
    run("capture --until-idle 0.1 --to none2.bin").exits(0);
    // Into a pipe that ends.
    let mut shell = Command::new("bash");
    let script = format!("$J capture {CARD} {} --for 30s | head -c 10 | wc -c", broker.option());
    shell.args(["-c", &script]).env("J", env!("CARGO_BIN_EXE_jitney")).stdin(Stdio::null());
    shell.current_dir(ground.path(""));
    let piped = Process::start(shell);
    run("play in.bin --packet 1000").exits(0);
    run("play in.bin --packet 1000 --timeout 1");
    piped.wait().says("10\n").complains("EPIPE");
}

/// The file that is being written.
fn part(ground: &Ground) -> std::path::PathBuf {
    let files = fs::read_dir(ground.path("")).unwrap().map(|entry| entry.unwrap().path());
    files.into_iter().find(|path| path.to_string_lossy().ends_with(".part")).unwrap_or_default()
}

#[test]
fn a_slow_reader_that_overwrites_is_told_what_is_lost() {
    let ground = Ground::new();
    let board = ground.board("NiteFury_dma_stream_fixed_data");
    let outcome = ground.run(&format!(
        "capture {CARD} --card {} --overrun overwrite --blocks 3 --block 64K --bytes 64M --to out.bin",
        board.address()
    ));
    // Whether the disk keeps up is chance; what is said is not.
    match outcome.status.code() {
        Some(0) => assert!(!outcome.err.contains("LOST"), "{outcome}"),
        _ => drop(outcome.exits(1).complains("LOST").complains("behind byte")),
    }
}

#[test]
fn streams_that_are_not_there_are_refused() {
    let ground = Ground::new();
    let memory = ground.board("nitefury --memory 16M");
    let stream = ground.board(LOOP);
    let on = |board: &crate::support::Board, id: &str, line: &str| {
        ground.run(&line.replacen(' ', &format!(" {id} --card {} ", board.address()), 1))
    };
    on(&memory, "10ee:7011", "capture --to x").exits(2).complains("memory-mapped").complains("jitney save");
    on(&memory, "10ee:7011", "play /dev/null").exits(2).complains("jitney load");
    on(&memory, "10ee:7011", "route ").exits(1).complains("no stream-switch");
    on(&stream, CARD, "capture --channel c2h7 --to x").exits(2).complains("there are c2h0, c2h1");
    on(&stream, CARD, "capture --channel h2c0 --to x").exits(2).complains("the other way");
    on(&stream, CARD, "route h2c0:c2h9").exits(2).complains("has 2 ports");
    on(&stream, CARD, "play nowhere.bin").exits(1).complains("nowhere.bin: ENOENT");
    assert!(!ground.path("x").exists());
}

#[test]
fn a_reset_is_refused_while_somebody_uses_the_card() {
    let ground = Ground::new();
    let board = ground.board("TEF1001_dma_ddr3");
    let broker = ground.broker(&[&board]);
    let run = |line: &str| ground.run(&line.replacen(' ', &format!(" 10ee:7024 {} ", broker.option()), 1));
    run("reset ").exits(0).says("was reset");
    let again = run("reset --ddr --json").exits(0).json();
    assert_eq!(again["what"], "ddr");
    assert!(again["seconds"].as_f64().unwrap() >= 0.02, "{again}");
    let mut user = ground.start(&format!("test ddr --size 1M --passes 100000 {}", broker.option()));
    user.wait_for_line("pass 1 of");
    for line in ["reset ", "reset --ddr"] {
        run(line).exits(1).complains("EBUSY").complains("jitney test ddr");
    }
    assert!(user.runs());
    let other = ground.board("nitefury --memory 16M");
    ground.run(&format!("reset 10ee:7011 --ddr --card {}", other.address())).exits(2).complains("ddr-status");
}

#[test]
fn a_capture_whose_engine_cannot_be_stopped_fails_and_keeps_what_came() {
    let ground = Ground::new();
    let board = ground.board("NiteFury_dma_stream_fixed_data --fault hang:c2h0@3");
    let capture = "--bytes 64M --until-idle 0.5 --block 64K --to out.bin";
    let outcome = ground.run(&format!("capture {CARD} {capture} --card {}", board.address())).exits(1);
    outcome.complains("are kept in out.bin").complains("is still busy");
    assert_eq!(fs::metadata(ground.path("out.bin")).unwrap().len(), 2 << 16);
}
