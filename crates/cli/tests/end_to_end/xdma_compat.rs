//! Programs for the vendor's character devices, as they are: in C, in Python, and those of the system.
//!
//! The programs in C (`tests/c`) are written as people write such tools, from what is documented of the devices, and compiled here.

use crate::support::{Ground, Outcome, Process, eventually};
use rustix::process::Signal;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// Streams that are joined crosswise without a switch.
const CROSSED: &str = "NiteFury_dma_stream_loopback --revision 0";

/// The library, which nobody builds for these tests but they themselves.
fn library() -> &'static str {
    static LIBRARY: OnceLock<String> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        // As all tests are built, with what only they need, so that nothing is built twice.
        cargo.args(["build", "--workspace", "--all-features", "--lib", "--example", "first_program"]);
        cargo.args(["--message-format", "json"]);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        let output = cargo.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout);
        let files = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let files = files.flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default());
        let mut files = files.filter_map(|name| name.as_str().map(str::to_owned));
        files.find(|name| name.ends_with("libjitney_xdma_compat.so")).unwrap()
    })
}

/// The programs in C.
struct Programs<'a> {
    ground: &'a Ground,
}

impl<'a> Programs<'a> {
    fn new(ground: &'a Ground) -> Result<Self, &'static str> {
        match Command::new("cc").arg("--version").output() {
            Ok(_) => Ok(Self { ground }),
            Err(_) => Err("no C compiler here (cc), which these programs are for"),
        }
    }

    /// Compiles `name`; its path.
    fn compile(&self, name: &str, options: &[&str]) -> PathBuf {
        let source = format!("{}/tests/c/{name}.c", env!("CARGO_MANIFEST_DIR"));
        let program = self.ground.path(name);
        let mut compiler = Command::new("cc");
        compiler.args(["-O2", "-Wall", "-Werror", "-pthread", "-o"]).arg(&program).arg(source).args(options);
        let output = compiler.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        program
    }
}

/// Starts a shell script under `jitney xdma-compat` with these options, in the test's folder, where programs are compiled to.
fn start(ground: &Ground, options: &str, script: &str) -> Process {
    let mut words: Vec<String> = ["xdma-compat", "--library", library()].map(Into::into).into();
    words.extend(options.split_whitespace().map(Into::into));
    words.extend(["--", "sh", "-ec", script].map(Into::into));
    Process::start(ground.jitney(words))
}

fn run(ground: &Ground, options: &str, script: &str) -> Outcome {
    start(ground, options, script).wait()
}

#[test]
fn files_go_to_a_cards_memory_and_back_by_tools_for_the_drivers_devices() {
    let ground = Ground::new();
    let programs = match Programs::new(&ground) {
        Ok(programs) => programs,
        Err(why) => return println!("skipped: {why}"),
    };
    for name in ["dma_to_device", "dma_from_device"] {
        programs.compile(name, &[]);
    }
    let data: Vec<u8> = (0..5_000_001_u32).map(|at| (at * 7 + at / 251).to_le_bytes()[0]).collect();
    std::fs::write(ground.path("in.bin"), &data).unwrap();
    let before = ground.files();
    let script = "
        ./dma_to_device -d /dev/xdma0_h2c_0 -a 0x1003 -s 5000001 -f in.bin
        ./dma_from_device -d /dev/xdma0_c2h_0 -a 0x1003 -s 5000001 -f out.bin
        cmp in.bin out.bin
        # Without an address the position stays 0 however often something is moved.
        head -c 8192 /dev/zero > zeros.bin; ./dma_to_device -s 8192 -f zeros.bin
        ./dma_to_device -s 4096 -c 3 -f in.bin; ./dma_from_device -s 8192 -f both.bin
        (head -c 4096 in.bin; head -c 4096 zeros.bin) | cmp - both.bin
        ./dma_from_device -s 4096 -c 2 -f twice.bin
        (head -c 4096 in.bin; head -c 4096 in.bin) | cmp - twice.bin";
    run(&ground, "--emulate nitefury", script).exits(0).says("read 5000001 bytes");
    ground.assert_nothing_left(&before);
    // Block RAM, whose card has nothing but the DMA; the second channel of each direction.
    let script = "
        ./dma_to_device -d /dev/xdma0_h2c_1 -a 0x10000 -s 65536 -f in.bin
        ./dma_from_device -d /dev/xdma0_c2h_1 -a 0x10000 -s 65536 -f out.bin
        cmp -n 65536 in.bin out.bin; test ! -e /dev/xdma0_user; test -c /dev/xdma0_control";
    run(&ground, "--emulate dma_blkram", script).exits(0);
}

#[test]
fn registers_are_loads_and_stores() {
    let ground = Ground::new();
    let programs = match Programs::new(&ground) {
        Ok(programs) => programs,
        Err(why) => return println!("skipped: {why}"),
    };
    programs.compile("reg_rw", &[]);
    programs.compile("registers", &[]);
    let script = "
        ./reg_rw /dev/xdma0_user 0 w
        ./reg_rw /dev/xdma0_control 0x0 w
        ./reg_rw /dev/xdma0_user 2 h
        ./reg_rw /dev/xdma0_control 0x0088 w 0x12345678
        # Another program finds it there: the card was not reset in between.
        ./reg_rw /dev/xdma0_control 0x0088 w
        ./registers /dev/xdma0_user 0x4e495445 || test $? = 42
        ./registers /dev/xdma0_control 0x1fc00006 || test $? = 42";
    let outcome = run(&ground, "--emulate nitefury", script).exits(0);
    let values: Vec<&str> = outcome.out.lines().filter_map(|line| line.rsplit(": ").next()).collect();
    let wanted = ["0x4e495445", "0x1fc00006", "0x4e49", "0x12345678", "0x12345678"];
    assert_eq!(values[..5], wanted, "{outcome}");
    assert_eq!(outcome.out.matches("registers are right").count(), 2, "{outcome}");
    // An instruction that is not carried out is a fault of the program's, whose handler hears of it.
    let outcome = run(&ground, "--emulate nitefury", "./registers /dev/xdma0_user 0x4e495445 add").exits(43);
    outcome.complains("Xadd").complains("/dev/xdma0_user");
}

#[test]
fn a_bar_that_is_memory_is_mapped_and_no_message_is_sent() {
    const BOARD: &str = r#"
[[design]]
name = "through"
board = "mine"
pci = ["10ee:7024"]
subsystem = "1234:0001"
dma = { ip = "xdma", bar = 1, h2c = 1, c2h = 1, interface = "memory-mapped", width = 128, bypass = { bar = 2, base = 0, size = 0x4_0000 } }
memory = { kind = "block-ram", base = 0, size = 0x4_0000 }
peripherals = [{ kind = "axi-gpio", bar = 0, offset = 0, pins = ["inputs"], words = [0x1234_5678] }]
"#;
    let ground = Ground::new();
    let programs = match Programs::new(&ground) {
        Ok(programs) => programs,
        Err(why) => return println!("skipped: {why}"),
    };
    for name in ["reg_rw", "dma_to_device", "registers"] {
        programs.compile(name, &[]);
    }
    std::fs::write(ground.path("mine.toml"), BOARD).unwrap();
    let script = "
        ./dma_to_device -a 0x2000 -s 4096
        ./reg_rw /dev/xdma0_bypass 0x2004 w
        ./reg_rw /dev/xdma0_bypass 0x2004 w 0xcafe
        ./reg_rw /dev/xdma0_user 0 w
        dd if=/dev/xdma0_c2h_0 bs=4 skip=2049 count=1 status=none | od -An -tx4
        ./registers /dev/xdma0_bypass 0 || test $? = 42";
    let outcome = run(&ground, "--emulate ./mine.toml", script).exits(0);
    // What the tool wrote by itself: bytes of i * 7.
    outcome.says("0x2004: 0x312a231c").says("0x2004: 0xcafe").says("0x0: 0x12345678").says("0000cafe");
}

#[test]
fn streams_are_packets_between_two_processes() {
    let ground = Ground::new();
    let programs = match Programs::new(&ground) {
        Ok(programs) => programs,
        Err(why) => return println!("skipped: {why}"),
    };
    for name in ["loopback", "dma_to_device", "dma_from_device"] {
        programs.compile(name, &[]);
    }
    let board = ground.board(CROSSED);
    let script = "
        ./loopback /dev/xdma0_h2c_0 /dev/xdma0_c2h_1 50 100000
        ./loopback /dev/xdma0_h2c_1 /dev/xdma0_c2h_0 3 9000000
        # Less room than a packet has, and more.
        ./loopback /dev/xdma0_h2c_0 /dev/xdma0_c2h_1 20 1000 333
        ./loopback /dev/xdma0_h2c_0 /dev/xdma0_c2h_1 20 1000 65536
        ./dma_from_device -d /dev/xdma0_c2h_1 -s 8192 -e -f out.bin & 
        ./dma_to_device -d /dev/xdma0_h2c_0 -s 5000; wait $!
        test $(stat -c %s out.bin) = 5000
        # A shell opens it for the program that it then becomes.
        dd bs=8192 count=1 status=none < /dev/xdma0_c2h_1 > out.bin &
        ./dma_to_device -d /dev/xdma0_h2c_0 -s 6000; wait $!
        test $(stat -c %s out.bin) = 6000";
    let outcome = run(&ground, &format!("--card {}", board.address()), script).exits(0);
    outcome.says("50 packets of 100000 bytes").says("3 packets of 9000000 bytes").says("read 5000 bytes");
    // A stream that has nothing to say.
    let options = format!("--card {} --timeout 200ms", board.address());
    let outcome = run(&ground, &options, "./dma_from_device -d /dev/xdma0_c2h_0 -s 64 -f out.bin");
    outcome.exits(1).complains("ETIMEDOUT").complains("nothing came on c2h0");
}

#[test]
fn interrupts_come_by_every_way_to_wait() {
    let ground = Ground::new();
    let programs = match Programs::new(&ground) {
        Ok(programs) => programs,
        Err(why) => return println!("skipped: {why}"),
    };
    programs.compile("wait_event", &[]);
    let board = ground.board("nitefury --user-interrupt 2@20ms --user-interrupt 5@1ms");
    let script = "
        for how in read poll select epoll; do ./wait_event /dev/xdma0_events_2 5 $how; done
        ./wait_event /dev/xdma0_events_5 200 poll & ./wait_event /dev/xdma0_events_2 3 read; wait $!";
    let outcome = run(&ground, &format!("--card {}", board.address()), script).exits(0);
    outcome.says("5 events by select").says("200 events by poll").complains("EPROTO");
}

#[test]
fn what_cannot_be_is_refused_with_an_errno_and_a_line() {
    let ground = Ground::new();
    let programs = match Programs::new(&ground) {
        Ok(programs) => programs,
        Err(why) => return println!("skipped: {why}"),
    };
    programs.compile("refused", &[]);
    programs.compile("stdio", &[]);
    let outcome = run(&ground, "--emulate nitefury", "./refused; ./stdio").exits(0).says("stdio works");
    for line in [
        "open(/dev/xdma7_user): ENOENT: there is no xdma7: there is one card, xdma0",
        "read of 0x4 bytes of /dev/xdma0_h2c_0: EINVAL: a channel to the card cannot be read",
        "pread of 0x4 bytes of /dev/xdma0_user: EPROTO: position 0x2",
        "EIO: transfer failed on h2c0",
        "flock of /dev/xdma0_h2c_0: ENOLCK",
    ] {
        assert!(outcome.err.lines().any(|said| said.contains(line)), "no {line:?}: {outcome}");
    }
}

#[test]
fn python_and_the_systems_own_programs_use_devices_too() {
    if Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: no python3 here");
        return;
    }
    let ground = Ground::new();
    let script = format!("python3 -B {}/tests/python/xdma_devices.py", env!("CARGO_MANIFEST_DIR"));
    run(&ground, "--emulate nitefury", &script).exits(0).says("python is content");
}

#[test]
fn dd_and_cat_move_one_block_as_with_the_driver_and_many_if_asked() {
    let ground = Ground::new();
    let data: Vec<u8> = (0..1_000_000_u32).map(|at| (at * 13 + at / 255).to_le_bytes()[0]).collect();
    std::fs::write(ground.path("in.bin"), data).unwrap();
    let script = "
        dd if=in.bin of=/dev/xdma0_h2c_0 bs=100000 count=1 seek=5 status=none
        dd if=/dev/xdma0_c2h_0 bs=100000 count=1 skip=5 status=none | cmp -n 100000 in.bin -
        # Each block goes to where the position was put.
        dd if=in.bin of=/dev/xdma0_h2c_0 bs=1000 count=3 status=none
        dd if=/dev/xdma0_c2h_0 bs=1000 count=1 status=none > last; tail -c +2001 in.bin | cmp -n 1000 last -
        ls /dev/xdma0_* | grep -c h2c";
    run(&ground, "--emulate nitefury", script).exits(0);
    let script = "
        dd if=in.bin of=/dev/xdma0_h2c_0 bs=4096 status=none; cat in.bin > /dev/xdma0_h2c_0
        dd if=/dev/xdma0_c2h_0 bs=1000 count=1000 status=none | cmp in.bin -
        head -c 300000 /dev/xdma0_c2h_0 | cmp -n 300000 in.bin -";
    run(&ground, "--emulate nitefury --advance", script).exits(0);
}

#[test]
fn several_share_a_card_and_its_channels_under_one_broker() {
    let ground = Ground::new();
    let programs = match Programs::new(&ground) {
        Ok(programs) => programs,
        Err(why) => return println!("skipped: {why}"),
    };
    programs.compile("together", &[]);
    let board = ground.board("nitefury");
    let broker = ground.broker(&[&board]);
    let option = broker.option();
    let mut held = ground.start(&format!("hold 10ee:7011 {option}"));
    held.wait_for_line("holding ");
    let first = start(&ground, &option, "./together 1 400 4096 & ./together 2 60 300000; wait $!");
    let second = start(&ground, &option, "./together 3 400 10000");
    first.wait().exits(0).says("program 1: 400 rounds right").says("program 2: 60 rounds right");
    second.wait().exits(0).says("program 3: 400 rounds right");
    // One that has the devices open and does nothing keeps nobody waiting.
    let mut idle = start(&ground, &option, "./together 5 1 64 stay");
    idle.wait_for_line("program 5");
    run(&ground, &format!("{option} --wait 500ms"), "./together 6 1 64").exits(0);
    assert!(idle.runs());
    // What they wrote is there for others: 0x1000003 has what program 1 wrote last.
    ground.run(&format!("save 10ee:7011 0x1000003 4096 out.bin {option}")).exits(0);
    let last = (399 * 7 + 1_u32).to_le_bytes()[0];
    assert!(std::fs::read(ground.path("out.bin")).unwrap().iter().all(|byte| *byte == last));
    // A channel that a program of another kind has is waited for, and then is busy; who has it is said.
    let mut lease = ground.start(&format!("lease 10ee:7011 h2c0 {option}"));
    eventually("h2c0 is not leased", || {
        let status = ground.run(&format!("status --json {option}")).out;
        if status.contains("h2c0") { Ok(()) } else { Err(status) }
    });
    let outcome = run(&ground, &format!("{option} --wait 1s"), "./together 4 1 64").exits(1);
    outcome.complains("EBUSY").complains("jitney lease");
    assert!(lease.runs());
}

#[test]
fn cards_have_numbers_that_can_be_chosen() {
    let ground = Ground::new();
    let (first, second) = (ground.board("nitefury"), ground.board("NiteFury_dma_ddr3"));
    let cards = format!("--card {} --card {}", first.address(), second.address());
    let look = "dd if=/dev/xdma0_control bs=4 count=1 status=none | od -An -tx4; ls /dev/xdma*_h2c_*";
    let outcome = run(&ground, &cards, look).exits(0);
    outcome.says("/dev/xdma0_h2c_0\n/dev/xdma1_h2c_0\n/dev/xdma1_h2c_1");
    let chosen = format!("{cards} --xdma {} --xdma {}", second.address(), first.address());
    run(&ground, &chosen, look).exits(0).says("/dev/xdma0_h2c_0\n/dev/xdma0_h2c_1\n/dev/xdma1_h2c_0");
    let outcome = run(&ground, &format!("{cards} --xdma 10ee:7011 --xdma 10ee:7011"), "true");
    outcome.exits(2).complains("has a number already");
    let line = format!("xdma-compat --json --library {} --emulate nitefury", library());
    let devices = ground.run(&line).exits(0).json();
    assert_eq!(devices["cards"][0]["h2c"][0]["path"], "/dev/xdma0_h2c_0", "{devices}");
    let words = ["--emulate", "memmapped-blkram", "--", "true"];
    let words = ["xdma-compat", "--library", library()].into_iter().chain(words);
    ground.run_args(words).exits(1).complains("has an XDMA");
}

#[test]
fn the_exit_status_is_the_programs() {
    let ground = Ground::new();
    let options = "--emulate nitefury";
    run(&ground, options, "exit 7").exits(7);
    run(&ground, options, "kill -9 $$").exits(128 + 9);
    let words = ["xdma-compat", "--library", library(), "--emulate", "nitefury", "--", "/no/such/program"];
    ground.run_args(words).exits(127).complains("ENOENT");
    let words = ["xdma-compat", "--library", "/no/such/library.so", "--emulate", "nitefury", "--", "true"];
    ground.run_args(words).exits(1).complains("/no/such/library.so");
    let words = [
        "--json",
        "xdma-compat",
        "--library",
        library(),
        "--emulate",
        "nitefury",
        "--",
        "sh",
        "-c",
        "exit 3",
    ];
    let outcome = ground.run_args(words).exits(3);
    let lines = outcome.json_lines();
    assert_eq!(lines[0]["event"]["cards"][0]["name"], "xdma0", "{outcome}");
    assert_eq!(outcome.json()["ended"]["status"], 3, "{outcome}");
    // A signal for the command is one for the program.
    let process = start(&ground, options, "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done");
    let mut process = process;
    process.wait_for_line("ready");
    process.signal(Signal::TERM);
    process.wait().exits(5);
}

#[test]
fn a_program_that_nothing_can_be_loaded_into_is_not_started() {
    let ground = Ground::new();
    let programs = match Programs::new(&ground) {
        Ok(programs) => programs,
        Err(why) => return println!("skipped: {why}"),
    };
    let program = programs.compile("together", &["-static"]);
    let words = ["xdma-compat", "--library", library(), "--emulate", "nitefury", "--"];
    let words = words.into_iter().chain([program.to_str().unwrap(), "1", "1", "64"]);
    ground.run_args(words).exits(2).complains("statically linked");
}

#[test]
fn a_board_that_dies_is_an_error_and_no_crash() {
    let ground = Ground::new();
    let programs = match Programs::new(&ground) {
        Ok(programs) => programs,
        Err(why) => return println!("skipped: {why}"),
    };
    programs.compile("together", &[]);
    programs.compile("reg_rw", &[]);
    let board = ground.board("nitefury");
    let script =
        "./together 1 1 64; echo ready; while ./together 1 1 64; do :; done; ./reg_rw /dev/xdma0_user 0 w";
    let mut process = start(&ground, &format!("--card {}", board.address()), script);
    process.wait_for_line("ready");
    board.process.signal(Signal::KILL);
    let outcome = process.wait();
    assert!(!outcome.status.success(), "{outcome}");
    assert!(!outcome.err.contains("Segmentation"), "{outcome}");

    // Beside a board that is dead already, the others have their numbers.
    let (dead, alive) = (ground.board("nitefury"), ground.board("NiteFury_dma_ddr3"));
    let broker = ground.broker(&[&dead, &alive]);
    dead.process.signal(Signal::KILL);
    let outcome = run(&ground, &broker.option(), "ls /dev/xdma*_h2c_*").exits(0);
    outcome.says("/dev/xdma0_h2c_0\n/dev/xdma0_h2c_1").complains("is left out");
}
