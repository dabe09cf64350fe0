//! Interrupts: what there is, and arming, masking and triggering it.

use bitfield_struct::bitfield;

use crate::fields::{Fields, PutFields};
use crate::{Command, DecodeError};

/// Properties of an interrupt type, as in `struct vfio_irq_info`.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct IrqFlags {
    /// Events are told by eventfd.
    pub eventfd: bool,
    /// It can be masked and unmasked.
    pub maskable: bool,
    /// It masks itself when it fires, as INTx does.
    pub automasked: bool,
    /// Interrupts are set up as a whole: more cannot be added while some are armed.
    pub noresize: bool,
    #[bits(28)]
    reserved: u32,
}

/// How many interrupts of one type there are (section "`VFIO_USER_DEVICE_GET_IRQ_INFO`").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IrqInfo {
    /// The type; for PCI 0 is INTx, 1 MSI, 2 MSI-X, 3 ERR, 4 REQ.
    pub index: u32,
    /// Its properties.
    pub flags: IrqFlags,
    /// The number of interrupts; 0 if the device has none of the type.
    pub count: u32,
}

impl IrqInfo {
    /// Bytes of the body.
    const SIZE: u32 = 16;

    /// Reads the body of the reply to a question about the type `index`.
    ///
    /// # Errors
    ///
    /// The body is too short, or is about another type. The count is the peer's: check it before use.
    pub fn decode(index: u32, body: &[u8]) -> Result<Self, DecodeError> {
        let info = Self::read(body)?;
        if info.index != index {
            let fields = Fields::new(Command::DeviceGetIrqInfo, body);
            return Err(fields.value("index", info.index, "not the interrupt type that was asked for"));
        }
        Ok(info)
    }

    /// The type that the body of a request asks about.
    pub(crate) fn decode_query(body: &[u8]) -> Result<u32, DecodeError> {
        Self::read(body).map(|info| info.index)
    }

    pub(crate) fn put_query(index: u32, out: &mut Vec<u8>) {
        Self { index, flags: IrqFlags::new(), count: 0 }.put(out);
    }

    fn read(body: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::new(Command::DeviceGetIrqInfo, body);
        fields.argsz(Self::SIZE)?;
        let flags = IrqFlags::from_bits(fields.u32("flags")?);
        Ok(Self { flags, index: fields.u32("index")?, count: fields.u32("count")? })
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_u32(Self::SIZE);
        out.put_u32(self.flags.into_bits());
        out.put_u32(self.index);
        out.put_u32(self.count);
    }
}

/// What to do with interrupts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IrqAction {
    /// Mask them; with eventfds, tell when they get masked.
    Mask,
    /// Unmask them; with eventfds, tell when they get unmasked.
    Unmask,
    /// Trigger them; with eventfds, tell when the device triggers them.
    Trigger,
}

/// What comes with the action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IrqData<'a> {
    /// Nothing: the action is for every interrupt of the range.
    None,
    /// One byte for each interrupt of the range; the action is for those that are not 0.
    Bools(&'a [u8]),
    /// Descriptors beside the message, one for each interrupt; none at all disarms the range.
    ///
    /// QEMU sends a count of 1 without a descriptor for an MSI-X vector that is present and not armed.
    Eventfds,
}

/// Arms, masks or triggers a range of interrupts of one type (section "`VFIO_USER_DEVICE_SET_IRQS`").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetIrqs<'a> {
    /// The type; for PCI 0 is INTx, 1 MSI, 2 MSI-X, 3 ERR, 4 REQ.
    pub index: u32,
    /// The first interrupt.
    pub start: u32,
    /// The number of interrupts. With [`IrqData::Bools`] it is the number of bytes. Zero (and a start of zero) with
    /// [`IrqData::None`] and [`IrqAction::Trigger`] disables the whole type.
    pub count: u32,
    /// What to do.
    pub action: IrqAction,
    /// With what.
    pub data: IrqData<'a>,
}

impl<'a> SetIrqs<'a> {
    const FIXED_SIZE: u32 = 20;

    const DATA_NONE: u32 = 1 << 0;
    const DATA_BOOL: u32 = 1 << 1;
    const DATA_EVENTFD: u32 = 1 << 2;
    const ACTION_MASK: u32 = 1 << 3;
    const ACTION_UNMASK: u32 = 1 << 4;
    const ACTION_TRIGGER: u32 = 1 << 5;
    const DATA: u32 = Self::DATA_NONE | Self::DATA_BOOL | Self::DATA_EVENTFD;
    const ACTION: u32 = Self::ACTION_MASK | Self::ACTION_UNMASK | Self::ACTION_TRIGGER;

    /// Whether this disables every interrupt of the type.
    #[must_use]
    pub fn disables_all(&self) -> bool {
        self.count == 0 && self.action == IrqAction::Trigger && self.data == IrqData::None
    }

    pub(crate) fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::new(Command::DeviceSetIrqs, body);
        fields.argsz(Self::FIXED_SIZE)?;
        let flags = fields.u32("flags")?;
        let index = fields.u32("index")?;
        let start = fields.u32("start")?;
        let count = fields.u32("count")?;
        if flags & !(Self::DATA | Self::ACTION) != 0 {
            return Err(fields.value("flags", flags, "an unknown bit is set"));
        }
        let action = match flags & Self::ACTION {
            Self::ACTION_MASK => IrqAction::Mask,
            Self::ACTION_UNMASK => IrqAction::Unmask,
            Self::ACTION_TRIGGER => IrqAction::Trigger,
            _ => return Err(fields.value("flags", flags, "not exactly one action")),
        };
        if start.checked_add(count).is_none() {
            return Err(fields.value("count", count, "start and count overflow"));
        }
        let data = match flags & Self::DATA {
            Self::DATA_NONE => IrqData::None,
            Self::DATA_BOOL => IrqData::Bools(fields.bytes("data", count)?),
            Self::DATA_EVENTFD => IrqData::Eventfds,
            _ => return Err(fields.value("flags", flags, "not exactly one kind of data")),
        };
        Ok(Self { index, start, count, action, data })
    }

    /// With [`IrqData::Bools`] the number of bytes is the count, whatever `count` says.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        let (kind, bools) = match self.data {
            IrqData::None => (Self::DATA_NONE, None),
            IrqData::Bools(bools) => (Self::DATA_BOOL, Some(bools)),
            IrqData::Eventfds => (Self::DATA_EVENTFD, None),
        };
        let action = match self.action {
            IrqAction::Mask => Self::ACTION_MASK,
            IrqAction::Unmask => Self::ACTION_UNMASK,
            IrqAction::Trigger => Self::ACTION_TRIGGER,
        };
        let count = bools.map_or(self.count, |bools| u32::try_from(bools.len()).unwrap_or(u32::MAX));
        let bools = bools.unwrap_or_default();
        out.put_u32(Self::FIXED_SIZE.saturating_add(if bools.is_empty() { 0 } else { count }));
        out.put_u32(kind | action);
        out.put_u32(self.index);
        out.put_u32(self.start);
        out.put_u32(count);
        out.extend_from_slice(bools);
    }
}
