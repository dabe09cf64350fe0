//! A card behind an open VFIO device file, whichever way that was opened.

use super::info::{self, Region};
use super::ioctl::DeviceFile;
use crate::device::CONFIG_REGION;
use crate::error::{Error, ErrorKind, Result};
use crate::grant::Grant;
use crate::record::{CardWay, KeptCard};
use crate::transport::{InterruptKind, RegionInfo, Transport};
use jitney_memory::Registers;
use jitney_pci::Address;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_RESET, VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_NORESIZE,
    VFIO_PCI_HOT_RESET_FLAG_DEV_ID,
};

/// The regions of a PCI function that anybody asks for: six BARs, expansion ROM, config space.
const REGIONS: u32 = CONFIG_REGION + 1;

/// The widest access that is made, in bytes. Registers of 64 bits are two accesses, low word first.
const WIDEST: usize = 4;

/// No kind of interrupt has more vectors: MSI-X's table ends there (PCIe 5.0, section 7.7.2).
const MOST_VECTORS: u32 = 2048;

/// A card that the kernel's VFIO gives access to.
#[derive(Debug)]
pub(crate) struct VfioDevice {
    address: String,
    file: DeviceFile,
    flags: u32,
    interrupt_kinds: u32,
    regions: Vec<Region>,
    origin: Origin,
    /// The functions that were opened along with it, which a reset of a common bus must not meet.
    neighbours: Vec<Address>,
}

/// What the kernel has said of a card when it was opened. A card that is gone does not say it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeviceRecord {
    flags: u32,
    interrupt_kinds: u32,
    regions: Vec<Region>,
}

/// The groups that this process has open: who resets a bus shows those of all cards on it.
pub(super) trait OpenGroups: fmt::Debug + Send + Sync {
    /// The open group of this number.
    fn group(&self, number: u32) -> Option<BorrowedFd<'_>>;
}

/// How this process came to the device file, which decides how a bus reset is justified.
#[derive(Debug)]
pub(super) enum Origin {
    /// From its group. The container keeps the group open.
    Group(Arc<dyn OpenGroups>),
    /// By its cdev.
    Cdev,
    /// From its owner.
    Received,
}

impl VfioDevice {
    /// The card at `address` behind `file`.
    pub(super) fn new(
        address: String,
        file: DeviceFile,
        origin: Origin,
        neighbours: Vec<Address>,
    ) -> Result<Self> {
        let failed = |errno, what: &str| failure(&address, errno, what);
        let info = file.info().map_err(|errno| failed(errno, "asking what it is"))?;
        if info.flags & VFIO_DEVICE_FLAGS_PCI == 0 {
            return Err(Error::new(ErrorKind::Unsupported, format!("card {address} is no PCI device")));
        }
        let regions = (0..REGIONS.min(info.num_regions)).map(|index| {
            match file.region(index) {
                // The ROM of a card without one.
                Err(Errno::INVAL) => Ok(Region::default()),
                Err(errno) => Err(failed(errno, &format!("asking for region {index}"))),
                Ok(answer) => Region::parse(&answer).map_err(|error| nonsense(&address, &error)),
            }
        });
        let regions = regions.collect::<Result<_>>()?;
        Ok(Self {
            file,
            flags: info.flags,
            interrupt_kinds: info.num_irqs,
            regions,
            origin,
            neighbours,
            address,
        })
    }

    /// The card behind a descriptor that its owner sent.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] if it is no VFIO device's.
    pub(crate) fn received(file: OwnedFd, address: String) -> Result<Self> {
        match DeviceFile::received(file) {
            Ok(file) => Self::new(address, file, Origin::Received, Vec::new()),
            Err(found) => Err(Error::new(
                ErrorKind::Protocol,
                format!("card {address}: its owner sent a descriptor that is no VFIO device's: {found}"),
            )),
        }
    }

    /// The card behind a file that another process has opened. It is not touched.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] if the file is no VFIO device's.
    pub(super) fn resumed(
        record: &DeviceRecord,
        file: OwnedFd,
        address: String,
        origin: Origin,
        neighbours: Vec<Address>,
    ) -> Result<Self> {
        let file = DeviceFile::kept(file).map_err(|found| {
            let what = format!("card {address}: what was kept of it is no VFIO device's descriptor: {found}");
            Error::new(ErrorKind::Protocol, what)
        })?;
        let DeviceRecord { flags, interrupt_kinds, regions } = record.clone();
        Ok(Self { address, file, flags, interrupt_kinds, regions, origin, neighbours })
    }

    fn region_at(&self, index: u32) -> Result<&Region> {
        let region = usize::try_from(index).ok().and_then(|index| self.regions.get(index));
        region.filter(|region| region.size > 0).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("card {} has no region {index}", self.address))
        })
    }

    /// Where in the device's file `length` bytes at `offset` of a region are.
    fn position(&self, index: u32, offset: u64, length: usize) -> Result<u64> {
        let region = self.region_at(index)?;
        let end = offset.checked_add(length as u64).filter(|&end| end <= region.size);
        end.and_then(|_| region.offset.checked_add(offset)).ok_or_else(|| {
            let (address, size) = (&self.address, region.size);
            Error::new(
                ErrorKind::OutOfBounds,
                format!("{length} bytes at {offset:#x} are outside of region {index} of card {address}, which has {size:#x}"),
            )
        })
    }

    fn done(&self, outcome: rustix::io::Result<usize>, length: usize, what: &str) -> Result<()> {
        match outcome {
            Ok(done) if done == length => Ok(()),
            Ok(done) => Err(Error::new(
                ErrorKind::System,
                format!("card {}: {what}: the kernel did {done} of {length} bytes", self.address),
            )),
            Err(errno) => Err(failure(&self.address, errno, what)),
        }
    }

    /// Resets the bus of the card, if that resets no other card that is in use.
    fn hot_reset(&self) -> Result<()> {
        let failed = |errno, what| failure(&self.address, errno, what);
        let unable = |why: String| {
            Error::new(ErrorKind::Unsupported, format!("card {} cannot be reset: {why}", self.address))
                .with_remedy("load its design again, or power-cycle it")
        };
        let answer = match self.file.hot_reset_info() {
            Err(Errno::NODEV | Errno::NOTTY | Errno::INVAL) => {
                return Err(unable("it has no function-level reset, and its bus cannot be reset".into()));
            }
            answer => answer.map_err(|errno| failed(errno, "asking what a reset of its bus would reset"))?,
        };
        let (flags, functions) =
            info::dependents(&answer).map_err(|error| nonsense(&self.address, &error))?;
        let device = |address: &str| address.rsplit_once('.').map(|(device, _)| device.to_owned());
        for function in functions.iter().filter_map(|function| function.address) {
            let name = function.to_string();
            // Other functions of this card have no life of their own, unless somebody has opened one.
            let stranger = device(&name) != device(&self.address);
            if stranger || (name != self.address && self.neighbours.contains(&function)) {
                return Err(unable(format!(
                    "it has no function-level reset, and a reset of its bus would also reset {name}"
                )));
            }
        }
        let groups = match &self.origin {
            Origin::Group(open) if flags & VFIO_PCI_HOT_RESET_FLAG_DEV_ID == 0 => {
                let mut wanted: Vec<u32> = functions.iter().map(|function| function.group).collect();
                wanted.sort_unstable();
                wanted.dedup();
                let open = |group: u32| {
                    open.group(group).ok_or_else(|| {
                        unable(format!(
                            "a reset of its bus needs group {group}, which this process does not hold"
                        ))
                    })
                };
                wanted.into_iter().map(open).collect::<Result<Vec<_>>>()?
            }
            Origin::Group(_) | Origin::Cdev => Vec::new(),
            Origin::Received => return Err(unable("only its owner can reset its bus".into())),
        };
        self.file.hot_reset(&groups).map_err(|errno| failed(errno, "resetting its bus"))
    }
}

impl Transport for VfioDevice {
    fn region(&self, index: u32) -> Result<RegionInfo> {
        let region = usize::try_from(index).ok().and_then(|index| self.regions.get(index));
        Ok(region.map_or_else(RegionInfo::default, |region| RegionInfo {
            size: region.size,
            mappable: region.mappable(),
        }))
    }

    fn read(&self, region: u32, offset: u64, data: &mut [u8]) -> Result<()> {
        let mut position = self.position(region, offset, data.len())?;
        for piece in data.chunks_mut(WIDEST) {
            let length = piece.len();
            let outcome = rustix::io::retry_on_intr(|| rustix::io::pread(&self.file, &mut *piece, position));
            self.done(outcome, length, &format!("reading {length} bytes at {offset:#x} of region {region}"))?;
            position += length as u64;
        }
        Ok(())
    }

    fn write(&self, region: u32, offset: u64, data: &[u8]) -> Result<()> {
        let mut position = self.position(region, offset, data.len())?;
        for piece in data.chunks(WIDEST) {
            let length = piece.len();
            let outcome = rustix::io::retry_on_intr(|| rustix::io::pwrite(&self.file, piece, position));
            self.done(outcome, length, &format!("writing {length} bytes at {offset:#x} of region {region}"))?;
            position += length as u64;
        }
        Ok(())
    }

    fn map(&self, region: u32) -> Result<Registers> {
        let address = &self.address;
        let found = self.region_at(region)?;
        let length = usize::try_from(found.size).ok().filter(|_| found.mappable()).ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                format!("region {region} of card {address} cannot be mapped as a whole"),
            )
        })?;
        Registers::map(&self.file, found.offset, length).map_err(|error| {
            let busy = error.errno() == Some(Errno::BUSY);
            let error = Error::from(error).context(format!("mapping region {region} of card {address}"));
            match busy {
                true => error.with_remedy(
                    "two processes mapped it for the first time at once, which Linux before 7.0 does not allow, or \
                     another driver has its addresses (dmesg names them)",
                ),
                false => error,
            }
        })
    }

    fn interrupt_count(&self, kind: InterruptKind) -> Result<u32> {
        let index = kind as u32;
        if index >= self.interrupt_kinds {
            return Ok(0);
        }
        match self.file.interrupts(index) {
            Ok(info) if info.flags & VFIO_IRQ_INFO_EVENTFD == 0 => Ok(0),
            Ok(info) => Ok(info.count.min(MOST_VECTORS)),
            // A function without PCIe has no error interrupt.
            Err(Errno::INVAL) => Ok(0),
            Err(errno) => Err(failure(&self.address, errno, &format!("asking for {kind:?} interrupts"))),
        }
    }

    /// Where the kernel can add vectors later (MSI-X, from 6.5 on) it gets one now and each other when it is wired: an
    /// enabled vector is an interrupt of the machine's, of which there are about 200 for each processor. Else it enables
    /// as many as the first call names and cannot add one without taking all of them down.
    fn enable(&self, kind: InterruptKind, count: u32) -> Result<u32> {
        let what = |wanted: u32| format!("enabling {wanted} {kind:?} interrupts");
        let failed = |errno, wanted| failure(&self.address, errno, &what(wanted));
        let info = self.file.interrupts(kind as u32).map_err(|errno| failed(errno, count))?;
        let can_add = kind == InterruptKind::MsiX && info.flags & VFIO_IRQ_INFO_NORESIZE == 0;
        let wanted = enabled_at_once(count, can_add, |wanted| {
            let silent = vec![None; usize::try_from(wanted).unwrap_or(usize::MAX)];
            let answer = self.file.arm(kind, 0, &silent).map_err(|errno| failed(errno, wanted))?;
            Ok(u32::try_from(answer).unwrap_or(0))
        })?;
        wanted.ok_or_else(|| {
            let what = format!("card {}: {}: the kernel has none to give", self.address, what(count));
            Error::new(ErrorKind::Exhausted, what).with_remedy("poll for completion instead")
        })
    }

    fn arm(&self, kind: InterruptKind, first: u32, events: &[Option<BorrowedFd<'_>>]) -> Result<()> {
        let what = || format!("wiring {} {kind:?} interrupts from {first} on", events.len());
        match self.file.arm(kind, first, events) {
            Ok(0) => Ok(()),
            Ok(possible) => Err(Error::new(
                ErrorKind::Exhausted,
                format!("card {}: {}: the kernel has only {possible} to give", self.address, what()),
            )
            .with_remedy("poll for completion instead")),
            Err(errno) => Err(failure(&self.address, errno, &what())),
        }
    }

    fn disarm(&self, kind: InterruptKind) -> Result<()> {
        let what = || format!("disabling {kind:?} interrupts");
        self.file.disarm(kind).map_err(|errno| failure(&self.address, errno, &what()))
    }

    fn unmask(&self, kind: InterruptKind, vector: u32) -> Result<()> {
        let what = || format!("unmasking {kind:?} interrupt {vector}");
        self.file.unmask(kind, vector).map_err(|errno| failure(&self.address, errno, &what()))
    }

    /// The kernel's choice of what the card has: function-level reset, power states, or its bus if it is alone on it.
    /// A card of several functions may need a reset of their common bus, which only its owner can ask for.
    fn reset(&self) -> Result<()> {
        if self.flags & VFIO_DEVICE_FLAGS_RESET == 0 {
            return self.hot_reset();
        }
        self.file.reset().map_err(|errno| failure(&self.address, errno, "resetting it"))
    }

    /// The same open device: a duplicate of its descriptor.
    fn grant(&self) -> Result<Grant> {
        let duplicate = self.file.duplicate();
        duplicate
            .map(Grant::Kernel)
            .map_err(|errno| failure(&self.address, errno, "duplicating its descriptor"))
    }

    /// None of a card that was itself received from an owner: its owner goes on with it.
    fn kept(&self) -> Option<KeptCard<'_>> {
        if matches!(self.origin, Origin::Received) {
            return None;
        }
        let &Self { flags, interrupt_kinds, .. } = self;
        let record = DeviceRecord { flags, interrupt_kinds, regions: self.regions.clone() };
        Some(KeptCard { way: CardWay::Kernel(record), descriptor: self.file.as_fd() })
    }
}

/// Enables vectors with `try_enable`, which takes a number and answers 0 for success or a smaller number that is possible.
/// Returns how many can be wired from then on, or nothing if none can be had.
fn enabled_at_once(
    count: u32,
    can_add: bool,
    mut try_enable: impl FnMut(u32) -> Result<u32>,
) -> Result<Option<u32>> {
    let mut wanted = if can_add { count.min(1) } else { count };
    // What was possible a moment ago may be somebody else's by now; the number falls each time.
    while wanted > 0 {
        match try_enable(wanted)? {
            0 => return Ok(Some(if can_add { count } else { wanted })),
            possible => wanted = possible.min(wanted - 1),
        }
    }
    Ok(None)
}

/// Of a card that was unplugged the kernel says ENODEV; of one in a low-power state, or with memory access off, EIO.
fn failure(address: &str, errno: Errno, what: &str) -> Error {
    let what = format!("card {address}: {what}");
    match errno {
        Errno::NODEV => Error::new(ErrorKind::LinkDown, what)
            .with_errno(errno)
            .with_remedy("it was unplugged, or taken from vfio-pci; open it anew when it is back"),
        Errno::IO => Error::new(ErrorKind::LinkDown, what)
            .with_errno(errno)
            .with_remedy("its memory access is off (Command register), or it is in a low-power state"),
        _ => Error::from_errno(errno, what),
    }
}

fn nonsense(address: &str, error: &info::Malformed) -> Error {
    Error::new(ErrorKind::Protocol, format!("card {address}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_vectors_are_enabled_as_the_machine_has() {
        // A machine with so many, as the kernel answers for it.
        let machine = |has: u32| move |wanted: u32| Ok(if wanted <= has { 0 } else { has });
        assert_eq!(enabled_at_once(32, false, machine(200)).unwrap(), Some(32));
        assert_eq!(enabled_at_once(2048, false, machine(200)).unwrap(), Some(200));
        assert_eq!(enabled_at_once(2048, false, |wanted| Ok(wanted / 2)).unwrap(), Some(1));
        let mut asked = Vec::new();
        let added = enabled_at_once(2048, true, |wanted| {
            asked.push(wanted);
            Ok(0)
        });
        assert_eq!((added.unwrap(), asked), (Some(2048), vec![1]));
        for (count, can_add) in [(2048, false), (8, true), (0, true), (0, false)] {
            assert_eq!(enabled_at_once(count, can_add, |wanted| Ok(wanted.max(1))).unwrap(), None);
        }
        let refused = |_| Err(Error::new(ErrorKind::LinkDown, "gone"));
        assert_eq!(enabled_at_once(4, false, refused).unwrap_err().kind(), ErrorKind::LinkDown);
    }
}
