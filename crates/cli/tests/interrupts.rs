//! Completion by interrupt on emulated boards, over vfio-user: alone, and in several processes under a broker.

#![expect(clippy::unwrap_used, reason = "in tests, where a panic is the failure")]

use jitney::Bus;
use jitney::vfio::{CardAddress, DmaBuffer};
use jitney::xdma::{Channel, Pending, Xdma};
use rustix::event::{PollFd, PollFlags, Timespec};
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

/// One channel has it, the other is polled.
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

/// Waits in one of the ways that there are; `turn` chooses.
fn wait(turn: u64, pending: Pending) {
    match turn % 3 {
        0 => {
            pending.wait().unwrap();
        }
        1 => while pending.wait_for(Duration::from_micros(turn % 500)).unwrap().is_none() {},
        _ => {
            while pending.poll().unwrap().is_none() {
                let mut event = [PollFd::from_borrowed_fd(pending.event().unwrap(), PollFlags::IN)];
                let left = Timespec { tv_sec: 20, tv_nsec: 0 };
                assert_eq!(rustix::event::poll(&mut event, Some(&left)).unwrap(), 1, "an interrupt was lost");
            }
        }
    }
}

/// Transfers of a channel of random lengths, a few at a time, at `base` of the card's memory; the longest of them, with the
/// wait for it.
fn at_random<D>(
    channel: &Channel<D>,
    buffer: &DmaBuffer,
    base: u64,
    transfers: u32,
    mut dice: impl FnMut() -> u64,
) -> Vec<Duration> {
    let mut times = Vec::new();
    for _ in 0..transfers {
        let submitted = Instant::now();
        let lengths: Vec<_> = (0..1 + dice() % 3).map(|_| 1 + dice() % buffer.size()).collect();
        let waiting: Vec<_> =
            lengths.iter().map(|length| channel.submit(buffer, 0..*length, base).unwrap()).collect();
        waiting.into_iter().for_each(|pending| wait(dice(), pending));
        times.push(submitted.elapsed());
    }
    times
}

/// Numbers that look random, the same for a seed.
fn dice(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    }
}

/// All channels of a board on one vector, with transfers on each at once; then one less, and so on.
fn all_on_one_vector(bus: &Bus, seed: u64, by_one_vector: bool) {
    const TRANSFERS: u32 = 100;
    let xdma = xdma(bus);
    let pair = |channel: u8| {
        let (h2c, c2h) = (xdma.h2c(channel).unwrap(), xdma.c2h(channel).unwrap());
        match by_one_vector {
            true => (h2c.by_vector(0).unwrap(), c2h.by_vector(0).unwrap()),
            false => (h2c.by_interrupt().unwrap(), c2h.by_interrupt().unwrap()),
        }
    };
    let mut pairs: Vec<_> = [0, 1].map(pair).into();
    while !pairs.is_empty() {
        let times = std::thread::scope(|scope| {
            let mut users = Vec::new();
            for (number, (h2c, c2h)) in (0..).zip(&pairs) {
                let (sent, received) = (bus.dma_buffer(SIZE).unwrap(), bus.dma_buffer(SIZE).unwrap());
                let base = number * 2 * SIZE;
                users.push(scope.spawn(move || at_random(h2c, &sent, base, TRANSFERS, dice(seed + number))));
                users.push(scope.spawn(move || {
                    at_random(c2h, &received, base + SIZE, TRANSFERS, dice(seed + 100 + number))
                }));
            }
            users.into_iter().flat_map(|user| user.join().unwrap()).collect::<Vec<_>>()
        });
        // A machine that has much else to do may hold some up; of interrupts that are lost there would be many.
        let slow = times.iter().filter(|time| **time >= LOOK).count();
        assert!(slow * 20 <= times.len(), "{slow} of {} took as long as a look: {seed}", times.len());
        // In the middle of whatever the other direction is about.
        let (h2c, c2h) = pairs.pop().unwrap();
        let buffer = bus.dma_buffer(SIZE).unwrap();
        let write = h2c.submit(&buffer, 0..SIZE, 0).unwrap();
        drop((c2h.submit(&buffer, 0..SIZE, SIZE).unwrap(), c2h));
        write.wait().unwrap();
    }
}

#[test]
fn four_channels_share_the_interrupt_line_or_one_message_and_none_is_lost() {
    for (kind, by_one_vector) in [("intx", false), ("msi", true), ("msix", true)] {
        let mut ground = Ground::with(&format!("{TWO_AND_TWO} --interrupts {kind}"));
        all_on_one_vector(&ground.alone().0, 1, by_one_vector);
        let broker = ground.broker();
        all_on_one_vector(&Bus::options().broker(broker).open().unwrap(), 2, by_one_vector);
    }
}

#[test]
fn the_channels_of_two_processes_do_not_share_a_vector() {
    let mut ground = Ground::with(&format!("{TWO_AND_TWO} --interrupts intx"));
    let broker = ground.broker();
    let [first, second] = [(); 2].map(|()| Bus::options().broker(&broker).open().unwrap());
    let (first, second) = (xdma(&first), xdma(&second));
    let pair = (first.h2c(0).unwrap().by_interrupt().unwrap(), first.c2h(0).unwrap().by_interrupt().unwrap());
    let error = second.h2c(1).unwrap().by_interrupt().unwrap_err().to_string();
    for text in ["h2c1 of ", "irq0 is held by", "of one process share a vector", "wait without an interrupt"]
    {
        assert!(error.contains(text), "{error}");
    }
    // As it says.
    let polled = second.h2c(1).unwrap();
    drop(pair);
    polled.by_interrupt().unwrap();
}

#[test]
fn a_user_interrupt_shares_the_interrupt_line_with_channels() {
    let ground = Ground::with("nitefury --interrupts intx --user-interrupt 3@2ms");
    let (bus, xdma) = ground.alone();
    let mut line = xdma.user_interrupt(3).unwrap();
    std::thread::scope(|scope| {
        let heard = scope.spawn(move || {
            (0..50).for_each(|_| assert!(line.wait(Some(Duration::from_secs(20))).unwrap()));
        });
        transfer(&bus, &xdma, 0, 100);
        heard.join().unwrap();
    });
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
