//! A card whose DMA engine has 28 address bits, beside boards that have 64, all in one address space: memory for it is given
//! addresses that it reaches, by its owner and through a broker.
//!
//! `narrow_card BROKER` is a client of the broker at that socket, `narrow_card` owns the cards that it finds. The card is QEMU's
//! edu, whose engine drops the address bits that it has not.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it tells what it does")]

use jitney::Bus;
use jitney::vfio::{DmaBuffer, DmaRequest, Region};
use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The highest addresses that cards reach with 28 and 32 bits.
const TOPS: [u64; 2] = [(1 << 28) - 1, u32::MAX as u64];
const BYTES: u32 = 4096;

/// Registers of BAR 0, by offset in bytes; QEMU's docs/specs/edu.rst.
const SOURCE: u64 = 0x80;
const DESTINATION: u64 = 0x88;
const COUNT: u64 = 0x90;
const COMMAND: u64 = 0x98;
const START: u32 = 0b01;
const TO_HOST: u32 = 0b10;
const CARD_MEMORY: u64 = 0x4_0000;

const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("narrow_card: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let bus = match std::env::args().nth(1) {
        Some(broker) => Bus::options().broker(broker).open()?,
        None => Bus::open()?,
    };
    // A broker lets the card do DMA only as long as somebody has it.
    let card = bus.card("1234:11e8")?;
    let registers = card.bar(0)?;
    let anywhere = bus.dma_buffer(u64::from(BYTES))?;
    check(anywhere.iova() > TOPS[1], &format!("a buffer for any card is at {:#x}", anywhere.iova()))?;
    for top in TOPS {
        let buffer = bus.dma_buffer(DmaRequest::new(u64::from(BYTES)).below(top))?;
        println!("below {top:#x}: {:#x}", buffer.iova());
        check(buffer.iova() + u64::from(BYTES) - 1 <= top, "a buffer is above its limit")?;
        if top == TOPS[0] {
            there_and_back(&registers, &buffer)?;
        }
    }
    Ok(())
}

fn there_and_back(registers: &Region, buffer: &DmaBuffer) -> Result<()> {
    let sent = *b"twenty-eight";
    buffer.write(0, &sent)?;
    transfer(registers, buffer.iova(), CARD_MEMORY, START)?;
    buffer.write(0, &[0; 12])?;
    transfer(registers, CARD_MEMORY, buffer.iova(), START | TO_HOST)?;
    let mut received = [0; 12];
    buffer.read(0, &mut received)?;
    check(received == sent, &format!("{received:x?} came back"))
}

fn transfer(registers: &Region, source: u64, destination: u64, command: u32) -> Result<()> {
    registers.write32(SOURCE, u32::try_from(source)?)?;
    registers.write32(DESTINATION, u32::try_from(destination)?)?;
    registers.write32(COUNT, BYTES)?;
    registers.write32(COMMAND, command)?;
    let since = Instant::now();
    while registers.read32(COMMAND)? & START != 0 {
        check(since.elapsed() < PATIENCE, "the DMA engine does not stop")?;
    }
    Ok(())
}

fn check(holds: bool, otherwise: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}
