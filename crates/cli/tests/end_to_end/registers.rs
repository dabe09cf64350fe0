//! `jitney read`, `write` and `dump`: registers by number and by name, alone and beside others.

use crate::support::{Board, Ground, Outcome};
use jitney::vfio::LeaseRequest;
use serde_json::json;

/// The four letters that the first register of a NiteFury has.
const NITE: u32 = 0x4e49_5445;

/// `jitney COMMAND CARD REST` of a board that this owns alone for as long as it lasts.
fn alone(ground: &Ground, board: &Board, command: &str, rest: &str) -> Outcome {
    ground.run(&format!("{command} 10ee:7011 --card {} {rest}", board.address()))
}

#[test]
fn registers_are_read_by_number_and_by_name() {
    let ground = Ground::new();
    let board = ground.board("nitefury");
    let read = |rest: &str| alone(&ground, &board, "read", rest).exits(0);
    for place in ["0:0x0", "0:0", "axi-gpio0", "gpio0", "gpio0+0"] {
        assert_eq!(read(place).out, "0x4e495445\n", "{place}");
    }
    for place in ["2:0x1000", "xdma:c2h0.identifier", "xdma+0x1000", "xdma+4096"] {
        assert_eq!(read(place).out, "0x1fc10006\n", "{place}");
    }
    assert_eq!(read("xadc+0x210 --count 2").out.lines().count(), 2);
    // Pins that are all inputs: that is no link that is down, which configuration space tells.
    read("gpio0+4").says("0xffffffff").complains("the card is there");
    read("0:0x8 --count 1").says("0x00000002");
    let json = read("0:0x8 --count 2 --json").json();
    assert_eq!((&json["bar"], &json["offset"], &json["values"][0]), (&json!(0), &json!(8), &json!(2)));
    assert_eq!(json["id"], "10ee:7011");
    // The board that a command starts for itself.
    let own = ground.run("read --emulate nitefury 10ee:7011 0:0x0").exits(0);
    assert_eq!(own.out, format!("{NITE:#010x}\n"));
}

#[test]
fn what_is_not_there_is_told_with_what_is() {
    let ground = Ground::new();
    let board = ground.board("nitefury");
    for command in ["read", "write"] {
        let value = if command == "write" { " 1" } else { "" };
        for (place, complaints) in [
            ("3:0", ["no BAR 3", "its BARs are: 0, 2"]),
            ("1:0", ["no BAR 1", "its BARs are: 0, 2"]),
            ("99999999999999999999:0", ["", "99999999999999999999"]),
            ("0:0x20000", ["0x20000 to 0x20004", "BAR 0, which ends at 0x20000"]),
            ("0:0xfffffffffffffffc", ["BAR 0", "0x20000"]),
            ("0:2", ["0x2", "no multiple of 4"]),
            ("0:x", ["\"x\"", "0x128000"]),
            ("0", ["0 is a BAR", "0:0x0"]),
            ("xadc+0x1000", ["0x4000 to 0x4004", "xadc, which ends at 0x4000"]),
            ("xadc+1", ["0x3001", "no multiple of 4"]),
            ("xacd", ["did you mean \"xadc\"?", "axi-gpio0, axi-gpio1, axi-gpio2, xadc, quad-spi, xdma"]),
            ("gpio", ["there is no \"gpio\"", "axi-gpio0, axi-gpio1"]),
            ("gpio3", ["there is no \"gpio3\"", "axi-gpio2"]),
            ("xdma:h2c0.contrl", ["did you mean \"xdma:h2c0.control\"?", "xdma"]),
            // The card has one channel in each direction.
            ("xdma:h2c1.control", ["there is no \"xdma:h2c1.control\"", "xdma"]),
        ] {
            let outcome = alone(&ground, &board, command, &format!("{place}{value}")).exits(2);
            complaints.iter().for_each(|text| assert!(outcome.err.contains(text), "{text}: {outcome}"));
            assert_eq!(outcome.out, "", "{outcome}");
        }
    }
    alone(&ground, &board, "read", "xadc --count 0x401").exits(2);
    alone(&ground, &board, "read", "xadc --count 1025").exits(2).complains("0x3000 to 0x4004");
    alone(&ground, &board, "read", "xadc --count 0").exits(2).complains("--count");
    alone(&ground, &board, "read", "0:0 --count 18446744073709551615").exits(2);
    alone(&ground, &board, "read", "").exits(2).complains("REGISTER");
    for value in ["0x100000000", "ff", "x", "0x"] {
        alone(&ground, &board, "write", &format!("gpio2 {value}")).exits(2).complains("VALUE");
    }
    for (rest, complaint) in [
        ("7", "no BAR 7"),
        ("0 --from 0x20000", "ends at 0x20000"),
        ("0 --from 2", "no multiple of 4"),
        ("0 --bytes 6", "no multiple of 4"),
        ("0 --bytes 0", "0 bytes"),
        ("xadc --bytes 8K", "xadc, which ends at 0x4000"),
        ("xacd", "did you mean \"xadc\"?"),
    ] {
        alone(&ground, &board, "dump", rest).exits(2).complains(complaint);
    }
    ground.run("read 1234:5678 0:0 --emulate nitefury").exits(1).complains("no card").complains("10ee:7011");
}

#[test]
fn a_write_reads_nothing_unless_it_is_asked_to() {
    let ground = Ground::new();
    let board = ground.board("nitefury");
    let broker = ground.broker(&[&board]);
    let run = |line: &str| ground.run(&format!("{line} {}", broker.option()));
    // What one command writes the next reads: the broker keeps the card as it is.
    run("write 10ee:7011 gpio2+4 0xf0").exits(0).says("wrote 0x000000f0 to 0x02004 of BAR 0");
    run("read 10ee:7011 0:0x2004").exits(0).says("0x000000f0");
    run("write 10ee:7011 0:0x2004 15 --verify").exits(0);
    let json = run("write 10ee:7011 axi-gpio2+4 7 --verify --json").exits(0).json();
    assert_eq!((&json["leased"], &json["value"], &json["read"]), (&json!("axi-gpio2"), &json!(7), &json!(7)));
    let json = run("write 10ee:7011 axi-gpio2+4 8 --json").exits(0).json();
    assert!(json["read"].is_null(), "{json}");
    // A register that cannot be written; one that is all-ones because that was written to it.
    run("write 10ee:7011 xdma:config.identifier 1 --verify")
        .exits(1)
        .complains("reads 0x1fc30006 at 0x3000 after 0x00000001 was written");
    run("write 10ee:7011 gpio2+4 0xffffffff --verify").exits(0);
}

#[test]
fn a_write_is_for_who_has_the_part_and_says_who_has_it() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 64M");
    let broker = ground.broker(&[&board]);
    let run = |line: &str| ground.run(&format!("{line} {}", broker.option()));
    let bus = jitney::Bus::options().broker(&broker.socket).open().unwrap();
    let card = bus.card("10ee:7011").unwrap();
    let own = format!("is held by pid {}", std::process::id());
    let lease = |part: &str| card.lease(LeaseRequest::exclusive(part.parse().unwrap())).unwrap();

    let gpio = lease("axi-gpio2");
    run("write 10ee:7011 gpio2+4 1").exits(1).complains(&own).complains("axi-gpio2").complains("EBUSY");
    run("write 10ee:7011 0:0x2004 1").exits(1).complains(&own);
    run("read 10ee:7011 gpio2+4").exits(0);
    run("dump 10ee:7011 gpio2 --bytes 16").exits(0);
    run("write 10ee:7011 gpio1+4 1").exits(0);
    drop(gpio);
    run("write 10ee:7011 gpio2+4 1").exits(0);

    // A channel's registers are its user's, and what all channels share is nobody's while one is used.
    let board = jitney::boards::identify(&card).unwrap();
    let h2c = board.xdma().unwrap().h2c(0).unwrap();
    run("write 10ee:7011 xdma:h2c0.control_clear 1").exits(1).complains("h2c0").complains(&own);
    run("write 10ee:7011 xdma:sgdma-h2c0.credits 1").exits(1).complains(&own);
    run("write 10ee:7011 xdma:sgdma.halt_set 1").exits(1).complains(&own);
    run("write 10ee:7011 xdma:c2h0.performance_control 1").exits(0);
    drop(h2c);
    run("write 10ee:7011 xdma:irq.user_enable 0 --verify").exits(0);
}

#[test]
fn a_dump_has_words_names_and_no_register_that_a_read_changes() {
    let ground = Ground::new();
    let board = ground.board("nitefury");
    let dump = |rest: &str| alone(&ground, &board, "dump", rest);
    let outcome = dump("0 --bytes 0x4000").exits(0);
    let lines: Vec<&str> = outcome.out.lines().collect();
    assert!(
        lines[0].starts_with("BAR 0 of vfio-user:") && lines[0].ends_with(", 0x0 to 0x4000:"),
        "{outcome}"
    );
    assert_eq!(lines[1], "000000  4e495445 ffffffff 00000002 ffffffff  axi-gpio0");
    for name in ["001000  ", "002000  ", "003000  "] {
        assert!(
            lines.iter().any(|line| line.starts_with(name)),
            "what has a name is never left out: {outcome}"
        );
    }
    assert!(lines.contains(&"*"), "{outcome}");
    assert_eq!(lines.last(), Some(&"004000"));
    assert!(lines.len() < 100, "{outcome}");

    let outcome = dump("xdma --bytes 0x100").exits(0);
    assert!(outcome.out.contains("000040  00000000 -------- 00000000"), "{outcome}");
    assert!(outcome.out.contains("h2c0.identifier h2c0.control"), "{outcome}");
    let outcome = dump("quad-spi --from 0x60 --bytes 20").exits(0);
    assert!(outcome.out.contains("010060") && outcome.out.contains(" --------  quad-spi+0x60"), "{outcome}");

    let json = dump("2 --from 0x40 --bytes 12 --json").exits(0).json();
    assert_eq!((&json["from"], &json["words"]), (&json!(0x40), &json!([0, null, 0])));
    assert_eq!(json["names"][0], json!({ "offset": 0x40, "name": "h2c0.status" }));

    // A BAR of card memory.
    ground.run("dump --emulate memmapped-blkram 10ee:7024 0").exits(0);
    let all = dump("0").exits(0);
    assert!(all.out.ends_with("\n020000\n"), "{all}");
}

#[test]
fn a_link_that_is_down_is_no_value() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 16M --fault link-down@2");
    let broker = ground.broker(&[&board]);
    let run = |line: &str| ground.run(&format!("{line} {}", broker.option()));
    run("read 10ee:7011 2:0x0").exits(0);
    run("test ddr --size 4M --passes 2").exits(1);
    for line in [
        "read 10ee:7011 2:0x0 --count 2",
        "read 10ee:7011 xdma:h2c0.control",
        "dump 10ee:7011 2 --bytes 64",
        "write 10ee:7011 2:0x88 5 --verify",
        "save 10ee:7011 0 4K out.bin",
    ] {
        let outcome = run(line).exits(1);
        assert!(outcome.err.contains("all-ones") || outcome.err.contains("is gone"), "{outcome}");
    }
    let outcome = ground.run(&format!("read 10ee:7011 2:0 --card {}", board.address())).exits(1);
    assert!(outcome.err.contains("link is down"), "{outcome}");
}

#[test]
fn registers_of_every_kind_of_board_can_be_dumped() {
    let ground = Ground::new();
    for name in ["NiteFury_dma_stream_loopback", "U200_qdma_ram", "U200_enum", "VD100_dma_stream_loopback"] {
        let json = ground.run(&format!("info --emulate {name} --json")).exits(0).json();
        let id = json[0]["id"].as_str().unwrap();
        for bar in json[0]["bars"].as_array().unwrap() {
            let line = format!("dump --emulate {name} {id} {} --bytes 0x1000", bar["index"]);
            let outcome = ground.run(&line);
            assert!(outcome.status.success(), "{outcome}");
        }
    }
}
