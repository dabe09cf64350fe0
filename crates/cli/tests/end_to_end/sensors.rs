//! `jitney sensors`: all boards, one of them, and again and again.

use crate::support::Ground;
use rustix::process::Signal;
use serde_json::{Value, json};

fn sensor<'a>(board: &'a Value, monitor: &str, name: &str) -> &'a Value {
    let sensors = board["sensors"].as_array().unwrap();
    let found = sensors.iter().find(|own| own["monitor"] == monitor && own["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} of {monitor}: {board:#}"))
}

#[test]
fn every_board_with_sensors_is_shown() {
    let ground = Ground::new();
    let all = "--emulate nitefury --emulate tef1001-dma-blkram --emulate U200_dma_stream_crc64";
    let outcome = ground.run(&format!("sensors {all}")).exits(0);
    for text in ["NiteFury at vfio-user:", "Alveo U200 at", "xadc", "sysmon die 2", "VCCAUX", "°C", "alarm"]
    {
        assert!(outcome.out.contains(text), "{text}: {outcome}");
    }
    assert!(!outcome.out.contains("TEF1001"), "it has no sensors: {outcome}");
    let json = ground.run(&format!("sensors {all} --json")).exits(0).json();
    assert_eq!(json.as_array().unwrap().len(), 2);
    let warm = sensor(&json[0], "xadc", "temperature");
    let [now, min, max] = ["now", "min", "max"].map(|key| warm[key].as_f64().unwrap());
    assert!(min <= now && now <= max && (20.0..70.0).contains(&now), "{warm}");
    assert_eq!(
        (&warm["unit"], &warm["quantity"], &warm["alarm"]),
        (&json!("°C"), &json!("temperature"), &json!(false))
    );
    // The factory image of a NiteFury converts the temperature alone.
    assert_eq!(sensor(&json[0], "xadc", "VCCINT")["alarm"], Value::Null);
    assert_eq!(sensor(&json[1], "sysmon die 0", "VCCINT")["alarm"], false);
}

#[test]
fn one_quantity_of_one_card() {
    let ground = Ground::new();
    let json = ground.run("sensors 10ee:7011 --emulate nitefury --only temperature --json").exits(0).json();
    let sensors = json[0]["sensors"].as_array().unwrap();
    assert_eq!(sensors.len(), 1, "{json}");
    ground.run("sensors --emulate nitefury --only power").exits(3).complains("of that kind");
    ground.run("sensors --emulate tef1001-dma-blkram").exits(3).complains("no board with sensors");
    ground.run("sensors --emulate nitefury --only heat").exits(2).complains("temperature");
    ground.run("sensors 1234:5678 --emulate nitefury").exits(1).complains("no card");
}

#[test]
fn an_alarm_is_shown_while_the_board_is_used_by_others() {
    let ground = Ground::new();
    let board = ground.board("NiteFury_dma_ddr3 --memory 64M");
    let broker = ground.broker(&[&board]);
    let run = |line: &str| ground.run(&format!("{line} {}", broker.option()));
    run("sensors").exits(0).says("no");
    // The limit of the temperature becomes 6 °C, as a program that has the XADC for itself could set it.
    let bus = jitney::Bus::options().broker(&broker.socket).open().unwrap();
    let card = bus.card("10ee:7024").unwrap();
    let _lease = card.lease(jitney::vfio::LeaseRequest::exclusive("xadc".parse().unwrap())).unwrap();
    card.bar(0).unwrap().write32(0x1340, 0x9000).unwrap();
    let json = run("sensors --json").exits(0).json();
    assert_eq!(sensor(&json[0], "xadc", "temperature")["alarm"], true);
    run("sensors").exits(0).says("ALARM");
}

#[test]
fn a_board_that_is_gone_does_not_hide_the_others() {
    let ground = Ground::new();
    for dies in ["nitefury", "NiteFury_dma_ddr3"] {
        let dead = ground.board(&format!("{dies} --memory 16M --fault link-down@2"));
        let alive = ground.board("litefury");
        let broker = ground.broker(&[&dead, &alive]);
        let run = |line: &str| ground.run(&format!("{line} {}", broker.option()));
        let json = run("sensors --json").exits(0).json();
        assert_eq!(json.as_array().unwrap().len(), 2);
        run(&format!("test ddr --size 4M --passes 2 --only {}", dead.address())).exits(1);
        let outcome = run("sensors").exits(1).says("LiteFury at").says("VCCAUX");
        assert!(outcome.err.contains("all-ones") || outcome.err.contains("link is down"), "{outcome}");
    }
}

#[test]
fn an_alveo_card_shows_what_its_firmware_measures() {
    let ground = Ground::new();
    let board = ground.board("U200_dma_ddr4 --memory 64M");
    let broker = ground.broker(&[&board]);
    let run = |line: &str| ground.run(&format!("{line} {}", broker.option()));
    // As long as somebody has the card it is not reset, and its firmware runs.
    let bus = jitney::Bus::options().broker(&broker.socket).open().unwrap();
    let address = bus.cards()[0].address.clone();
    let card = bus.card(&address).unwrap();
    let json = run("sensors --json").exits(0).json();
    let volts = sensor(&json[0], "cms", "12V_PEX");
    assert_eq!((&volts["unit"], &volts["min"]), (&json!("V"), &Value::Null));
    assert!(volts["average"].as_f64().unwrap() > 10.0, "{volts}");
    assert!(sensor(&json[0], "sysmon die 2", "temperature")["now"].as_f64().unwrap() > 20.0);
    let watts = run("sensors --only power").exits(0);
    assert!(watts.out.contains("12V_PEX_POWER") && !watts.out.contains("VCCINT"), "{watts}");
    // Who has the card management does not keep others from reading it.
    let _lease = card.lease(jitney::vfio::LeaseRequest::exclusive("cms".parse().unwrap())).unwrap();
    run("sensors --only speed").exits(0).says("FAN_SPEED");
}

#[test]
fn watching_prints_a_line_each_time_and_ends_when_told() {
    let ground = Ground::new();
    let mut process = ground.start("sensors --emulate nitefury --watch --every 0.05 --json");
    process.wait_for_line("temperature");
    std::thread::sleep(std::time::Duration::from_millis(300));
    process.signal(Signal::INT);
    let outcome = process.wait().exits(0);
    let lines = outcome.json_lines();
    assert!(lines.len() > 2, "{outcome}");
    assert!(lines.iter().all(|line| line["event"]["boards"][0]["board"] == "NiteFury"), "{outcome}");
    let mut process = ground.start("sensors --emulate nitefury --watch --every 0.05");
    process.wait_for_line("VCCINT");
    process.signal(Signal::INT);
    process.wait().exits(0).says("now");
    ground.run("sensors --emulate nitefury --watch --every 0").exits(2);
}
