//! Every design of the catalogue that has an XDMA, driven by two processes at once under a broker.

use crate::support::{Ground, LIMIT, Process};
use jitney::Bus;
use jitney::boards::{Board, Catalogue, Design, DmaIp, Kind, Memory, designs::Stream, identify};
use jitney::vfio::{DmaBuffer, ErrorKind};
use jitney::xdma::{C2h, Direction, Error, H2c};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What `one_of_two_clients` is told: which of the two it is, where it meets the other, and what it has to find.
const NUMBER: &str = "JITNEY_TEST_NUMBER";
const MEETING: &str = "JITNEY_TEST_MEETING";
const DESIGN: &str = "JITNEY_TEST_DESIGN";

/// Boards that are driven at once: while one starts another one's clients work.
const AT_ONCE: usize = 3;
/// Bytes written and read at once.
const PART: u64 = 0x4_0000;
const PACKETS: u8 = 50;
const ROUNDS: u8 = 4;

fn with_xdma() -> Vec<Arc<Design>> {
    let catalogue = Catalogue::built_in();
    catalogue
        .designs()
        .filter(|design| design.dma.is_some_and(|dma| dma.ip == DmaIp::Xdma))
        .cloned()
        .collect()
}

#[test]
fn every_design_is_driven_by_two_processes_at_once() {
    let designs = with_xdma();
    assert!(designs.len() >= 37, "{}", designs.len());
    let left = Mutex::new(designs);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(design) = { left.lock().unwrap().pop() } {
                    by_two_processes(&design);
                }
            });
        }
    });
}

fn by_two_processes(design: &Design) {
    let ground = Ground::new();
    let socket = ground.path("broker.sock");
    let mut broker = ground.start(&format!("broker --emulate {} --socket {}", design.name, socket.display()));
    broker.wait_for_line("listening at ");
    let meeting = ground.path("meeting");
    let listener = UnixListener::bind(&meeting).unwrap();
    let mut clients = [0, 1].map(|number| client(&ground, design, number, &socket));
    // Neither begins before both are there. One that has ended without coming says why.
    listener.set_nonblocking(true).unwrap();
    let mut here = Vec::new();
    let since = Instant::now();
    while here.len() < clients.len() && clients.iter_mut().all(Process::runs) {
        assert!(since.elapsed() < LIMIT, "{}: {} of two clients have come", design.name, here.len());
        match listener.accept() {
            Ok((stream, _)) => here.push(stream),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    for mut client in here {
        // It may have ended, which is said below.
        let _ = client.write_all(b"!");
    }
    for client in clients {
        client.wait().exits(0).says("1 passed");
    }
    broker.signal(rustix::process::Signal::TERM);
    broker.wait().exits(0);
}

/// `one_of_two_clients` in a process of its own.
fn client(ground: &Ground, design: &Design, number: u8, broker: &Path) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "every_design::one_of_two_clients", "--ignored"])
        .env("XDG_RUNTIME_DIR", ground.path("run"))
        .env("JITNEY_BROKER", broker)
        .env(NUMBER, number.to_string())
        .env(MEETING, ground.path("meeting"))
        .env(DESIGN, &design.name)
        .stdin(Stdio::null());
    Process::start(command)
}

#[test]
#[ignore = "another test starts it in processes of its own"]
fn one_of_two_clients() {
    let told = |name| std::env::var(name).unwrap();
    let number = told(NUMBER).parse().unwrap();
    let bus = Bus::open().unwrap();
    let board = identify(&bus.card("*").unwrap()).unwrap();
    assert_eq!(board.design().name, told(DESIGN));
    let dma = board.design().dma.unwrap();
    let client = Client { bus: &bus, board: &board, number };
    if dma.stream == Some(Stream::Crossed) {
        client.route();
    }
    let mut meeting = UnixStream::connect(told(MEETING)).unwrap();
    meeting.read_exact(&mut [0]).unwrap();
    client.look_around();
    match (dma.has_streams(), dma.stream) {
        (false, _) => board.memories().iter().for_each(|memory| client.own_half(*memory)),
        (true, Some(Stream::Loopback)) => client.there_and_back(|channel| channel),
        (true, Some(Stream::Crossed)) => client.there_and_back(|channel| channel ^ 1),
        (true, Some(Stream::Crc64)) => client.checksums(),
        (true, Some(Stream::FixedData)) => client.constants(),
        (true, Some(Stream::None) | None) => client.silence(),
    }
    client.look_around();
}

/// One of the two programs.
struct Client<'a> {
    bus: &'a Bus,
    board: &'a Board,
    number: u8,
}

impl Client<'_> {
    /// What `jitney info` and `jitney test general` look at.
    fn look_around(&self) {
        let board = self.board;
        assert_eq!(board.summary().design, board.design().name);
        for frame in board.peripherals() {
            frame.unwrap();
        }
        let has = |kind| board.peripheral(kind, 0).is_ok();
        let is_warm = |celsius: f64| assert!((20.0..70.0).contains(&celsius), "{celsius}");
        if has(Kind::Xadc) {
            is_warm(board.xadc().unwrap().readings().unwrap().temperature.now);
        }
        if has(Kind::Sysmon) {
            let dies = board.sysmon().unwrap().readings().unwrap();
            dies.iter().for_each(|die| is_warm(die.temperature.now));
        }
        if has(Kind::UserAccess) {
            assert!((1..=12).contains(&board.user_access().unwrap().build_timestamp().unwrap().month()));
        }
        if has(Kind::DdrStatus) {
            assert!(board.ddr_status().unwrap().state().unwrap().is_ready());
        }
    }

    fn channels(&self, direction: Direction) -> u8 {
        u8::try_from(self.board.xdma().unwrap().channels(direction).len()).unwrap()
    }

    /// Whether this program sleeps until the interrupt comes: the second does, where the card can interrupt.
    fn sleeps(&self) -> bool {
        self.number == 1 && self.board.design().interrupts.as_ref().is_none_or(|kinds| !kinds.is_empty())
    }

    /// This program's own channel, or the only one there is, when its turn has come.
    fn h2c(&self) -> H2c {
        let channel = self.number % self.channels(Direction::HostToCard);
        let leased = in_turn(|| self.board.xdma().unwrap().h2c(channel));
        if self.sleeps() { leased.by_interrupt().unwrap() } else { leased }
    }

    fn c2h(&self, channel: u8) -> C2h {
        let channel = channel % self.channels(Direction::CardToHost);
        let leased = in_turn(|| self.board.xdma().unwrap().c2h(channel));
        if self.sleeps() { leased.by_interrupt().unwrap() } else { leased }
    }

    fn bytes(&self, seed: u8, length: u64) -> Vec<u8> {
        let seed = u64::from(seed) * 2 + u64::from(self.number);
        (0..length).map(|at| u8::try_from((at * 7 + at / 251 + seed * 13) % 256).unwrap()).collect()
    }

    /// Writes this program's half of a memory, or both ends of it, reads it back and compares.
    fn own_half(&self, memory: Memory) {
        let half = memory.size / 2;
        let base = memory.base + u64::from(self.number) * half;
        let mut parts: Vec<_> =
            (0..half.div_ceil(PART)).map(|part| part * PART..half.min((part + 1) * PART)).collect();
        if parts.len() > 8 {
            // The middle of a gigabyte is like its ends.
            parts.drain(4..parts.len() - 4);
        }
        let (sent, received) = (self.bus.dma_buffer(PART).unwrap(), self.bus.dma_buffer(PART).unwrap());
        let numbered = |round| (round * 8..).zip(&parts);
        // Each is leased anew, so that both programs have their turns where there is one channel.
        for round in 0..ROUNDS {
            for (seed, part) in numbered(round) {
                let length = part.end - part.start;
                sent.write(0, &self.bytes(seed, length)).unwrap();
                self.h2c().write_range(&sent, 0..length, base + part.start).unwrap();
            }
            for (seed, part) in numbered(round) {
                let length = part.end - part.start;
                self.c2h(self.number).read_range(&received, 0..length, base + part.start).unwrap();
                let read = contents(&received, length);
                assert!(
                    read == self.bytes(seed, length),
                    "{part:#x?} of the half at {base:#x}, round {round}"
                );
            }
        }
    }

    /// Has the switch, if there is one, route each H2C channel to the C2H one of the other number. Both programs do.
    fn route(&self) {
        let Ok(switch) = self.board.stream_switch() else { return };
        let routes: Vec<_> = (0..switch.ports()).map(|port| Some(port ^ 1)).collect();
        let leased = loop {
            match switch.clone().lease() {
                Ok(leased) => break leased,
                Err(error) => assert!(error.to_string().contains("is held by"), "{error}"),
            }
            std::thread::yield_now();
        };
        if leased.switch().routes().unwrap() != routes {
            leased.set_routes(&routes).unwrap();
        }
    }

    /// Packets to the C2H channel that `end` says.
    fn there_and_back(&self, end: impl Fn(u8) -> u8) {
        let (h2c, c2h) = (self.h2c(), self.c2h(end(self.number)));
        let target = self.bus.dma_buffer(0x1000).unwrap();
        for seed in 0..PACKETS {
            let packet = self.bytes(seed, 1 + u64::from(seed) * 211 % 0x1000);
            let pending = c2h.receive(&target, 0..0x1000).unwrap();
            h2c.write_bytes(&packet, 0).unwrap();
            let done = pending.wait().unwrap();
            assert_eq!((done.bytes, done.ends_packet), (packet.len() as u64, true));
            assert!(contents(&target, done.bytes) == packet, "packet {seed}");
        }
    }

    fn checksums(&self) {
        let (h2c, c2h) = (self.h2c(), self.c2h(self.number));
        let target = self.bus.dma_buffer(0x1000).unwrap();
        let checksum = |seed| {
            let pending = c2h.receive(&target, 0..0x1000).unwrap();
            h2c.write_bytes(&self.bytes(seed, 64 * (1 + u64::from(seed))), 0).unwrap();
            assert_eq!(pending.wait().unwrap().bytes, 8);
            contents(&target, 8)
        };
        for seed in 0..PACKETS {
            let first = checksum(seed);
            assert_ne!(first, checksum(seed + 1));
            assert_eq!(first, checksum(seed), "the other program's packets are none of this one's");
        }
    }

    fn constants(&self) {
        let (h2c, c2h) = (self.h2c(), self.c2h(self.number));
        let target = self.bus.dma_buffer(0x1000).unwrap();
        let constant = || {
            assert_eq!(c2h.receive(&target, 0..0x1000).unwrap().wait().unwrap().bytes, 0x1000);
            contents(&target, 0x1000)
        };
        let first = constant();
        for seed in 0..PACKETS {
            h2c.write_bytes(&self.bytes(seed, 0x800), 0).unwrap();
            assert!(constant() == first);
        }
    }

    /// Ethernet without a cable: nothing comes, and what is armed is given up.
    fn silence(&self) {
        let target = self.bus.dma_buffer(0x1000).unwrap();
        for _ in 0..PACKETS {
            let c2h = self.c2h(self.number);
            assert!(c2h.receive(&target, 0..0x1000).unwrap().cancel().unwrap().is_none());
        }
    }
}

/// What `lease` gives when nobody else has it any more.
fn in_turn<T>(lease: impl Fn() -> Result<T, Error>) -> T {
    let since = Instant::now();
    loop {
        match lease() {
            Ok(leased) => return leased,
            Err(Error::Card(error)) if error.kind() == ErrorKind::Held && since.elapsed() < LIMIT => {
                std::thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn contents(buffer: &DmaBuffer, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(length).unwrap()];
    buffer.read(0, &mut bytes).unwrap();
    bytes
}
