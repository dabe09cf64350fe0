//! A user's own program: write a pattern to a board's memory by DMA and read it back.
//!
//! Alone, on an emulated board:
//!   cargo run --release -- emulate nitefury --socket /tmp/nf.sock &
//!   JITNEY_CARDS=vfio-user:/tmp/nf.sock cargo run --release --example first_program
//! Beside another program, on the same board:
//!   cargo build --release --examples
//!   cargo run --release -- run --emulate nitefury target/release/examples/first_program "jitney test general"

#![expect(clippy::print_stdout, reason = "it is a program")]

use jitney::prelude::*;

fn main() -> anyhow::Result<()> {
    let bus = Bus::open()?; // alone, or under a broker: same code
    let card = bus.card("10ee:7011")?; // by vendor:device, or by address
    let board = identify(&card)?;
    println!("{} at {}", board.name(), card.identity());

    let xdma = board.xdma()?;
    let h2c = xdma.h2c(0)?; // leases the channel, and leaves a will that stops it
    let c2h = xdma.c2h(0)?;
    let sent = bus.dma_buffer(1 << 20)?;
    let received = bus.dma_buffer(1 << 20)?;

    sent.write(0, b"hello, card")?;
    let done = h2c.write(&sent, 0x1000)?; // to card address 0x1000
    c2h.read(&received, 0x1000)?;

    let mut text = [0; 11];
    received.read(0, &mut text)?;
    println!("{} bytes in {:?}: {:?}", done.bytes, done.duration, String::from_utf8_lossy(&text));
    Ok(())
}
