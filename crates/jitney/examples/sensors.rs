//! What a board measures of itself, whichever part of it does: XADC, SYSMON, or an Alveo's card management.
//!
//!   cargo run --release -- run --emulate nitefury -- target/release/examples/sensors

#![expect(clippy::print_stdout, reason = "it is a program")]

use jitney::prelude::*;

fn main() -> anyhow::Result<()> {
    let bus = Bus::open()?;
    for card in bus.open_cards()? {
        let board = identify(&card)?;
        for monitor in board.monitors()? {
            for reading in monitor.readings()? {
                println!("{} {}: {} {}", board.name(), monitor.name(), reading.name, reading.now);
            }
        }
    }
    Ok(())
}
