//! A broker that is killed, and replaced, again and again, under programs that go on: nobody of them notices more than a pause,
//! and every byte is right.

use crate::support::{self, Ground, LIMIT, Process, descriptors, eventually, in_shell, signal};
use jitney::Bus;
use jitney::boards::{Board, identify};
use jitney::broker::{Offer, Usage};
use jitney::vfio::{DmaBuffer, DmaRequest, LeaseRequest, Mode};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SIZE: u64 = 64 << 10;

/// An emulated board, and a broker that is kept.
pub(crate) struct Scene {
    board: support::Board,
    /// The keeper's process, and the broker's socket.
    pub(crate) keeper: support::Broker,
    pub(crate) ground: Swept,
}

/// Surroundings of which nothing goes on: a broker does without its keeper.
pub(crate) struct Swept(pub(crate) Ground);

impl Drop for Swept {
    fn drop(&mut self) {
        for (process, _) in self.0.processes() {
            signal(process, Signal::KILL);
        }
    }
}

impl Scene {
    pub(crate) fn new() -> Self {
        let ground = Ground::new();
        let board = ground.board("nitefury --memory 64M");
        let keeper = ground.broker_with(&[&board], "--keep");
        Self { board, keeper, ground: Swept(ground) }
    }

    pub(crate) fn bus(&self) -> Bus {
        Bus::options().broker(&self.keeper.socket).wait(LIMIT).open_shared().unwrap()
    }

    /// Nobody has left anything behind, with the broker or with the board.
    pub(crate) fn assert_nothing_left(&self) {
        let bus = self.bus();
        eventually("something is left", || {
            let usage = bus.usage().unwrap();
            let has = |it: &&Usage| it.buffers > 0 || !it.leases.is_empty() || !it.cards.is_empty();
            let others: Vec<_> = usage.iter().filter(has).collect();
            match (others.is_empty(), self.board.buffers()) {
                (true, 0) => Ok(()),
                (_, mapped) => Err(format!("{mapped} buffers are mapped, and there is still {others:?}")),
            }
        });
    }

    /// Ends the broker as somebody would who needs it no more.
    pub(crate) fn end(self) {
        let Self { board: _board, keeper: support::Broker { process, socket }, ground: _ground } = self;
        process.signal(Signal::TERM);
        process.wait().exits(0);
        assert!(!socket.exists(), "the socket is still there");
    }

    /// The broker's process, for as long as it is that.
    fn broker(&self) -> i32 {
        broker_of(&self.bus())
    }

    /// Ends the broker, and waits until there is another.
    pub(crate) fn end_broker(&self, by: Signal) {
        let before = self.broker();
        signal(before, by);
        let since = Instant::now();
        while self.broker() == before {
            assert!(since.elapsed() < LIMIT, "no other broker");
        }
    }
}

fn broker_of(bus: &Bus) -> i32 {
    bus.broker().unwrap().cast_signed()
}

fn board(bus: &Bus) -> Board {
    identify(&bus.card("*").unwrap()).unwrap()
}

fn fill(buffer: &DmaBuffer, seed: u64) {
    let words =
        (0..SIZE / 8).flat_map(|word| (seed ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    buffer.write(0, &words.collect::<Vec<u8>>()).unwrap();
}

fn content(buffer: &DmaBuffer) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(SIZE).unwrap()];
    buffer.read(0, &mut bytes).unwrap();
    bytes
}

/// What one program does over and over, until `did` says after a round that it was enough: buffers, leases, transfers, sharing,
/// all of it checked.
pub(crate) fn work(open: impl Fn() -> Bus, number: u64, did: impl Fn() -> bool) {
    let bus = open();
    let board = board(&bus);
    // Mapped all the time, and never made anew.
    let old = bus.dma_buffer(DmaRequest::new(SIZE)).unwrap();
    fill(&old, number);
    let counter = LeaseRequest { mode: Mode::Shared, ..LeaseRequest::exclusive("counter".parse().unwrap()) };
    let own = number * SIZE * 2;
    for round in 0_u64.. {
        let fresh = board.card().dma_buffer(DmaRequest::new(SIZE)).unwrap();
        let xdma = board.xdma().unwrap();
        let h2c = xdma.h2c(0).unwrap();
        h2c.write(&old, own).unwrap();
        drop(h2c);
        let c2h = xdma.c2h(0).unwrap();
        c2h.read(&fresh, own).unwrap();
        drop(c2h);
        assert_eq!(content(&fresh), content(&old), "program {number}, round {round}");
        let name = format!("of-{number}");
        let token = bus.share(&fresh, Offer::to_writers().named(&name)).unwrap();
        let other = open();
        let attached = other.attach(&token).unwrap();
        assert_eq!(content(&attached), content(&old), "program {number}, round {round}, shared");
        bus.unshare(&fresh).unwrap();
        drop((attached, other));
        let shared = board.card().lease(counter.clone()).unwrap();
        drop(shared);
        if did() {
            break;
        }
    }
}

pub(crate) fn rounds_from_environment(default: u32) -> u32 {
    std::env::var("JITNEY_TEST_RESTARTS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// How many programs go on meanwhile: `JITNEY_TEST_PROGRAMS`, or `default`.
fn programs_from_environment(default: u64) -> u64 {
    std::env::var("JITNEY_TEST_PROGRAMS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Where the generator of moments begins: at `JITNEY_TEST_SEED`, which a failed run has printed, or anywhere.
#[expect(clippy::print_stdout, reason = "a failed test shows what it printed")]
pub(crate) fn seed() -> AtomicU32 {
    let seed = std::env::var("JITNEY_TEST_SEED").map_or(std::process::id(), |seed| seed.parse().unwrap());
    println!("the moments are those of JITNEY_TEST_SEED={seed}");
    AtomicU32::new(seed)
}

/// A small generator, so that moments differ from run to run and are known from its seed.
pub(crate) fn moment(seed: &AtomicU32) -> Duration {
    let next = seed.load(Ordering::Relaxed).wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    seed.store(next, Ordering::Relaxed);
    Duration::from_micros(u64::from(next >> 16) % 20_000)
}

#[test]
fn programs_notice_nothing_but_a_pause() {
    let scene = Scene::new();
    let (rounds, ends) = (AtomicU64::new(0), AtomicBool::new(false));
    let seed = seed();
    std::thread::scope(|scope| {
        let programs: Vec<_> = (0..programs_from_environment(4))
            .map(|number| {
                let (scene, rounds, ends) = (&scene, &rounds, &ends);
                let did = || {
                    rounds.fetch_add(1, Ordering::Relaxed);
                    ends.load(Ordering::Relaxed)
                };
                scope.spawn(move || work(|| scene.bus(), number, did))
            })
            .collect();
        for restart in 0..rounds_from_environment(30) {
            std::thread::sleep(moment(&seed));
            let before = rounds.load(Ordering::Relaxed);
            scene.end_broker(if restart % 3 == 2 { Signal::USR2 } else { Signal::KILL });
            // Somebody got on since.
            let since = Instant::now();
            while rounds.load(Ordering::Relaxed) == before && programs.iter().any(|it| !it.is_finished()) {
                assert!(since.elapsed() < LIMIT, "nobody gets on after restart {restart}");
                std::thread::yield_now();
            }
            if programs.iter().any(std::thread::ScopedJoinHandle::is_finished) {
                break;
            }
        }
        ends.store(true, Ordering::Relaxed);
        programs.into_iter().for_each(|program| program.join().unwrap());
    });
    scene.assert_nothing_left();
    scene.end();
}

/// As many as one user may have, with all that is kept of each.
#[test]
fn hundreds_of_programs_go_on() {
    // This process is all of the programs. The keeper has what a session has; who needs more has to ask for it.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let ground = Ground::new();
    let board = ground.board("nitefury --memory 64M");
    let socket = ground.path("broker.sock");
    let line = format!("broker --keep --card {} --socket {}", board.address(), socket.display());
    let mut process =
        Process::start(in_shell(&ground.jitney(line.split_whitespace()), "ulimit -Sn 1024; exec \"$@\""));
    process.wait_for_line("listening at ");
    let scene = Scene { board, keeper: support::Broker { process, socket }, ground: Swept(ground) };
    let keeper = scene.keeper.process.pid();
    let before = descriptors(keeper).len();
    let programs: Vec<_> = (0..200).map(|_| scene.bus()).collect();
    let buffers: Vec<_> = programs
        .iter()
        .map(|program| {
            let buffer = program.dma_buffer(DmaRequest::new(4096)).unwrap();
            program.share(&buffer, Offer::to_writers()).unwrap();
            buffer
        })
        .collect();
    scene.end_broker(Signal::KILL);
    for program in &programs {
        assert_eq!(program.usage().unwrap().len(), programs.len());
    }
    drop((buffers, programs));
    scene.assert_nothing_left();
    // When it was counted the keeper may not have had all of the broker's own yet; of each program there would be something.
    eventually("the keeper has something left", || match descriptors(keeper).len() {
        now if now < before + 20 => Ok(()),
        now => Err(format!("{now} descriptors, and {before} before")),
    });
    scene.end();
}

/// The keeper's copy of the ledger is made one that nobody can read, as another version's would be.
#[test]
fn books_that_nobody_can_read_are_a_new_beginning() {
    let scene = Scene::new();
    let keeper = scene.keeper.process.pid();
    let bus = scene.bus();
    let board = board(&bus);
    let _lease = board.card().lease(LeaseRequest::exclusive("h2c0".parse().unwrap())).unwrap();
    let broker = broker_of(&bus);
    signal(broker, Signal::STOP);
    let folder = std::fs::read_dir(format!("/proc/{keeper}/fd")).unwrap();
    let mut files = folder.map(|file| file.unwrap().path());
    let ledger = files
        .find(|file| std::fs::read_link(file).is_ok_and(|it| it.to_string_lossy().contains("jitney-ledger")));
    std::os::unix::fs::FileExt::write_all_at(
        &std::fs::OpenOptions::new().write(true).open(ledger.unwrap()).unwrap(),
        &[0; 8],
        0,
    )
    .unwrap();
    signal(broker, Signal::KILL);
    assert_eq!(bus.usage().unwrap_err().kind(), jitney::vfio::ErrorKind::Disconnected);
    // Who comes now is served, by the same socket, and gets what the others had.
    let other = scene.bus();
    let card = other.card("*").unwrap();
    drop(card.lease(LeaseRequest::exclusive("h2c0".parse().unwrap())).unwrap());
    scene.end_broker(Signal::KILL);
    assert_eq!(other.usage().unwrap().len(), 1);
    drop((card, other));
    scene.assert_nothing_left();
    scene.end();
}

/// Nobody would go on with what the programs have.
#[test]
fn a_broker_whose_keeper_is_gone_stays() {
    let mut scene = Scene::new();
    let bus = scene.bus();
    let broker = broker_of(&bus);
    scene.keeper.process.signal(Signal::KILL);
    eventually("the keeper does not end", || match scene.keeper.process.runs() {
        true => Err(String::new()),
        false => Ok(()),
    });
    let option = format!("broker --replace --socket {}", scene.keeper.socket.display());
    let outcome = scene.ground.0.run(&option).exits(1).complains("has ended");
    assert!(outcome.time < Duration::from_secs(10), "{outcome}");
    signal(broker, Signal::USR2);
    // The signal is heard by a thread of its own: several requests, so that it is.
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(1) {
        bus.usage().unwrap();
    }
    signal(broker, Signal::TERM);
    eventually("it does not end", || match bus.usage() {
        Ok(_) => Err("it answers".into()),
        Err(_) => Ok(()),
    });
}

/// Whoever comes while the keeper hangs waits, and is nobody that could be lost.
#[test]
fn newcomers_wait_for_a_keeper_that_hangs() {
    let scene = Scene::new();
    let broker = scene.broker();
    scene.keeper.process.signal(Signal::STOP);
    let goes_on = AtomicBool::new(false);
    // Those who wait end also if this test fails.
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    std::thread::scope(|scope| {
        let over = Over(&goes_on);
        // More than its queue has room for, and no more than a user may have.
        let programs: Vec<_> = (0..200)
            .map(|_| {
                let (scene, goes_on) = (&scene, &goes_on);
                scope.spawn(move || {
                    let bus = scene.bus();
                    while !goes_on.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    bus.usage().unwrap();
                })
            })
            .collect();
        std::thread::sleep(Duration::from_secs(3));
        signal(broker, Signal::KILL);
        scene.keeper.process.signal(Signal::CONT);
        while scene.broker() == broker {}
        drop(over);
        programs.into_iter().for_each(|program| program.join().unwrap());
    });
    scene.assert_nothing_left();
    scene.end();
}

/// `jitney broker --keep | grep -m1 listening`, or a terminal that is closed.
#[test]
fn nobody_has_to_read_what_it_prints() {
    let ground = Ground::new();
    let socket = ground.path("broker.sock");
    let line = format!("broker --emulate nitefury --keep --socket {}", socket.display());
    // What reads it ends with the first line; the shell, with the keeper.
    let mut shell =
        in_shell(&ground.jitney(line.split_whitespace()), "\"$@\" | grep -m1 listening; echo ended");
    shell.stdin(Stdio::null());
    let mut shell = Process::start(shell);
    shell.wait_for_line("listening");
    let bus = Bus::options().broker(&socket).wait(LIMIT).open_shared().unwrap();
    signal(broker_of(&bus), Signal::KILL);
    assert_eq!(bus.usage().unwrap().len(), 1);
    let keepers = ground
        .processes()
        .into_iter()
        .filter(|(_, line)| line.contains("--keep") && !line.starts_with("sh "));
    keepers.for_each(|(keeper, _)| signal(keeper, Signal::TERM));
    shell.wait().exits(0).says("ended");
}

/// A mistake in a policy is none of those who have their cards.
#[test]
fn a_broken_policy_ends_nobody() {
    let ground = Ground::new();
    let policy = ground.path("policy.toml");
    std::fs::write(&policy, "[[rule]]\nwho = [\"everybody\"]\naccess = \"shared\"\n").unwrap();
    let socket = ground.path("broker.sock");
    let (named, at) = (policy.display(), socket.display());
    let mut keeper =
        ground.start(&format!("broker --emulate nitefury --keep --policy {named} --socket {at}"));
    keeper.wait_for_line("listening at ");
    let bus = Bus::options().broker(&socket).wait(LIMIT).open_shared().unwrap();
    std::fs::write(&policy, "nonsense").unwrap();
    signal(broker_of(&bus), Signal::KILL);
    assert_eq!(bus.usage().unwrap().len(), 1);
    keeper.signal(Signal::TERM);
    keeper.wait().exits(0).complains("goes on with the policy that it had");
}

/// Programs die while there is no broker, and brokers while programs are being cleared away.
#[test]
fn the_dead_are_cleared_away_by_the_next() {
    let scene = Scene::new();
    let seed = AtomicU32::new(std::process::id());
    println!("seed {}", seed.load(Ordering::Relaxed));
    let option = scene.keeper.option();
    let line = format!("test ddr --size 256K --passes 100 --wait forever {option}");
    let mut programs = std::collections::VecDeque::new();
    for round in 0..rounds_from_environment(30) {
        programs.push_back(scene.ground.0.start(&line));
        std::thread::sleep(moment(&seed));
        if programs.len() > 4 {
            // Dropped is killed.
            programs.pop_front();
        }
        scene.end_broker(if round % 3 == 2 { Signal::USR2 } else { Signal::KILL });
    }
    drop(programs);
    scene.assert_nothing_left();
    scene.ground.0.run(&format!("test ddr --size 256K --passes 1 {option}")).exits(0);
    scene.end();
}
