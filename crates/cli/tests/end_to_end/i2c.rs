//! `jitney i2c scan`, `read` and `dump`: the devices on a board's I2C bus.

use crate::support::{Ground, LIMIT};
use jitney::vfio::LeaseRequest;
use serde_json::json;

const CARD: &str = "10ee:7024 --emulate TEF1001_dma_stream_crc64";

#[test]
fn a_scan_finds_what_the_boards_file_names() {
    let ground = Ground::new();
    let outcome = ground.run(&format!("i2c scan {CARD}")).exits(0);
    for text in ["40: UU -- ", "50: UU -- ", "0x4f  ltm4676a (1 V)", "0x50  spd-ddr3"] {
        assert!(outcome.out.contains(text), "{text}: {outcome}");
    }
    assert!(!outcome.out.contains("does not answer"), "{outcome}");
    let json = ground.run(&format!("i2c scan {CARD} --from 0x40 --to 0x4f --json")).exits(0).json();
    let addresses: Vec<_> =
        json["devices"].as_array().unwrap().iter().map(|own| own["address"].clone()).collect();
    assert_eq!(addresses, [json!(0x40), json!(0x4f)]);
    assert_eq!(json["devices"][0]["device"], "ltm4676a");
    let outcome = ground.run(&format!("i2c scan {CARD} --from 0x10 --to 0x1f")).exits(0);
    outcome.says("no device answers");
    for wrong in ["--from 0x07", "--to 0x78", "--from 0x50 --to 0x40", "--bus 1", "--from spd"] {
        ground.run(&format!("i2c scan {CARD} {wrong}")).exits(2);
    }
    ground.run("i2c scan 10ee:7011 --emulate nitefury").exits(2).complains("no iic number 0");
}

#[test]
fn a_device_that_does_not_answer_is_named() {
    let ground = Ground::new();
    // The fourth START of a scan from 0x4d on is that of 0x50.
    let board = ground.board("TEF1001_dma_stream_crc64 --fault i2c-nak@4");
    let run = |line: &str| ground.run(&format!("{line} --card {}", board.address()));
    let outcome = run("i2c scan 10ee:7024 --from 0x4d --to 0x51").exits(0);
    outcome.says("50: XX --").says("0x50  spd-ddr3 (the DDR3 module), does not answer");
}

#[test]
fn bytes_are_read_from_a_device() {
    let ground = Ground::new();
    let read = |rest: &str| ground.run(&format!("i2c read {CARD} {rest}"));
    assert_eq!(read("0x50:2").exits(0).out, "0x0b\n");
    assert_eq!(read("80:0x02").exits(0).out, "0x0b\n");
    let outcome = read("0x50:0 --count 256").exits(0);
    assert_eq!(outcome.out.lines().count(), 16);
    assert!(outcome.out.contains("8KTF1G64HZ-1G6E1"), "{outcome}");
    let json = read("0x40:0x99 --count 4 --json").exits(0).json();
    assert_eq!((&json["bytes"], &json["register"]), (&json!([3, 76, 84, 67]), &json!(0x99)));
    assert_eq!(read("0x50").exits(0).out, "0x92\n", "without a register: what it has next");
    read("0x51:0").exits(1).complains("no device at 0x51").complains("acknowledges");
    for wrong in ["0xa0", "0x50:0x10000", "0x50 --count 0", "0x50:x", "0x50:0 --register-bytes 3", ""] {
        read(wrong).exits(2);
    }
}

#[test]
fn a_dump_says_it_in_words() {
    let ground = Ground::new();
    let outcome = ground.run(&format!("i2c dump {CARD}")).exits(0);
    for text in
        ["DDR3-1600 SO-DIMM, 8 GiB, 2 ranks", "Micron 8KTF1G64HZ-1G6E1", "LTC LTM4676A", "output 1.500 V"]
    {
        assert!(outcome.out.contains(text), "{text}: {outcome}");
    }
    let json = ground.run(&format!("i2c dump {CARD} --json")).exits(0).json();
    assert_eq!(json["devices"].as_array().unwrap().len(), 3);
    assert_eq!(json["devices"][2]["module"]["bytes"], json!(8_u64 << 30));
    assert_eq!(json["devices"][0]["regulator"]["outputs"][1]["readings"][0]["now"], json!(1.5));
    ground.run(&format!("i2c dump {CARD} --device 0x51")).exits(2).complains("names no device at 0x51");
    ground.run("i2c dump 10ee:b044 --emulate VD100_10G_ether_dual").exits(3).complains("names no device");
}

#[test]
fn a_bus_that_is_held_or_used_by_another_is_told() {
    let ground = Ground::new();
    let board = ground.board("TEF1001_dma_stream_crc64 --fault i2c-hang@2");
    let broker = ground.broker(&[&board]);
    let run = |line: &str| ground.run(&format!("{line} {}", broker.option()));
    let bus = jitney::Bus::options().broker(&broker.socket).open().unwrap();
    let card = bus.card("10ee:7024").unwrap();
    let lease = card.lease(LeaseRequest::exclusive("iic".parse().unwrap())).unwrap();
    run("i2c scan 10ee:7024").exits(1).complains(&format!("is held by pid {}", std::process::id()));
    drop(lease);
    let outcome = run("i2c read 10ee:7024 0x50:2").exits(1);
    assert!(outcome.err.contains("does not go on") && outcome.time < LIMIT, "{outcome}");
    assert_eq!(run("i2c read 10ee:7024 0x50:2").exits(0).out, "0x0b\n", "the reset has freed it");
}

#[test]
fn a_number_that_needs_two_bytes_is_not_cut_nor_sent_as_data() {
    let ground = Ground::new();
    let board = ground.board("TEF1001_dma_stream_crc64");
    let read = |place: &str| ground.run(&format!("i2c read 10ee:7024 {place} --card {}", board.address()));
    read("0x50:0x1ff").exits(2).complains("does not fit in one byte").complains("--register-bytes 2");
    read("0x50:0x02").exits(0).says("0x0b");
}
