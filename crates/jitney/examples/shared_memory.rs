//! One program hands a DMA buffer to another by a token: both see the same memory, and so does the card.
//!
//!   cargo run --release -- run --emulate nitefury -- target/release/examples/shared_memory

#![expect(clippy::print_stdout, reason = "it is a program")]

use anyhow::Context;
use jitney::broker::{Offer, Token};
use jitney::prelude::*;
use std::process::Command;

fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1) {
        Some(token) => other(token.parse::<Token>().ok().context("a token")?),
        None => maker(),
    }
}

fn maker() -> anyhow::Result<()> {
    let bus = Bus::open()?;
    let c2h = identify(&bus.card("*")?)?.xdma()?.c2h(0)?;
    let buffer = bus.dma_buffer(1 << 20)?;
    let token = bus.share(&buffer, Offer::to_readers())?;
    // The card writes into it, and the other program, which has no channel, reads it.
    c2h.read(&buffer, 0)?;
    buffer.write(0, b"from the maker")?;
    let status = Command::new(std::env::current_exe()?).arg(token.to_string()).status()?;
    anyhow::ensure!(status.success(), "the other program ended with {status}");
    Ok(())
}

fn other(token: Token) -> anyhow::Result<()> {
    let view = Bus::open()?.view(&token)?;
    let mut text = [0; 14];
    view.read(0, &mut text)?;
    println!("{} bytes shared: {}", view.size(), String::from_utf8_lossy(&text));
    Ok(())
}
