//! The fake card's registers behind the same interface as a real card's.

use super::host::FakeHost;
use crate::device::CONFIG_REGION;
use crate::error::{Error, ErrorKind, Result};
use crate::identity::Identity;
use crate::transport::{InterruptKind, RegionInfo, Transport};
use jitney_memory::{EventFd, Registers};
use rustix::io::Errno;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// Bytes of configuration space.
const CONFIG_SIZE: usize = 256;
const COMMAND: u64 = 0x04;
const MEMORY_SPACE: u8 = 1 << 1;
const BUS_MASTER: u8 = 1 << 2;

/// What the registers of a BAR do. Offsets are in bytes and multiples of four.
///
/// Called while nothing is locked, from whichever thread accesses the register.
pub trait FakeBar: Send + Sync {
    /// Reads the register at `offset`, with its side effects.
    fn read32(&self, offset: u64) -> u32;

    /// Writes the register at `offset`, with its side effects.
    fn write32(&self, offset: u64, value: u32);

    /// The card is reset.
    fn reset(&self) {}
}

/// So that a test can keep the model and ask it afterwards.
impl<B: FakeBar + ?Sized> FakeBar for Arc<B> {
    fn read32(&self, offset: u64) -> u32 {
        (**self).read32(offset)
    }

    fn write32(&self, offset: u64, value: u32) {
        (**self).write32(offset, value);
    }

    fn reset(&self) {
        (**self).reset();
    }
}

/// A BAR's size in bytes and what its registers do.
pub(super) type Bar = (u64, Box<dyn FakeBar>);

pub(super) struct FakeTransport {
    pub(super) host: FakeHost,
    pub(super) identity: Identity,
    pub(super) bars: [Option<Bar>; 6],
    pub(super) vectors: u16,
}

impl FakeTransport {
    fn bar(&self, region: u32) -> Option<&Bar> {
        self.bars.get(usize::try_from(region).ok()?)?.as_ref()
    }

    /// As the kernel does, answers EIO for registers of a card that does not answer to its addresses.
    fn model(&self, region: u32) -> Result<&dyn FakeBar> {
        match self.bar(region) {
            Some(_) if !self.host.memory_decode() => {
                let what = format!("region {region} of the fake card: its memory access is off");
                Err(Error::new(ErrorKind::LinkDown, what).with_errno(Errno::IO))
            }
            Some((_, model)) => Ok(&**model),
            None => Err(Error::new(ErrorKind::NotFound, format!("the fake card has no region {region}"))),
        }
    }

    fn config(&self) -> [u8; CONFIG_SIZE] {
        let Identity { vendor, device, subsystem_vendor, subsystem_device, revision, class, .. } =
            self.identity;
        let mut bytes = [0; CONFIG_SIZE];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0x00, &vendor.to_le_bytes());
        put(0x02, &device.to_le_bytes());
        let bit = |on, bit| if on { bit } else { 0 };
        put(0x04, &[bit(self.host.bus_master(), BUS_MASTER) | bit(self.host.memory_decode(), MEMORY_SPACE)]);
        put(0x08, &(class << 8 | u32::from(revision)).to_le_bytes());
        put(0x2c, &subsystem_vendor.to_le_bytes());
        put(0x2e, &subsystem_device.to_le_bytes());
        bytes
    }
}

impl Transport for FakeTransport {
    fn region(&self, index: u32) -> Result<RegionInfo> {
        let size = match index {
            CONFIG_REGION => CONFIG_SIZE as u64,
            _ => self.bar(index).map_or(0, |(size, _)| *size),
        };
        Ok(RegionInfo { size, mappable: false })
    }

    /// Accesses of other widths than 32 bits read the registers that they touch.
    fn read(&self, region: u32, offset: u64, data: &mut [u8]) -> Result<()> {
        if !self.host.link() {
            data.fill(0xff);
        } else if region == CONFIG_REGION {
            let config = self.config();
            for (byte, at) in data.iter_mut().zip(offset..) {
                *byte = usize::try_from(at).ok().and_then(|at| config.get(at).copied()).unwrap_or(0);
            }
        } else {
            let model = self.model(region)?;
            let mut at = offset;
            for word in data.chunks_mut(4) {
                let skip = usize::from(at.to_le_bytes()[0] & 3);
                let value = model.read32(at & !3).to_le_bytes();
                let length = word.len().min(4 - skip);
                word[..length].copy_from_slice(&value[skip..skip + length]);
                at = at.saturating_add(4);
            }
        }
        Ok(())
    }

    /// Registers take writes of 32 bits, and of 64 as two of them, low half first.
    fn write(&self, region: u32, offset: u64, data: &[u8]) -> Result<()> {
        if !self.host.link() {
            return Ok(());
        }
        if region == CONFIG_REGION {
            if let (COMMAND, Some(low)) = (offset, data.first()) {
                self.host.set_bus_master(low & BUS_MASTER != 0);
                self.host.set_memory_decode(low & MEMORY_SPACE != 0);
            }
            return Ok(());
        }
        let model = self.model(region)?;
        let (words, rest) = data.as_chunks::<4>();
        if !rest.is_empty() || !offset.is_multiple_of(4) {
            let what = format!("a write of {} bytes to a register of the fake card", data.len());
            return Err(Error::new(ErrorKind::Unsupported, what).with_remedy("use 32-bit accesses"));
        }
        for (word, at) in words.iter().zip((offset..).step_by(4)) {
            model.write32(at, u32::from_le_bytes(*word));
        }
        Ok(())
    }

    fn map(&self, region: u32) -> Result<Registers> {
        let what = format!("region {region} of the fake card cannot be mapped");
        Err(Error::new(ErrorKind::Unsupported, what))
    }

    fn interrupt_count(&self, kind: InterruptKind) -> Result<u32> {
        Ok(match kind {
            InterruptKind::MsiX => self.vectors.into(),
            InterruptKind::Error | InterruptKind::Request => 1,
            InterruptKind::Intx | InterruptKind::Msi => 0,
        })
    }

    fn arm(&self, kind: InterruptKind, first: u32, events: &[Option<BorrowedFd<'_>>]) -> Result<()> {
        for (vector, event) in (first..).zip(events) {
            let event = match event {
                Some(event) => {
                    let copy = event.try_clone_to_owned().map_err(|error| {
                        Error::new(ErrorKind::Exhausted, format!("duplicating an eventfd: {error}"))
                    })?;
                    Some(EventFd::try_from(copy)?)
                }
                None => None,
            };
            self.host.wire(kind, vector, event);
        }
        Ok(())
    }

    fn disarm(&self, kind: InterruptKind) -> Result<()> {
        self.host.cut_all(kind);
        Ok(())
    }

    fn reset(&self) -> Result<()> {
        self.host.count_reset();
        self.host.set_bus_master(false);
        self.bars.iter().flatten().for_each(|(_, model)| model.reset());
        Ok(())
    }
}

impl fmt::Debug for FakeTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fake card {}", self.identity)
    }
}
