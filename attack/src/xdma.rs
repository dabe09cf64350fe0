//! The least of an XDMA driver: one descriptor at a time, or a ring that never ends. Registers and descriptors as PG195 has
//! them.

use crate::client::Buffer;
use crate::grant::Grant;
use crate::protocol::Step;
use anyhow::bail;
use rustix::io::pwrite;
use std::time::{Duration, Instant};

/// Where the board of these attacks, nitefury-dma-ddr3, has its XDMA.
pub(crate) const BAR: u8 = 2;
/// How many channels it has each way.
pub(crate) const CHANNELS: u8 = 2;

const CONTROL: u64 = 0x04;
const CONTROL_CLEAR: u64 = 0x0c;
const STATUS: u64 = 0x40;
const COMPLETED: u64 = 0x48;
const FIRST_DESCRIPTOR: u64 = 0x80;
const RUN: u32 = 1;
const BUSY: u32 = 1;
/// Bits of Status that are errors.
const ERRORS: u32 = 0x00ff_fe38;
/// Report every error of either direction.
const REPORT: u32 = 0x00ff_fe38;

const MAGIC: u32 = 0xad4b_0000;
const STOP: u32 = 1;
const REPORTED: u32 = 2;
const DESCRIPTOR: u64 = 32;

const LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    HostToCard,
    CardToHost,
}

/// An engine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Channel {
    pub(crate) direction: Direction,
    pub(crate) number: u8,
}

impl Channel {
    fn registers(self) -> u64 {
        let block = if self.direction == Direction::HostToCard { 0 } else { 0x1000 };
        block + (u64::from(self.number) << 8)
    }

    fn fetch(self) -> u64 {
        self.registers() + 0x4000
    }

    pub(crate) fn part(self) -> String {
        let direction = if self.direction == Direction::HostToCard { "h2c" } else { "c2h" };
        format!("{direction}{}", self.number)
    }

    /// Stops the engine and waits until it is idle.
    pub(crate) fn will(self) -> [Step; 2] {
        let at = self.registers();
        [
            Step::Write { bar: BAR, offset: at + CONTROL_CLEAR, value: RUN },
            Step::WaitUntil { bar: BAR, offset: at + STATUS, mask: BUSY, value: 0, within: 2000 },
        ]
    }

    /// A step that waits for what never comes: the channel has this identifier and no other.
    pub(crate) fn never(self, within: u32) -> Step {
        Step::WaitUntil { bar: BAR, offset: self.registers(), mask: u32::MAX, value: 0, within }
    }

    fn descriptor(self, flags: u32, data: &Buffer, at: u64, length: u32, card: u64, next: u64) -> [u8; 32] {
        let host = data.iova + at;
        let (source, destination) =
            if self.direction == Direction::HostToCard { (host, card) } else { (card, host) };
        let mut bytes = [0; 32];
        bytes[0..4].copy_from_slice(&(MAGIC | flags).to_le_bytes());
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        bytes[8..16].copy_from_slice(&source.to_le_bytes());
        bytes[16..24].copy_from_slice(&destination.to_le_bytes());
        bytes[24..32].copy_from_slice(&next.to_le_bytes());
        bytes
    }

    fn start(self, grant: &mut Grant, first: u64) -> anyhow::Result<()> {
        let halves = first.to_le_bytes();
        grant.write(BAR.into(), self.fetch() + FIRST_DESCRIPTOR, &halves[..4])?;
        grant.write(BAR.into(), self.fetch() + FIRST_DESCRIPTOR + 4, &halves[4..])?;
        grant.write32(BAR, self.fetch() + FIRST_DESCRIPTOR + 8, 0)?;
        grant.write32(BAR, self.registers() + CONTROL, REPORT | RUN)
    }

    /// Stops the engine, and waits until it is idle.
    pub(crate) fn stop(self, grant: &mut Grant) -> anyhow::Result<()> {
        grant.write32(BAR, self.registers() + CONTROL_CLEAR, RUN)?;
        let since = Instant::now();
        while self.is_busy(grant)? {
            if since.elapsed() > LIMIT {
                bail!("{} does not get idle", self.part());
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        Ok(())
    }

    pub(crate) fn is_busy(self, grant: &mut Grant) -> anyhow::Result<bool> {
        Ok(grant.read32(BAR, self.registers() + STATUS)? & BUSY != 0)
    }

    /// Moves a whole buffer to or from card address `card`.
    pub(crate) fn transfer(
        self,
        grant: &mut Grant,
        ring: &Buffer,
        data: &Buffer,
        card: u64,
    ) -> anyhow::Result<()> {
        // Each direction has its own place in the ring.
        let at = u64::from(self.direction == Direction::CardToHost) * DESCRIPTOR;
        let length = u32::try_from(data.size)?;
        put(ring, at, &self.descriptor(STOP | REPORTED, data, 0, length, card, 0))?;
        self.start(grant, ring.iova + at)?;
        let since = Instant::now();
        let status = loop {
            let status = grant.read32(BAR, self.registers() + STATUS)?;
            if status & BUSY == 0 {
                break status;
            }
            if since.elapsed() > LIMIT {
                bail!("a transfer on {} did not end in {} s", self.part(), LIMIT.as_secs());
            }
            std::thread::sleep(Duration::from_micros(50));
        };
        let completed = grant.read32(BAR, self.registers() + COMPLETED)?;
        grant.write32(BAR, self.registers() + CONTROL_CLEAR, RUN)?;
        if status & ERRORS != 0 || completed != 1 {
            bail!("a transfer on {} ended with status {status:#x} and {completed} descriptors", self.part());
        }
        Ok(())
    }

    /// Moves a buffer again and again, until somebody stops it: each descriptor is followed by the next, and the last by the first.
    pub(crate) fn run_for_ever(
        self,
        grant: &mut Grant,
        ring: &Buffer,
        data: &Buffer,
        card: u64,
        pieces: u32,
    ) -> anyhow::Result<()> {
        let length = u32::try_from(data.size)? / pieces;
        for piece in 0..pieces {
            let next = ring.iova + u64::from((piece + 1) % pieces) * DESCRIPTOR;
            let at = u64::from(piece) * u64::from(length);
            put(ring, u64::from(piece) * DESCRIPTOR, &self.descriptor(0, data, at, length, card + at, next))?;
        }
        self.start(grant, ring.iova)
    }
}

/// Writes to a buffer.
pub(crate) fn put(buffer: &Buffer, mut at: u64, mut bytes: &[u8]) -> anyhow::Result<()> {
    while !bytes.is_empty() {
        let written = pwrite(&buffer.memory, bytes, at)?;
        bytes = &bytes[written..];
        at += written as u64;
    }
    Ok(())
}

/// What is in a buffer.
pub(crate) fn get(buffer: &Buffer) -> anyhow::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(buffer.size)?];
    let mut done = 0;
    while done < bytes.len() {
        match rustix::io::pread(&buffer.memory, &mut bytes[done..], done as u64)? {
            0 => bail!("a buffer is shorter than was said"),
            read => done += read,
        }
    }
    Ok(bytes)
}
