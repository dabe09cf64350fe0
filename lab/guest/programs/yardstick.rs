//! A test of a card's memory as one would write it for one card and one process: ioctls, memory of the process's own, plain loops.
//! What jitney's own tests take is measured beside it.
//!
//! `yardstick ADDRESS BYTES TIMES` writes so many bytes of the test pattern to the beginning of the memory behind channel 0 of an
//! XDMA, reads them back and compares them, so many times.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it tells what it does")]

#[expect(dead_code, reason = "it is for other programs, too")]
mod by_hand;
mod xdma_by_hand;

use by_hand::{Result, map};
use jitney_memory::{AccessError, Mapping};
use jitney_registers::{Block, RegisterSpace};
use jitney_xdma_spec::{
    ChannelControl, Descriptor, DescriptorControl, Direction, block, channel, descriptor, sgdma,
};
use std::process::ExitCode;
use xdma_by_hand::{Registers, open, xdma};

/// Where memory is mapped for the card: the descriptors, what is sent, and what is received.
const DESCRIPTORS: u64 = 16 << 20;
const SENT: u64 = 1 << 30;
const RECEIVED: u64 = 2 << 30;
/// Bytes of a descriptor's data.
const LONGEST: u64 = 8 << 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match &arguments[..] {
        [address, bytes, times] => run(address, bytes, times),
        _ => Err("yardstick ADDRESS BYTES TIMES".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("yardstick: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(address: &str, bytes: &str, times: &str) -> Result<()> {
    let (bytes, times): (u64, u64) = (bytes.parse()?, times.parse()?);
    let card = open(address)?;
    let registers = xdma(&card, address)?;
    let memory = |size: u64, iova| -> Result<Mapping> {
        let memory = Mapping::anonymous(usize::try_from(size)?)?;
        map(&card.container, &memory, iova)?;
        Ok(memory)
    };
    let (sent, received) = (memory(bytes, SENT)?, memory(bytes, RECEIVED)?);
    let descriptors = memory(4096, DESCRIPTORS)?;
    let mut word = 0;
    for time in 1..=times {
        let begun = word;
        for offset in (0..bytes).step_by(4) {
            sent.store32(offset, word)?;
            word = next(word);
        }
        transfer(&registers, &descriptors, Direction::HostToCard, bytes)?;
        transfer(&registers, &descriptors, Direction::CardToHost, bytes)?;
        let mut expected = begun;
        for offset in (0..bytes).step_by(4) {
            let found = received.load32(offset)?;
            if found != expected {
                return Err(format!("time {time}: {found:#x} at {offset:#x}, not {expected:#x}").into());
            }
            expected = next(expected);
        }
    }
    println!("{times} times {bytes} bytes match");
    Ok(())
}

/// The test pattern's next word.
fn next(word: u32) -> u32 {
    word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)
}

/// Moves all of the memory one way, and asks the channel until it has.
fn transfer(registers: &Registers, list: &Mapping, direction: Direction, bytes: u64) -> Result<()> {
    for (number, start) in (0..).zip((0..bytes).step_by(usize::try_from(LONGEST)?)) {
        let length = LONGEST.min(bytes - start);
        let last = start + length == bytes;
        let (source, destination) = match direction {
            Direction::HostToCard => (SENT + start, start),
            Direction::CardToHost => (start, RECEIVED + start),
        };
        let control = DescriptorControl::new().with_stop(last).with_completed(last);
        let at = number * descriptor::SIZE as u64;
        let next = DESCRIPTORS + at + descriptor::SIZE as u64;
        let length = u32::try_from(length)?;
        list.write(at, &Descriptor { control, length, source, destination, next }.to_bytes())?;
    }
    let sgdma = Block::new(registers, block::offset(direction.sgdma_block(), 0));
    sgdma.write_pair(sgdma::FIRST_DESCRIPTOR_LOW, sgdma::FIRST_DESCRIPTOR_HIGH, DESCRIPTORS)?;
    sgdma.write(sgdma::FIRST_DESCRIPTOR_ADJACENT, 0)?;
    let channel = Block::new(registers, block::offset(direction.channel_block(), 0));
    channel.write(
        channel::CONTROL,
        ChannelControl::report_errors(direction).with_report_descriptor_stopped(true).with_run(true),
    )?;
    let outcome = ended(&channel);
    channel.write(channel::CONTROL, ChannelControl::new())?;
    outcome
}

fn ended<S: RegisterSpace<Error = AccessError>>(channel: &Block<S>) -> Result<()> {
    loop {
        let status = channel.read(channel::STATUS)?;
        if !status.busy() {
            let is_done = status.descriptor_stopped();
            return if is_done { Ok(()) } else { Err(format!("the channel stopped: {status:?}").into()) };
        }
    }
}
