//! A board's process that dies, or stops, while programs use it: they are told at once, and the other board goes on.

use crate::support::Ground;
use rustix::process::Signal;
use std::time::Duration;

#[test]
fn a_transfer_to_a_board_that_dies_ends_at_once_and_the_other_board_goes_on() {
    let ground = Ground::new();
    let (mut doomed, healthy) = (ground.board("nitefury --memory 256M"), ground.board("tef1001-dma-blkram"));
    let broker = ground.broker(&[&doomed, &healthy]);
    let option = broker.option();
    let mut victim = ground.start(&format!("test ddr --size 16M --passes 100000 {option}"));
    let mut other = ground.start(&format!("time blkram --transfers 1500 {option}"));
    victim.wait_for_line("pass 1 of");
    other.wait_for_line("Testing");
    doomed.process.signal(Signal::KILL);
    let killed = std::time::Instant::now();
    let outcome = victim.wait_at_most(Duration::from_secs(5)).exits(1).complains("is gone");
    assert!(killed.elapsed() < Duration::from_secs(1), "{:?}", killed.elapsed());
    assert!(outcome.err.contains(&doomed.address()), "{outcome}");
    assert!(!doomed.process.runs());
    other.wait().exits(0).says("all 1500 transfers each way match");

    // Whoever comes now can use the board that is there, and is told of the one that is not.
    ground.run(&format!("time blkram --transfers 3 --only {} {option}", healthy.address())).exits(0);
    let outcome = ground.run(&format!("time blkram --transfers 3 {option}")).exits(1);
    assert!(outcome.out.contains("all 3 transfers"), "{outcome}");
    assert!(outcome.err.contains("passed over: "), "not all was tested, and it says why: {outcome}");
    ground.run(&format!("test ddr {option}")).exits(3);
    let list = ground.run("list --json");
    assert_eq!(list.exits(0).json(), serde_json::json!([]), "this one has no broker");
    let list = crate::support::Process::start({
        let mut command = ground.jitney(["list", "--json"]);
        command.env("JITNEY_BROKER", &broker.socket);
        command
    });
    let rows = list.wait().exits(0).json();
    assert!(rows[0]["users"].to_string().contains("gone"), "{rows}");
    assert!(rows[1]["board"].as_str().unwrap().starts_with("TEF1001"), "{rows}");
}

#[test]
fn alone_it_is_the_same() {
    let ground = Ground::new();
    let (doomed, healthy) = (ground.board("nitefury --memory 256M"), ground.board("tef1001-dma-blkram"));
    let cards = format!("--card {} --card {}", doomed.address(), healthy.address());
    let mut victim = ground.start(&format!("test ddr --size 16M --passes 100000 {cards}"));
    victim.wait_for_line("pass 1 of");
    doomed.process.signal(Signal::KILL);
    let killed = std::time::Instant::now();
    victim.wait_at_most(Duration::from_secs(5)).exits(1).complains("is gone");
    assert!(killed.elapsed() < Duration::from_secs(1), "{:?}", killed.elapsed());
    ground.run(&format!("test general {cards}")).exits(1).complains("nobody listens there");
}

#[test]
fn a_board_that_stops_answering_is_given_up_after_its_time() {
    let ground = Ground::new();
    let (frozen, healthy) = (ground.board("nitefury --memory 64M"), ground.board("tef1001-dma-blkram"));
    let broker = ground.broker(&[&frozen, &healthy]);
    let option = broker.option();
    let mut victim = ground.start(&format!("test ddr --size 16M --passes 100000 {option}"));
    victim.wait_for_line("pass 1 of");
    let mut other = ground.start(&format!("time blkram --transfers 3000 {option}"));
    other.wait_for_line("Testing");
    frozen.process.signal(Signal::STOP);
    // Five seconds, as QEMU grants; then the driver stops its channel and finds that it cannot.
    victim.wait_at_most(Duration::from_secs(12)).exits(1).complains("has not answered within 5s");
    other.wait().exits(0);
    ground.run(&format!("time blkram --transfers 3 --only {} {option}", healthy.address())).exits(0);
    frozen.process.signal(Signal::CONT);
    // The owner has given it up, but it is not dead: whoever owns it next finds it as after a reset.
    ground.run(&format!("test ddr --size 16M --passes 1 --card {}", frozen.address())).exits(0);
}

#[test]
fn all_boards_of_a_run_may_die() {
    let ground = Ground::new();
    let before = ground.files();
    let board = ground.board("nitefury --memory 64M");
    let args = [
        "run",
        "--card",
        &board.address(),
        "jitney test ddr --size 16M --passes 100000",
        "jitney test general",
    ];
    let mut run = crate::support::Process::start(ground.jitney(args));
    run.wait_for_line("pass 1 of");
    board.process.signal(Signal::KILL);
    run.wait_at_most(Duration::from_secs(8)).exits(1).says("failed with exit status 1");
    drop(board);
    let socket = ground.path("board0.sock");
    assert!(socket.exists(), "it was killed, so it could not remove its socket");
    std::fs::remove_file(socket).unwrap();
    ground.assert_nothing_left(&before);
}

#[test]
fn a_board_that_nobody_named_and_that_does_not_answer_keeps_nobody_from_the_others() {
    let ground = Ground::new();
    let mut boards = ["nitefury --fault link-down", "memmapped-blkram"]
        .map(|board| ground.start(&format!("emulate {board}")));
    boards.iter_mut().for_each(|board| drop(board.wait_for_line("serving ")));
    ground.run("list").exits(0).says("memmapped-blkram").complains("nitefury-0.sock is left out");
    ground.run("validate 10ee:7024").exits(0).says("TEF1001").complains("link is down");
    ground.run("time pio --for 10ms").exits(0).says("TEF1001");
}

/// A process that is killed leaves its socket.
#[test]
fn the_socket_of_a_board_that_was_killed_keeps_nobody_from_others() {
    let ground = Ground::new();
    let mut killed = ground.start("emulate nitefury");
    killed.wait_for_line("serving ");
    killed.signal(rustix::process::Signal::KILL);
    killed.wait();
    ground.run("list").exits(0).complains("nobody listens there");
    let mut other = ground.start("emulate tef1001-dma-blkram");
    other.wait_for_line("serving ");
    ground.run("list").exits(0).says("10ee:7024");
    ground.run("info 10ee:7024").exits(0);
}
