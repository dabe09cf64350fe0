//! Faults of an emulated card, as a person at the command meets them.

use crate::support::{Board, Ground};
use std::time::Duration;

fn board(ground: &Ground, fault: &str) -> Board {
    ground.board(&format!("nitefury --memory 16M --fault {fault}"))
}

fn ddr(board: &Board) -> String {
    format!("test ddr --size 16M --passes 1 --timeout 0.3 --card {}", board.address())
}

#[test]
fn a_channel_that_hangs_is_reported_with_where_it_stood() {
    let ground = Ground::new();
    let board = board(&ground, "hang:h2c0@1");
    let outcome = ground
        .run(&ddr(&board))
        .exits(1)
        .complains("no progress for ")
        .complains("h2c0 of vfio-user:")
        .complains("status 0x00000001 (busy)")
        .complains("0 of 2 descriptors done, 0x0 of 0x1000000 bytes")
        .complains("reset the card");
    assert!(outcome.time < Duration::from_secs(4), "0.3 s of patience, 1 s to stop: {:?}", outcome.time);
    // The last one that had it open has left it reset.
    ground.run(&ddr(&board)).exits(0);
}

#[test]
fn under_a_broker_a_hung_card_is_reset_when_its_last_user_is_gone() {
    let ground = Ground::new();
    let board = board(&ground, "hang:c2h0@1");
    let broker = ground.broker(&[&board]);
    let line = format!("test ddr --size 16M --passes 1 --timeout 0.3 {}", broker.option());
    ground.run(&line).exits(1).complains("no progress for ").complains("c2h0 of vfio-user:");
    ground.run(&line).exits(0);
}

#[test]
fn a_descriptor_that_cannot_be_fetched_is_reported_and_the_channel_stays_usable() {
    let ground = Ground::new();
    for broker in [false, true] {
        let board = board(&ground, "descriptor-fetch:h2c0@1");
        let owner = broker.then(|| ground.broker(&[&board]));
        let line = match &owner {
            Some(owner) => format!("test ddr --size 16M --passes 1 {}", owner.option()),
            None => ddr(&board),
        };
        ground
            .run(&line)
            .exits(1)
            .complains("transfer failed on h2c0 of vfio-user:")
            .complains("status 0x000800")
            .complains("descriptor fetch: unsupported request")
            .complains("0 of 2 descriptors done")
            .complains("the channel was stopped and can be used again");
        ground.run(&line).exits(0);
    }
}

#[test]
fn data_that_cannot_be_read_is_reported() {
    let ground = Ground::new();
    for channel in ["h2c0", "c2h0"] {
        let board = board(&ground, &format!("data-fault:{channel}@1"));
        ground
            .run(&ddr(&board))
            .exits(1)
            .complains(&format!("transfer failed on {channel} of vfio-user:"))
            .complains("can be used again");
        ground.run(&ddr(&board)).exits(0);
    }
}

#[test]
fn a_link_that_goes_down_is_no_value() {
    let ground = Ground::new();
    let during = board(&ground, "link-down@1");
    let outcome = ground.run(&ddr(&during)).exits(1).complains("link is down");
    assert!(outcome.time < Duration::from_secs(2), "{:?}", outcome.time);
    ground.run(&ddr(&during)).exits(1).complains("link is down");

    let before = board(&ground, "link-down");
    for command in ["test general", "info", "test ddr"] {
        ground.run(&format!("{command} --card {}", before.address())).exits(1).complains("link is down");
    }
    let json = ground.run(&format!("list --json --card {}", before.address()));
    json.exits(1).complains("link is down");
}

#[test]
fn under_a_broker_a_link_that_goes_down_is_only_its_own_cards_matter() {
    let ground = Ground::new();
    let (down, up) = (board(&ground, "link-down@1"), ground.board("tef1001-dma-blkram"));
    let broker = ground.broker(&[&down, &up]);
    let victim = ground.start(&format!("test ddr --size 16M --passes 1 {}", broker.option()));
    let other = ground.start(&format!("time blkram --transfers 200 {}", broker.option()));
    victim.wait().exits(1).complains("link is down");
    // It may have come before or after the link went down.
    let outcome = other.wait();
    assert!(outcome.out.contains("all 200 transfers each way match"), "{outcome}");
    let only = format!("time blkram --transfers 3 --only {} {}", up.address(), broker.option());
    ground.run(&only).exits(0);
}

#[test]
fn an_interrupt_that_is_lost_does_not_matter_to_who_polls() {
    let ground = Ground::new();
    let board = board(&ground, "lost-interrupt");
    ground.run(&ddr(&board)).exits(0);
}

#[test]
fn cards_with_other_interrupts_work_too() {
    let ground = Ground::new();
    for kind in ["msix", "msi", "intx", "none"] {
        let board = ground.board(&format!("nitefury --memory 16M --interrupts {kind}"));
        // Alone first: a board has one owner.
        ground.run(&ddr(&board)).exits(0);
        let broker = ground.broker(&[&board]);
        ground.run(&format!("test ddr --size 16M --passes 1 {}", broker.option())).exits(0);
    }
}

#[test]
fn one_boards_failure_does_not_end_the_others() {
    let ground = Ground::new();
    let bad = ground.board("nitefury --memory 16M --fault data-fault:h2c0@1");
    let good = ground.board("nitefury --memory 16M");
    let test = |options: &str| {
        let cards = format!("--card {} --card {}", bad.address(), good.address());
        ground.run(&format!("test ddr {cards} --size 1M --passes 1 {options}"))
    };
    test("").exits(1).complains("transfer failed on h2c0").says("pass 1 of 1: test pattern matches");
    let bad_again = ground.board("nitefury --memory 16M --fault data-fault:h2c0@1");
    let cards = format!("--card {} --card {}", bad_again.address(), good.address());
    let json = ground.run(&format!("test ddr {cards} --size 1M --passes 1 --json")).exits(1).json();
    assert_eq!(json[0]["card"], bad_again.address());
    assert_eq!(json[0]["error"]["kind"], "other");
    assert!(json[0]["error"]["what"].as_str().unwrap().contains("transfer failed on h2c0"), "{json}");
    assert_eq!(
        (&json[1]["card"], &json[1]["memories"][0]["failures"]),
        (&good.address().into(), &serde_json::json!([]))
    );
}

#[test]
fn programs_are_told_why_there_is_no_result() {
    let ground = Ground::new();
    let error = ground.run("read 10ee:7011 9:0 --emulate nitefury --json").exits(2).json_error();
    assert_eq!(error["kind"], "misuse");
    let error = ground.run("load 10ee:7011 0 nowhere.bin --emulate nitefury --json").exits(1).json_error();
    assert_eq!((&error["kind"], &error["errno"]), (&"system".into(), &"ENOENT".into()));
    let error = ground.run("load 10ee:7011 soon x --json").exits(2).json_error();
    assert!(error["kind"] == "misuse" && error["what"].as_str().unwrap().contains("soon"), "{error}");
    let error = ground.run("info --json --card vfio-user:/nowhere.sock").exits(1).json_error();
    assert_eq!((&error["kind"], &error["errno"]), (&"not-found".into(), &"ENOENT".into()));
}
