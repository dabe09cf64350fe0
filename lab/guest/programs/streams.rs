//! What a board does without pause: transfers in flight, packets there and back, a capture, an interrupt line of its own logic.
//!
//! `streams MEMORY STREAMS`, with the interface from `JITNEY_IOMMU`: the addresses of a board with memory and of a loopback of
//! streams with a switch, whose user interrupt 3 comes by itself.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it tells what it does")]

use jitney::Bus;
use jitney::boards::{Board, identify};
use jitney::xdma::{C2h, H2c, Overrun, Pending, Piece};
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PAGE: u64 = 4096;
const PAGES: u64 = 200;
const PACKETS: u8 = 100;
const SOON: Option<Duration> = Some(Duration::from_secs(20));

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let outcome = match (arguments.next(), arguments.next()) {
        (Some(memory), Some(streams)) => run(&memory, &streams),
        _ => Err("streams MEMORY STREAMS".into()),
    };
    outcome.map_or_else(
        |error| {
            eprintln!("streams: {error}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn run(memory: &str, streams: &str) -> Result<()> {
    let bus = Bus::alone(&[memory.parse()?, streams.parse()?])?;
    let open = |address| -> Result<Board> { Ok(identify(&bus.card(address)?)?) };
    let (memory, streams) = (open(memory)?, open(streams)?);
    for way in ["polled", "by interrupt", "adaptive"] {
        in_flight(&bus, &memory, way)?;
        println!("{way}: {PAGES} transfers in flight, and back");
    }
    let switch = streams.stream_switch()?.lease()?;
    switch.set_routes(&[Some(1), Some(0)])?;
    packets(&bus, &streams)?;
    println!("{PACKETS} packets there and back, and as many captured");
    let mut line = streams.xdma()?.user_interrupt(3)?;
    for _ in 0..3 {
        if !line.wait(SOON)? {
            return Err("user interrupt 3 did not come".into());
        }
    }
    println!("user interrupt 3 came three times");
    Ok(())
}

/// The channels of a board, whose waits end in that way.
fn channels(board: &Board, way: &str) -> Result<(H2c, C2h)> {
    let xdma = board.xdma()?;
    let (h2c, c2h) = (xdma.h2c(0)?, xdma.c2h(0)?);
    Ok(match way {
        "by interrupt" => (h2c.by_interrupt()?, c2h.by_interrupt()?),
        "adaptive" => (h2c.adaptive()?, c2h.adaptive()?),
        _ => (h2c, c2h),
    })
}

/// Writes many pages of a buffer in a batch, last one first, and reads them back one by one.
fn in_flight(bus: &Bus, board: &Board, way: &str) -> Result<()> {
    let (h2c, c2h) = channels(board, way)?;
    let (source, target) = (bus.dma_buffer(PAGES * PAGE)?, bus.dma_buffer(PAGES * PAGE)?);
    for page in 0..PAGES {
        source.write(page * PAGE, &(page * 7 + way.len() as u64).to_le_bytes())?;
    }
    let place = |page: u64| page * PAGE..(page + 1) * PAGE;
    let pieces = (0..PAGES).rev().map(|page| Piece::new(&source, place(page), page * PAGE));
    let written = h2c.submit_batch(pieces)?;
    let cancelled = h2c.submit(&source, 0..PAGE, PAGES * PAGE)?.cancel()?;
    written.into_iter().try_for_each(|pending| pending.wait().map(drop))?;
    let read: std::result::Result<Vec<Pending>, _> =
        (0..PAGES).map(|page| c2h.submit(&target, place(page), page * PAGE)).collect();
    for (page, pending) in (0..PAGES).zip(read?) {
        pending.wait()?;
        let mut bytes = [0; 8];
        target.read(page * PAGE, &mut bytes)?;
        if u64::from_le_bytes(bytes) != page * 7 + way.len() as u64 {
            return Err(format!("page {page} reads {bytes:x?}, {way}, cancelled: {cancelled:?}").into());
        }
    }
    Ok(())
}

fn packets(bus: &Bus, board: &Board) -> Result<()> {
    let xdma = board.xdma()?;
    let (h2c, c2h) = (xdma.h2c(0)?, xdma.c2h(1)?);
    let target = bus.dma_buffer(u64::from(PACKETS) * PAGE)?;
    let armed = c2h.receive_batch(&target, (0..u64::from(PACKETS)).map(|at| at * PAGE..(at + 1) * PAGE))?;
    let bytes = |number: u8| vec![number; usize::from(number) + 1];
    for number in 0..PACKETS {
        h2c.write_bytes(&bytes(number), 0)?;
    }
    for (number, pending) in (0..PACKETS).zip(armed) {
        let (done, expected) = (pending.wait()?, bytes(number));
        let mut received = vec![0; expected.len()];
        target.read(u64::from(number) * PAGE, &mut received)?;
        if done.bytes != expected.len() as u64 || !done.ends_packet || received != expected {
            return Err(format!("packet {number} came as {done:?}").into());
        }
    }
    let mut capture = c2h.capture(128, PAGE, Overrun::Overwrite)?;
    let mut block = vec![0; capture.block_size()];
    for number in 0..PACKETS {
        h2c.write_bytes(&bytes(number), 0)?;
        let captured = capture.read(&mut block, SOON)?.ok_or("nothing was captured")?;
        if block[..captured.bytes] != bytes(number) || captured.lost > 0 {
            return Err(format!("packet {number} was captured as {captured:?}").into());
        }
    }
    Ok(())
}
