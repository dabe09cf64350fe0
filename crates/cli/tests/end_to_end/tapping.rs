//! `jitney capture --share` and `jitney tap`: one captures, many read along.

use crate::examples::example;
use crate::support::{Board, Broker, Ground, Process, eventually};
use rustix::process::Signal;
use std::fs;

const LOOP: &str = "NiteFury_dma_stream_loopback";
const CARD: &str = "10ee:7024";

/// A board whose first channels are a loop, and a capture of it that is shared as `adc`.
struct Shared {
    ground: Ground,
    _board: Board,
    broker: Broker,
    _holder: Process,
    capture: Process,
}

/// Bytes of a packet, each of which is a block.
const PACKET: usize = 4000;

impl Shared {
    fn new(options: &str) -> Self {
        let ground = Ground::new();
        let board = ground.board(LOOP);
        let broker = ground.broker(&[&board]);
        let mut holder = ground.start(&format!("hold {CARD} {}", broker.option()));
        holder.wait_for_line("holding ");
        ground.run(&format!("route {CARD} {} h2c0:c2h0 h2c1:c2h1", broker.option())).exits(0);
        let capture = capture(&ground, &broker, options);
        Self { ground, _board: board, broker, _holder: holder, capture }
    }

    fn tap(&self, file: &str) -> Process {
        let line = format!("tap adc {} --to {file} --json", self.broker.option());
        let process = self.ground.start(&line);
        // It is there when it has its file.
        eventually("nobody taps", || match self.taken(&process, file) {
            Some(_) => Ok(()),
            None => Err(format!("there is no {file}")),
        });
        process
    }

    /// How many bytes a tap that runs has written.
    fn taken(&self, tap: &Process, file: &str) -> Option<u64> {
        let part = self.ground.path(&format!("{file}.{}.part", tap.pid()));
        fs::metadata(part).ok().map(|file| file.len())
    }

    fn play(&self, packets: usize, first: usize) -> Vec<u8> {
        let data: Vec<u8> = (first..first + packets).flat_map(packet).collect();
        fs::write(self.ground.path("in.bin"), &data).unwrap();
        let line = format!("play {CARD} in.bin {} --packet {PACKET}", self.broker.option());
        self.ground.run(&line).exits(0);
        data
    }
}

fn capture(ground: &Ground, broker: &Broker, options: &str) -> Process {
    let line = format!("capture {CARD} --share adc {} {options}", broker.option());
    let mut capture = ground.start(&line);
    capture.wait_for_line("sharing");
    capture
}

fn packet(number: usize) -> impl Iterator<Item = u8> {
    let mut state = number as u64 | 1 << 40;
    (0..PACKET).map(move |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    })
}

#[test]
fn all_who_tap_get_every_byte_of_one_capture() {
    let shared = Shared::new(&format!("--block 4K --bytes {} --json", 30 * PACKET));
    let taps: Vec<_> = (0..3).map(|number| (shared.tap(&format!("{number}.bin")), number)).collect();
    let data = shared.play(30, 0);
    for (tap, number) in taps {
        let outcome = tap.wait().exits(0).json();
        assert_eq!((&outcome["bytes"], &outcome["packets"]), (&data.len().into(), &30.into()), "{outcome}");
        assert_eq!((&outcome["lost_blocks"], &outcome["ended"]), (&0.into(), &true.into()));
        assert!(fs::read(shared.ground.path(&format!("{number}.bin"))).unwrap() == data);
    }
    let captured = shared.capture.wait().exits(0).json();
    assert_eq!(
        (&captured["bytes"], &captured["packets"], &captured["shared"]),
        (&data.len().into(), &30.into(), &"adc".into())
    );
}

#[test]
fn who_is_stopped_learns_what_it_lost_and_who_is_killed_stops_nobody() {
    let shared = Shared::new("--block 4K --blocks 64 --json");
    let (one, two) = (shared.tap("one.bin"), shared.tap("two.bin"));
    let (stopped, killed) = (shared.tap("stopped.bin"), shared.tap("killed.bin"));
    stopped.signal(Signal::STOP);
    let mut all = Vec::new();
    for part in 0..12 {
        // Fewer than those who read may fall behind, and all together more than there are blocks.
        all.extend(shared.play(25, part * 25));
        for (tap, file) in [(&one, "one.bin"), (&two, "two.bin")] {
            eventually("a tap is behind", || match shared.taken(tap, file) {
                Some(taken) if taken == all.len() as u64 => Ok(()),
                taken => Err(format!("{taken:?} of {}", all.len())),
            });
        }
        if part == 5 {
            killed.signal(Signal::KILL);
        }
    }
    stopped.signal(Signal::CONT);
    // What it can still have it takes before the capture ends.
    shared.capture.signal(Signal::INT);
    let captured = shared.capture.wait().exits(0).json();
    assert_eq!(captured["packets"], 300);
    for (tap, file) in [(one, "one.bin"), (two, "two.bin")] {
        assert_eq!(tap.wait().exits(0).json()["lost_blocks"], 0);
        assert!(fs::read(shared.ground.path(file)).unwrap() == all, "{file}");
    }
    let stopped = stopped.wait().exits(1).complains("LOST").json();
    let number = |key: &str| usize::try_from(stopped[key].as_u64().unwrap()).unwrap();
    assert!(number("packets") >= 32, "half of the ring is still there: {stopped}");
    assert_eq!(number("packets") + number("lost_packets"), 300);
    assert_eq!(number("bytes") + number("lost_bytes"), all.len());
    assert_eq!(number("lost_blocks"), number("lost_packets"), "each packet was a block");
    // It is the end of it that it has.
    let kept = fs::read(shared.ground.path("stopped.bin")).unwrap();
    assert!(all.ends_with(&kept) && kept.len() == number("bytes"));
}

#[test]
fn a_capture_that_is_killed_ends_its_taps_and_leaves_the_name() {
    let shared = Shared::new("--block 4K");
    let taps = [shared.tap("one.bin"), shared.tap("two.bin")];
    let data = shared.play(10, 0);
    for (tap, file) in taps.iter().zip(["one.bin", "two.bin"]) {
        eventually("a tap is behind", || match shared.taken(tap, file) {
            Some(taken) if taken == data.len() as u64 => Ok(()),
            taken => Err(format!("{taken:?}")),
        });
    }
    let again = |name: &str| {
        let line =
            format!("capture {CARD} --channel c2h1 --share {name} {} --for 50ms", shared.broker.option());
        shared.ground.run(&line)
    };
    again("adc").exits(1).complains("the name adc of a shared buffer is held by pid");
    shared.capture.signal(Signal::KILL);
    for (tap, file) in taps.into_iter().zip(["one.bin", "two.bin"]) {
        let outcome = tap.wait().exits(1).complains("has ended without saying so").json();
        assert_eq!((&outcome["bytes"], &outcome["lost_blocks"]), (&data.len().into(), &0.into()));
        assert!(fs::read(shared.ground.path(file)).unwrap() == data);
    }
    again("adc").exits(0).says("sharing adc").says("captured 0 bytes");
}

#[test]
fn what_nobody_shares_cannot_be_tapped() {
    let ground = Ground::new();
    ground
        .run("tap adc --to /dev/null")
        .exits(1)
        .complains("no broker runs for this user")
        .complains("jitney broker");
    let board = ground.board(LOOP);
    let broker = ground.broker(&[&board]);
    let option = broker.option();
    ground
        .run(&format!("tap adc {option} --to /dev/null"))
        .exits(1)
        .complains("no buffer is offered by the name adc");
    ground.run(&format!("tap ADC {option} --to /dev/null")).exits(1).complains("cannot name a shared buffer");
    let alone = ground.board(LOOP);
    let line = format!("capture {CARD} --card {} --share adc --for 50ms", alone.address());
    ground.run(&line).exits(1).complains("start jitney broker");
    ground.run(&format!("capture {CARD} {option} --share adc --to x")).exits(2);
}

#[test]
fn one_program_captures_and_starts_those_who_analyse() {
    let ground = Ground::new();
    let mut words: Vec<String> = ["run", "--emulate", LOOP, "--"].map(Into::into).into();
    words.push(example("one_captures_many_analyse").display().to_string());
    words.extend(["3", "1500", "64", "stop-one"].map(Into::into));
    let outcome = ground.run_args(&words).exits(0).says("captured 1500 blocks, 98304000 bytes");
    let readers: Vec<(u64, u64)> = outcome.out.lines().filter_map(read).collect();
    // A machine that is busy may keep the others from it, too; what they have and what they lost is all of it.
    assert!(
        readers.len() == 3 && readers.iter().all(|(right, lost)| right + lost == 1500),
        "{}",
        outcome.out
    );
    assert_eq!(readers[0], (32, 1468), "half of the ring is what is left for the one that was stopped");
}

/// "reader 7: 32 blocks right, 1468 lost with 96206848 bytes", in numbers.
fn read(line: &str) -> Option<(u64, u64)> {
    let words: Vec<&str> = line.split_once("reader ")?.1.split_whitespace().collect();
    Some((words.get(1)?.parse().ok()?, words.get(4)?.parse().ok()?))
}
