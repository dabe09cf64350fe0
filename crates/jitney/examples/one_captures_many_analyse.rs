//! One process captures a stream, others look at it: nobody copies between them, and who is too slow holds up nobody.
//!
//!   jitney run --emulate NiteFury_dma_stream_loopback -- one_captures_many_analyse [READERS [BLOCKS [RING [stop-one]]]]
//!
//! It starts itself as each of the readers. What it captures it has sent itself: the board's stream is a loop.

#![expect(clippy::print_stdout, reason = "it is a program")]

use anyhow::{Context, bail, ensure};
use jitney::broker::{Offer, Token};
use jitney::prelude::*;
use jitney::ring::{Next, Reader, Receiving, Shape};
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);
const BLOCK: u32 = 64 << 10;

fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    match words.next().as_deref() {
        Some("analyse") => analyse(),
        readers => {
            let readers = readers.unwrap_or("2").parse().context("how many readers?")?;
            let blocks =
                words.next().map_or(Ok(2000), |blocks| blocks.parse()).context("how many blocks?")?;
            // As many as come while a reader is not given a processor.
            let ring =
                words.next().map_or(Ok(64), |ring| ring.parse()).context("how many blocks has the ring?")?;
            capture(readers, blocks, ring, words.next().is_some())
        }
    }
}

fn capture(readers: usize, blocks: u64, ring: u32, stop_one: bool) -> anyhow::Result<()> {
    let bus = Bus::open()?;
    let card = bus.open_cards()?.into_iter().next().context("there is no card")?;
    let board = identify(&card)?;
    if let Ok(switch) = board.stream_switch() {
        let routes: Vec<_> = (0..switch.ports()).map(Some).collect();
        switch.lease()?.set_routes(&routes)?;
    }
    let xdma = board.xdma()?;
    let shape = Shape::new(ring, BLOCK)?;
    let buffer = card.dma_buffer(shape.request())?;
    let mut stream = Receiving::start(xdma.c2h(0)?, &buffer, shape)?;
    let token = bus.share(&buffer, Offer::to_readers())?;
    let children: Vec<_> = (0..readers).map(|_| Analyser::start(&token)).collect::<anyhow::Result<_>>()?;
    if let Some(child) = children.first().filter(|_| stop_one) {
        child.signal("STOP")?;
    }

    let source = xdma.h2c(0)?;
    let feed = bus.dma_buffer(u64::from(BLOCK))?;
    let began = Instant::now();
    std::thread::scope(|scope| {
        let fed = scope.spawn(|| send(&source, &feed, blocks));
        while stream.published().blocks < blocks {
            ensure!(stream.publish(SOON)? > 0, "nothing came for {SOON:?}");
        }
        fed.join().unwrap_or_else(|_| bail!("the source panicked"))
    })?;
    let (done, time) = (stream.published(), began.elapsed());
    if let Some(child) = children.first().filter(|_| stop_one) {
        child.signal("CONT")?;
    }
    // The readers hear that there will be no more.
    drop(stream);
    println!("captured {} blocks, {} bytes, in {time:?}", done.blocks, done.bytes);
    children.into_iter().try_for_each(Analyser::end)
}

/// Sends packets of one block each, which begin with their number.
fn send(channel: &H2c, buffer: &jitney::vfio::DmaBuffer, blocks: u64) -> anyhow::Result<()> {
    for number in 0..blocks {
        buffer.write(0, &number.to_le_bytes())?;
        buffer.write(u64::from(BLOCK) - 8, &number.to_le_bytes())?;
        channel.write(buffer, 0)?;
    }
    Ok(())
}

/// A reader in a process of its own.
struct Analyser {
    child: Child,
    says: BufReader<ChildStdout>,
}

impl Analyser {
    /// Starts one, and waits until it looks.
    fn start(token: &Token) -> anyhow::Result<Self> {
        // Not as an argument: those everybody can read.
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("analyse").env("RING_TOKEN", token.to_string()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let says = BufReader::new(child.stdout.take().context("it has no output")?);
        let mut this = Self { child, says };
        let mut line = String::new();
        this.says.read_line(&mut line)?;
        ensure!(line.starts_with("ready"), "a reader said {line:?}");
        Ok(this)
    }

    fn signal(&self, name: &str) -> anyhow::Result<()> {
        let status = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status()?;
        ensure!(status.success(), "kill -{name} failed");
        Ok(())
    }

    fn end(mut self) -> anyhow::Result<()> {
        let mut line = String::new();
        self.says.read_line(&mut line)?;
        print!("reader {}: {line}", self.child.id());
        let status = self.child.wait()?;
        ensure!(status.success(), "a reader ended with {status}");
        Ok(())
    }
}

fn analyse() -> anyhow::Result<()> {
    let bus = Bus::open()?;
    let token: Token = std::env::var("RING_TOKEN").context("RING_TOKEN")?.parse()?;
    let mut reader = Reader::new(bus.view(&token)?)?;
    println!("ready");
    let mut bytes = vec![0; reader.shape().block_size()];
    let mut right = 0_u64;
    loop {
        match reader.next(SOON)? {
            Next::Block(mut block) => {
                let (number, length) = (block.number(), block.len());
                match block.read(0, &mut bytes[..length]) {
                    Ok(()) => {}
                    // It is among the lost.
                    Err(error) if error.is_overrun() => continue,
                    Err(error) => return Err(error.into()),
                }
                let ends = [&bytes[..8], &bytes[length - 8..length]];
                ensure!(ends.iter().all(|end| **end == number.to_le_bytes()), "block {number} is not right");
                right += 1;
            }
            Next::Nothing => bail!("nothing came for {SOON:?}"),
            Next::Ended(_) => break,
        }
    }
    let lost = reader.lost();
    println!("{right} blocks right, {} lost with {} bytes", lost.blocks, lost.bytes);
    Ok(())
}
