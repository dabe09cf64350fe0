//! Many small transfers at once: the engine never waits for the program.
//!
//!   cargo build --release --examples
//!   cargo run --release -- run --emulate nitefury -- target/release/examples/many_in_flight

#![expect(clippy::print_stdout, reason = "it is a program")]

use jitney::prelude::*;
use std::time::Instant;

const PAGE: u64 = 4096;
const TRANSFERS: u64 = 1024;

fn main() -> anyhow::Result<()> {
    let bus = Bus::open()?;
    let board = identify(&bus.card("*")?)?;
    let h2c = board.xdma()?.h2c(0)?;
    let buffer = bus.dma_buffer(TRANSFERS * PAGE)?;

    let one_by_one = Instant::now();
    for number in 0..TRANSFERS {
        h2c.write_range(&buffer, number * PAGE..(number + 1) * PAGE, number * PAGE)?;
    }
    let one_by_one = one_by_one.elapsed();

    let at_once = Instant::now();
    // Each handle waits, is asked (`poll`), is awaited or is cancelled. Those that do not fit yet go to the engine when others are done.
    let pending = (0..TRANSFERS)
        .map(|number| h2c.submit(&buffer, number * PAGE..(number + 1) * PAGE, number * PAGE))
        .collect::<Result<Vec<_>, _>>()?;
    for one in pending {
        one.wait()?;
    }
    println!("{TRANSFERS} transfers of 4 KiB: {one_by_one:?} one by one, {:?} in flight", at_once.elapsed());
    Ok(())
}
