//! Programs as clients of a broker: one that is named, one at its well-known place, one that started them.

use crate::support::{Ground, Process, json_line};
use std::os::unix::fs::PermissionsExt;

#[test]
fn every_program_is_also_a_client_of_a_named_broker() {
    let ground = Ground::new();
    let boards = [ground.board("nitefury --memory 64M"), ground.board("tef1001-dma-blkram")];
    let broker = ground.broker(&[&boards[0], &boards[1]]);
    let option = broker.option();
    let mut programs = Vec::new();
    for program in [
        "test general",
        "test ddr --size 16M --passes 2",
        "time blkram --transfers 50",
        "info",
        "info --json",
    ] {
        programs.push(ground.start(&format!("{program} {option}")));
    }
    for program in programs {
        program.wait().exits(0);
    }
    let named = Process::start({
        let mut command = ground.jitney(["list", "--json"]);
        command.env("JITNEY_BROKER", &broker.socket);
        command
    });
    let list = named.wait().exits(0).json();
    assert_eq!(list.as_array().unwrap().len(), 2, "{list}");
}

#[test]
fn a_broker_at_its_well_known_place_is_found() {
    let ground = Ground::new();
    let before = ground.files();
    let mut broker = ground.start("broker --emulate nitefury --emulate tef1001-dma-blkram");
    let line = broker.wait_for_line("listening at ");
    assert!(line.ends_with("run/jitney/broker.sock"), "{line}");
    ground.run("test general").exits(0).says("Found NiteFury");
    ground.run("test ddr --size 1M --passes 1").exits(0);
    ground.run("time blkram --transfers 3").exits(0);
    ground.run("list").exits(0).says(&format!("as the client of a broker (pid {}):", broker.pid()));
    ground.run("info 10ee:7011 --json").exits(0);
    // Whoever wants cards of their own still gets them.
    ground.run("test general --emulate litefury").exits(0).says("Found LiteFury");
    broker.signal(rustix::process::Signal::TERM);
    broker.wait().exits(0);
    ground.assert_nothing_left(&before);
}

#[test]
fn the_socket_decides_who_may_come_in() {
    let ground = Ground::new();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let board = ground.board("nitefury");
    for (option, expected) in [("", 0o600), ("--group", 0o660)] {
        let socket = ground.path(&format!("broker{option}.sock"));
        let line = format!("broker {option} --card {} --socket {}", board.address(), socket.display());
        let mut broker = ground.start(&line);
        broker.wait_for_line("listening at ");
        assert_eq!(mode(&socket), expected, "{option}");
    }
    let mut broker = ground.start("broker --emulate nitefury");
    broker.wait_for_line("listening at ");
    assert_eq!(mode(&ground.runtime()), 0o700);
    assert_eq!(mode(&ground.runtime().join("broker.sock")), 0o600);
}

#[test]
fn two_brokers_at_one_place_are_not_possible() {
    let ground = Ground::new();
    let board = ground.board("nitefury");
    let mut broker = ground.start(&format!("broker --json --card {}", board.address()));
    let line = &json_line(&broker.wait_for_line("broker.sock"))["event"];
    assert_eq!((&line["type"], &line["pid"]), (&"listening".into(), &broker.pid().into()));
    assert_eq!(line["cards"][0]["id"], "10ee:7011");
    ground
        .run("broker --emulate litefury")
        .exits(1)
        .complains("is listening at")
        .complains("another --socket");
    ground.run("test general").exits(0).says("Found NiteFury");
}

#[test]
fn what_a_dead_broker_left_is_replaced() {
    let ground = Ground::new();
    let mut broker = ground.start("broker --emulate nitefury");
    broker.wait_for_line("listening at ");
    broker.signal(rustix::process::Signal::KILL);
    broker.wait();
    assert!(ground.runtime().join("broker.sock").exists());
    // It is no broker that was named, so being alone is no failure; there is just nothing to test.
    ground.run("test general").exits(3);
    let mut broker = ground.start("broker --emulate nitefury");
    broker.wait_for_line("listening at ");
    ground.run("test general").exits(0);
}

#[test]
fn several_programs_on_two_boards_and_two_on_one() {
    let ground = Ground::new();
    let before = ground.files();
    let outcome = ground
        .run_args([
            "run",
            "--emulate",
            "nitefury",
            "--emulate",
            "tef1001-dma-blkram",
            "jitney test general",
            "jitney test ddr --size 8M --passes 3",
            "jitney time blkram --transfers 30",
            "jitney info",
            "sh -c 'echo $JITNEY_BROKER; echo to-stderr >&2'",
        ])
        .exits(0);
    for text in [
        "(10ee:7011), subsystem ",
        "general | Found NiteFury",
        "ddr     | pass 3 of 3: test pattern matches",
        "blkram  | all 30 transfers each way match",
        "sh      | fd:3",
        "sh      | to-stderr",
        " passed",
    ] {
        assert!(outcome.out.contains(text), "{text}: {outcome}");
    }
    ground.assert_nothing_left(&before);
}

#[test]
fn run_tells_programs_all_of_it_in_json() {
    let ground = Ground::new();
    let lines = ground
        .run_args([
            "run",
            "--json",
            "--fds",
            "--emulate",
            "nitefury",
            "jitney test general --json",
            "sh -c 'exit 7'",
        ])
        .exits(1)
        .json_lines();
    let find = |kind: &str| &lines.iter().find(|line| line["event"]["type"] == kind).unwrap()["event"];
    assert_eq!(find("card")["id"], "10ee:7011");
    assert!(!find("descriptors")["descriptors"].as_array().unwrap().is_empty());
    let inner = json_line(find("output")["text"].as_str().unwrap());
    assert_eq!(
        (&inner["command"], &inner["result"][0]["board"]),
        (&"test general".into(), &"NiteFury".into())
    );
    let ended = lines.last().unwrap()["result"]["ended"].as_array().unwrap();
    assert_eq!(ended[0]["program"], "general");
    assert_eq!(ended[0]["status"], 0);
    assert_eq!((&ended[1]["how"], &ended[1]["status"]), (&"exited".into(), &7.into()));
}

#[test]
fn a_program_may_start_programs_of_its_own() {
    let ground = Ground::new();
    let own = env!("CARGO_BIN_EXE_jitney");
    let script = format!("sh -c '{own} test general && {own} test ddr --size 64K --passes 1 & wait'");
    ground.run_args(["run", "--emulate", "nitefury", &script]).exits(0).says("pass 1 of 1");
}

#[test]
fn a_hundred_clients_at_once_are_not_too_many() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 16M");
    let broker = ground.broker(&[&board]);
    let bus = || jitney::Bus::options().broker(&broker.socket).open().unwrap();
    let crowd: Vec<_> = (0..100).map(|_| bus()).collect();
    let buffers: Vec<_> = crowd.iter().map(|bus| bus.dma_buffer(4096).unwrap()).collect();
    assert_eq!(bus().usage().unwrap().len(), 101);
    ground.run(&format!("test ddr --size 16M --passes 1 {}", broker.option())).exits(0);
    drop((buffers, crowd));
    assert_eq!(bus().usage().unwrap().len(), 1, "a goodbye is over when it is answered");
}

#[test]
fn an_isolated_card_reaches_the_memory_that_it_was_asked_for_and_no_other() {
    let ground = Ground::new();
    let boards = [ground.board("nitefury --memory 16M"), ground.board("tef1001-dma-blkram")];
    let broker = ground.broker_with(&boards.each_ref(), "--isolate");
    let under_a_broker = jitney::Bus::options().broker(&broker.socket).open().unwrap();
    foreign_memory_is_refused(&under_a_broker);
    drop(under_a_broker);
    ground.run(&format!("test ddr --size 1M --passes 1 {}", broker.option())).exits(0);
    ground.run(&format!("time blkram --transfers 3 {}", broker.option())).exits(0);
    broker.process.signal(rustix::process::Signal::TERM);
    broker.process.wait().exits(0);

    let cards = boards.each_ref().map(|board| board.address().parse().unwrap());
    let options = cards.into_iter().fold(jitney::Bus::options(), jitney::BusOptions::card);
    foreign_memory_is_refused(&options.isolate(true).open().unwrap());
}

/// What each card of `bus` was asked for, and what the bus was asked for, read by DMA of each card.
fn foreign_memory_is_refused(bus: &jitney::Bus) {
    let cards = bus.open_cards().unwrap();
    let own = cards.iter().map(|card| card.dma_buffer(4096.into()).unwrap()).collect::<Vec<_>>();
    let common = bus.dma_buffer(4096).unwrap();
    for (index, card) in cards.iter().enumerate() {
        let board = jitney::boards::identify(card).unwrap();
        let (xdma, base) = (board.xdma().unwrap(), board.memory().unwrap().base);
        let h2c = xdma.h2c(0).unwrap();
        h2c.write(&own[index], base).unwrap();
        h2c.write(&common, base).unwrap();
        let error = h2c.write(&own[1 - index], base).unwrap_err().to_string();
        assert!(error.contains("read error") || error.contains("transfer failed"), "{error}");
    }
}
