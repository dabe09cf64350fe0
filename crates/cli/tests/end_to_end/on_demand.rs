//! Cards that a broker takes when somebody asks for them, and gives back when the last has gone.

use crate::support::{Board, Broker, Ground, LIMIT, Process, eventually, json_line, signal};
use jitney::Bus;
use jitney::vfio::{DmaRequest, ErrorKind};
use rustix::process::Signal;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How many connections a board has, of those that the kernel lists with its path: all but the one that listens.
fn connections(board: &Board) -> usize {
    let list = std::fs::read_to_string("/proc/net/unix").unwrap();
    let path = board.socket.display().to_string();
    list.lines().filter(|line| line.ends_with(&path) && !line.contains(" 00010000 ")).count()
}

#[track_caller]
fn is_free(board: &Board) {
    eventually("somebody has the board", || match connections(board) {
        0 => Ok(()),
        count => Err(format!("{count} connections")),
    });
}

fn bus(broker: &Broker) -> Bus {
    Bus::options().broker(&broker.socket).wait(LIMIT).open_shared().unwrap()
}

#[test]
fn a_card_is_taken_for_the_first_and_given_back_by_the_last() {
    let ground = Ground::new();
    let (asked, other) = (ground.board("nitefury --memory 16M"), ground.board("nitefury --memory 16M"));
    let broker = ground.broker_with(&[&asked, &other], "--on-demand");
    let one = bus(&broker);
    assert_eq!(one.cards().len(), 2);
    is_free(&asked);
    let card = one.card(&asked.address()).unwrap();
    let two = bus(&broker);
    let same = two.card(&asked.address()).unwrap();
    let buffer = card.dma_buffer(DmaRequest::new(4096)).unwrap();
    drop((card, one, buffer));
    assert!(connections(&asked) > 0, "it was given back under somebody");
    // The other one is anybody's all the time.
    is_free(&other);
    ground.run(&format!("test ddr --size 256K --passes 1 --card {}", other.address())).exits(0);
    drop((same, two));
    is_free(&asked);
    ground.run(&format!("test ddr --size 256K --passes 1 --card {}", asked.address())).exits(0);
    // And the broker can have it again.
    ground.run(&format!("test ddr --size 256K --passes 1 {}", broker.option())).exits(0);
    is_free(&asked);
    // Whoever is killed gives it back as well.
    let mut holder = ground.start(&format!("hold {} {}", asked.address(), broker.option()));
    holder.wait_for_line("holding ");
    assert!(connections(&asked) > 0);
    holder.signal(Signal::KILL);
    is_free(&asked);
}

#[test]
fn cards_that_come_and_go_are_followed() {
    let ground = Ground::new();
    let first = ground.board("nitefury --memory 16M");
    let later = ground.path("later.sock");
    let options = format!("--on-demand --card vfio-user:{}", later.display());
    let broker = ground.broker_with(&[&first], &options);
    let addresses = || bus(&broker).cards().into_iter().map(|card| card.address).collect::<Vec<_>>();
    assert_eq!(addresses(), [first.address()]);
    let start = |design: &str| {
        let mut process =
            ground.start(&format!("emulate {design} --memory 16M --socket {}", later.display()));
        process.wait_for_line("serving ");
        Board { process, socket: later.clone() }
    };
    let board = start("nitefury");
    assert_eq!(addresses(), [first.address(), board.address()]);
    let before = bus(&broker);
    ground
        .run(&format!("test ddr --size 256K --passes 1 --only {} {}", board.address(), broker.option()))
        .exits(0);
    is_free(&board);
    signal(board.process.pid(), Signal::KILL);
    board.process.wait();
    assert_eq!(addresses(), [first.address()]);
    // Another card at the same place: what was allowed for the old one says nothing of it.
    let board = start("TEF1001_dma_ddr3");
    let error = before.card(&board.address()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert_eq!(bus(&broker).cards().len(), 2);
    bus(&broker).card(&board.address()).unwrap();
}

/// Who holds a board that dies lets go of it, and the next one at its place is a card that has come.
#[test]
fn a_board_that_is_started_again_is_there_for_all_although_somebody_held_the_one_before() {
    for ends in [Signal::KILL, Signal::STOP] {
        let ground = Ground::new();
        let board = ground.board("nitefury --memory 16M");
        let (address, broker) = (board.address(), ground.broker_with(&[&board], "--on-demand"));
        let mut holder = ground.start(&format!("hold {address} {}", broker.option()));
        holder.wait_for_line("holding ");
        signal(board.process.pid(), ends);
        // The broker looks after a card in use every 5 s, and a board has 5 s to answer.
        holder.wait_at_most(Duration::from_secs(15)).exits(1).complains("this program lets go of it");
        signal(board.process.pid(), Signal::KILL);
        drop(board.process.wait());
        let _ = std::fs::remove_file(&board.socket);
        let socket = board.socket.display();
        let mut again = ground.start(&format!("emulate nitefury --memory 16M --socket {socket}"));
        again.wait_for_line("serving ");
        ground.run(&format!("test ddr --size 256K --passes 1 --only {address} {}", broker.option())).exits(0);
    }
}

#[test]
fn a_new_board_that_does_not_answer_keeps_nobody_from_the_list() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 16M");
    let mute = ground.path("mute.sock");
    let options = format!("--on-demand --card vfio-user:{}", mute.display());
    let broker = ground.broker_with(&[&board], &options);
    let _mute = std::os::unix::net::UnixListener::bind(&mute).unwrap();
    for patience in [Duration::from_millis(3000), Duration::from_millis(900), Duration::from_millis(900)] {
        let since = Instant::now();
        bus(&broker).card(&board.address()).unwrap();
        assert!(since.elapsed() < patience, "{:?}", since.elapsed());
    }
    std::thread::sleep(Duration::from_secs(5));
    let since = Instant::now();
    assert_eq!(bus(&broker).cards().len(), 1);
    assert!(since.elapsed() < Duration::from_millis(900), "{:?}", since.elapsed());
}

#[test]
fn one_card_that_does_not_answer_keeps_nobody_from_another() {
    let ground = Ground::new();
    let boards = [ground.board("nitefury --memory 16M"), ground.board("nitefury --memory 16M")];
    let broker = ground.broker_with(&[&boards[0], &boards[1]], "--on-demand");
    let (one, other) = (bus(&broker), bus(&broker));
    signal(boards[0].process.pid(), Signal::STOP);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| one.card(&boards[0].address()).map(drop).unwrap_err());
        std::thread::sleep(Duration::from_millis(100));
        let since = Instant::now();
        other.card(&boards[1].address()).unwrap();
        assert!(since.elapsed() < Duration::from_secs(3), "it has waited for {:?}", since.elapsed());
        assert!(!waits.is_finished());
        assert_eq!(waits.join().unwrap().kind(), ErrorKind::TimedOut);
    });
    signal(boards[0].process.pid(), Signal::CONT);
    other.card(&boards[0].address()).unwrap();
}

/// Brokers are killed, and replaced, while cards are taken and given back.
#[test]
fn cards_are_given_back_by_the_broker_that_comes_next() {
    let ground = Ground::new();
    let boards = [ground.board("nitefury --memory 16M"), ground.board("nitefury --memory 16M")];
    let broker = ground.broker_with(&[&boards[0], &boards[1]], "--keep --on-demand");
    let steady = bus(&broker);
    let card = steady.card(&boards[0].address()).unwrap();
    let buffer = card.dma_buffer(DmaRequest::new(4096)).unwrap();
    buffer.write(0, b"it stays").unwrap();
    let pid = || steady.broker().unwrap().cast_signed();
    for round in 0..10u64 {
        let line =
            format!("test ddr --size 256K --passes 1 --only {} {}", boards[1].address(), broker.option());
        let program = ground.start(&line);
        std::thread::sleep(Duration::from_millis(round * 37 % 200));
        let before = Bus::options().broker(&broker.socket).wait(LIMIT).open_shared().unwrap();
        signal(
            before.broker().unwrap().cast_signed(),
            if round % 3 == 2 { Signal::USR2 } else { Signal::KILL },
        );
        drop(before);
        program.wait().exits(0);
    }
    is_free(&boards[1]);
    let mut bytes = [0; 8];
    buffer.read(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"it stays");
    card.dma_buffer(DmaRequest::new(4096)).unwrap();
    signal(pid(), Signal::KILL);
    drop((buffer, card, steady));
    is_free(&boards[0]);
    let mut process = broker.process;
    assert!(process.runs());
    process.signal(Signal::TERM);
    process.wait().exits(0);
}

#[test]
fn who_watches_is_told_of_cards_and_has_none() {
    let ground = Ground::new();
    let first = ground.board("nitefury --memory 16M");
    let later = ground.path("later.sock");
    let named = format!("--card {} --card vfio-user:{}", first.address(), later.display());
    let broker = ground.broker_with(&[], &format!("--on-demand {named}"));
    let under_the_broker = |json: bool| {
        let mut command = ground.jitney(["list", "--watch"].into_iter().chain(json.then_some("--json")));
        command.env("JITNEY_BROKER", &broker.socket);
        Process::start(command)
    };
    let alone = |json: &str| ground.start(&format!("list --watch {named} {json}"));
    for mut watch in [alone(""), under_the_broker(false)] {
        watch.wait_for_line(&format!("{} (10ee:7011) has arrived", first.address()));
        let board = come_and_go(&ground, &later, |board| {
            watch.wait_for_line(&format!("{} (10ee:7011) has arrived", board.address()));
            is_free(&first);
            is_free(board);
        });
        watch.wait_for_line(&format!("{board} (10ee:7011) has left"));
        watch.signal(Signal::TERM);
        watch.wait().exits(0);
    }
    for mut watch in [alone("--json"), under_the_broker(true)] {
        let mut is_said = |what: &str, card: &str| {
            let line = json_line(&watch.wait_for_line(&format!(r#""{what}","card":"{card}""#)));
            let event = serde_json::json!({"type": what, "card": card, "id": "10ee:7011"});
            assert_eq!(line["event"], event, "{line}");
        };
        is_said("arrived", &first.address());
        let board = come_and_go(&ground, &later, |board| is_said("arrived", &board.address()));
        is_said("left", &board);
        watch.signal(Signal::INT);
        watch.wait().exits(0);
    }
    ground.run("list --watch --all").exits(2);
}

/// A board that is there for a while; its address.
fn come_and_go(ground: &Ground, socket: &Path, meanwhile: impl FnOnce(&Board)) -> String {
    let mut process = ground.start(&format!("emulate nitefury --memory 16M --socket {}", socket.display()));
    process.wait_for_line("serving ");
    let board = Board { process, socket: socket.to_owned() };
    meanwhile(&board);
    let address = board.address();
    board.process.signal(Signal::TERM);
    board.process.wait().exits(0);
    address
}

/// Also where it is the same design, and there at once: who has asked for the list before means the board that was there then.
#[test]
fn a_board_that_is_started_in_the_place_of_another_is_another_card() {
    let ground = Ground::new();
    let path = ground.path("board.sock");
    let named = format!("--card vfio-user:{}", path.display());
    let broker = ground.broker_with(&[], &format!("--on-demand {named}"));
    let start = || {
        let mut process = ground.start(&format!("emulate nitefury --memory 16M --socket {}", path.display()));
        process.wait_for_line("serving ");
        Board { process, socket: path.clone() }
    };
    let mut watches = [ground.start(&format!("list --watch {named}")), {
        let mut command = ground.jitney(["list", "--watch"]);
        command.env("JITNEY_BROKER", &broker.socket);
        Process::start(command)
    }];
    let mut board = start();
    let address = board.address();
    watches
        .iter_mut()
        .for_each(|watch| drop(watch.wait_for_line(&format!("{address} (10ee:7011) has arrived"))));
    for round in 1..4 {
        let before = bus(&broker);
        assert_eq!(before.cards().len(), 1);
        signal(board.process.pid(), Signal::KILL);
        board.process.wait();
        let _ = std::fs::remove_file(&path);
        board = start();
        if round == 2 {
            // Nobody has looked meanwhile, but those who watch may have.
            let error = before.card(&address).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        }
        for watch in &watches {
            eventually("who watches is not told", || {
                let said = watch.said();
                let count = |what: &str| said.matches(&format!("{address} (10ee:7011) has {what}")).count();
                match (count("arrived"), count("left")) {
                    (arrived, left) if (arrived, left) == (round + 1, round) => Ok(()),
                    told => Err(format!("{told:?} in round {round}: {said}")),
                }
            });
        }
        bus(&broker).card(&address).unwrap();
        assert_eq!(before.card(&address).unwrap_err().kind(), ErrorKind::NotFound);
        is_free(&board);
    }
}

#[test]
fn who_holds_a_card_or_watches_ends_with_the_broker_or_with_who_listens() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 16M");
    let broker = ground.broker_with(&[&board], "--on-demand");
    let mut holder = ground.start(&format!("hold {} {}", board.address(), broker.option()));
    holder.wait_for_line("holding ");
    broker.process.signal(Signal::KILL);
    holder.wait().exits(1).complains("broker");

    let words = format!("list --watch --card {}", board.address());
    let mut watch = ground.jitney(words.split_whitespace()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(watch.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert!(line.contains("has arrived"), "{line}");
    drop(output);
    let since = Instant::now();
    assert!(watch.wait().unwrap().success());
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
}
