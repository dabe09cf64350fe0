//! The client's memory: announced, taken away, and reached through messages where it has no descriptor.

use bitfield_struct::bitfield;

use crate::fields::{Fields, PutFields};
use crate::header::append;
use crate::{Command, DecodeError, Header, MAX_DATA_XFER_SIZE};

const UNMAP_DIRTY_BITMAP: u32 = 1 << 0;
const UNMAP_ALL: u32 = 1 << 1;

/// What the device may do with a piece of memory.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct DmaMapFlags {
    /// The device may read it.
    pub read: bool,
    /// The device may write it.
    pub write: bool,
    #[bits(30)]
    reserved: u32,
}

/// A piece of the client's memory that the device may reach from now on (section "`VFIO_USER_DMA_MAP`").
///
/// A descriptor beside the message makes it mappable by the server; without one it is reached by [`DmaRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DmaMap {
    /// What the device may do with it.
    pub flags: DmaMapFlags,
    /// Where the memory begins in the file, in bytes; 0 without a descriptor.
    pub offset: u64,
    /// The address at which the device sees it.
    pub address: u64,
    /// Bytes, at least 1.
    pub size: u64,
}

impl DmaMap {
    /// Bytes of the body.
    pub(crate) const SIZE: u32 = 32;

    /// The address after the last byte; 2^64 is possible.
    #[must_use]
    pub fn end(&self) -> u128 {
        u128::from(self.address) + u128::from(self.size)
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::new(Command::DmaMap, body);
        fields.argsz(Self::SIZE)?;
        let flags = DmaMapFlags::from_bits(fields.u32("flags")?);
        let offset = fields.u64("offset")?;
        let address = fields.u64("address")?;
        let size = fields.u64("size")?;
        if flags.reserved() != 0 {
            return Err(fields.value("flags", flags.into_bits(), "only read (1) and write (2) exist"));
        }
        if size == 0 {
            return Err(fields.value("size", size, "an empty range cannot be mapped"));
        }
        fields.range("address", address, size)?;
        fields.range("offset", offset, size)?;
        Ok(Self { flags, offset, address, size })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_u32(Self::SIZE);
        out.put_u32(self.flags.into_bits());
        out.put_u64(self.offset);
        out.put_u64(self.address);
        out.put_u64(self.size);
    }
}

/// Memory that the device may no longer reach (section "`VFIO_USER_DMA_UNMAP`").
///
/// The specification has a range match one mapping exactly. QEMU's virtual IOMMU sends ranges that cover many mappings
/// or none, the last of which ends at exactly 2^64: all that lies inside goes, and nothing inside is no error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DmaUnmap {
    /// Everything goes (`VFIO_DMA_UNMAP_FLAG_ALL`).
    pub all: bool,
    /// The first address; 0 together with `all`.
    pub address: u64,
    /// Bytes; 0 together with `all`.
    pub size: u64,
}

impl DmaUnmap {
    const SIZE: u32 = 24;

    /// A request to take away `size` bytes from `address` on.
    #[must_use]
    pub const fn range(address: u64, size: u64) -> Self {
        Self { all: false, address, size }
    }

    /// The address after the last byte; 2^64 is possible.
    #[must_use]
    pub fn end(&self) -> u128 {
        u128::from(self.address) + u128::from(self.size)
    }

    /// Reads the body of a request, or of the reply, which repeats it.
    ///
    /// # Errors
    ///
    /// The body is too short, the range ends beyond 2^64, a dirty bitmap or an unknown flag is asked for, "all" comes with a
    /// range, or the reply may be longer than a message.
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::new(Command::DmaUnmap, body);
        let argsz = fields.argsz(Self::SIZE)?;
        let flags = fields.u32("flags")?;
        let address = fields.u64("address")?;
        let size = fields.u64("size")?;
        if flags & UNMAP_DIRTY_BITMAP != 0 {
            let what = "a bitmap of dirty pages";
            return Err(DecodeError::UnsupportedFlag { command: Command::DmaUnmap, flags, what });
        }
        if flags & !UNMAP_ALL != 0 {
            return Err(fields.value("flags", flags, "only \"all\" (2) is known"));
        }
        if argsz > MAX_DATA_XFER_SIZE {
            return Err(fields.value("argsz", argsz, "longer than a reply can be"));
        }
        if flags & UNMAP_ALL != 0 && (address, size) != (0, 0) {
            return Err(fields.value("flags", flags, "\"all\" goes with address 0 and size 0 only"));
        }
        fields.range("address", address, size)?;
        Ok(Self { all: flags & UNMAP_ALL != 0, address, size })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_u32(Self::SIZE);
        out.put_u32(if self.all { UNMAP_ALL } else { 0 });
        out.put_u64(self.address);
        out.put_u64(self.size);
    }
}

/// Which bytes of the client's memory a [`DmaRequest`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DmaAccess {
    /// The first address.
    pub address: u64,
    /// Bytes, at most [`MAX_DATA_XFER_SIZE`](crate::MAX_DATA_XFER_SIZE).
    pub count: u32,
}

impl DmaAccess {
    /// The data in the body of the reply to this `DMA_READ`; fewer bytes than asked for are possible.
    ///
    /// # Errors
    ///
    /// The reply is about another address, has more data than asked for, or a count that its length belies.
    pub fn data<'a>(&self, body: &'a [u8]) -> Result<&'a [u8], DecodeError> {
        let mut fields = Fields::new(Command::DmaRead, body);
        let address = fields.u64("address")?;
        let count = fields.u64("count")?;
        self.check(&fields, address, count)?;
        fields.data(count)
    }

    /// The number of bytes written according to the body of the reply to this `DMA_WRITE`.
    ///
    /// The specification gives the count of this reply 4 bytes and that of all others 8; libvfio-user and QEMU send 8.
    /// Both are read here.
    ///
    /// # Errors
    ///
    /// The reply is about another address, or says that more was written than sent.
    pub fn written(&self, body: &[u8]) -> Result<u32, DecodeError> {
        let mut fields = Fields::new(Command::DmaWrite, body);
        let address = fields.u64("address")?;
        let count =
            if fields.rest().len() == 4 { fields.u32("count")?.into() } else { fields.u64("count")? };
        self.check(&fields, address, count)
    }

    fn check(&self, fields: &Fields<'_>, address: u64, count: u64) -> Result<u32, DecodeError> {
        if address != self.address {
            return Err(fields.value("address", address, "not the address that was asked for"));
        }
        match u32::try_from(count) {
            Ok(count) if count <= self.count => Ok(count),
            _ => Err(fields.value("count", count, "more than was asked for")),
        }
    }

    pub(crate) fn put(self, out: &mut Vec<u8>) {
        out.put_u64(self.address);
        out.put_u64(self.count.into());
    }
}

/// What a server asks of a client: access to memory that it cannot map
/// (sections "`VFIO_USER_DMA_READ`" and "`VFIO_USER_DMA_WRITE`").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DmaRequest<'a> {
    /// Send these bytes.
    Read(DmaAccess),
    /// Store `data` from `address` on.
    Write {
        /// The first address.
        address: u64,
        /// What to store, at most [`MAX_DATA_XFER_SIZE`](crate::MAX_DATA_XFER_SIZE) bytes.
        data: &'a [u8],
    },
}

impl<'a> DmaRequest<'a> {
    /// The command that this is.
    #[must_use]
    pub const fn command(&self) -> Command {
        match self {
            Self::Read(_) => Command::DmaRead,
            Self::Write { .. } => Command::DmaWrite,
        }
    }

    /// Reads, on the client's side, the body of a command with this number.
    ///
    /// # Errors
    ///
    /// The command is another one, or its body is wrong: too short, too much data, a range beyond 2^64.
    pub fn decode(command: u16, body: &'a [u8]) -> Result<Self, DecodeError> {
        let command = Command::from_number(command).ok_or(DecodeError::UnknownCommand { number: command })?;
        if !matches!(command, Command::DmaRead | Command::DmaWrite) {
            return Err(DecodeError::UnsupportedCommand { command });
        }
        let mut fields = Fields::new(command, body);
        let address = fields.u64("address")?;
        let count = fields.u64("count")?;
        fields.range("address", address, count)?;
        let short = fields.transfer(count)?;
        if command == Command::DmaRead {
            return Ok(Self::Read(DmaAccess { address, count: short }));
        }
        Ok(Self::Write { address, data: fields.data(count)? })
    }

    /// Appends the whole message, which the peer answers under the same `id`.
    pub fn encode(&self, id: u16, out: &mut Vec<u8>) {
        append(Header::for_command(id, self.command(), false), out, |out| match *self {
            Self::Read(access) => access.put(out),
            Self::Write { address, data } => {
                out.put_u64(address);
                out.put_u64(data.len() as u64);
                out.extend_from_slice(data);
            }
        });
    }
}
