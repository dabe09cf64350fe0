//! A driver that gives a card addresses which are not mapped: the IOMMU refuses. Of a read the driver hears, and the channel works
//! again afterwards; a write is posted, and nobody hears that it was lost.
//!
//! `stray_dma ADDRESS`, with the interface from `JITNEY_IOMMU`. The card is a board with an XDMA and memory at address 0.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it tells what it does")]

use jitney::Bus;
use jitney::vfio::{DmaBuffer, DmaPlace, Handed, Keeper};
use jitney::xdma::{self, Xdma};
use jitney_memory::{Memfd, PageSize};
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const BYTES: u64 = 4096;
/// Far below what the allocator gives first.
const NOT_MAPPED: u64 = 0x1234_5000;
const MARK: [u8; 4] = *b"mark";

/// Takes back what nobody handed out.
struct Nobody;

impl Keeper for Nobody {
    fn take_back(&self, _: Handed) -> jitney::vfio::Result<()> {
        Ok(())
    }
}

fn main() -> ExitCode {
    let outcome =
        std::env::args().nth(1).ok_or_else(|| "stray_dma ADDRESS".into()).and_then(|card| run(&card));
    outcome.map_or_else(
        |error| {
            eprintln!("stray_dma: {error}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn run(address: &str) -> Result<()> {
    let bus = Bus::alone(&[address.parse()?])?;
    let card = bus.card(address)?;
    let bar = Xdma::find(&*card)?.ok_or("the card has no XDMA")?;
    let xdma = Xdma::identify(card, bar)?;
    let (h2c, c2h) = (xdma.h2c(0)?, xdma.c2h(0)?);
    let good = bus.dma_buffer(BYTES)?;
    let place = DmaPlace { iova: NOT_MAPPED, size: BYTES };
    let stray = DmaBuffer::new(Memfd::create("stray", BYTES, PageSize::Normal)?, place, Arc::new(Nobody))?;

    refused(h2c.write(&stray, 0))?;
    good.write(0, &MARK)?;
    h2c.write(&good, 0)?;
    c2h.read(&stray, 0)?;
    let mut bytes = [0; MARK.len()];
    stray.read(0, &mut bytes)?;
    if bytes != [0; MARK.len()] {
        return Err("memory that is not mapped was written".into());
    }
    good.write(0, &[0; MARK.len()])?;
    c2h.read(&good, 0)?;
    good.read(0, &mut bytes)?;
    if bytes == MARK { Ok(()) } else { Err(format!("after the failures {bytes:x?} was read").into()) }
}

fn refused<T>(outcome: std::result::Result<T, xdma::Error>) -> Result<()> {
    match outcome {
        Err(xdma::Error::Engine(failure)) if failure.usable => {
            println!("{failure}");
            Ok(())
        }
        Err(other) => Err(format!("another failure: {other}").into()),
        Ok(_) => Err("the IOMMU let it pass".into()),
    }
}
