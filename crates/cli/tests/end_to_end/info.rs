//! `jitney info`: what a card, its board and its machine say, alone and beside others.

use crate::support::Ground;
use jitney::vfio::LeaseRequest;
use serde_json::{Value, json};

#[test]
fn link_interrupts_and_versions_are_told() {
    let ground = Ground::new();
    let outcome = ground.run("info --emulate nitefury").exits(0);
    for text in [
        "link: 5 GT/s x4 of 5 GT/s x4\n",
        "interrupts: MSI-X with 32 vectors, MSI with 32, a line; 16 user interrupts",
        "XDMA in BAR 2, version 0x06:",
        "LED: M.2 LED",
    ] {
        assert!(outcome.out.contains(text), "{text}: {outcome}");
    }
    let board = ground.board("nitefury --lanes 1 --interrupts msi");
    let json = ground.run(&format!("info --card {} --json", board.address())).exits(0).json();
    assert_eq!(json[0]["link"], json!({ "now": "5 GT/s x1", "best": "5 GT/s x4", "is_degraded": true }));
    let interrupts = &json[0]["interrupts"];
    assert_eq!((&interrupts["msi_vectors"], &interrupts["msix_vectors"]), (&json!(32), &Value::Null));
    assert_eq!(json[0]["xdma"]["version"], 6);
    let outcome = ground.run(&format!("info --card {}", board.address())).exits(0);
    outcome.says("5 GT/s x1 of 5 GT/s x4, less than the card can").says("interrupts: MSI with 32;");
    ground.run("info --emulate dma_blkram").exits(0).says("interrupts: none");
}

#[test]
fn a_card_is_named_by_its_board_and_its_numbers() {
    let ground = Ground::new();
    let boards = "--emulate nitefury --emulate XCKU5P_SINGLE_QSFP_dma_ddr4";
    for (name, board) in [
        ("NiteFury", "NiteFury"),
        ("serial:00-00-00-01-01-00-0a-35", "NiteFury"),
        ("dna:400200000000000000000001", "XCKU5P"),
        ("board:xcku5p_single_qsfp_dma_ddr4", "XCKU5P"),
    ] {
        ground.run(&format!("info {name} {boards}")).exits(0).says(&format!("board: {board}"));
        ground.run(&format!("test memory --size 64K --only {name} {boards}")).exits(0);
    }
    ground.run(&format!("info {boards}")).exits(0).says("serial number: 00-00-00-01-01-00-0a-35\n");
    let json = ground.run("info --emulate nitefury --json").exits(0).json();
    assert_eq!(json[0]["serial_number"], "00-00-00-01-01-00-0a-35");
    ground.run(&format!("info litefury {boards}")).exits(1).complains("no card fits \"litefury\"; there is ");
    let two = "--emulate nitefury --emulate litefury";
    let outcome = ground.run(&format!("reset serial:00-00-00-01-01-00-0a-35 {two}")).exits(1);
    outcome.complains("2 cards fit").complains("-litefury.sock").complains("name one by its address");
    ground.run(&format!("info serial:7 {two}")).complains("write eight bytes in hexadecimal");
    // As a boards file of one's own calls it.
    let file = ground.path("mine.toml");
    let text = "[[design]]\nname = \"mine\"\nboard = \"My Board\"\npci = [\"10ee:7024\"]\nsubsystem = \"1234:0001\"\n\
                dma = { ip = \"xdma\", bar = 2, h2c = 1, c2h = 1, interface = \"memory-mapped\", width = 128 }\n\
                memory = { kind = \"block-ram\", base = 0, size = 0x4_0000 }\n";
    std::fs::write(&file, text).unwrap();
    ground.run(&format!("info mine --emulate {}", file.display())).exits(0).says("board: My Board");
}

#[test]
fn a_link_is_told_and_an_emulated_one_is_not_trained() {
    let ground = Ground::new();
    let board = ground.board("nitefury --lanes 1");
    let broker = ground.broker(&[&board]);
    let link = |rest: &str| ground.run(&format!("link 10ee:7011 {rest} {}", broker.option()));
    link("")
        .exits(0)
        .says(": 5 GT/s x1 of 5 GT/s x4\n")
        .says("read requests of 512\n")
        .says("there is no port above it: it is an emulated board");
    let json = link("--json").exits(0).json();
    assert_eq!((&json["now"], &json["best"]), (&json!("5 GT/s x1"), &json!("5 GT/s x4")));
    assert_eq!((&json["port"], &json["trained"]), (&Value::Null, &Value::Null));
    assert!(json["packets"]["largest_payload"].as_u64() >= json["packets"]["payload"].as_u64(), "{json}");
    link("--speed gen1").exits(2).complains("no port above it");
    link("--speed fast").exits(2).complains("speeds are gen1 (2.5 GT/s)");
}

#[test]
fn what_is_on_a_board_tells_of_itself() {
    let ground = Ground::new();
    let json = ground.run("info --emulate U200_100G_ether_duplex --json").exits(0).json();
    let contents = &json[0]["contents"];
    assert_eq!(contents["dna"], json!(["400200000000000000000001"]));
    assert_eq!(contents["routes"], json!([null, null, null, null]));
    let management = &contents["management"];
    assert_eq!((&management["serial"], &management["profile"]), (&json!("21290594R00A"), &json!("U2XX")));
    assert_eq!(management["mac_addresses"][1], "00:0a:35:0e:24:a1");
    assert_eq!(
        (&management["modules"][0]["kind"], &management["modules"][1]),
        (&json!("QSFP28"), &Value::Null)
    );
    let outcome = ground.run("info --emulate TEF1001_dma_ddr3").exits(0);
    outcome.says("DDR controller: ready").says("I2C bus 0 at 0x50: spd-ddr3 (the DDR3 module)");
    ground.run("info --emulate NiteFury_dma_ddr3").exits(0).says("built 2026-08-17 13:12:15");
}

#[test]
fn configuration_space_is_decoded_under_a_broker_too() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 16M");
    let broker = ground.broker(&[&board]);
    let outcome = ground.run(&format!("info --config {}", broker.option())).exits(0);
    for text in [
        "configuration space, 4096 bytes:",
        "command: memory space, bus master",
        "0x040 power management (id 0x01): in D0",
        "MSI-X (id 0x11): disabled, 32 vectors, table in BAR 2 at 0x8000",
        "PCI Express (id 0x10): version 2, link 5 GT/s x4 of 5 GT/s x4",
        "device serial number (id 0x03): 00-00-00-01-01-00-0a-35",
        "    000: ee 10 11 70 ",
    ] {
        assert!(outcome.out.contains(text), "{text}: {outcome}");
    }
    let json = ground.run(&format!("info --config --json {}", broker.option())).exits(0).json();
    let config = &json[0]["config"];
    assert_eq!(config["bytes"].as_array().unwrap().len(), 4096);
    assert_eq!(
        config["bars"][1],
        json!({
            "index": 2, "kind": "memory", "is_64bit": true, "prefetchable": false, "address": config["bars"][1]["address"]
        })
    );
    let without = ground.run(&format!("info --json {}", broker.option())).exits(0).json();
    assert_eq!(without[0]["config"], Value::Null);
}

#[test]
fn who_uses_a_card_and_has_its_management_is_told() {
    let ground = Ground::new();
    let board = ground.board("U200_ibert_100G_ether");
    let broker = ground.broker(&[&board]);
    let bus = jitney::Bus::options().broker(&broker.socket).open().unwrap();
    let card = bus.card(&board.address()).unwrap();
    let _lease = card.lease(LeaseRequest::exclusive("sysmon".parse().unwrap())).unwrap();
    let own = format!("used by pid {}", std::process::id());
    let outcome = ground.run(&format!("info {}", broker.option())).exits(0).says(&own).says("has sysmon");
    assert!(outcome.out.contains("serial number 21290594R00A"), "{outcome}");
    // The firmware runs; messages to it are somebody's.
    let _cms = card.lease(LeaseRequest::exclusive("cms".parse().unwrap())).unwrap();
    let outcome = ground.run(&format!("info {}", broker.option())).exits(0);
    assert!(outcome.out.contains("firmware 12.1.5") && !outcome.out.contains("serial number"), "{outcome}");
    assert!(outcome.out.contains("is held by pid"), "{outcome}");
}
