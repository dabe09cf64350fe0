//! A broker that is killed, and replaced, again and again, under programs that go on: nobody of them notices more than a pause,
//! and every byte is right.

#![expect(clippy::unwrap_used, reason = "in tests, where a panic is the failure")]

use jitney::Bus;
use jitney::boards::{Board, identify};
use jitney::broker::Offer;
use jitney::vfio::{DmaBuffer, DmaRequest, LeaseRequest, Mode};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);
const SIZE: u64 = 64 << 10;

/// A process of the command, which ends with this.
struct Process(Child);

impl Process {
    /// Starts it, and waits until it says `text`.
    fn start(folder: &Path, line: &str, text: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jitney"));
        command.args(line.split_whitespace()).env("XDG_RUNTIME_DIR", folder).stdout(Stdio::piped());
        let mut process = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains(text)), "{line}");
        // What it says later is of no interest, but it has to have somewhere to say it.
        std::thread::spawn(move || lines.for_each(drop));
        Self(process)
    }

    /// How many DMA buffers it has open or mapped.
    fn buffers(&self) -> usize {
        let folder = PathBuf::from(format!("/proc/{}", self.0.id()));
        let links = std::fs::read_dir(folder.join("fd")).unwrap();
        let targets = links.filter_map(|link| std::fs::read_link(link.ok()?.path()).ok());
        let open = targets.filter(|target| target.to_string_lossy().contains("jitney-dma")).count();
        let maps = std::fs::read_to_string(folder.join("maps")).unwrap();
        open + maps.lines().filter(|line| line.contains("jitney-dma")).count()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A broker goes on without its keeper, and would have this test's output open.
        let pid = self.0.id();
        let children =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|child| Pid::from_raw(child.parse().ok()?)) {
            let _ = kill_process(child, Signal::KILL);
        }
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An emulated board, and a broker that is kept.
struct Scene {
    folder: TempDir,
    board: Process,
    keeper: Process,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("again-").tempdir_in("/tmp").unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let line = format!("emulate nitefury --memory 64M --with-parent --socket {}", path("board"));
        let board = Process::start(folder.path(), &line, "serving");
        let line = format!("broker --keep --card {} --socket {}", path("board"), path("broker"));
        let keeper = Process::start(folder.path(), &line, "listening");
        Self { folder, board, keeper }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("broker")
    }

    fn bus(&self) -> Bus {
        Bus::options().broker(self.socket()).wait(LIMIT).open_shared().unwrap()
    }

    /// Nobody has left anything behind, with the broker or with the board.
    fn assert_nothing_left(&self) {
        let bus = self.bus();
        let since = Instant::now();
        loop {
            let usage = bus.usage().unwrap();
            let others =
                usage.iter().filter(|it| it.buffers > 0 || !it.leases.is_empty() || !it.cards.is_empty());
            let others: Vec<_> = others.collect();
            let mapped = self.board.buffers();
            if others.is_empty() && mapped == 0 {
                return;
            }
            assert!(since.elapsed() < LIMIT, "{mapped} buffers are mapped, and there is still {others:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends the broker as somebody would who needs it no more.
    fn end(self) {
        let keeper = Pid::from_raw(self.keeper.0.id().try_into().unwrap()).unwrap();
        kill_process(keeper, Signal::TERM).unwrap();
        let Self { folder, board: _board, mut keeper } = self;
        assert!(keeper.0.wait().unwrap().success());
        assert!(!folder.path().join("broker").exists(), "the socket is still there");
    }

    /// The broker's process, for as long as it is that.
    fn broker(&self) -> u32 {
        self.bus().broker().unwrap()
    }

    /// Ends the broker by `signal`, and waits until there is another.
    fn end_broker(&self, signal: Signal) {
        let before = self.broker();
        kill_process(Pid::from_raw(before.try_into().unwrap()).unwrap(), signal).unwrap();
        let since = Instant::now();
        while self.broker() == before {
            assert!(since.elapsed() < LIMIT, "no other broker");
        }
    }
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

/// What one program does over and over: buffers, leases, transfers, sharing, all of it checked.
fn work(scene: &Scene, number: u64, rounds: &AtomicU64, ends: &AtomicBool) {
    let bus = scene.bus();
    let board = board(&bus);
    // Mapped all the time, and never made anew.
    let old = bus.dma_buffer(DmaRequest::new(SIZE)).unwrap();
    fill(&old, number);
    let counter = LeaseRequest { mode: Mode::Shared, ..LeaseRequest::exclusive("counter".parse().unwrap()) };
    let own = number * SIZE * 2;
    let mut round = 0;
    while !ends.load(Ordering::Relaxed) {
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
        let other = scene.bus();
        let attached = other.attach(&token).unwrap();
        assert_eq!(content(&attached), content(&old), "program {number}, round {round}, shared");
        bus.unshare(&fresh).unwrap();
        drop((attached, other));
        let shared = board.card().lease(counter.clone()).unwrap();
        drop(shared);
        rounds.fetch_add(1, Ordering::Relaxed);
        round += 1;
    }
}

fn rounds_from_environment(default: u32) -> u32 {
    std::env::var("JITNEY_TEST_RESTARTS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A small generator, so that moments differ from run to run and are known from its seed.
fn moment(seed: &AtomicU32) -> Duration {
    let next = seed.load(Ordering::Relaxed).wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    seed.store(next, Ordering::Relaxed);
    Duration::from_micros(u64::from(next >> 16) % 20_000)
}

#[test]
fn programs_notice_nothing_but_a_pause() {
    let scene = Scene::new();
    let (rounds, ends) = (AtomicU64::new(0), AtomicBool::new(false));
    let seed = AtomicU32::new(std::process::id());
    println!("seed {}", seed.load(Ordering::Relaxed));
    std::thread::scope(|scope| {
        let programs: Vec<_> = (0..4)
            .map(|number| {
                let (scene, rounds, ends) = (&scene, &rounds, &ends);
                scope.spawn(move || work(scene, number, rounds, ends))
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

/// The descriptors that a process has open.
fn open_files(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count()
}

/// Waits until `done`, but not for ever.
fn soon(what: &str, mut done: impl FnMut() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < LIMIT, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn signal(process: u32, signal: Signal) {
    kill_process(Pid::from_raw(process.try_into().unwrap()).unwrap(), signal).unwrap();
}

/// As many as one user may have, with all that is kept of each.
#[test]
fn hundreds_of_programs_go_on() {
    // As a session has it; who needs more has to ask for it.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(1024), ..limit }).unwrap();
    let scene = Scene::new();
    let before = open_files(scene.keeper.0.id());
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
    soon("the keeper has something left", || open_files(scene.keeper.0.id()) < before + 20);
    scene.end();
}

/// The keeper's copy of the ledger is made one that nobody can read, as another version's would be.
#[test]
fn books_that_nobody_can_read_are_a_new_beginning() {
    let scene = Scene::new();
    let keeper = scene.keeper.0.id();
    let bus = scene.bus();
    let board = board(&bus);
    let _lease = board.card().lease(LeaseRequest::exclusive("h2c0".parse().unwrap())).unwrap();
    let broker = bus.broker().unwrap();
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
    let broker = bus.broker().unwrap();
    scene.keeper.0.kill().unwrap();
    scene.keeper.0.wait().unwrap();
    signal(broker, Signal::USR2);
    // The signal is heard by a thread of its own: several requests, so that it is.
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(1) {
        bus.usage().unwrap();
    }
    signal(broker, Signal::TERM);
    soon("it does not end", || bus.usage().is_err());
}

/// `jitney broker --keep | grep -m1 listening`, or a terminal that is closed.
#[test]
fn nobody_has_to_read_what_it_prints() {
    let folder = tempfile::Builder::new().prefix("again-").tempdir_in("/tmp").unwrap();
    let socket = folder.path().join("broker");
    let mut command = Command::new(env!("CARGO_BIN_EXE_jitney"));
    command.args(["broker", "--emulate", "nitefury", "--keep", "--socket"]).arg(&socket);
    command.env("XDG_RUNTIME_DIR", folder.path()).stdout(Stdio::piped());
    let mut keeper = Process(command.spawn().unwrap());
    let mut lines = BufReader::new(keeper.0.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("listening")));
    drop(lines);
    let bus = Bus::options().broker(&socket).wait(LIMIT).open_shared().unwrap();
    signal(bus.broker().unwrap(), Signal::KILL);
    assert_eq!(bus.usage().unwrap().len(), 1);
    signal(keeper.0.id(), Signal::TERM);
    keeper.0.wait().unwrap();
}

/// A mistake in a policy is none of those who have their cards.
#[test]
fn a_broken_policy_ends_nobody() {
    let folder = tempfile::Builder::new().prefix("again-").tempdir_in("/tmp").unwrap();
    let policy = folder.path().join("policy.toml");
    std::fs::write(&policy, "[[rule]]\nwho = [\"everybody\"]\naccess = \"shared\"\n").unwrap();
    let socket = folder.path().join("broker");
    let line = format!(
        "broker --emulate nitefury --keep --policy {} --socket {}",
        policy.display(),
        socket.display()
    );
    let mut keeper = Process::start(folder.path(), &line, "listening");
    let bus = Bus::options().broker(&socket).wait(LIMIT).open_shared().unwrap();
    std::fs::write(&policy, "nonsense").unwrap();
    signal(bus.broker().unwrap(), Signal::KILL);
    assert_eq!(bus.usage().unwrap().len(), 1);
    signal(keeper.0.id(), Signal::TERM);
    assert!(keeper.0.wait().unwrap().success());
}

/// Programs die while there is no broker, and brokers while programs are being cleared away.
#[test]
fn the_dead_are_cleared_away_by_the_next() {
    let scene = Scene::new();
    let seed = AtomicU32::new(std::process::id());
    println!("seed {}", seed.load(Ordering::Relaxed));
    let option = format!("--broker {}", scene.socket().display());
    let line = format!("test ddr --size 256K --passes 100 --wait forever {option}");
    let mut programs = std::collections::VecDeque::new();
    for round in 0..rounds_from_environment(30) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jitney"));
        command.args(line.split_whitespace()).stdout(Stdio::null()).stderr(Stdio::null());
        programs.push_back(Process(command.spawn().unwrap()));
        std::thread::sleep(moment(&seed));
        if programs.len() > 4 {
            // Dropped is killed.
            programs.pop_front();
        }
        scene.end_broker(if round % 3 == 2 { Signal::USR2 } else { Signal::KILL });
    }
    drop(programs);
    scene.assert_nothing_left();
    let outcome = Command::new(env!("CARGO_BIN_EXE_jitney"))
        .args(format!("test ddr --size 256K --passes 1 {option}").split_whitespace())
        .stdout(Stdio::null())
        .status();
    assert!(outcome.unwrap().success());
    scene.end();
}
