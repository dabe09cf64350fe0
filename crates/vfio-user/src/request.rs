//! What a client asks of a server.

use crate::fields::Fields;
use crate::header::append;
use crate::{
    Command, DecodeError, DeviceInfo, DmaMap, DmaUnmap, Header, IoFdsQuery, IrqInfo, RegionAccess,
    RegionQuery, SetIrqs, Version,
};

/// What a client asks of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request<'a> {
    /// Agree on a version; answered by [`reply::version`](crate::reply::version).
    Version(Version),
    /// Here is memory; answered by [`reply::done`](crate::reply::done). A descriptor may come with it.
    DmaMap(DmaMap),
    /// Memory goes; answered by [`reply::dma_unmapped`](crate::reply::dma_unmapped) when nothing touches it any more.
    DmaUnmap(DmaUnmap),
    /// What is the device? Answered by [`reply::device_info`](crate::reply::device_info).
    DeviceInfo,
    /// What is this region? Answered by [`reply::region_info`](crate::reply::region_info).
    RegionInfo(RegionQuery),
    /// Which descriptors stand for parts of this region? Answered by
    /// [`reply::no_region_io_fds`](crate::reply::no_region_io_fds).
    RegionIoFds(IoFdsQuery),
    /// What is this type of interrupt? Answered by [`reply::irq_info`](crate::reply::irq_info).
    IrqInfo {
        /// The type.
        index: u32,
    },
    /// Arm, mask or trigger interrupts; answered by [`reply::done`](crate::reply::done). Descriptors may come with it.
    SetIrqs(SetIrqs<'a>),
    /// Read from a region; answered by [`reply::region_read`](crate::reply::region_read).
    RegionRead(RegionAccess),
    /// Write to a region; answered by [`reply::region_written`](crate::reply::region_written).
    RegionWrite {
        /// The region.
        region: u32,
        /// The first byte in the region.
        offset: u64,
        /// What to write, at most [`MAX_DATA_XFER_SIZE`](crate::MAX_DATA_XFER_SIZE) bytes.
        data: &'a [u8],
    },
    /// Reset the device; answered by [`reply::done`](crate::reply::done).
    DeviceReset,
}

impl<'a> Request<'a> {
    /// The command that this is.
    #[must_use]
    pub const fn command(&self) -> Command {
        match self {
            Self::Version(_) => Command::Version,
            Self::DmaMap(_) => Command::DmaMap,
            Self::DmaUnmap(_) => Command::DmaUnmap,
            Self::DeviceInfo => Command::DeviceGetInfo,
            Self::RegionInfo(_) => Command::DeviceGetRegionInfo,
            Self::RegionIoFds(_) => Command::DeviceGetRegionIoFds,
            Self::IrqInfo { .. } => Command::DeviceGetIrqInfo,
            Self::SetIrqs(_) => Command::DeviceSetIrqs,
            Self::RegionRead(_) => Command::RegionRead,
            Self::RegionWrite { .. } => Command::RegionWrite,
            Self::DeviceReset => Command::DeviceReset,
        }
    }

    /// Reads the body of a command with this number; data is borrowed from it.
    ///
    /// Bytes after a body of fixed length are passed over: a later minor version of the protocol may add fields.
    ///
    /// # Errors
    ///
    /// The command is unknown, not implemented or for the other side, or a field is missing or makes no sense;
    /// [`DecodeError::errno`] is what to answer, if the header wants an answer.
    pub fn decode(command: u16, body: &'a [u8]) -> Result<Self, DecodeError> {
        let command = Command::from_number(command).ok_or(DecodeError::UnknownCommand { number: command })?;
        let mut fields = Fields::new(command, body);
        Ok(match command {
            Command::Version => Self::Version(Version::decode(body)?),
            Command::DmaMap => Self::DmaMap(DmaMap::decode(body)?),
            Command::DmaUnmap => Self::DmaUnmap(DmaUnmap::decode(body)?),
            Command::DeviceGetInfo => {
                DeviceInfo::decode_query(body)?;
                Self::DeviceInfo
            }
            Command::DeviceGetRegionInfo => Self::RegionInfo(RegionQuery::decode(body)?),
            Command::DeviceGetRegionIoFds => Self::RegionIoFds(IoFdsQuery::decode(body)?),
            Command::DeviceGetIrqInfo => Self::IrqInfo { index: IrqInfo::decode_query(body)? },
            Command::DeviceSetIrqs => Self::SetIrqs(SetIrqs::decode(body)?),
            Command::RegionRead => Self::RegionRead(RegionAccess::decode(&mut fields)?),
            Command::RegionWrite => {
                let RegionAccess { region, offset, count } = RegionAccess::decode(&mut fields)?;
                Self::RegionWrite { region, offset, data: fields.data(count.into())? }
            }
            Command::DeviceReset => Self::DeviceReset,
            _ => return Err(DecodeError::UnsupportedCommand { command }),
        })
    }

    /// Appends the whole message, which the peer answers under the same `id`.
    pub fn encode(&self, id: u16, out: &mut Vec<u8>) {
        self.append(Header::for_command(id, self.command(), false), out);
    }

    /// Appends the whole message with the flag that forbids an answer, for writes that need not be waited for.
    pub fn encode_posted(&self, id: u16, out: &mut Vec<u8>) {
        self.append(Header::for_command(id, self.command(), true), out);
    }

    fn append(&self, header: Header, out: &mut Vec<u8>) {
        append(header, out, |out| match *self {
            Self::Version(version) => version.put(out),
            Self::DmaMap(map) => map.put(out),
            Self::DmaUnmap(unmap) => unmap.put(out),
            Self::DeviceInfo => DeviceInfo::put_query(out),
            Self::RegionInfo(query) => query.put(out),
            Self::RegionIoFds(query) => query.put(out),
            Self::IrqInfo { index } => IrqInfo::put_query(index, out),
            Self::SetIrqs(set) => set.put(out),
            Self::RegionRead(access) => access.put(out),
            Self::RegionWrite { region, offset, data } => {
                let count = u32::try_from(data.len()).unwrap_or(u32::MAX);
                RegionAccess { region, offset, count }.put(out);
                out.extend_from_slice(data);
            }
            Self::DeviceReset => {}
        });
    }
}
