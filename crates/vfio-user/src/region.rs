//! Regions: what they are, which parts can be mapped, and reading and writing them.

use bitfield_struct::bitfield;

use crate::fields::{Fields, PutFields};
use crate::{Command, DecodeError};

const CAP_SPARSE_MMAP: u16 = 1;
const CAP_SPARSE_MMAP_VERSION: u16 = 1;
/// Bytes of a capability's header, and of the shortest capability.
const CAP_HEADER_SIZE: usize = 8;
/// Bytes of a sparse capability without its areas, and of one area.
const SPARSE_SIZE: usize = 16;
const AREA_SIZE: usize = 16;

/// Properties of a region, as in `struct vfio_region_info`.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct RegionFlags {
    /// It can be read.
    pub read: bool,
    /// It can be written.
    pub write: bool,
    /// It can be mapped, as a whole or in parts; a descriptor comes beside the reply. libvfio-user sends the same file
    /// once for each mappable area.
    pub mmap: bool,
    /// A list of capabilities follows. [`reply::region_info`](crate::reply::region_info) sets it as needed.
    pub caps: bool,
    #[bits(28)]
    reserved: u32,
}

/// Which region a client asks about, and how long the answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegionQuery {
    /// The region; for PCI 0 to 5 are the BARs, 6 is the ROM, 7 configuration space, 8 VGA.
    pub index: u32,
    /// Most bytes of body in the reply, at least [`RegionInfo::FIXED_SIZE`].
    pub argsz: u32,
}

/// A part of a region that can be mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MmapArea {
    /// Where it begins in the region, in bytes.
    pub offset: u64,
    /// Its length in bytes. Kernel drivers are known to send empty ones.
    pub size: u64,
}

/// One region (section "`VFIO_USER_DEVICE_GET_REGION_INFO`").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionInfo {
    /// Which region it is.
    pub index: u32,
    /// What can be done with it.
    pub flags: RegionFlags,
    /// Its length in bytes; 0 if the device has no such region.
    pub size: u64,
    /// Where it begins in the descriptor beside the reply, in bytes.
    pub offset: u64,
    /// The parts that can be mapped, if not the whole of it can.
    pub sparse: Option<Vec<MmapArea>>,
}

/// The answer to a [`RegionQuery`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegionInfoReply {
    /// All there is to know.
    Complete(RegionInfo),
    /// There is more than `argsz` allowed: ask again with this one. The next reply brings its own descriptors.
    NeedsArgsz(u32),
}

impl RegionQuery {
    /// A query about one region with room for 63 mappable areas in the answer, so that in practice it need not be
    /// repeated.
    #[must_use]
    pub const fn new(index: u32) -> Self {
        Self { index, argsz: RegionInfo::FIXED_SIZE + 1024 }
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let fixed = Fixed::decode(body)?;
        Ok(Self { index: fixed.index, argsz: fixed.argsz })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        let Self { index, argsz } = *self;
        Fixed { argsz, flags: RegionFlags::new(), index, cap_offset: 0, size: 0, offset: 0 }.put(out);
    }

    /// Reads the body of the reply to this query.
    ///
    /// # Errors
    ///
    /// The body is too short, is about another region, or its list of capabilities leaves the body, runs in circles,
    /// or names areas outside of the region.
    pub fn info(&self, body: &[u8]) -> Result<RegionInfoReply, DecodeError> {
        let fixed = Fixed::decode(body)?;
        let fields = Fields::new(Command::DeviceGetRegionInfo, body);
        if fixed.index != self.index {
            return Err(fields.value("index", fixed.index, "not the region that was asked for"));
        }
        if fixed.argsz as usize > body.len() {
            if fixed.argsz <= self.argsz {
                return Err(fields.value("argsz", fixed.argsz, "more than came, although there was room"));
            }
            return Ok(RegionInfoReply::NeedsArgsz(fixed.argsz));
        }
        let sparse =
            if fixed.flags.caps() { find_sparse(fields, fixed.cap_offset, body.len())? } else { None };
        let Fixed { index, flags, size, offset, .. } = fixed;
        for area in sparse.iter().flatten() {
            if u128::from(area.offset) + u128::from(area.size) > u128::from(size) {
                return Err(fields.value("areas", area.offset, "an area ends outside of the region"));
            }
        }
        Ok(RegionInfoReply::Complete(RegionInfo { index, flags, size, offset, sparse }))
    }
}

impl RegionInfo {
    /// Bytes of the reply without capabilities, and the least an `argsz` may be.
    pub const FIXED_SIZE: u32 = 32;

    /// Bytes of the whole reply.
    fn full_size(&self) -> u32 {
        let caps = self.sparse.as_ref().map_or(0, |areas| SPARSE_SIZE + areas.len() * AREA_SIZE);
        u32::try_from(caps).unwrap_or(u32::MAX).saturating_add(Self::FIXED_SIZE)
    }

    /// Appends the body of the reply; without the capabilities if there is no room for them.
    pub(crate) fn put(&self, argsz: u32, out: &mut Vec<u8>) {
        let full = self.full_size();
        // The offset is there even if the capabilities are not: QEMU checks it before it looks at argsz and asks again.
        let cap_offset = if self.sparse.is_some() { Self::FIXED_SIZE } else { 0 };
        Fixed {
            argsz: full,
            flags: self.flags.with_caps(self.sparse.is_some()),
            index: self.index,
            cap_offset,
            size: self.size,
            offset: self.offset,
        }
        .put(out);
        let Some(areas) = self.sparse.as_ref().filter(|_| full <= argsz) else { return };
        out.put_u16(CAP_SPARSE_MMAP);
        out.put_u16(CAP_SPARSE_MMAP_VERSION);
        out.put_u32(0);
        out.put_u32(u32::try_from(areas.len()).unwrap_or(u32::MAX));
        out.put_u32(0);
        for area in areas {
            out.put_u64(area.offset);
            out.put_u64(area.size);
        }
    }
}

/// `struct vfio_region_info`, the same in request and reply.
struct Fixed {
    argsz: u32,
    flags: RegionFlags,
    index: u32,
    cap_offset: u32,
    size: u64,
    offset: u64,
}

impl Fixed {
    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::new(Command::DeviceGetRegionInfo, body);
        Ok(Self {
            argsz: fields.argsz(RegionInfo::FIXED_SIZE)?,
            flags: RegionFlags::from_bits(fields.u32("flags")?),
            index: fields.u32("index")?,
            cap_offset: fields.u32("cap_offset")?,
            size: fields.u64("size")?,
            offset: fields.u64("offset")?,
        })
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.put_u32(self.argsz);
        out.put_u32(self.flags.into_bits());
        out.put_u32(self.index);
        out.put_u32(self.cap_offset);
        out.put_u64(self.size);
        out.put_u64(self.offset);
    }
}

/// Walks the list of capabilities from `first` on and returns the areas of the sparse one. A list ends with a 0.
fn find_sparse(body: Fields<'_>, first: u32, length: usize) -> Result<Option<Vec<MmapArea>>, DecodeError> {
    let mut next = first;
    // A list without a circle has no more capabilities than fit.
    for _ in 0..=length / CAP_HEADER_SIZE {
        if next == 0 {
            return Ok(None);
        }
        if next < RegionInfo::FIXED_SIZE {
            return Err(body.value("cap_offset", next, "a capability inside the fixed part"));
        }
        let mut cap = body.at(next as usize);
        let id = cap.u16("capability id")?;
        let version = cap.u16("capability version")?;
        next = cap.u32("capability next")?;
        if id == CAP_SPARSE_MMAP && version == CAP_SPARSE_MMAP_VERSION {
            return sparse_areas(cap).map(Some);
        }
    }
    Err(body.value("capability next", next, "the list of capabilities runs in a circle"))
}

fn sparse_areas(mut cap: Fields<'_>) -> Result<Vec<MmapArea>, DecodeError> {
    let count = cap.u32("nr_areas")?;
    cap.u32("reserved")?;
    if count as usize > cap.rest().len() / AREA_SIZE {
        return Err(cap.value("nr_areas", count, "more areas than the body has room for"));
    }
    (0..count)
        .map(|_| Ok(MmapArea { offset: cap.u64("area offset")?, size: cap.u64("area size")? }))
        .collect()
}

/// Which bytes of a region are read or written
/// (sections "`VFIO_USER_REGION_READ`" and "`VFIO_USER_REGION_WRITE`").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegionAccess {
    /// The region.
    pub region: u32,
    /// The first byte in the region.
    pub offset: u64,
    /// Bytes, at most [`MAX_DATA_XFER_SIZE`](crate::MAX_DATA_XFER_SIZE).
    pub count: u32,
}

impl RegionAccess {
    /// The data in the body of the reply to this `REGION_READ`; fewer bytes than asked for are possible.
    ///
    /// # Errors
    ///
    /// The reply is about another place, has more data than asked for, or a count that its length belies.
    pub fn data<'a>(&self, body: &'a [u8]) -> Result<&'a [u8], DecodeError> {
        let mut fields = Fields::new(Command::RegionRead, body);
        let count = self.echoed(&mut fields)?;
        fields.data(count.into())
    }

    /// The number of bytes written according to the body of the reply to this `REGION_WRITE`.
    ///
    /// # Errors
    ///
    /// The reply is about another place, or says that more was written than sent.
    pub fn written(&self, body: &[u8]) -> Result<u32, DecodeError> {
        self.echoed(&mut Fields::new(Command::RegionWrite, body))
    }

    /// Reads the fields that a reply repeats; the count may be lower than it was.
    fn echoed(&self, fields: &mut Fields<'_>) -> Result<u32, DecodeError> {
        let answered = Self::read(fields)?;
        if answered.offset != self.offset {
            return Err(fields.value("offset", answered.offset, "not the offset that was asked for"));
        }
        if answered.region != self.region {
            return Err(fields.value("region", answered.region, "not the region that was asked for"));
        }
        if answered.count > self.count {
            return Err(fields.value("count", answered.count, "more than was asked for"));
        }
        Ok(answered.count)
    }

    /// Reads the access of a request, of which `fields` are.
    pub(crate) fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let access = Self::read(fields)?;
        fields.transfer(access.count.into())?;
        fields.range("offset", access.offset, access.count.into())?;
        Ok(access)
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let offset = fields.u64("offset")?;
        let region = fields.u32("region")?;
        Ok(Self { region, offset, count: fields.u32("count")? })
    }

    pub(crate) fn put(self, out: &mut Vec<u8>) {
        out.put_u64(self.offset);
        out.put_u32(self.region);
        out.put_u32(self.count);
    }
}
