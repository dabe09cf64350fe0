//! Whole replies, appended to a buffer. Each takes the header of the command that it answers.
//!
//! None looks at [`Header::wants_reply`]: whoever receives a command checks it before an answer is built.

use crate::header::append;
use crate::{
    DeviceInfo, DmaAccess, DmaUnmap, Header, IoFdsQuery, IrqInfo, RegionAccess, RegionInfo, RegionQuery,
    Version,
};

/// Done, with nothing to say: for `DMA_MAP`, `DEVICE_SET_IRQS` and `DEVICE_RESET`.
pub fn done(to: &Header, out: &mut Vec<u8>) {
    append(to.for_reply(), out, |_| {});
}

/// The command failed with this Linux errno. Such a reply is a header and no more.
pub fn error(to: &Header, errno: u32, out: &mut Vec<u8>) {
    let mut header = to.for_reply();
    header.flags.set_error(true);
    header.error = errno;
    append(header, out, |_| {});
}

/// The version to use, from [`Version::answer`].
pub fn version(to: &Header, version: &Version, out: &mut Vec<u8>) {
    append(to.for_reply(), out, |out| version.put(out));
}

/// The memory is gone, and nothing touches it any more; repeats the request.
pub fn dma_unmapped(to: &Header, unmap: &DmaUnmap, out: &mut Vec<u8>) {
    append(to.for_reply(), out, |out| unmap.put(out));
}

/// What the device is.
pub fn device_info(to: &Header, info: &DeviceInfo, out: &mut Vec<u8>) {
    append(to.for_reply(), out, |out| info.put(out));
}

/// What a region is. If the client left no room for the mappable areas, they are left out and `argsz` tells it to ask
/// again.
pub fn region_info(to: &Header, query: &RegionQuery, info: &RegionInfo, out: &mut Vec<u8>) {
    append(to.for_reply(), out, |out| info.put(query.argsz, out));
}

/// No descriptor stands for any part of the region.
pub fn no_region_io_fds(to: &Header, query: IoFdsQuery, out: &mut Vec<u8>) {
    append(to.for_reply(), out, |out| query.put(out));
}

/// What an interrupt type is.
pub fn irq_info(to: &Header, info: &IrqInfo, out: &mut Vec<u8>) {
    append(to.for_reply(), out, |out| info.put(out));
}

/// The data of a `REGION_READ`: returns the `count` bytes of it, all 0, to be filled in.
///
/// Should the read fail then, cut `out` back to its former length and append an [`error`].
pub fn region_read<'a>(to: &Header, access: RegionAccess, out: &'a mut Vec<u8>) -> &'a mut [u8] {
    append(to.for_reply(), out, |out| {
        access.put(out);
        out.resize(out.len() + access.count as usize, 0);
    });
    last(out, access.count)
}

/// All the bytes of a `REGION_WRITE` have been written.
pub fn region_written(to: &Header, access: RegionAccess, out: &mut Vec<u8>) {
    append(to.for_reply(), out, |out| access.put(out));
}

/// The data of a `DMA_READ`, as in [`region_read`].
pub fn dma_read<'a>(to: &Header, access: DmaAccess, out: &'a mut Vec<u8>) -> &'a mut [u8] {
    append(to.for_reply(), out, |out| {
        access.put(out);
        out.resize(out.len() + access.count as usize, 0);
    });
    last(out, access.count)
}

/// All the bytes of a `DMA_WRITE` have been written.
pub fn dma_written(to: &Header, access: DmaAccess, out: &mut Vec<u8>) {
    append(to.for_reply(), out, |out| access.put(out));
}

fn last(out: &mut [u8], count: u32) -> &mut [u8] {
    let start = out.len() - count as usize;
    &mut out[start..]
}
