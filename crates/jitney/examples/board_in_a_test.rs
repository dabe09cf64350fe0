//! A whole emulated board within the process, for tests of programs that use one: no socket, no other process, no root.
//!
//!   cargo run --features emulator --example board_in_a_test

#![expect(clippy::print_stdout, reason = "it is a program")]

use jitney::boards::Catalogue;
use jitney::emulated::EmulatedCard;
use jitney::emulated::emulator::boards::Board;
use jitney::prelude::*;

fn main() -> anyhow::Result<()> {
    let board = Board::named(&Catalogue::built_in(), "nitefury")?;
    let emulated = EmulatedCard::new(&board)?;
    let card = emulated.card();
    let xdma = identify(&card)?.xdma()?;
    xdma.h2c(0)?.write_bytes(b"through the whole stack", 0x1000)?;
    let mut text = [0; 23];
    xdma.c2h(0)?.read_bytes(&mut text, 0x1000)?;
    println!("{}", String::from_utf8_lossy(&text));
    Ok(())
}
