//! Clients of a broker whose transfers never end by themselves, and what the broker makes of their death.
//!
//! `endless_dma BROKER run` runs one until it is killed. `endless_dma BROKER kill ROUNDS` kills that many and looks at each
//! one's channel, memory and addresses. `endless_dma BROKER look` prints the channel's registers, `endless_dma BROKER reset`
//! resets the card. The card is the board 10ee:7011 of the broker at the socket BROKER.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it tells what it does")]

mod endless;

use endless::{BYTES, Engine, State, descriptor, stopping};
use jitney::Bus;
use jitney::vfio::{Card, LeaseRequest, Region, Will, WillStep};
use jitney::xdma::Xdma;
use std::collections::HashSet;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const BOARD: &str = "10ee:7011";
/// How long a busy machine may take.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        [broker, "run"] => run(broker),
        [broker, "kill", rounds] => kill(broker, rounds),
        [broker, "look"] => look(broker),
        [broker, "reset"] => reset(broker),
        _ => Err("endless_dma BROKER run|kill ROUNDS|look|reset".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("endless_dma: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A broker's client, the board and the channel.
struct Client {
    bus: Bus,
    card: Arc<dyn Card>,
    bar: u8,
    engine: Engine<Region>,
}

impl Client {
    fn of(broker: &str) -> Result<Self> {
        let bus = Bus::options().broker(broker).open()?;
        let card = bus.card(BOARD)?;
        let bar = Xdma::find(&*card)?.ok_or("the card has no XDMA")?;
        let engine = Engine(card.bar(bar)?);
        Ok(Self { bus, card, bar: u8::try_from(bar)?, engine })
    }

    /// Waits until the channel is as it should be.
    fn wait_for(&self, what: &str, is_so: impl Fn(&State) -> bool) -> Result<State> {
        let since = Instant::now();
        loop {
            let state = self.engine.state()?;
            if is_so(&state) {
                return Ok(state);
            }
            if since.elapsed() > PATIENCE {
                return Err(format!("the channel did not {what}: {state}").into());
            }
        }
    }
}

fn run(broker: &str) -> Result<()> {
    let client = Client::of(broker)?;
    let (offset, value) = stopping();
    let will = Will(vec![WillStep::write(client.bar, offset, value)]);
    let _lease = client.card.lease(LeaseRequest::exclusive("h2c0".parse()?).with_will(will))?;
    let memory = client.bus.dma_buffer(BYTES)?;
    memory.write(0, &descriptor(memory.iova()))?;
    client.engine.start(memory.iova())?;
    println!("{:#x}", memory.iova());
    loop {
        std::thread::park();
    }
}

/// Kills clients in the middle of their transfers. This one has the card, too, so that it is not reset between them: what
/// stops the channel is the dead client's will.
fn kill(broker: &str, rounds: &str) -> Result<()> {
    let watcher = Client::of(broker)?;
    let broker_process = watcher.bus.broker().ok_or("no broker")?;
    let (rounds, before) = (rounds.parse::<u32>()?, pinned(broker_process)?);
    let mut given = HashSet::new();
    for round in 1..=rounds {
        let mut command = Command::new("/proc/self/exe");
        let mut child = command.args([broker, "run"]).stdout(Stdio::piped()).spawn()?;
        let mut iova = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut iova)?;
        let begun = watcher.engine.state()?;
        watcher.wait_for("run", |now| now.run && now.busy && now.completed != begun.completed)?;
        if pinned(broker_process)? < before + BYTES / 1024 {
            return Err("the client's memory is not pinned".into());
        }
        child.kill()?;
        child.wait()?;

        let stopped = watcher.wait_for("stop", |now| !now.run && !now.busy)?;
        let since = Instant::now();
        while pinned(broker_process)? != before {
            if since.elapsed() > PATIENCE {
                return Err(format!("{} KiB are pinned, {before} were", pinned(broker_process)?).into());
            }
        }
        if watcher.engine.state()?.completed != stopped.completed {
            return Err(format!("the channel goes on after round {round}").into());
        }
        // Nobody is given an address again that the channel may still be told to go to.
        if !given.insert(iova.clone()) {
            return Err(format!("round {round} was given {iova}, as one before").into());
        }
    }
    println!("{rounds} clients were killed in the middle of a transfer, and nothing of them is left");
    Ok(())
}

fn look(broker: &str) -> Result<()> {
    println!("{}", Client::of(broker)?.engine.state()?);
    Ok(())
}

fn reset(broker: &str) -> Result<()> {
    Ok(Client::of(broker)?.card.reset()?)
}

/// How much memory a process has locked and pinned, in KiB: type1 counts as locked, iommufd as pinned.
fn pinned(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let lines = status.lines().filter(|line| line.starts_with("VmLck:") || line.starts_with("VmPin:"));
    let kib = lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    Ok(kib.sum())
}
