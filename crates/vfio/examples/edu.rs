//! Drives QEMU's teaching device with nothing but this crate: identity, liveness, a factorial that ends with an interrupt,
//! and DMA there and back.
//!
//! `edu [ADDRESS] [auto|group|iommufd|noiommu]`. Without an address the first edu that is bound to vfio-pci is taken. QEMU offers
//! the card with `-device edu`; its registers are described in QEMU's docs/specs/edu.rst.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it tells what it does")]

use jitney_vfio::sysfs::Sysfs;
use jitney_vfio::{
    Card, CardAddress, DmaRequest, Error, ErrorKind, Interrupt, IommuInterface, OpenOptions, Owner, Region,
    Result, open_all_with,
};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Registers of BAR 0, by offset in bytes.
const IDENTITY: u64 = 0x00;
const LIVENESS: u64 = 0x04;
const FACTORIAL: u64 = 0x08;
const STATUS: u64 = 0x20;
const INTERRUPT_STATUS: u64 = 0x24;
const INTERRUPT_ACKNOWLEDGE: u64 = 0x64;
const DMA_SOURCE: u64 = 0x80;
const DMA_DESTINATION: u64 = 0x88;
const DMA_COUNT: u64 = 0x90;
const DMA_COMMAND: u64 = 0x98;

/// Bits of STATUS.
const COMPUTING: u32 = 1 << 0;
const INTERRUPT_WHEN_COMPUTED: u32 = 1 << 7;

/// Bits of DMA_COMMAND.
const START: u32 = 1 << 0;
const TO_HOST: u32 = 1 << 1;
const INTERRUPT_WHEN_MOVED: u32 = 1 << 2;

/// The card's own memory, as its DMA engine sees it.
const CARD_MEMORY: u64 = 0x4_0000;
const CARD_MEMORY_SIZE: usize = 4096;

/// Its DMA engine has 28 address bits.
const TOP: u64 = (1 << 28) - 1;

/// The device moves data, and computes, within milliseconds; an emulated machine can be slow.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("edu: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut iommu = IommuInterface::Auto;
    let mut address = None;
    for argument in std::env::args().skip(1) {
        match argument.parse() {
            Ok(interface) => iommu = interface,
            Err(_) => address = Some(argument.parse()?),
        }
    }
    let address = address.map_or_else(first_edu, Ok)?;

    let options = OpenOptions { iommu, ..OpenOptions::default() };
    let opened = open_all_with(&[address], options)?;
    opened.iter().for_each(|opened| println!("addresses: {:x?}", opened.space.ranges()));
    let owner = Owner::of(opened)?;
    let card = &owner.cards()[0];
    println!("{} through {iommu}", card.identity());

    let registers = card.bar(0)?;
    let identity = registers.read32(IDENTITY)?;
    println!("identity {identity:#x}, BAR 0 has {:#x} bytes", registers.size());
    check(identity & 0xffff == 0xed, "the identity is an edu's")?;
    registers.write32(LIVENESS, 0x1234_5678)?;
    check(registers.read32(LIVENESS)? == !0x1234_5678, "the liveness register inverts")?;

    let interrupt = card.interrupt(0)?;
    registers.write32(STATUS, INTERRUPT_WHEN_COMPUTED)?;
    registers.write32(FACTORIAL, 10)?;
    await_interrupt(&registers, &interrupt, "the factorial")?;
    check(registers.read32(STATUS)? & COMPUTING == 0, "it is done when it says so")?;
    check(registers.read32(FACTORIAL)? == 3_628_800, "10! is 3628800")?;
    registers.write32(STATUS, 0)?;

    let buffer = card.dma_buffer(DmaRequest::new(2 * CARD_MEMORY_SIZE as u64).below(TOP))?;
    let sent: Vec<u8> = (0..=250).cycle().take(CARD_MEMORY_SIZE).collect();
    buffer.write(0, &sent)?;
    let back = buffer.iova() + CARD_MEMORY_SIZE as u64;
    move_data(&registers, &interrupt, buffer.iova(), CARD_MEMORY, 0)?;
    move_data(&registers, &interrupt, CARD_MEMORY, back, TO_HOST)?;
    let mut received = vec![0; CARD_MEMORY_SIZE];
    buffer.read(CARD_MEMORY_SIZE as u64, &mut received)?;
    check(sent == received, "data comes back as it went")?;
    println!("{CARD_MEMORY_SIZE} bytes there and back by DMA, at {:#x}", buffer.iova());
    buffer.free()?;
    println!("edu: all is well");
    Ok(())
}

fn first_edu() -> Result<CardAddress> {
    let cards = Sysfs::default().bound_to_vfio()?;
    let edu = cards.iter().find(|card| (card.vendor, card.device) == (0x1234, 0x11e8));
    edu.map(|card| CardAddress::Pci(card.address))
        .ok_or_else(|| Error::new(ErrorKind::NotFound, "no edu (1234:11e8) is bound to vfio-pci"))
}

/// One transfer of the DMA engine, of all the card's memory.
fn move_data(registers: &Region, interrupt: &Interrupt, from: u64, to: u64, direction: u32) -> Result<()> {
    for (register, value) in [(DMA_SOURCE, from), (DMA_DESTINATION, to), (DMA_COUNT, CARD_MEMORY_SIZE as u64)]
    {
        // Addresses of 28 bits: the upper half stays zero.
        registers
            .write32(register, u32::try_from(value).map_err(|_| failed("an address beyond 28 bits"))?)?;
    }
    registers.write32(DMA_COMMAND, START | direction | INTERRUPT_WHEN_MOVED)?;
    await_interrupt(registers, interrupt, "the DMA engine")?;
    check(registers.read32(DMA_COMMAND)? & START == 0, "the DMA engine has stopped")
}

fn await_interrupt(registers: &Region, interrupt: &Interrupt, whose: &str) -> Result<()> {
    let start = Instant::now();
    if !interrupt.wait(Some(PATIENCE))? {
        return Err(Error::new(ErrorKind::TimedOut, format!("no interrupt of {whose} within {PATIENCE:?}")));
    }
    let cause = registers.read32(INTERRUPT_STATUS)?;
    registers.write32(INTERRUPT_ACKNOWLEDGE, cause)?;
    println!("interrupt of {whose} after {:?}, cause {cause:#x}", start.elapsed());
    Ok(())
}

fn check(holds: bool, what: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(failed(&format!("not so: {what}"))) }
}

fn failed(what: &str) -> Error {
    Error::new(ErrorKind::Protocol, what)
}
