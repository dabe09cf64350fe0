//! One transfer of several pieces: from two buffers to three places on the card.
//!
//!   cargo run --release -- run --emulate nitefury -- target/release/examples/gather

#![expect(clippy::print_stdout, reason = "it is a program")]

use jitney::prelude::*;

fn main() -> anyhow::Result<()> {
    let bus = Bus::open()?;
    let xdma = identify(&bus.card("*")?)?.xdma()?;
    let (h2c, c2h) = (xdma.h2c(0)?, xdma.c2h(0)?);
    let (head, body) = (bus.dma_buffer(4096)?, bus.dma_buffer(1 << 20)?);
    head.write(0, b"head")?;
    body.write(0, b"one")?;
    body.write(0x8000, b"two")?;

    let pieces = [
        Piece::new(&head, 0..4, 0x0),
        Piece::new(&body, 0..3, 0x1000),
        Piece::new(&body, 0x8000..0x8003, 0x2000),
    ];
    let done = h2c.submit_pieces(pieces)?.wait()?;

    let mut words = [[0; 4], [0; 4], [0; 4]];
    for (place, word) in [0x0, 0x1000, 0x2000].into_iter().zip(&mut words) {
        c2h.read_bytes(&mut word[..], place)?;
    }
    let words = words.map(|word| String::from_utf8_lossy(&word).trim_end_matches('\0').to_owned());
    println!("{} bytes in one transfer: {}", done.bytes, words.join(", "));
    Ok(())
}
