//! `jitney test …` and `time …` beside the first three: what they find on boards that are well, and on boards that are not.

use crate::support::{Ground, Outcome};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;

const LOOP: &str = "NiteFury_dma_stream_loopback";

/// How each check ended: its name and its verdict.
fn verdicts(json: &Value) -> Vec<(String, String)> {
    let text = |check: &Value, key: &str| check[key].as_str().unwrap().to_owned();
    let checks = json[0]["checks"].as_array().unwrap();
    checks.iter().map(|check| (text(check, "name"), text(check, "verdict"))).collect()
}

fn on(ground: &Ground, board: &str, line: &str) -> Outcome {
    let board = ground.board(board);
    ground.run(&format!("{line} --card {}", board.address()))
}

#[test]
fn dma_is_tested_on_designs_of_every_kind() {
    let ground = Ground::new();
    for (board, least) in [
        ("nitefury", 4),
        ("tef1001-dma-blkram", 4),
        (LOOP, 4),
        ("NiteFury_dma_stream_crc64", 2),
        ("NiteFury_dma_stream_fixed_data", 4),
        ("VD100_dma_stream_loopback", 16),
    ] {
        let json = on(&ground, board, "test dma --json").exits(0).json();
        let verdicts = verdicts(&json);
        let passed = verdicts.iter().filter(|(_, verdict)| verdict == "passed").count();
        assert!(passed >= least, "{board}: {verdicts:?}");
        assert!(verdicts.iter().all(|(_, verdict)| verdict != "failed"), "{board}: {verdicts:?}");
    }
    ground.run("test dma --emulate memmapped-blkram").exits(3).complains("no board with an XDMA");
}

#[test]
fn dma_that_is_wrong_fails() {
    let ground = Ground::new();
    let data = on(&ground, "nitefury --memory 16M --fault data-fault:h2c0@40", "test dma");
    data.exits(1).says("FAILED").says("transfer failed on h2c0");
    for fault in ["lost-eop:c2h1@7", "short-packet:c2h1@9"] {
        let outcome = on(&ground, &format!("{LOOP} --fault {fault}"), "test dma");
        outcome.exits(1).says("FAILED");
    }
    // Less memory than the design says.
    on(&ground, "nitefury --memory 64K", "test dma").exits(1).says("decode error");
}

#[test]
fn memory_is_tested_whatever_its_kind() {
    let ground = Ground::new();
    on(&ground, "tef1001-dma-blkram", "test memory").exits(0).says("pass 2 of 2: test pattern matches");
    on(&ground, "nitefury --memory 32M", "test memory --size 32M --passes 1")
        .exits(0)
        .says("32 MiB of memory");
    on(&ground, "tef1001-dma-blkram", "test ddr").exits(3);
    let large = on(&ground, "tef1001-dma-blkram", "test memory --size 1G").exits(2);
    large.complains("fewer than --size 0x40000000").complains("0x128000 bytes");
    on(&ground, LOOP, "test memory").exits(3);
    let json = on(&ground, "tef1001-dma-blkram", "test memory --size 4K --passes 1 --json").exits(0).json();
    assert_eq!((&json[0]["memories"][0]["bytes"], &json[0]["board"]), (&4096.into(), &"TEF1001".into()));
}

#[test]
fn addresses_are_tested_and_what_was_there_is_put_back() {
    let ground = Ground::new();
    let board = ground.board("tef1001-dma-blkram");
    let broker = ground.broker(&[&board]);
    let run = |line: &str| ground.run(&format!("{line} {}", broker.option())).exits(0);
    let mut holder = ground.start(&format!("hold 10ee:7024 {}", broker.option()));
    holder.wait_for_line("holding");
    let data: Vec<u8> = (0..0x12_8000_u32).map(|at| (at * 7).to_le_bytes()[1]).collect();
    fs::write(ground.path("before"), &data).unwrap();
    run("load 10ee:7024 0 before");
    run("test addressing").says("17 addresses, each a place of its own");
    run("save 10ee:7024 0 0x128000 after");
    assert!(fs::read(ground.path("after")).unwrap() == data);
    // The design says 1 GiB: the rest is not there.
    on(&ground, "nitefury --memory 1M", "test addressing").exits(1).complains("decode error");
}

#[test]
fn what_survives_a_reset_is_told() {
    let ground = Ground::new();
    on(&ground, "memmapped-blkram", "test persistence")
        .exits(0)
        .says("BAR 4 at 0x0: all 65536 bytes survived");
    let board = ground.board("nitefury --memory 16M");
    let broker = ground.broker(&[&board]);
    let run = |line: &str| ground.run(&format!("{line} {}", broker.option()));
    run("test persistence --check").exits(0).says("it was not run before, or nothing survived");
    run("test persistence --write").exits(0).says("look for them with --check");
    run("test persistence --check").exits(0).says("card address 0x0, by DMA: all 65536 bytes survived");
    let mut holder = ground.start(&format!("hold 10ee:7011 {}", broker.option()));
    holder.wait_for_line("holding");
    run("test persistence").exits(0);
}

#[test]
fn streams_carry_for_as_long_as_wanted() {
    let ground = Ground::new();
    let outcome = on(&ground, LOOP, "test streams --for 3s --every 300ms").exits(0);
    assert!(outcome.out.lines().filter(|line| line.contains(" s  h2c1 to c2h0 ")).count() >= 2, "{outcome}");
    let json = on(&ground, LOOP, "test streams --for 300ms --json").exits(0).json();
    for stream in json[0]["streams"].as_array().unwrap() {
        assert!(stream["packets"].as_u64().unwrap() > 0 && stream["failure"].is_null(), "{stream}");
    }
    on(&ground, "NiteFury_dma_stream_fixed_data", "test streams --for 200ms").exits(1).complains("--one-way");
    let json = on(&ground, "NiteFury_dma_stream_fixed_data", "test streams --for 200ms --one-way --json")
        .exits(0)
        .json();
    assert_eq!(json[0]["streams"].as_array().unwrap().len(), 4);
    on(&ground, &format!("{LOOP} --fault lost-eop:c2h0@20"), "test streams --for 5s").exits(1).says("FAILED");
    // Told to end, it says what there is.
    let board = ground.board(LOOP);
    let mut soak = ground.start(&format!("test streams --for 1h --every 100ms --card {}", board.address()));
    soak.wait_for_line(" s  h2c");
    soak.signal(Signal::INT);
    soak.wait().exits(0).says(" packets, ");
}

#[test]
fn rates_latencies_and_accesses_are_measured() {
    let ground = Ground::new();
    let json = on(
        &ground,
        "nitefury --link gen2x4",
        "time dma --sizes 4K,64K --depth 1,4 --for 20ms --plot rates.svg --json",
    );
    let json = json.exits(0).json();
    let rates = json[0]["rates"].as_array().unwrap();
    assert_eq!((rates.len(), &json[0]["link"]), (8, &"5 GT/s x4".into()));
    for rate in rates {
        let (is, limit) = (rate["mb_per_s"].as_f64().unwrap(), rate["limit_mb_per_s"].as_f64().unwrap());
        assert!(is > 0.0 && is < 1.2 * limit && (1700.0..2000.0).contains(&limit), "{rate}");
    }
    let picture = fs::read_to_string(ground.path("rates.svg")).unwrap();
    assert!(picture.starts_with("<svg") && picture.matches("<polyline").count() >= 4, "{picture}");

    let json =
        on(&ground, "nitefury", "time latency --sizes 64,4K --for 50ms --plot l.svg --json").exits(0).json();
    for one in json[0]["latencies"].as_array().unwrap() {
        let percentiles = one["percentiles"].as_array().unwrap();
        let mut all: Vec<f64> = percentiles.iter().map(|own| own["us"].as_f64().unwrap()).collect();
        all.insert(0, one["min_us"].as_f64().unwrap());
        all.push(one["max_us"].as_f64().unwrap() * 1.01);
        assert!(all.len() >= 3 && all.is_sorted() && all[0] > 0.0, "{one}");
    }
    on(&ground, LOOP, "time latency --sizes 64 --for 20ms").exits(0).says("h2c0→c2h1");
    on(&ground, "NiteFury_dma_stream_crc64", "time latency --sizes 64 --for 20ms").exits(0).says("h2c0→c2h0");
    on(&ground, "memmapped-blkram", "time pio --for 10ms")
        .exits(0)
        .says("write 32 bits of BAR 2 at 0x0, mapped");
    on(&ground, "nitefury", "time pio --for 10ms").exits(0).says("by request");
    on(&ground, "memmapped-blkram", "time dma").exits(3);
    on(&ground, "nitefury", "time dma --sizes 4K --for 10ms --depth 1 --plot /nowhere/x.svg")
        .exits(1)
        .complains("ENOENT");
}

#[test]
fn a_board_is_validated_in_one_go() {
    let ground = Ground::new();
    let outcome = on(&ground, "nitefury", "validate --report r.html --junit r.xml").exits(0);
    for line in
        [" passed   addressing ", " passed   memory ", " passed   completion by interrupt ", ", 0 failed, "]
    {
        assert!(outcome.out.contains(line), "{line}: {outcome}");
    }
    let page = fs::read_to_string(ground.path("r.html")).unwrap();
    assert!(page.contains("1 board tested, all is well") && page.matches("<svg").count() == 2, "{page}");
    assert!(!page.contains("http://") || page.matches("http").all(|_| page.contains("www.w3.org/2000/svg")));
    let tests = fs::read_to_string(ground.path("r.xml")).unwrap();
    assert!(tests.contains("failures=\"0\"") && tests.contains("testcase name=\"addressing\""), "{tests}");
    // Each kind of design has something that fits.
    for board in
        [LOOP, "NiteFury_dma_stream_fixed_data", "TEF1001_dma_ddr3", "memmapped-blkram", "U200_qdma_ram"]
    {
        let json = on(&ground, board, "validate --json").exits(0).json();
        assert!(verdicts(&json).iter().any(|(_, verdict)| verdict == "passed"), "{board}: {json}");
    }
}

#[test]
fn a_board_that_is_not_well_is_not_valid() {
    let ground = Ground::new();
    let outcome = on(&ground, "nitefury --lanes 1", "validate --junit r.xml").exits(1);
    outcome.says(" FAILED   link ").says("5 GT/s x1, and the design can 5 GT/s x4").says("1 failed");
    assert!(fs::read_to_string(ground.path("r.xml")).unwrap().contains("<failure message=\"5 GT/s x1"));
    on(&ground, "nitefury --fault data-fault:c2h0@3", "validate").exits(1).says("FAILED");
    ground.run("validate").exits(3).complains("nothing tested");
    // One board that fails, and one that does not.
    let (good, bad) = (ground.board("memmapped-blkram"), ground.board("memmapped-blkram --lanes 1"));
    let cards = format!("--card {} --card {}", good.address(), bad.address());
    let json = ground.run(&format!("validate {cards} --json")).exits(1).json();
    assert_eq!((&json[0]["failed"], &json[1]["failed"]), (&false.into(), &true.into()));
}

#[test]
fn who_stops_a_validation_hears_what_there_is() {
    let ground = Ground::new();
    let board = ground.board("nitefury");
    let mut validate = ground.start(&format!("validate --card {} --junit r.xml", board.address()));
    validate.wait_for_line("NiteFury (Project-0) at ");
    std::thread::sleep(std::time::Duration::from_millis(500));
    validate.signal(Signal::INT);
    validate.wait().exits(1).says("the user asked to stop").says(" passed   link ");
    assert!(fs::read_to_string(ground.path("r.xml")).unwrap().contains("testcase name=\"link\""));
    // What cannot be written is told before hours are spent.
    let outcome = on(&ground, "nitefury", "validate --report /nowhere/r.html").exits(1).complains("ENOENT");
    assert!(outcome.time < std::time::Duration::from_secs(2), "{outcome}");
}
