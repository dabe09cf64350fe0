//! A vfio-user server as a [`Transport`].

use super::connect::socket_to;
use super::connection::Connection;
use super::resume::ConnectionRecord;
use crate::error::{Error, ErrorKind, Result};
use crate::grant::Grant;
use crate::record::{CardWay, KeptCard};
use crate::transport::{InterruptKind, RegionInfo, Transport};
use jitney_memory::{PageSize, Registers, page_size_of};
use jitney_vfio_user::{
    IrqAction, IrqData, IrqInfo, RegionAccess, RegionInfo as Described, RegionInfoReply, RegionQuery,
    Request, SetIrqs,
};
use rustix::fs::{FileType, SealFlags};
use std::os::fd::{BorrowedFd, OwnedFd};

/// Most bytes of a description of a region: one with some 4000 mappable areas.
const LONGEST_DESCRIPTION: u32 = 64 << 10;

/// No kind of interrupt has more vectors: MSI-X's table ends there (PCIe 5.0, section 7.7.2).
const MOST_VECTORS: u32 = 2048;

/// Bytes that stand before the data in the reply to an access.
const ACCESS_SIZE: usize = 16;

impl Transport for Connection {
    /// A region whose memory the server could shrink is not called mappable: whoever maps a file that is shortened
    /// afterwards is killed by SIGBUS, and a server is not trusted that far. It is reached by messages then, as is one
    /// of which only parts can be mapped.
    fn region(&self, index: u32) -> Result<RegionInfo> {
        if index >= self.device.num_regions {
            return Ok(RegionInfo::default());
        }
        let (info, descriptors) = self.describe(index)?;
        Ok(RegionInfo { size: info.size, mappable: memory_of(&info, &descriptors).is_some() })
    }

    fn read(&self, region: u32, offset: u64, data: &mut [u8]) -> Result<()> {
        let count = self.transfer_size(data.len())?;
        let access = RegionAccess { region, offset, count };
        let came = self.call(&Request::RegionRead(access), &[], ACCESS_SIZE + data.len(), |body, _| {
            let came = access.data(body)?;
            if let Some(data) = data.get_mut(..came.len()) {
                data.copy_from_slice(came);
            }
            Ok(came.len())
        })?;
        self.whole(came, data.len())
    }

    fn write(&self, region: u32, offset: u64, data: &[u8]) -> Result<()> {
        let count = self.transfer_size(data.len())?;
        let access = RegionAccess { region, offset, count };
        let request = Request::RegionWrite { region, offset, data };
        let written = self.call(&request, &[], ACCESS_SIZE, |body, _| access.written(body))?;
        self.whole(written as usize, data.len())
    }

    fn map(&self, region: u32) -> Result<Registers> {
        let (info, descriptors) = self.describe(region)?;
        let file = memory_of(&info, &descriptors);
        let (Some(file), Ok(length)) = (file, usize::try_from(info.size)) else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("region {region} of {} cannot be mapped as a whole", self.address()),
            ));
        };
        Registers::map(file, info.offset, length)
            .map_err(|error| Error::from(error).context(format!("region {region} of {}", self.address())))
    }

    fn interrupt_count(&self, kind: InterruptKind) -> Result<u32> {
        let index = kind as u32;
        if index >= self.device.num_irqs {
            return Ok(0);
        }
        let info = self.call(&Request::IrqInfo { index }, &[], 16, |body, _| IrqInfo::decode(index, body))?;
        if info.count > MOST_VECTORS {
            let count = info.count;
            return Err(self.nonsense(&format_args!("{count} vectors, {MOST_VECTORS} are possible")));
        }
        Ok(if info.flags.eventfd() { info.count } else { 0 })
    }

    fn arm(&self, kind: InterruptKind, first: u32, events: &[Option<BorrowedFd<'_>>]) -> Result<()> {
        // A message either carries a descriptor for each vector that it names, or none for all of them.
        let most = usize::try_from(self.limits.max_msg_fds).unwrap_or(usize::MAX).max(1);
        let mut start = first;
        for run in events.chunk_by(|a, b| a.is_some() == b.is_some()) {
            for piece in run.chunks(if run[0].is_some() { most } else { run.len() }) {
                let descriptors: Vec<_> = piece.iter().copied().flatten().collect();
                let count = u32::try_from(piece.len()).unwrap_or(u32::MAX);
                let data = IrqData::Eventfds;
                let action = IrqAction::Trigger;
                let set = SetIrqs { index: kind as u32, start, count, action, data };
                self.call(&Request::SetIrqs(set), &descriptors, 0, |_, _| Ok(()))?;
                start = start.saturating_add(count);
            }
        }
        Ok(())
    }

    fn disarm(&self, kind: InterruptKind) -> Result<()> {
        let (action, data) = (IrqAction::Trigger, IrqData::None);
        let set = SetIrqs { index: kind as u32, start: 0, count: 0, action, data };
        self.call(&Request::SetIrqs(set), &[], 0, |_, _| Ok(()))
    }

    fn unmask(&self, kind: InterruptKind, vector: u32) -> Result<()> {
        let (action, data) = (IrqAction::Unmask, IrqData::None);
        let set = SetIrqs { index: kind as u32, start: vector, count: 1, action, data };
        self.call(&Request::SetIrqs(set), &[], 0, |_, _| Ok(()))
    }

    fn reset(&self) -> Result<()> {
        if !self.device.flags.reset() {
            return Err(Error::new(ErrorKind::Unsupported, format!("{} cannot be reset", self.address())));
        }
        self.call(&Request::DeviceReset, &[], 0, |_, _| Ok(()))
    }

    fn has_ended(&self) -> bool {
        self.has_failed()
    }

    /// A fresh connection to the server, for the receiver to begin.
    fn grant(&self) -> Result<Grant> {
        match self.path() {
            Some(path) => socket_to(path).map(Grant::VfioUser),
            None => Err(Error::new(
                ErrorKind::Unsupported,
                format!("{} was itself received from an owner and cannot be handed on", self.address()),
            )),
        }
    }

    fn kept(&self) -> Option<KeptCard<'_>> {
        let way = CardWay::VfioUser(ConnectionRecord::of(self));
        Some(KeptCard { way, descriptor: self.socket() })
    }
}

impl Connection {
    /// What the server says of a region, with the descriptors to map it by.
    fn describe(&self, index: u32) -> Result<(Described, Vec<OwnedFd>)> {
        let mut query = RegionQuery::new(index);
        loop {
            let request = Request::RegionInfo(query);
            // With room for some areas, so that all of it comes at once.
            let size = Described::FIXED_SIZE as usize + 64;
            let answer = self.call(&request, &[], size, |body, descriptors| {
                query.info(body).map(|reply| (reply, descriptors))
            })?;
            match answer {
                (RegionInfoReply::Complete(info), descriptors) => return Ok((info, descriptors)),
                (RegionInfoReply::NeedsArgsz(argsz), _) if argsz <= LONGEST_DESCRIPTION => {
                    query.argsz = argsz
                }
                (RegionInfoReply::NeedsArgsz(argsz), _) => {
                    return Err(self.nonsense(&format_args!("{argsz} bytes to describe a region")));
                }
            }
        }
    }

    fn transfer_size(&self, length: usize) -> Result<u32> {
        match u32::try_from(length) {
            Ok(count) if (1..=self.limits.max_data_xfer_size).contains(&count) => Ok(count),
            _ => Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "{} takes 1 to {} bytes in one access, not {length}",
                    self.address(),
                    self.limits.max_data_xfer_size
                ),
            )),
        }
    }

    fn whole(&self, done: usize, asked: usize) -> Result<()> {
        if done == asked { Ok(()) } else { Err(self.nonsense(&format_args!("{done} of {asked} bytes"))) }
    }
}

/// The descriptor by which all of a region can be mapped safely.
fn memory_of<'a>(info: &Described, descriptors: &'a [OwnedFd]) -> Option<&'a OwnedFd> {
    let flags = info.flags;
    let whole = match &info.sparse {
        None => true,
        Some(areas) => areas.iter().any(|area| area.offset == 0 && area.size == info.size),
    };
    let usable = flags.mmap() && flags.read() && flags.write() && whole && info.size > 0;
    descriptors.first().filter(|file| usable && keeps_its_size(file))
}

/// Whether a mapping of the descriptor stays valid whatever the server does: a device's does, a file's if it is sealed.
///
/// The seal does not keep a server from punching holes. In a file of normal pages the next touch fills them; in one of huge
/// pages it kills this process (SIGBUS) when the pool is empty, so such a file is not mapped.
pub(super) fn keeps_its_size(file: &OwnedFd) -> bool {
    let sealed = || rustix::fs::fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
    let kind = rustix::fs::fstat(file).map(|stat| FileType::from_raw_mode(stat.st_mode));
    match kind {
        Ok(FileType::CharacterDevice) => true,
        Ok(FileType::RegularFile) => {
            sealed() && page_size_of(file).is_ok_and(|pages| pages == PageSize::Normal)
        }
        // Whatever it is, nobody says how its mappings behave.
        _ => false,
    }
}
