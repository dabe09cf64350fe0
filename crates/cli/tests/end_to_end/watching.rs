//! What a broker's programs do, as those see it who watch.

use crate::support::{Ground, eventually};
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

/// The bytes that the process `pid` has moved by a channel, as `status` has them.
fn moved(ground: &Ground, option: &str, pid: i32, channel: &str) -> u64 {
    let status = ground.run(&format!("status {option} --json")).exits(0).json();
    let programs = status["programs"].as_array().unwrap();
    let own = programs.iter().find(|program| program["pid"] == pid);
    let channels = own.and_then(|program| program["channels"].as_array()).cloned().unwrap_or_default();
    let channel = channels.iter().find(|own| own["channel"] == channel);
    channel.map_or(0, |own| own["bytes"].as_u64().unwrap())
}

#[test]
fn programs_are_seen_to_move_what_they_move() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 16M");
    let broker = ground.broker(&[&board]);
    let option = broker.option();
    let mut program = ground.start(&format!("test ddr --size 4M --passes 1000000 {option}"));
    program.wait_for_line("pass 1 of");
    for channel in ["h2c0", "c2h0"] {
        let first = moved(&ground, &option, program.pid(), channel);
        assert!(first >= 4 << 20, "{channel}: {first}");
        eventually("nothing more is moved", || match moved(&ground, &option, program.pid(), channel) {
            now if now > first => Ok(()),
            now => Err(format!("{now}")),
        });
    }

    let metrics = ground.run(&format!("metrics {option}")).exits(0);
    let labels = format!("card=\"{}\",channel=\"h2c0\"", board.address());
    let line = metrics
        .out
        .lines()
        .find(|line| line.starts_with("jitney_moved_bytes_total{") && line.contains(&labels));
    let bytes: u64 =
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("{metrics}"));
    assert!(bytes >= 4 << 20, "{metrics}");
    // Somebody has the card: it is no bother to read how warm it is.
    let warm = metrics.out.lines().find(|line| line.starts_with("jitney_temperature_celsius{"));
    let warm: f64 =
        warm.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("{metrics}"));
    assert!((10.0..100.0).contains(&warm), "{metrics}");
    ground.run(&format!("metrics --json {option}")).exits(2).complains("this is no JSON");
    assert!(metrics.out.contains("# EOF") && metrics.out.contains("jitney_programs 1"), "{metrics}");
}

#[test]
fn metrics_are_served_to_this_machine() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 16M");
    let broker = ground.broker(&[&board]);
    let option = broker.option();
    let mut server = ground.start(&format!("metrics --listen 127.0.0.1:0 {option}"));
    let line = server.wait_for_line("listening at ");
    let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
    let get = |path: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    let page = get("/metrics");
    assert!(!page.contains("jitney_temperature_celsius{"), "nobody has the card: {page}");
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("openmetrics-text"), "{page}");
    assert!(page.contains("jitney_leases{") && page.contains("# EOF"), "{page}");
    assert!(get("/").starts_with("HTTP/1.1 404"));
    // One who says nothing keeps nobody from the figures.
    let _silent = TcpStream::connect(&address).unwrap();
    assert!(get("/metrics").starts_with("HTTP/1.1 200"));
    ground.run(&format!("metrics --listen 0.0.0.0:0 {option}")).exits(2).complains("from other machines");
    ground.run(&format!("metrics --listen {address} {option}")).exits(1).complains("Address already in use");
}

#[test]
fn a_terminal_shows_it_until_it_is_told_to_end() {
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 16M");
    let broker = ground.broker(&[&board]);
    ground.run(&format!("top {}", broker.option())).exits(2).complains("this draws in a terminal");

    let ours =
        rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).unwrap();
    rustix::pty::grantpt(&ours).unwrap();
    rustix::pty::unlockpt(&ours).unwrap();
    let name = rustix::pty::ptsname(&ours, Vec::new()).unwrap();
    let theirs = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let size = rustix::termios::Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&ours, size).unwrap();
    let before = rustix::termios::tcgetattr(&theirs).unwrap();
    let mut command = ground.jitney(["top", "--every", "50ms", "--broker"]);
    command.arg(&broker.socket).env("TERM", "xterm");
    let stdio = || Stdio::from(theirs.try_clone().unwrap());
    let mut child = command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().unwrap();
    let mut screen = Vec::new();
    let mut ours = File::from(ours);
    let mut chunk = [0; 4096];
    while !String::from_utf8_lossy(&screen).contains("q ends") {
        let count = ours.read(&mut chunk).unwrap();
        screen.extend_from_slice(&chunk[..count]);
    }
    ours.write_all(b"q").unwrap();
    assert!(child.wait().unwrap().success());
    let after = rustix::termios::tcgetattr(&theirs).unwrap();
    assert_eq!(before.local_modes, after.local_modes, "the terminal is as it was");
}
