//! Asks an NVMe who it is, with nothing but this crate: its admin queues are set up in DMA memory, one command is sent, and
//! its end comes as an interrupt.
//!
//! `nvme_identify [ADDRESS] [auto|group|iommufd|noiommu]`. Without an address the first NVMe that is bound to vfio-pci is taken.
//! It reads only; but the kernel's driver has to be taken from the NVMe before, so never use the one that your files are
//! on. Sections are those of the NVM Express Base Specification 1.4.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it tells what it does")]

use jitney_vfio::sysfs::Sysfs;
use jitney_vfio::{
    Card, CardAddress, DmaRequest, Error, ErrorKind, IommuInterface, OpenOptions, Owner, Region, Result,
};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Registers of BAR 0, by offset in bytes (section 3.1). Those of 64 bits are written in two halves.
const CAPABILITIES: u64 = 0x00;
const VERSION: u64 = 0x08;
const CONFIGURATION: u64 = 0x14;
const STATUS: u64 = 0x1c;
const QUEUE_SIZES: u64 = 0x24;
const SUBMISSION_QUEUE: u64 = 0x28;
const COMPLETION_QUEUE: u64 = 0x30;
const DOORBELLS: u64 = 0x1000;

/// CONFIGURATION: entries of 64 and 16 bytes, pages of 4 KiB, enabled.
const ENABLED: u32 = 4 << 20 | 6 << 16 | 1;
/// Bits of STATUS.
const READY: u32 = 1 << 0;
const FATAL: u32 = 1 << 1;

/// Entries in each queue.
const ENTRIES: u32 = 2;
/// The admin command Identify (section 5.15), and what to identify: the controller.
const IDENTIFY: u32 = 0x06;
const CONTROLLER: u32 = 0x01;
/// In the fourth word of a completion (section 4.6): it is new.
const PHASE: u32 = 1 << 16;

/// Where things are in the DMA buffer: a page each.
const SUBMISSIONS: u64 = 0x0000;
const COMPLETIONS: u64 = 0x1000;
const ANSWER: u64 = 0x2000;

const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nvme_identify: {error}");
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
    let address = address.map_or_else(first_nvme, Ok)?;
    let options = OpenOptions { iommu, ..OpenOptions::default() };
    let owner = Owner::open_with(&[address], options)?;
    let card = &owner.cards()[0];
    let registers = card.bar(0)?;
    let version = registers.read32(VERSION)?;
    println!("{}: NVMe {}.{} through {iommu}", card.identity(), version >> 16, version >> 8 & 0xff);

    registers.write32(CONFIGURATION, 0)?;
    await_ready(&registers, false)?;
    let memory = card.dma_buffer(DmaRequest::new(0x3000))?;
    memory.write(0, &[0; 0x3000])?;
    registers.write32(QUEUE_SIZES, (ENTRIES - 1) << 16 | (ENTRIES - 1))?;
    write64(&registers, SUBMISSION_QUEUE, memory.iova() + SUBMISSIONS)?;
    write64(&registers, COMPLETION_QUEUE, memory.iova() + COMPLETIONS)?;
    let interrupt = card.interrupt(0)?;
    registers.write32(CONFIGURATION, ENABLED)?;
    await_ready(&registers, true)?;

    let answer = memory.iova() + ANSWER;
    let mut command = [0_u32; 16];
    command[0] = IDENTIFY;
    [command[6], command[7]] = halves(answer);
    command[10] = CONTROLLER;
    let bytes: Vec<u8> = command.iter().flat_map(|word| word.to_le_bytes()).collect();
    memory.write(SUBMISSIONS, &bytes)?;
    registers.write32(DOORBELLS, 1)?;
    if !interrupt.wait(Some(PATIENCE))? {
        return Err(Error::new(
            ErrorKind::TimedOut,
            format!("the command has not ended within {PATIENCE:?}"),
        ));
    }
    let completion = memory.view().load_acquire32(COMPLETIONS + 12)?;
    let status = completion >> 17;
    if completion & PHASE == 0 || status != 0 {
        return Err(failed(&format!("Identify ended with status {status:#x}")));
    }
    // Each doorbell is 4 << DSTRD bytes after the one before (section 3.1.1).
    let stride = 4 << (registers.read32(CAPABILITIES + 4)? & 0xf);
    registers.write32(DOORBELLS + stride, 1)?;

    let mut identity = [0; 4096];
    memory.read(ANSWER, &mut identity)?;
    let text = |range: std::ops::Range<usize>| String::from_utf8_lossy(&identity[range]).trim().to_owned();
    println!("model {:?}, serial number {:?}, firmware {:?}", text(24..64), text(4..24), text(64..72));
    registers.write32(CONFIGURATION, 0)?;
    await_ready(&registers, false)
}

fn first_nvme() -> Result<CardAddress> {
    let cards = Sysfs::default().bound_to_vfio()?;
    let nvme = cards.iter().find(|card| card.class == 0x01_0802);
    nvme.map(|card| CardAddress::Pci(card.address))
        .ok_or_else(|| Error::new(ErrorKind::NotFound, "no NVMe (class 010802) is bound to vfio-pci"))
}

fn write64(registers: &Region, offset: u64, value: u64) -> Result<()> {
    let [low, high] = halves(value);
    registers.write32(offset, low)?;
    registers.write32(offset + 4, high)
}

/// The low and the high 32 bits.
fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}

fn await_ready(registers: &Region, ready: bool) -> Result<()> {
    let start = Instant::now();
    loop {
        let status = registers.read32(STATUS)?;
        if status == u32::MAX {
            return Err(Error::new(ErrorKind::LinkDown, "the NVMe reads all-ones"));
        }
        if status & FATAL != 0 {
            return Err(failed(&format!("the NVMe reports a fatal error: status {status:#x}")));
        }
        if (status & READY != 0) == ready {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            return Err(Error::new(ErrorKind::TimedOut, format!("the NVMe's status stays at {status:#x}")));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn failed(what: &str) -> Error {
    Error::new(ErrorKind::Protocol, what)
}
