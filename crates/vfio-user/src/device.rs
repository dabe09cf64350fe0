//! What the device is as a whole.

use bitfield_struct::bitfield;

use crate::fields::{Fields, PutFields};
use crate::{Command, DecodeError};

/// Properties of a device, as in `struct vfio_device_info`.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct DeviceFlags {
    /// `DEVICE_RESET` is supported.
    pub reset: bool,
    /// It is a PCI device; the protocol knows no other yet.
    pub pci: bool,
    #[bits(30)]
    reserved: u32,
}

/// How many regions and interrupt types a device has (section "`VFIO_USER_DEVICE_GET_INFO`").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its properties.
    pub flags: DeviceFlags,
    /// The number of regions; 9 for a PCI device without special ones (six BARs, ROM, configuration space, VGA).
    pub num_regions: u32,
    /// The number of interrupt types; 5 for a PCI device (INTx, MSI, MSI-X, ERR, REQ).
    pub num_irqs: u32,
}

impl DeviceInfo {
    /// Bytes of the body.
    const SIZE: u32 = 16;

    /// Reads the body of the reply.
    ///
    /// # Errors
    ///
    /// The body is too short. The numbers are the peer's: check them before anything is set aside for each.
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::new(Command::DeviceGetInfo, body);
        fields.argsz(Self::SIZE)?;
        Ok(Self {
            flags: DeviceFlags::from_bits(fields.u32("flags")?),
            num_regions: fields.u32("num_regions")?,
            num_irqs: fields.u32("num_irqs")?,
        })
    }

    /// Checks the body of a request, which says nothing but how long the reply may be.
    pub(crate) fn decode_query(body: &[u8]) -> Result<(), DecodeError> {
        Self::decode(body).map(|_| ())
    }

    pub(crate) fn put_query(out: &mut Vec<u8>) {
        Self { flags: DeviceFlags::new(), num_regions: 0, num_irqs: 0 }.put(out);
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_u32(Self::SIZE);
        out.put_u32(self.flags.into_bits());
        out.put_u32(self.num_regions);
        out.put_u32(self.num_irqs);
    }
}
