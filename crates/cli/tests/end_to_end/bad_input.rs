//! What people mistype, and what is not there: each is told, with what to do about it and the documented exit status.

use crate::support::{Ground, Outcome, Process};

const NITEFURY: &str = "--emulate nitefury";

fn with_broker(ground: &Ground, value: &str, line: &str) -> Outcome {
    let mut command = ground.jitney(line.split_whitespace());
    command.env("JITNEY_BROKER", value);
    Process::start(command).wait()
}

#[test]
fn unknown_names_come_with_the_nearest_known_one() {
    let ground = Ground::new();
    for line in
        ["test ddr --emulate nitefuri", "emulate nitefuri --socket x.sock", "run --emulate nitefuri true"]
    {
        ground.run(line).exits(2).complains("did you mean 'nitefury'?").complains("tef1001-dma-blkram");
    }
    ground.run("tset general").exits(2).complains("similar subcommand exists: 'test'");
    ground.run("test genral").exits(2).complains("'general'");
    ground.run("test ddr --pases 3").exits(2).complains("'--passes'");
    ground.run("emulate nitefury --socket x.sock --fault hung").exits(2).complains("did you mean 'hang'?");
    ground.run("emulate nitefury --socket x.sock --fault hang:h2c9").exits(2).complains("h2c0 to h2c3");
    ground.run("emulate nitefury --socket x.sock --interrupts msxi").exits(2).complains("msix");
    let outcome = ground.run_args(["run", "--emulate", "nitefury", "jitny test general", "genral"]).exits(1);
    assert!(outcome.out.contains("did you mean jitney?"), "{outcome}");
    assert!(outcome.out.contains("did you mean \"jitney test general\"?"), "{outcome}");
}

#[test]
fn an_unknown_card_comes_with_those_that_are_there() {
    let ground = Ground::new();
    for line in ["test ddr --only 1234:5678", "info 1234:5678", "time blkram --only 0000:2e:00.0"] {
        ground.run(&format!("{line} {NITEFURY}")).exits(1).complains("no card").complains("(10ee:7011)");
    }
    ground.run("info 10ee:7011").exits(1).complains("there is no card at all").complains("jitney emulate");
    let two = "--emulate nitefury --emulate litefury";
    ground
        .run(&format!("test general --only 10ee:7011 {two}"))
        .exits(1)
        .complains("2 cards fit \"10ee:7011\"")
        .complains("name one by its address");
    ground.run("test general --card vfio-user:/nowhere.sock").exits(1).complains("ENOENT");
    ground.run("test general --card nonsense").exits(2);
    ground.run("test general --card vfio-user:a.sock --card vfio-user:a.sock").exits(1).complains("twice");
}

#[test]
fn sizes_and_counts_that_make_no_sense() {
    let ground = Ground::new();
    for (option, complaint) in [
        ("--size 1X", "write a number of bytes as 4096, 0x128000, 64K"),
        ("--size -1", "no size"),
        ("--size 0", "nothing to test"),
        ("--size 99999999999G", "does not fit 64 bits"),
        ("--passes 0", "nothing would be tested"),
        ("--passes 99999999999", "at most 4294967295"),
        ("--passes x", "invalid digit"),
        ("--align 3000", "no power of two"),
        ("--align 0", "no power of two"),
        ("--timeout 0", "0.001"),
        ("--timeout soon", "number of seconds"),
        ("--channel 300", "255"),
        ("--buffer enormous", "normal, huge"),
    ] {
        let name = option.split(' ').next().unwrap();
        let option = option.replacen(' ', "=", 1);
        ground.run(&format!("test ddr {NITEFURY} {option}")).exits(2).complains(name).complains(complaint);
    }
    ground
        .run(&format!("time blkram {NITEFURY} --transfers 0"))
        .exits(2)
        .complains("nothing would be tested");
    ground.run("emulate nitefury --socket x.sock --memory 1Q").exits(2).complains("write a number of bytes");
}

#[test]
fn what_the_card_cannot_do_is_told_with_what_it_can() {
    let ground = Ground::new();
    let ddr = |options: &str| ground.run(&format!("test ddr {NITEFURY} {options}"));
    ddr("--channel 5").exits(1).complains("no channel h2c5").complains("the card has 1 h2c channels");
    ddr("--size 2G").exits(2).complains("NiteFury has 0x40000000 bytes of memory");
    // More than the longest descriptor has.
    ddr("--size 64K --align 256M").exits(1).complains("0xfffffff is the longest");
    ddr("--descriptors-of 256M").exits(2).complains("0xfffffff is the most");
    ddr("--size 64K --align 2G").exits(1).complains("alignment");
}

#[test]
fn huge_pages_that_are_not_there_come_with_the_line_that_reserves_them() {
    let free = std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    if free.is_ok_and(|free| free.trim() != "0") {
        println!("skipped: huge pages are reserved here");
        return;
    }
    let ground = Ground::new();
    ground
        .run(&format!("test ddr {NITEFURY} --size 4M --passes 1 --buffer huge"))
        .exits(1)
        .complains("needs 2 huge pages of 2 MiB each")
        .complains("echo 2 | sudo tee /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages");
    // The broker makes the buffer of a client, and the client is told.
    let board = ground.board("nitefury");
    let broker = ground.broker(&[&board]);
    ground
        .run(&format!("test ddr {} --size 4M --passes 1 --buffer huge", broker.option()))
        .exits(1)
        .complains("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages");
    ground.run(&format!("test ddr {} --size 4M --passes 1", broker.option())).exits(0);
}

#[test]
fn sockets_that_cannot_be() {
    let ground = Ground::new();
    let long = "x".repeat(120);
    let missing = ground.path("missing/b.sock").display().to_string();
    let file = ground.path("a-file");
    std::fs::write(&file, "precious").unwrap();
    let file = file.display().to_string();

    let emulate = |socket: &str| ground.run(&format!("emulate nitefury --socket {socket}")).exits(1);
    emulate(&long).complains("120 bytes").complains("107");
    emulate(&missing).complains(&missing).complains("No such file");
    emulate(&file).complains("is not a socket");

    let broker = |socket: &str| ground.run(&format!("broker {NITEFURY} --socket {socket}")).exits(1);
    broker(&long).complains("120 bytes").complains("107");
    broker(&missing).complains(&missing).complains("ENOENT");
    broker(&file).complains("not a socket");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious", "nobody's file is replaced");

    let board = ground.board("nitefury");
    let taken = board.socket.display().to_string();
    emulate(&taken).complains("another server listens at");
    broker(&taken).complains(&taken);
    ground.run(&format!("test general --card vfio-user:{long}")).exits(1).complains("120 bytes");
    ground.run(&format!("test general --broker {long}")).exits(1).complains("120 bytes");
    // It has survived all of that.
    ground.run(&format!("test general --card {}", board.address())).exits(0);
}

#[test]
fn a_broker_that_was_named_and_is_not_there_is_an_error() {
    let ground = Ground::new();
    // There is a card that a silent fall back would find.
    let mut board = ground.start("emulate nitefury");
    board.wait_for_line("serving");
    ground.run("test general").exits(0);
    ground.run("test general --broker gone.sock").exits(1).complains("jitney broker --socket gone.sock");
    with_broker(&ground, "gone.sock", "test general").exits(1).complains("ENOENT").complains("jitney broker");
    for (value, complaint) in [
        ("fd:9", "EBADF"),
        ("fd:0", "standard input"),
        ("fd:-1", "JITNEY_BROKER=fd:-1"),
        ("fd:99999999999", "no descriptor's number"),
        ("fd:x", "no descriptor's number"),
        ("fd:", "no descriptor's number"),
    ] {
        for command in ["test general", "list", "info", "test ddr --size 4K --passes 1"] {
            with_broker(&ground, value, command)
                .exits(1)
                .complains(complaint)
                .complains("unset the variable");
        }
    }
    // A file that is no socket, and a socket on which nobody is a broker.
    with_broker(&ground, "/etc/passwd", "test general").exits(1).complains("/etc/passwd");
}

#[test]
fn a_socket_on_which_nobody_answers_is_no_broker() {
    let ground = Ground::new();
    let silent = std::os::unix::net::UnixListener::bind(ground.path("silent.sock")).unwrap();
    ground.run("test general --broker silent.sock").exits(1).complains("EPROTOTYPE");
    drop(silent);
    let script = "exec 3<>/dev/null; JITNEY_BROKER=fd:3 exec \"$0\" list";
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_jitney")]);
    Process::start(command).wait().exits(1).complains("expected a socket inherited from the parent");
}

#[test]
fn two_programs_that_want_one_channel_are_told_who_has_it() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 64M");
    let broker = ground.broker(&[&board]);
    let mut holder = ground.start(&format!("test ddr --size 16M --passes 100000 {}", broker.option()));
    holder.wait_for_line("pass 1 of");
    ground
        .run(&format!("test ddr --size 16M --passes 1 {}", broker.option()))
        .exits(1)
        .complains(&format!(
            "h2c0 is held by pid {} (jitney test ddr --size 16M --passes 100000 --broker ",
            holder.pid()
        ))
        .complains("EBUSY");
    ground.run(&format!("list {}", "--json")).exits(0);
    assert!(holder.runs(), "the holder has not noticed anything");
    // What does not need the channel goes on beside it.
    ground.run(&format!("test general {}", broker.option())).exits(0);
    ground.run(&format!("info {}", broker.option())).exits(0);
}

#[test]
fn a_boards_file_with_an_error_is_named_with_line_and_key() {
    let ground = Ground::new();
    let file = ground.path("mine.toml");
    let place = |line: u32| format!("{}:{line}: ", file.display());
    let with = |content: &str, line: &str| {
        std::fs::write(&file, content).unwrap();
        let mut command = ground.jitney(line.split(' '));
        command.env("JITNEY_BOARDS", &file);
        Process::start(command).wait()
    };
    for (content, line) in [
        ("[[design]]\nname = \"mine\"\nsurprise = 3\n", 3),
        ("[[design]]\nname = \"mine\nvendor = 1\n", 2),
        ("\u{0}\u{1}", 1),
    ] {
        // It fails nothing that it does not name.
        with(content, "list --emulate nitefury").exits(0).says("NiteFury").complains(&place(line));
        with(content, "test general --emulate nitefury").exits(0).complains(&place(line));
        with(content, "boards").exits(0).complains(&place(line));
        let check = format!("boards check {}", file.display());
        with(content, &check).exits(1).complains(&place(line));
    }
    let names = "[[design]]\nname = \"mine\"\naliases = [\"litefury\"]\nsurprise = 3\n";
    for board in ["mine", "litefury"] {
        let serve = format!("emulate {board} --socket x.sock");
        with(names, &serve).exits(2).complains(&place(4)).complains("surprise");
    }
    // A card that may be one of its boards is not taken for another.
    with(names, "test general --emulate nitefury").exits(1).complains(&place(4));
    with(names, "test general --emulate tef1001-dma-blkram").exits(3);

    let mut command = ground.jitney(["list", "--emulate", "nitefury"]);
    command.env("JITNEY_BOARDS", "/nowhere.toml");
    Process::start(command).wait().complains("/nowhere.toml").complains("JITNEY_BOARDS");
}

#[test]
fn nothing_tested_is_not_a_pass() {
    let ground = Ground::new();
    for command in [
        "test general",
        "test ddr",
        "time blkram",
        "info",
        "run true",
        "broker",
        "test ddr --emulate tef1001-dma-blkram",
    ] {
        let outcome = ground.run(command).exits(3);
        assert!(outcome.err.contains("nothing tested") || command == "broker", "{outcome}");
    }
    for command in ["test general --json", "time blkram --json", "info --json"] {
        assert_eq!(ground.run(command).exits(3).json(), serde_json::json!([]));
    }
    assert_eq!(ground.run("run --json true").exits(3).json(), serde_json::json!({ "ended": [] }));
    // It stays so when a program of several tested nothing.
    ground
        .run_args(["run", "--emulate", "nitefury", "jitney test general", "jitney time blkram"])
        .exits(3)
        .says("nothing tested");
}
