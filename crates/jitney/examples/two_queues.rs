//! Two programs share an NVMe drive, a pair of queues each. **It overwrites blocks of the drive**: never use the one that your files are on.
//!
//! ```text
//! jitney bind 0000:01:00.0                                       the drive leaves the kernel's driver
//! jitney run --card 0000:01:00.0 -p "two_queues 0" -p "two_queues 4096"
//! ```
//!
//! Each writes 2048 blocks from the one that it was told on, eight commands at a time, and reads them back. Kill one of them: the other goes
//! on. The last to end disables the controller, also if it is killed.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it tells what it does")]

use jitney::nvme::Controller;
use jitney::prelude::*;
use std::process::ExitCode;
use std::sync::Arc;

/// NVMe, whoever made it: base class, sub-class and programming interface.
const NVME: u32 = 0x01_0802;
const AT_ONCE: u64 = 8;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("two_queues: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let first_block: u64 = std::env::args().nth(1).ok_or("two_queues FIRST_BLOCK")?.parse()?;
    // Alone, or under a broker.
    let bus = Bus::open()?;
    let drive =
        bus.cards().into_iter().find(|card| card.class == NVME).ok_or("there is no NVMe drive on the bus")?;
    let card = bus.card(&drive.address)?;

    // Enables the controller, or joins the program that has.
    let controller = Controller::open(Arc::clone(&card))?;
    let namespace = controller.namespace(1)?;
    let mut queue = controller.queue()?;
    println!("{} as queue {} of {}", controller.identity().model, queue.id(), controller.pairs());

    let size = 2048 * namespace.block_size / AT_ONCE;
    let size = size.min(controller.most_bytes());
    let buffer = card.dma_buffer((2 * AT_ONCE * size).into())?;
    let data: Vec<u8> = (0..AT_ONCE * size).map(|at| (at / 509 + first_block).to_le_bytes()[0]).collect();
    buffer.write(0, &data)?;

    let block = |piece: u64| first_block + piece * size / namespace.block_size;
    let writes: Vec<_> = (0..AT_ONCE)
        .map(|piece| queue.submit_write(&namespace, block(piece), &buffer, piece * size..(piece + 1) * size))
        .collect::<Result<_, _>>()?;
    for write in writes {
        queue.wait(write)?;
    }
    // What was written is there after a loss of power, too.
    queue.flush(&namespace)?;
    let half = AT_ONCE * size;
    let reads: Vec<_> = (0..AT_ONCE)
        .map(|piece| {
            queue.submit_read(
                &namespace,
                block(piece),
                &buffer,
                half + piece * size..half + (piece + 1) * size,
            )
        })
        .collect::<Result<_, _>>()?;
    for read in reads {
        queue.wait(read)?;
    }
    let mut seen = vec![0; data.len()];
    buffer.read(half, &mut seen)?;
    println!(
        "blocks {first_block} to {}: {}",
        block(AT_ONCE) - 1,
        if seen == data { "right" } else { "wrong" }
    );
    Ok(())
}
