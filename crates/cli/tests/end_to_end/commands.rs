//! Every command, alone with the boards that it starts or is told of.

use crate::support::{Ground, Process, json_line};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const NITEFURY: &str = "--emulate nitefury";
const TEF1001: &str = "--emulate tef1001-dma-blkram";

#[test]
fn general_says_which_board_it_is_and_how_warm() {
    let ground = Ground::new();
    for board in ["nitefury", "litefury"] {
        let outcome = ground.run(&format!("test general --emulate {board}")).exits(0);
        for text in ["Fury version 0x", " at vfio-user:", "temperature", "VCCINT", "VCCAUX", "VBRAM"] {
            assert!(outcome.out.contains(text), "{text}: {outcome}");
        }
    }
    let json = ground.run(&format!("test general {NITEFURY} --json")).exits(0).json();
    assert_eq!(json[0]["board"], "NiteFury");
    let warm = json[0]["readings"]["temperature"]["now"].as_f64().unwrap();
    assert!((10.0..100.0).contains(&warm), "{warm}");
}

#[test]
fn ddr_says_what_it_does_and_measures() {
    let ground = Ground::new();
    let outcome = ground.run(&format!("test ddr {NITEFURY} --size 4M --passes 2")).exits(0);
    let lines: Vec<&str> = outcome.out.lines().collect();
    assert!(lines[0].starts_with("Testing NiteFury with 4 MiB of memory at vfio-user:"), "{outcome}");
    assert_eq!(lines[1], "Size of DMA descriptors used for h2c: [0]=0x400000");
    assert_eq!(lines[2], "Size of DMA descriptors used for c2h: [0]=0x400000");
    assert_eq!(lines[3], "pass 1 of 2: test pattern matches");
    assert_eq!(lines[4], "pass 2 of 2: test pattern matches");
    assert!(lines[5].starts_with("host to card: 2 transfers of 4194304 bytes: min "), "{outcome}");
    assert!(lines[6].starts_with("card to host: 2 transfers of 4194304 bytes: min "), "{outcome}");

    let json = ground.run(&format!("test ddr {NITEFURY} --size 64K --passes 3 --json")).exits(0).json();
    let json = json!([json[0]["memories"][0]]);
    assert_eq!(json[0]["passes"], 3);
    assert_eq!(json[0]["bytes"], 0x1_0000);
    assert_eq!(json[0]["failures"], json!([]));
    assert_eq!(json[0]["host_to_card"]["transfers"], 3);
    let rate = |way: &str, which: &str| json[0][way][which].as_f64().unwrap();
    for way in ["host_to_card", "card_to_host"] {
        assert!(rate(way, "min_mb_per_s") > 0.0);
        assert!(rate(way, "min_mb_per_s") <= rate(way, "mean_mb_per_s"));
        assert!(rate(way, "mean_mb_per_s") <= rate(way, "max_mb_per_s"));
    }
}

#[test]
fn descriptors_are_as_long_and_as_aligned_as_asked() {
    let ground = Ground::new();
    // A byte more than two descriptors take. Nothing of the rest of the card's 1 GiB is touched.
    let size = 2 * 0x0fff_ffff + 1;
    let run = |options: &str| ground.run(&format!("test ddr {NITEFURY} --size {size} --passes 1 {options}"));
    let outcome = run("--descriptors-of 0x0fffffff").exits(0);
    for way in ["h2c", "c2h"] {
        let line = format!("descriptors used for {way}: [0]=0xfffffff [1]=0xfffffff [2]=0x1\n");
        assert!(outcome.out.contains(&line), "{outcome}");
    }
    let outcome = run("--descriptors-of 0x0fffffff --align 4096").exits(0);
    assert!(outcome.out.contains("h2c: [0]=0xffff000 [1]=0xffff000 [2]=0x1fff\n"), "{outcome}");
    // Unless asked, as short as a slow card has to be stopped in.
    let outcome = ground.run(&format!("test ddr {NITEFURY} --size 20M --passes 1")).exits(0);
    assert!(outcome.out.contains("h2c: [0]=0x800000 [1]=0x800000 [2]=0x400000\n"), "{outcome}");
}

#[test]
fn a_card_with_less_memory_than_its_kind_answers_beyond_it_with_an_error() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 32M");
    let ddr = |size| ground.run(&format!("test ddr --size {size} --passes 1 --card {}", board.address()));
    ddr("32M").exits(0);
    ddr("33M").exits(1).complains("decode error").complains("the channel was stopped and can be used again");
    ddr("32M").exits(0);
}

#[test]
fn blkram_moves_all_of_it_each_time() {
    let ground = Ground::new();
    ground
        .run(&format!("time blkram {TEF1001} --transfers 20"))
        .exits(0)
        .says("with 0x128000 bytes of memory at vfio-user:")
        .says("all 20 transfers each way match")
        .says("host to card: 20 transfers of 1212416 bytes: min ")
        .says("card to host: 20 transfers of 1212416 bytes: min ");
    let json = ground.run(&format!("time blkram {TEF1001} --transfers 5 --json")).exits(0).json();
    assert_eq!(json[0]["host_to_card"]["bytes"], 0x12_8000);
    assert_eq!(json[0]["card_to_host"]["transfers"], 5);
    assert_eq!(json[0]["failure"], Value::Null);
}

#[test]
fn a_board_is_used_by_its_address_one_program_after_the_other() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 64M");
    let card = format!("--card {}", board.address());
    for _ in 0..3 {
        ground.run(&format!("test general {card}")).exits(0).says(&board.address());
        ground.run(&format!("test ddr {card} --size 1M --passes 1")).exits(0);
    }
}

#[test]
fn every_board_that_can_be_emulated_can_be_described() {
    let ground = Ground::new();
    // All of the catalogue's are emulated and identified in a test of the crate that identifies.
    for name in ["nitefury-dma-ddr3", "memmapped-blkram", "U200_qdma_ram", "VD100_dma_stream_loopback"] {
        let json = ground.run(&format!("info --emulate {name} --json")).exits(0).json();
        assert!(json[0]["board"]["board"].is_string(), "{name}: {json}");
        assert!(!json[0]["bars"].as_array().unwrap().is_empty(), "{json}");
        ground.run(&format!("info --emulate {name}")).exits(0).says("  board: ").says("  BAR ");
    }
}

const OWN: &str = r#"
[[design]]
name = "my_filter"
board = "Mine"
pci = ["10ee:7024"]
subsystem = "1234:0001"
dma = { ip = "xdma", bar = 0, h2c = 1, c2h = 1, interface = "memory-mapped" }
memory = { kind = "block-ram", base = 0x4000_0000, size = 0x1_0000 }
peripherals = [{ kind = "uart", bar = 2, offset = 0 }]
[[design]]
name = "my_other"
board = "Other"
pci = ["10ee:7024"]
subsystem = "1234:0002"
"#;

#[test]
fn a_board_of_a_file_is_emulated_tested_and_shown() {
    let ground = Ground::new();
    let file = ground.path("mine.toml");
    std::fs::write(&file, OWN).unwrap();
    let file = file.display();
    ground.run(&format!("boards check {file}")).exits(0).says("my_filter, my_other");
    ground
        .run(&format!("boards show {file}#my_filter"))
        .exits(0)
        .says("10ee:7024, subsystem 1234:0001")
        .says("XDMA 1+1, memory mapped")
        .says("Memory: 64 KiB block-ram at 0x40000000")
        .says("Plain registers stand for what has no model: uart in BAR 2 at 0x0");
    ground.run(&format!("boards show {file}")).exits(2).complains("several designs: my_filter, my_other");
    ground.run(&format!("boards show {file}#my_filtr")).exits(2).complains("did you mean 'my_filter'");

    // What starts it knows its file, and so do the programs that it starts.
    let choice = format!("{file}#my_filter");
    ground.run(&format!("time blkram --transfers 3 --emulate {choice}")).exits(0).says("Testing Mine");
    ground.run(&format!("info --emulate {choice}")).exits(0).says("  board: Mine (design my_filter)");
    ground
        .run_args(["run", "--emulate", &choice, "jitney time blkram --transfers 3"])
        .exits(0)
        .says("Testing Mine with 0x10000 bytes");

    // Emulated by the file alone; what uses the card has to know the file.
    let mut board = ground.start(&format!("emulate {file}#my_filter"));
    board.wait_for_line("serving ");
    let mut command = ground.jitney(["time", "blkram", "--transfers", "3"]);
    command.env("JITNEY_BOARDS", file.to_string());
    Process::start(command).wait().exits(0).says("Testing Mine with 0x10000 bytes");
    board.signal(rustix::process::Signal::TERM);
    board.wait().exits(0).complains("plain registers stand for what has no model: uart in BAR 2");
}

#[test]
fn an_idle_board_is_small_however_large_its_memory_is() {
    let ground = Ground::new();
    // 64 GiB of DDR4, and eight streams.
    for name in ["U200_dma_ddr4", "U200_dma_stream_crc64"] {
        let mut board = ground.start(&format!("emulate {name} --socket {name}.sock"));
        board.wait_for_line("serving ");
        ground
            .run(&format!("info --card vfio-user:{}", ground.path(&format!("{name}.sock")).display()))
            .exits(0);
        let memory = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", board.pid())).unwrap();
        let kib = |what: &str| -> u64 {
            let value = memory.lines().find_map(|line| line.strip_prefix(what)).unwrap();
            value.trim().trim_end_matches(" kB").parse().unwrap()
        };
        // What it takes of the machine: of libraries that others have as well, its share.
        assert!(kib("Pss:") <= 16 << 10, "{name}: {memory}");
        // Most of it is the program's text, which all boards share.
        let own = kib("Pss_Anon:") + kib("Pss_Shmem:");
        assert!(own <= 6 << 10, "{name}: {own} KiB of its own");
    }
}

#[test]
fn the_boards_are_listed_with_where_they_are_from() {
    let ground = Ground::new();
    let file = ground.path("mine.toml");
    std::fs::write(&file, OWN).unwrap();
    let list = |options: &[&str]| {
        let mut command = ground.jitney([&["boards"][..], options].concat());
        command.env("JITNEY_BOARDS", &file);
        Process::start(command).wait().exits(0)
    };
    list(&[]).says("my_filter").says("mine.toml").says("nitefury").says("built in").says("without its DMA");
    let json = list(&["list", "--json"]).json();
    assert_eq!(json.as_array().unwrap().len(), 53);
    assert_eq!(json[0]["design"], "my_filter");
    assert_eq!((&json[0]["emulated"], &json[0]["file"]), (&json!("with DMA"), &json!(file)));
}

#[test]
fn info_tells_what_is_where() {
    let ground = Ground::new();
    let board = ground.board("nitefury --revision 2");
    ground
        .run(&format!("info {} --card {}", board.address(), board.address()))
        .exits(0)
        .says("(10ee:7011), subsystem ")
        .says("  BAR 0: 128 KiB (0x20000)")
        .says("  BAR 2: 64 KiB (0x10000)")
        .says("  memory: 1 GiB at card address 0x0")
        .says("xadc          in BAR 0 at 0x03000")
        .says("h2c0: memory mapped, addresses of 64 bits");
    let json = ground.run(&format!("info 10ee:7011 --card {} --json", board.address())).exits(0).json();
    assert_eq!(json[0]["id"], "10ee:7011");
    assert_eq!(json[0]["board"]["memory"], json!({ "kind": "ddr", "base": 0, "size": 1 << 30 }));
    let channels = json[0]["xdma"]["channels"].as_array().unwrap();
    let names: Vec<_> = channels.iter().map(|channel| channel["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["h2c0", "c2h0"]);
    assert_eq!(channels[0]["address_alignment"], 1);
    let kinds: Vec<_> =
        json[0]["board"]["peripherals"].as_array().unwrap().iter().map(|p| &p["kind"]).collect();
    assert_eq!(kinds, ["axi-gpio", "axi-gpio", "axi-gpio", "xadc", "quad-spi"]);
}

#[test]
fn list_shows_boards_that_put_themselves_where_it_looks() {
    let ground = Ground::new();
    ground.run("list").exits(0).says("There is no card.");
    assert_eq!(ground.run("list --json").exits(0).json(), json!([]));

    let mut first = ground.start("emulate nitefury");
    let mut second = ground.start("emulate tef1001-dma-blkram");
    first.wait_for_line("serving nitefury at vfio-user:");
    second.wait_for_line("serving tef1001-dma-blkram at vfio-user:");
    let json = ground.run("list --json").exits(0).json();
    let boards: Vec<_> = json.as_array().unwrap().iter().map(|row| &row["board"]).collect();
    assert_eq!(boards[0], "NiteFury");
    assert!(boards[1].as_str().unwrap().starts_with("TEF1001"), "{json}");
    ground.run("list").exits(0).says("10ee:7011").says("nobody");
    // A program without any option finds them, too.
    ground.run("test general").exits(0).says("Found NiteFury");
    ground.run("time blkram --transfers 2").exits(0);
}

#[test]
fn the_demo_passes() {
    let ground = Ground::new();
    let before = ground.files();
    let outcome = ground.run("demo").exits(0).says("All three programs passed");
    for mark in ["general | Found NiteFury", "ddr     | pass 2 of 2", "blkram  | all 1000 transfers"] {
        assert!(outcome.out.contains(mark), "{mark}: {outcome}");
    }
    ground.assert_nothing_left(&before);
}

/// Bytes as vfio-user's specification has them, so that a mistake that both of our sides share does not pass.
#[test]
fn a_board_serves_any_vfio_user_client() {
    let ground = Ground::new();
    let board = ground.board("nitefury");
    let mut client = UnixStream::connect(&board.socket).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut ask = |id: u16, command: u16, body: &[u8]| {
        let mut message = Vec::new();
        message.extend(id.to_le_bytes());
        message.extend(command.to_le_bytes());
        message.extend(u32::try_from(16 + body.len()).unwrap().to_le_bytes());
        message.extend([0; 8]);
        message.extend(body);
        client.write_all(&message).unwrap();
        let mut header = [0; 16];
        client.read_exact(&mut header).unwrap();
        assert_eq!(header[..4], message[..4], "the same id and command");
        assert_eq!(header[8..12], [1, 0, 0, 0], "a reply without an error");
        let size = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let mut body = vec![0; size - 16];
        client.read_exact(&mut body).unwrap();
        body
    };
    // VERSION 0.0 without capabilities; its answer is 0.x and JSON.
    let version = ask(7, 1, b"\0\0\0\0{}\0");
    assert_eq!(version[..2], [0, 0]);
    assert!(version[4..].starts_with(b"{"));
    // REGION_READ of the first four bytes of configuration space (region 7).
    let mut read = vec![0; 8];
    read.extend([7, 0, 0, 0, 4, 0, 0, 0]);
    assert_eq!(ask(8, 9, &read)[16..], [0xee, 0x10, 0x11, 0x70]);
}

#[test]
fn what_serves_says_where_in_json_too() {
    let ground = Ground::new();
    let mut board = ground.start("emulate nitefury --socket own.sock --json");
    let line = json_line(&board.wait_for_line("own.sock"));
    assert_eq!(line["event"], json!({ "type": "serving", "board": "nitefury", "socket": "own.sock" }));
    let lines = ground.run("demo --json").exits(0).json_lines();
    let ended = lines.last().unwrap()["result"]["ended"].as_array().unwrap();
    assert_eq!(ended.len(), 3);
    assert!(ended.iter().all(|program| program["status"] == 0), "{ended:?}");
}

#[test]
fn boards_that_are_started_at_once_do_not_fight_for_a_path() {
    let ground = Ground::new();
    let mut boards: Vec<_> = (0..6).map(|_| ground.start("emulate memmapped-blkram")).collect();
    let mut lines: Vec<_> = boards.iter_mut().map(|board| board.wait_for_line("serving ")).collect();
    lines.sort();
    lines.dedup();
    assert_eq!(lines.len(), 6);
    assert_eq!(ground.run("list --json").exits(0).json().as_array().unwrap().len(), 6);
}

#[test]
fn who_waits_for_a_board_can_be_told_by_a_descriptor() {
    let ground = Ground::new();
    let jitney = env!("CARGO_BIN_EXE_jitney");
    let mut shell = std::process::Command::new("sh");
    let script = "mkfifo ready; \"$0\" emulate nitefury --socket ready.sock --ready-fd 9 9>ready >/dev/null & \
                  cat ready; kill $!; wait $!";
    shell.args(["-c", script, jitney]).current_dir(ground.path(""));
    let outcome = Process::start(shell).wait();
    outcome.exits(0).says("serving nitefury at vfio-user:ready.sock");
    ground
        .run("emulate nitefury --socket other.sock --ready-fd 77")
        .exits(1)
        .complains("--ready-fd")
        .complains("77");
}

#[test]
fn help_and_version_are_no_failures() {
    let ground = Ground::new();
    let help = ground.run("--help").exits(0).says("Exit status: 0 all passed, 1 something failed, 2 ");
    // Columns are as wide as their longest words.
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.out.lines().any(|line| words(line) == "poke read Read registers of 32 bits"), "{help}");
    ground.run("--version").exits(0).says("jitney ");
    ground.run("emulate --help").exits(0).says("nitefury-dma-ddr3").says("lost-interrupt");
}
