//! Descriptors that stand for parts of a region, of which this crate has a server say that there are none.

use crate::fields::{Fields, PutFields};
use crate::{Command, DecodeError};

/// Which descriptors could be used instead of messages to write to a region (section
/// "`VFIO_USER_DEVICE_GET_REGION_IO_FDS`"): ioeventfds and their like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoFdsQuery {
    /// The region.
    pub region: u32,
}

impl IoFdsQuery {
    /// Bytes of the body, and of the reply without descriptors.
    pub(crate) const SIZE: u32 = 16;

    pub(crate) fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::new(Command::DeviceGetRegionIoFds, body);
        fields.argsz(Self::SIZE)?;
        let flags = fields.u32("flags")?;
        let region = fields.u32("index")?;
        // The count is the reply's.
        fields.u32("count")?;
        if flags != 0 {
            return Err(fields.value("flags", flags, "none is defined"));
        }
        Ok(Self { region })
    }

    /// The request, and the reply that there is no descriptor, which is the same.
    pub(crate) fn put(self, out: &mut Vec<u8>) {
        out.put_u32(Self::SIZE);
        out.put_u32(0);
        out.put_u32(self.region);
        out.put_u32(0);
    }
}
