//! `jitney blink`: an LED is switched on and off, and put back whatever ends it.

use crate::support::{Board, Ground};
use jitney::vfio::LeaseRequest;
use rustix::process::Signal;
use std::time::Duration;

/// What the second channel of the third GPIO of a NiteFury was written, in order: its log says it.
fn outputs(board: Board) -> Vec<String> {
    board.process.signal(Signal::TERM);
    let outcome = board.process.wait();
    let lines = outcome.err.lines().filter(|line| line.contains("outputs written"));
    let word =
        |line: &str| line.split("outputs=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    lines.map(word).collect()
}

#[test]
fn an_led_blinks_and_is_off_again() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 16M -vv");
    let outcome = ground.run(&format!("blink 10ee:7011 --for 700ms --card {}", board.address())).exits(0);
    let outcome = outcome.says("NiteFury at vfio-user:");
    assert!(outcome.out.contains("M.2 LED") && outcome.time > Duration::from_millis(700), "{outcome}");
    assert_eq!(outputs(board), ["0x2", "0x0", "0x2", "0x0", "0x0"]);
    let json = ground.run("blink 10ee:7011 --emulate nitefury --for 50ms --json").exits(0).json();
    assert_eq!((&json["times"], &json["board"]), (&1.into(), &"NiteFury".into()));
}

#[test]
fn ctrl_c_and_a_kill_put_it_back_too() {
    let ground = Ground::new();
    for (signal, status) in [(Signal::INT, Some(0)), (Signal::TERM, Some(0)), (Signal::KILL, None)] {
        let board = ground.board("nitefury --memory 16M -vv");
        let broker = ground.broker(&[&board]);
        // Somebody else keeps the card from being reset.
        let bus = jitney::Bus::options().broker(&broker.socket).open().unwrap();
        let card = bus.card("10ee:7011").unwrap();
        let mut process = ground.start(&format!("blink 10ee:7011 --for 1m {}", broker.option()));
        process.wait_for_line("blinks");
        std::thread::sleep(Duration::from_millis(100));
        process.signal(signal);
        let outcome = process.wait();
        assert_eq!(outcome.status.code(), status, "{outcome}");
        // The lease is to be had again once the will was carried out.
        crate::support::eventually("its lease is not given back", || {
            let lease = card.lease(LeaseRequest::exclusive("axi-gpio2".parse().unwrap()));
            lease.map(drop).map_err(|error| error.to_string())
        });
        drop((card, bus, broker));
        let outputs = outputs(board);
        assert!(outputs.len() >= 2 && outputs.last().unwrap() == "0x0", "{signal:?}: {outputs:?}");
    }
}

#[test]
fn a_board_without_a_known_led_says_so() {
    let ground = Ground::new();
    ground
        .run("blink 10ee:7024 --emulate NiteFury_dma_ddr3")
        .exits(1)
        .complains("no LED")
        .complains("leds = [");
    ground.run("blink 10ee:7011 --emulate nitefury --led 1").exits(2).complains("it has 0 to 0");
    ground.run("blink 10ee:7011 --emulate nitefury --for 0s").exits(2);
}

#[test]
fn an_led_that_somebody_has_is_left_alone() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 16M");
    let broker = ground.broker(&[&board]);
    let bus = jitney::Bus::options().broker(&broker.socket).open().unwrap();
    let card = bus.card("10ee:7011").unwrap();
    let _lease = card.lease(LeaseRequest::exclusive("axi-gpio2".parse().unwrap())).unwrap();
    let outcome = ground.run(&format!("blink 10ee:7011 {}", broker.option())).exits(1);
    outcome.complains("axi-gpio2").complains(&format!("is held by pid {}", std::process::id()));
}
