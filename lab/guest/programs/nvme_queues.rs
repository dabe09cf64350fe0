//! Processes on one NVMe, a pair of queues each, of which one is killed again and again.
//!
//! `nvme_queues BROKER kill ROUNDS TEXT` starts one that works all the time, kills ROUNDS others in the middle of their I/O, sees that each newcomer
//! has the dead one's place, has TEXT written to the block [`MARK`], and looks at last whether the controller is disabled.
//! `nvme_queues BROKER work PLACE TEXT` is one that works: it writes to its own blocks, with its own queue and vector, several commands at a
//! time, and reads them back, until its standard input ends; then it writes TEXT. The card is the NVMe (1b36:0010) of the broker at the socket
//! BROKER.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it tells what it does")]

use jitney::Bus;
use jitney::nvme::spec::registers::{CC, CSTS};
use jitney::nvme::{Controller, Namespace, QueuePair};
use jitney::vfio::{DmaBuffer, DmaRequest};
use jitney_registers::Block;
use std::error::Error;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const NVME: &str = "1b36:0010";
/// Where TEXT is written, a block.
const MARK: u64 = 100_000;
/// Bytes of each command, in turn: within a page, two pages, and lists of pages.
const SIZES: [u64; 4] = [4096, 8192, 16384, 65536];
/// Commands at a time.
const AT_ONCE: u64 = 16;
/// Blocks between two processes' places.
const PLACE: u64 = 8192;
/// What is in memory that the card was never told of.
const OWN: u8 = 0x11;
/// How long a busy machine may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        [broker, "kill", rounds, text] => kill(broker, rounds, text),
        [broker, "work", place, text] => work(broker, place, text),
        _ => Err("nvme_queues BROKER kill ROUNDS TEXT, or nvme_queues BROKER work PLACE TEXT".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nvme_queues: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One that works.
struct Worker {
    namespace: Namespace,
    queue: QueuePair,
    buffer: DmaBuffer,
    first_block: u64,
}

impl Worker {
    /// Writes all of its blocks, reads them back, and compares.
    fn round(&mut self, round: u64) -> Result<()> {
        let Self { namespace, queue, buffer, first_block } = self;
        let (half, mut at, mut pieces) = (buffer.size() / 2, 0, Vec::new());
        for size in SIZES.into_iter().cycle().take(usize::try_from(AT_ONCE)?) {
            pieces.push(at..at + size);
            at += size;
        }
        let data: Vec<u8> =
            (0..at).map(|at| ((at / 512 + *first_block) * 31 + at + round * 7).to_le_bytes()[0]).collect();
        buffer.write(0, &data)?;
        buffer.view().fill(half, usize::try_from(half)?, 0)?;
        let block = |at: u64| *first_block + at / namespace.block_size;
        let mut tokens = Vec::new();
        for piece in &pieces {
            tokens.push(queue.submit_write(namespace, block(piece.start), buffer, piece.clone())?);
        }
        for token in tokens.drain(..) {
            queue.wait(token)?;
        }
        for piece in &pieces {
            let to = half + piece.start..half + piece.end;
            tokens.push(queue.submit_read(namespace, block(piece.start), buffer, to)?);
        }
        for token in tokens.drain(..).rev() {
            queue.wait(token)?;
        }
        let mut seen = vec![0; data.len()];
        buffer.read(half, &mut seen)?;
        match seen.iter().zip(&data).position(|(seen, data)| seen != data) {
            Some(at) => {
                Err(format!("round {round}: byte {at:#x} is {:#x}, not {:#x}", seen[at], data[at]).into())
            }
            None => Ok(()),
        }
    }
}

fn work(broker: &str, place: &str, text: &str) -> Result<()> {
    let bus = Bus::options().broker(broker).open()?;
    let card = bus.card(NVME)?;
    let controller = Controller::open(Arc::clone(&card))?;
    let namespace = controller.namespace(1)?;
    // As large as what others had that are dead, and nothing that the card is told of.
    let watched = card.dma_buffer(DmaRequest::new(1 << 20))?;
    watched.view().fill(0, 1 << 20, OWN)?;
    let queue = controller.queue()?;
    let vector = queue.interrupt().ok_or("its queue has no interrupt")?.vector();
    println!("queue {} vector {vector}", queue.id());
    let buffer = card.dma_buffer(DmaRequest::new(1 << 20))?;
    let mut worker = Worker { namespace, queue, buffer, first_block: place.parse::<u64>()? * PLACE };
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        told.store(true, Ordering::Release);
    });
    let mut rounds = 0;
    while !over.load(Ordering::Acquire) {
        worker.round(rounds)?;
        rounds += 1;
        if rounds == 1 {
            println!("at work");
        }
        let mut bytes = vec![0; 1 << 20];
        watched.read(0, &mut bytes)?;
        let strange = bytes.iter().filter(|byte| **byte != OWN).count();
        if strange > 0 {
            return Err(format!("{strange} bytes of its memory are somebody else's").into());
        }
    }
    let Worker { namespace, queue, buffer, .. } = &mut worker;
    buffer.view().fill(0, 512, 0)?;
    buffer.write(0, text.as_bytes())?;
    queue.write(namespace, MARK, buffer, 0..namespace.block_size)?;
    queue.flush(namespace)?;
    println!("{rounds} rounds");
    Ok(())
}

/// A process that works, and what it says.
struct Started {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Started {
    fn new(broker: &str, place: &str, text: &str) -> Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        let piped = command.args([broker, "work", place, text]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = piped.spawn()?;
        let output = BufReader::new(child.stdout.take().ok_or("no output")?);
        Ok(Self { child, output })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        match line.is_empty() {
            true => Err(format!("a process that works has ended: {}", self.child.wait()?).into()),
            false => Ok(line.trim().to_owned()),
        }
    }
}

fn kill(broker: &str, rounds: &str, text: &str) -> Result<()> {
    let rounds: u32 = rounds.parse()?;
    // It has the card open all the time, so that nobody resets it.
    let bus = Bus::options().broker(broker).open()?;
    let card = bus.card(NVME)?;
    // The first victim enables the controller; what it made has to outlive it.
    let mut victim = Started::new(broker, "1", text)?;
    let place = victim.line()?;
    let mut steady = Started::new(broker, "2", text)?;
    let other = steady.line()?;
    if place == other {
        return Err(format!("both have {place}").into());
    }
    steady.line()?;
    for round in 0..rounds {
        victim.line()?;
        // Not always in the same state.
        std::thread::sleep(Duration::from_millis(u64::from(round * 37 % 50)));
        victim.child.kill()?;
        let pid = victim.child.id();
        victim.child.wait()?;
        let since = Instant::now();
        while bus.usage()?.iter().any(|other| other.pid == Some(pid)) {
            if since.elapsed() > PATIENCE {
                return Err("the broker does not let go of what the dead one had".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        victim = Started::new(broker, "1", text)?;
        let got = victim.line()?;
        if got != place {
            return Err(format!("the newcomer has {got}, not the dead one's {place}").into());
        }
        if let Some(status) = steady.child.try_wait()? {
            return Err(format!("the other one has ended: {status}").into());
        }
    }
    victim.line()?;
    for one in [&mut victim, &mut steady] {
        drop(one.child.stdin.take());
        let said = one.line()?;
        let status = one.child.wait()?;
        if !status.success() {
            return Err(format!("one that works has failed: {status}").into());
        }
        println!("{said}");
    }
    let registers = Block::new(card.bar(0)?, 0);
    let (configuration, status) = (registers.read(CC)?, registers.read(CSTS)?);
    if configuration.enable() || status.ready() {
        return Err(format!("the controller is still enabled: {configuration:?}, {status:?}").into());
    }

    // The last one is killed as well, and nobody is left.
    let mut last = Started::new(broker, "1", text)?;
    last.line()?;
    last.line()?;
    if !registers.read(CSTS)?.ready() {
        return Err("the controller is not enabled while it is used".into());
    }
    last.child.kill()?;
    last.child.wait()?;
    let since = Instant::now();
    while registers.read(CC)?.enable() || registers.read(CSTS)?.ready() {
        if since.elapsed() > PATIENCE {
            return Err("nobody has disabled the controller of who was killed last".into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    println!(
        "{rounds} were killed in the middle of I/O, the other one went on, and the controller is disabled"
    );
    Ok(())
}
