//! Completion by interrupt on emulated boards, over vfio-user: alone, and in several processes under a broker.

#![expect(clippy::unwrap_used, reason = "in tests, where a panic is the failure")]

use jitney::Bus;
use jitney::vfio::CardAddress;
use jitney::xdma::Xdma;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SIZE: u64 = 64 << 10;
/// A wait that no interrupt ends lasts at least as long.
const LOOK: Duration = Duration::from_millis(50);
/// The board with two channels in each direction.
const TWO_AND_TWO: &str = "nitefury-dma-ddr3";

/// What `one_of_two_processes` is told: its channel, how often, and where to meet the other one.
const CHANNEL: &str = "JITNEY_TEST_CHANNEL";
const TRANSFERS: &str = "JITNEY_TEST_TRANSFERS";
const MEETING: &str = "JITNEY_TEST_MEETING";

/// A process that is ended with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder for sockets, and the processes that listen at them.
struct Ground {
    folder: TempDir,
    processes: Vec<Process>,
}

impl Drop for Ground {
    /// The broker ends before its board.
    fn drop(&mut self) {
        while self.processes.pop().is_some() {}
    }
}

impl Ground {
    /// An emulated board; `board` may have options.
    fn with(board: &str) -> Self {
        let mut ground = Self { folder: tempfile::tempdir_in("/tmp").unwrap(), processes: Vec::new() };
        let socket = ground.path("board");
        ground.serve(&format!("emulate {board} --with-parent --socket {}", socket.display()), "serving");
        ground
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts `jitney` with these words and waits for a line with `ready` in it.
    fn serve(&mut self, words: &str, ready: &str) {
        let mut command = jitney(words);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains(ready)), "{words}");
        self.processes.push(Process(child));
    }

    fn address(&self) -> CardAddress {
        CardAddress::VfioUser(self.path("board"))
    }

    /// The board's XDMA, and the bus that owns the board.
    fn alone(&self) -> (Bus, Xdma) {
        let bus = Bus::alone(&[self.address()]).unwrap();
        let xdma = xdma(&bus);
        (bus, xdma)
    }

    /// Starts a broker of the board and returns its socket.
    fn broker(&mut self) -> PathBuf {
        let socket = self.path("broker");
        let words = format!("broker --card {} --socket {}", self.address(), socket.display());
        self.serve(&words, "listening at");
        socket
    }

    /// Starts `one_of_two_processes` in a process of its own.
    fn start_one(&self, broker: &Path, channel: u8, transfers: u64) -> Process {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "one_of_two_processes", "--ignored"])
            .env("JITNEY_BROKER", broker)
            .env(CHANNEL, channel.to_string())
            .env(TRANSFERS, transfers.to_string())
            .env(MEETING, self.folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Process(child)
    }
}

fn jitney(words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jitney"));
    command.args(words.split_whitespace());
    command
}

fn xdma(bus: &Bus) -> Xdma {
    jitney::boards::identify(&bus.card("*").unwrap()).unwrap().xdma().unwrap()
}

/// Writes and reads some memory by interrupt, `transfers` times each way, and compares.
fn transfer(bus: &Bus, xdma: &Xdma, channel: u8, transfers: u64) {
    let h2c = xdma.h2c(channel).unwrap().by_interrupt().unwrap();
    let c2h = xdma.c2h(channel).unwrap().by_interrupt().unwrap();
    let (sent, received) = (bus.dma_buffer(SIZE).unwrap(), bus.dma_buffer(SIZE).unwrap());
    let base = u64::from(channel) * SIZE;
    let (mut bytes, mut read) = (vec![0; usize::try_from(SIZE).unwrap()], Vec::new());
    let mut time = Duration::ZERO;
    for number in 0..transfers {
        let seed = number * 8 + u64::from(channel);
        for (place, byte) in (seed..).zip(&mut bytes) {
            *byte = u8::try_from(place % 251).unwrap();
        }
        sent.write(0, &bytes).unwrap();
        time += h2c.write(&sent, base).unwrap().duration;
        time += c2h.read(&received, base).unwrap().duration;
        read.resize(bytes.len(), 0);
        received.read(0, &mut read).unwrap();
        assert!(read == bytes, "transfer {number}");
    }
    // Also on a machine that has much else to do.
    let by_looks = LOOK * u32::try_from(2 * transfers).unwrap();
    assert!(time < by_looks / 2, "{transfers} transfers each way took {time:?}: was it by interrupt?");
}

#[test]
fn both_directions_by_msi_x_and_by_msi() {
    for kind in ["msix", "msi"] {
        let ground = Ground::with(&format!("{TWO_AND_TWO} --interrupts {kind}"));
        let (bus, xdma) = ground.alone();
        transfer(&bus, &xdma, 0, 50);
        transfer(&bus, &xdma, 1, 50);
    }
}

#[test]
fn the_interrupt_line_of_a_board_without_messages_alone_and_for_a_client() {
    let mut ground = Ground::with("nitefury --interrupts intx");
    one_channel_by_line(&ground.alone().0);
    let broker = ground.broker();
    one_channel_by_line(&Bus::options().broker(broker).open().unwrap());
}

/// The line is one vector, so one channel has it; the other is polled.
fn one_channel_by_line(bus: &Bus) {
    let xdma = xdma(bus);
    let (h2c, c2h) = (xdma.h2c(0).unwrap(), xdma.c2h(0).unwrap().by_vector(0).unwrap());
    assert!(xdma.h2c(0).is_err() && xdma.card().interrupt(1).is_err());
    let (sent, received) = (bus.dma_buffer(SIZE).unwrap(), bus.dma_buffer(SIZE).unwrap());
    let mut time = Duration::ZERO;
    for round in 0..50 {
        sent.write(0, &[round; 100]).unwrap();
        h2c.write(&sent, 0).unwrap();
        time += c2h.read(&received, 0).unwrap().duration;
        let mut bytes = [0; 100];
        received.read(0, &mut bytes).unwrap();
        assert_eq!(bytes, [round; 100]);
    }
    // A line that stayed masked would end each transfer after the first by a look.
    assert!(time < 25 * LOOK, "50 transfers took {time:?}: was it by interrupt?");
    // In an event loop, which rearms only what has been attended to.
    let read = c2h.submit(&received, 0..SIZE, 0).unwrap();
    while read.poll().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn both_directions_at_once_in_one_process() {
    let ground = Ground::with("nitefury");
    let (bus, xdma) = ground.alone();
    let (h2c, c2h) =
        (xdma.h2c(0).unwrap().by_interrupt().unwrap(), xdma.c2h(0).unwrap().by_interrupt().unwrap());
    let (sent, received) = (bus.dma_buffer(SIZE).unwrap(), bus.dma_buffer(SIZE).unwrap());
    let mut bytes = vec![0xa5; usize::try_from(SIZE).unwrap()];
    sent.write(0, &bytes).unwrap();
    for _ in 0..50 {
        let write = h2c.submit(&sent, 0..SIZE, 0).unwrap();
        let read = c2h.submit(&received, 0..SIZE, SIZE).unwrap();
        read.wait().unwrap();
        write.wait().unwrap();
    }
    c2h.read(&received, 0).unwrap();
    bytes.fill(0);
    received.read(0, &mut bytes).unwrap();
    assert!(bytes.iter().all(|&byte| byte == 0xa5));
}

#[test]
fn a_lost_interrupt_costs_a_look_and_nothing_else() {
    // So slow that nobody finds it done when the wait begins.
    let ground = Ground::with("nitefury --link 4M --fault lost-interrupt@1");
    let (bus, xdma) = ground.alone();
    let h2c = xdma.h2c(0).unwrap().by_interrupt().unwrap();
    let buffer = bus.dma_buffer(SIZE).unwrap();
    let first = h2c.write(&buffer, 0).unwrap();
    assert!(first.bytes == SIZE && first.duration >= LOOK, "{first:?}");
    drop(h2c);
    transfer(&bus, &xdma, 0, 50);
}

#[test]
fn a_card_without_interrupts_says_to_poll_instead() {
    let mut ground = Ground::with("nitefury --interrupts none");
    let says = |xdma: &Xdma| {
        let error = xdma.h2c(0).unwrap().by_interrupt().unwrap_err().to_string();
        assert!(error.contains("has no interrupts; poll"), "{error}");
        xdma.h2c(0).unwrap();
    };
    let (bus, alone) = ground.alone();
    says(&alone);
    drop((bus, alone));
    let broker = ground.broker();
    says(&xdma(&Bus::options().broker(broker).open().unwrap()));
}

#[test]
fn two_processes_at_once_under_a_broker() {
    let mut ground = Ground::with(TWO_AND_TWO);
    let broker = ground.broker();
    let both = [0, 1].map(|channel| ground.start_one(&broker, channel, 200));
    for mut process in both {
        assert!(process.0.wait().unwrap().success());
    }
}

#[test]
fn what_a_killed_process_had_is_silent_and_free() {
    let mut ground = Ground::with(TWO_AND_TWO);
    let broker = ground.broker();
    // Who keeps the card open keeps it from being reset, so that the wills have to do it.
    let bus = Bus::options().broker(&broker).open().unwrap();
    let xdma = xdma(&bus);
    let registers = xdma.card().bar(xdma.bar()).unwrap();
    let enabled = || registers.read32(0x2010).unwrap();
    let (killed, mut other) =
        (ground.start_one(&broker, 0, u64::from(u32::MAX) / 4), ground.start_one(&broker, 1, 200));
    eventually("four channels interrupt", || enabled() == 0b1111);
    drop(killed);
    eventually("those of channels 0 are silent", || enabled() & 0b0101 == 0);
    transfer(&bus, &xdma, 0, 50);
    assert!(other.0.wait().unwrap().success(), "and the other process noticed nothing");
}

#[test]
fn the_command_tests_and_times_by_interrupt() {
    let ground = Ground::with("nitefury");
    let options = format!("--completion interrupt --card {}", ground.address());
    let output = jitney(&format!("test ddr --size 8M --passes 2 {options}")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let ground = Ground::with("tef1001-dma-blkram --interrupts msix");
    let options = format!("--completion interrupt --card {}", ground.address());
    let output = jitney(&format!("time blkram --transfers 20 {options}")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    // As the true card, which cannot.
    let ground = Ground::with("tef1001-dma-blkram");
    let options = format!("--completion interrupt --card {}", ground.address());
    let output = jitney(&format!("time blkram --transfers 20 {options}")).output().unwrap();
    assert!(
        !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("poll"),
        "{output:?}"
    );
}

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
#[ignore = "other tests start it in processes of its own"]
fn one_of_two_processes() {
    let told = |name| std::env::var(name).unwrap();
    let channel = told(CHANNEL).parse().unwrap();
    let meeting = PathBuf::from(told(MEETING));
    let bus = Bus::open().unwrap();
    let xdma = xdma(&bus);
    std::fs::write(meeting.join(format!("here{channel}")), "").unwrap();
    eventually("two are here", || [0, 1].iter().all(|other| meeting.join(format!("here{other}")).exists()));
    transfer(&bus, &xdma, channel, told(TRANSFERS).parse().unwrap());
}
