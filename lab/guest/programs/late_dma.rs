//! A card whose DMA comes 100 ms after it was told to start, and cannot be stopped: QEMU's edu (docs/specs/edu.rst). A client
//! starts a transfer to its memory and is killed at once; another one then asks for memory of the same size.
//!
//! `late_dma BROKER watch ROUNDS plain|will` counts the bytes in the second one's memory that it did not write, and fails if
//! there is one. With `will` the dead one has left a will that waits until the engine is idle. `late_dma BROKER die
//! plain|will` is the client that is killed. The card is the edu (1234:11e8) of the broker at the socket BROKER.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it tells what it does")]

use jitney::Bus;
use jitney::vfio::{Card, DmaBuffer, DmaRequest, LeaseRequest, Region, Will, WillStep};
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const EDU: &str = "1234:11e8";
/// Registers of BAR 0, by offset in bytes.
const DMA_SOURCE: u64 = 0x80;
const DMA_DESTINATION: u64 = 0x88;
const DMA_COUNT: u64 = 0x90;
const DMA_COMMAND: u64 = 0x98;
/// Bits of DMA_COMMAND.
const START: u32 = 1 << 0;
const TO_HOST: u32 = 1 << 1;
/// The card's own memory, as its DMA engine sees it.
const CARD_MEMORY: u64 = 0x4_0000;
const SIZE: usize = 4096;
/// Its DMA engine has 28 address bits.
const TOP: u64 = (1 << 28) - 1;
/// What is in the card's memory, and what the one who watches writes to its own.
const CARD: u8 = 0xcd;
const OWN: u8 = 0x11;
/// How long a busy machine may take.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        [broker, "watch", rounds, how] => watch(broker, rounds, how),
        [broker, "die", how] => die(broker, how),
        _ => Err("late_dma BROKER watch ROUNDS plain|will, or late_dma BROKER die plain|will".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("late_dma: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A broker's client, and the card.
struct Client {
    bus: Bus,
    card: Arc<dyn Card>,
    registers: Region,
}

impl Client {
    fn of(broker: &str) -> Result<Self> {
        let bus = Bus::options().broker(broker).open()?;
        let card = bus.card(EDU)?;
        let registers = card.bar(0)?;
        Ok(Self { bus, card, registers })
    }

    fn buffer(&self) -> Result<DmaBuffer> {
        Ok(self.card.dma_buffer(DmaRequest::new(SIZE as u64).below(TOP))?)
    }

    fn start(&self, from: u64, to: u64, direction: u32) -> Result<()> {
        for (register, value) in [(DMA_SOURCE, from), (DMA_DESTINATION, to), (DMA_COUNT, SIZE as u64)] {
            self.registers.write32(register, u32::try_from(value)?)?;
        }
        Ok(self.registers.write32(DMA_COMMAND, START | direction)?)
    }

    fn is_busy(&self) -> Result<bool> {
        Ok(self.registers.read32(DMA_COMMAND)? & START != 0)
    }

    fn wait_until_idle(&self) -> Result<()> {
        let since = Instant::now();
        while self.is_busy()? {
            if since.elapsed() > PATIENCE {
                return Err("the engine does not end".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

fn die(broker: &str, how: &str) -> Result<()> {
    let client = Client::of(broker)?;
    let idle = WillStep::WaitUntil { bar: 0, offset: DMA_COMMAND, mask: START, value: 0, within_ms: 2000 };
    let will = match how {
        "will" => Will(vec![idle]),
        "plain" => Will::none(),
        other => return Err(format!("{other} is neither plain nor will").into()),
    };
    let _lease = client.card.lease(LeaseRequest::exclusive("engine".parse()?).with_will(will))?;
    let buffer = client.buffer()?;
    client.start(CARD_MEMORY, buffer.iova(), TO_HOST)?;
    println!("{:#x}", buffer.iova());
    loop {
        std::thread::park();
    }
}

/// The innocent one. It has the card all the time, so that nobody resets it.
fn watch(broker: &str, rounds: &str, how: &str) -> Result<()> {
    let rounds: u32 = rounds.parse()?;
    let client = Client::of(broker)?;
    let first = client.buffer()?;
    first.write(0, &[CARD; SIZE])?;
    client.start(first.iova(), CARD_MEMORY, 0)?;
    client.wait_until_idle()?;
    first.free()?;

    let (mut strange, mut during, mut again) = (0, 0, 0);
    for _ in 0..rounds {
        let dead = kill_one(&client, broker, how)?;
        let own = client.buffer()?;
        own.write(0, &[OWN; SIZE])?;
        during += u32::from(client.is_busy()?);
        again += u32::from(format!("{:#x}", own.iova()) == dead);
        client.wait_until_idle()?;
        let mut bytes = [0; SIZE];
        own.read(0, &mut bytes)?;
        strange += bytes.iter().filter(|byte| **byte != OWN).count();
        own.free()?;
    }
    println!(
        "{strange} bytes that nobody wrote, in {rounds} rounds with {how}; in {during} the card was still at it, in {again} the \
         address was the dead one's"
    );
    if strange > 0 {
        return Err("a dead client's card wrote to another client's memory".into());
    }
    // A broker that waits for the card before it lets go has nothing to show here.
    if how == "plain" && during < rounds / 4 {
        return Err("the card was hardly ever at it, so this has shown nothing".into());
    }
    Ok(())
}

/// Kills a client whose transfer has just begun, and waits until the broker has taken back what it had. What it printed: its
/// memory's address.
fn kill_one(client: &Client, broker: &str, how: &str) -> Result<String> {
    let mut command = Command::new("/proc/self/exe");
    let mut child = command.args([broker, "die", how]).stdout(Stdio::piped()).spawn()?;
    let mut iova = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut iova)?;
    child.kill()?;
    let pid = child.id();
    child.wait()?;
    let since = Instant::now();
    while client.bus.usage()?.iter().any(|other| other.pid == Some(pid)) {
        if since.elapsed() > PATIENCE {
            return Err("the broker does not let go of what the dead client had".into());
        }
    }
    Ok(iova.trim().to_owned())
}
