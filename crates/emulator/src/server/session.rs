//! What one client asks, and what it is answered.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use jitney_memory::EventFd;
use jitney_vfio_user::{
    DecodeError, DeviceFlags, DeviceInfo, DmaMap, DmaUnmap, Header, IrqAction, IrqData, IrqFlags, IrqInfo,
    Message, MmapArea, RegionAccess, RegionFlags, RegionInfo, RegionQuery, Request, SetIrqs, Version, reply,
};
use rustix::io::Errno;

use super::board::{Arrival, Board, CONFIG_REGION, REGIONS};
use crate::function::InterruptKind;
use crate::host::{Allowed, Link, Range};
use crate::limited::warn_limited;

/// Interrupt types of a PCI device: INTx, MSI, MSI-X, ERR and REQ. The last two are offered with a count of zero: a board
/// has no errors of the link to tell of, and the only thing QEMU does on one is to stop its guest.
const INTERRUPT_TYPES: u32 = 5;

/// A buffer longer than this is given back after the message that needed it.
const KEPT: usize = 16 << 10;

/// Why a command was refused.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Message(#[from] DecodeError),
    #[error("{command} before the version was agreed on")]
    NotOpen { command: u16 },
    #[error("{what}: {errno}")]
    Failed { what: &'static str, errno: Errno },
}

impl Refusal {
    fn errno(&self) -> u32 {
        match self {
            Self::Message(error) => error.errno(),
            Self::NotOpen { .. } => jitney_vfio_user::errno::EINVAL,
            Self::Failed { errno, .. } => errno.raw_os_error().unsigned_abs(),
        }
    }
}

fn failed(what: &'static str) -> impl FnOnce(Errno) -> Refusal {
    move |errno| Refusal::Failed { what, errno }
}

/// The connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    /// The client does not take its answers.
    #[error(transparent)]
    Send(#[from] jitney_memory::Error),
    /// The time that it has cannot be limited.
    #[error("SO_RCVTIMEO: {0}")]
    Clock(std::io::Error),
    /// The client has not said which version it speaks.
    #[error("no version was agreed on within {0:?}")]
    Silent(Duration),
    /// The client does not speak this protocol, or not this version.
    #[error("message {id}: {reason}")]
    Nonsense {
        /// The message's identifier.
        id: u16,
        /// What is wrong.
        reason: String,
    },
}

/// One connection's state.
pub(crate) struct Session<'a> {
    board: &'a Board,
    link: &'a Arc<Link>,
    arrival: Arrival,
    /// The version has been agreed on.
    open: bool,
    /// This is the connection that may map memory; see [`mapper`](super::mapper).
    maps: bool,
    /// The reply that is being built; kept, so that a register access allocates nothing.
    out: Vec<u8>,
}

impl<'a> Session<'a> {
    /// A connection that has said nothing yet.
    pub(crate) fn new(board: &'a Board, link: &'a Arc<Link>, arrival: Arrival) -> Self {
        Self { board, link, arrival, open: false, maps: false, out: Vec::new() }
    }

    /// Whether the version has been agreed on.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Does what a message asks and answers it. A command that uses descriptors takes all of those that have come.
    pub(crate) fn handle(&mut self, message: Message<'_>, descriptors: &mut Vec<OwnedFd>) -> Result<(), End> {
        let header = message.header;
        if header.is_reply() {
            self.link.answer(message);
            return Ok(());
        }
        if !header.is_command() {
            return self.end(
                &header,
                jitney_vfio_user::errno::EINVAL,
                "neither a command nor a reply".into(),
            );
        }
        self.out.clear();
        match self.perform(&header, message.body, descriptors) {
            Ok(descriptor) => {
                if header.wants_reply() {
                    self.link.send(&self.out, descriptor.as_slice())?;
                }
            }
            Err(refusal) => {
                // A client that does not agree on a version, or cannot write JSON, has nothing more to say.
                if !self.open {
                    return self.end(&header, refusal.errno(), refusal.to_string());
                }
                tracing::debug!("refused message {}: {refusal}", header.id);
                if header.wants_reply() {
                    self.out.clear();
                    reply::error(&header, refusal.errno(), &mut self.out);
                    self.link.send(&self.out, &[])?;
                }
            }
        }
        if self.out.capacity() > KEPT {
            self.out = Vec::new();
        }
        Ok(())
    }

    /// Tells the client that this was its last message.
    pub(crate) fn end(&mut self, header: &Header, errno: u32, reason: String) -> Result<(), End> {
        if header.wants_reply() {
            self.out.clear();
            reply::error(header, errno, &mut self.out);
            self.link.send(&self.out, &[])?;
        }
        Err(End::Nonsense { id: header.id, reason })
    }

    /// Carries a command out and builds its reply; returns the descriptor that goes with it.
    fn perform(
        &mut self,
        header: &Header,
        body: &[u8],
        descriptors: &mut Vec<OwnedFd>,
    ) -> Result<Option<BorrowedFd<'a>>, Refusal> {
        let request = Request::decode(header.command, body)?;
        if !self.open && !matches!(request, Request::Version(_)) {
            return Err(Refusal::NotOpen { command: header.command });
        }
        let out = &mut self.out;
        match request {
            Request::RegionRead(access) => {
                let data = reply::region_read(header, access, out);
                self.board.read(access.region, access.offset, data).map_err(failed("REGION_READ"))?;
            }
            Request::RegionWrite { region, offset, data } => {
                self.board.write(region, offset, data).map_err(failed("REGION_WRITE"))?;
                let count = u32::try_from(data.len()).unwrap_or(u32::MAX);
                reply::region_written(header, RegionAccess { region, offset, count }, out);
            }
            Request::DmaMap(map) => {
                self.map(&map, &std::mem::take(descriptors))?;
                reply::done(header, &mut self.out);
            }
            Request::DmaUnmap(unmap) => {
                self.unmap(&unmap)?;
                reply::dma_unmapped(header, &unmap, &mut self.out);
            }
            Request::SetIrqs(set) => {
                self.set_interrupts(&set, std::mem::take(descriptors))?;
                reply::done(header, &mut self.out);
            }
            Request::DeviceInfo => {
                let flags = DeviceFlags::new().with_reset(true).with_pci(true);
                let info = DeviceInfo { flags, num_regions: REGIONS, num_irqs: INTERRUPT_TYPES };
                reply::device_info(header, &info, out);
            }
            Request::RegionInfo(query) => return self.region_info(header, &query),
            Request::RegionIoFds(query) if query.region < REGIONS => {
                reply::no_region_io_fds(header, query, out);
            }
            Request::RegionIoFds(_) => {
                return Err(Refusal::Failed { what: "no such region", errno: Errno::INVAL });
            }
            Request::IrqInfo { index } => self.interrupt_info(header, index)?,
            Request::DeviceReset => {
                self.board.reset();
                reply::done(header, out);
            }
            Request::Version(proposed) => self.agree(header, &proposed)?,
            // The crate of messages may learn commands that this server does not know yet.
            _ => return Err(Refusal::Failed { what: "unknown command", errno: Errno::OPNOTSUPP }),
        }
        Ok(None)
    }

    fn agree(&mut self, header: &Header, proposed: &Version) -> Result<(), Refusal> {
        if self.open {
            return Err(Refusal::Failed { what: "VERSION a second time", errno: Errno::INVAL });
        }
        let version = Version::ours().answer(proposed)?;
        self.link.set_limit(proposed.capabilities.max_data_xfer_size);
        self.maps = self.board.open(self.arrival, self.link);
        self.open = true;
        reply::version(header, &version, &mut self.out);
        Ok(())
    }

    fn map(&self, map: &DmaMap, descriptors: &[OwnedFd]) -> Result<(), Refusal> {
        let refused = |errno| Refusal::Failed { what: "DMA_MAP", errno };
        self.check_mapper().map_err(refused)?;
        let range = Range::new(map.address, map.size).ok_or(refused(Errno::INVAL))?;
        let allowed = Allowed { read: map.flags.read(), write: map.flags.write() };
        match descriptors {
            [] => self.board.host().map_client(range, allowed, self.arrival.id, self.link),
            [file] => self.board.host().map_file(range, allowed, self.arrival.id, file, map.offset),
            _ => Err(Errno::INVAL),
        }
        .map_err(refused)
    }

    /// Refuses a connection that does not own the board.
    fn check_mapper(&self) -> Result<(), Errno> {
        if self.maps {
            return Ok(());
        }
        warn_limited!(
            "{} may not map memory: another one had the board open first, and owns it",
            self.link.client()
        );
        Err(Errno::PERM)
    }

    fn unmap(&self, unmap: &DmaUnmap) -> Result<(), Refusal> {
        self.check_mapper().map_err(failed("DMA_UNMAP"))?;
        let range = if unmap.all { Some(Range::ALL) } else { Range::new(unmap.address, unmap.size) };
        range
            .ok_or(Errno::INVAL)
            .and_then(|range| self.board.host().unmap(range, self.arrival.id))
            .map_err(failed("DMA_UNMAP"))
    }

    fn region_info(
        &mut self,
        header: &Header,
        query: &RegionQuery,
    ) -> Result<Option<BorrowedFd<'a>>, Refusal> {
        let index = query.index;
        if index >= REGIONS {
            return Err(Refusal::Failed { what: "no such region", errno: Errno::INVAL });
        }
        let size = self.board.region_size(index);
        let memory = if size == 0 || index >= CONFIG_REGION {
            None
        } else {
            usize::try_from(index).ok().and_then(|bar| self.board.function().mappable(bar))
        };
        let sparse = memory
            .filter(|memory| memory.length < size)
            .map(|memory| vec![MmapArea { offset: 0, size: memory.length }]);
        let offset = memory.map_or(0, |memory| memory.offset);
        let flags = RegionFlags::new().with_read(size > 0).with_write(size > 0).with_mmap(memory.is_some());
        let is_sparse = sparse.is_some();
        reply::region_info(header, query, &RegionInfo { index, flags, size, offset, sparse }, &mut self.out);
        // A client that left no room for the areas asks again; the descriptor goes with that answer.
        let complete = !is_sparse || self.out.len() > Header::SIZE + RegionInfo::FIXED_SIZE as usize;
        Ok(memory.filter(|_| complete).map(|memory| memory.file.as_fd()))
    }

    fn interrupt_info(&mut self, header: &Header, index: u32) -> Result<(), Refusal> {
        if index >= INTERRUPT_TYPES {
            return Err(Refusal::Failed { what: "no such interrupt type", errno: Errno::INVAL });
        }
        let (kind, count) = self.board.interrupts(index);
        let is_line = kind == InterruptKind::Intx;
        let flags = IrqFlags::new().with_eventfd(true).with_maskable(is_line).with_automasked(is_line);
        reply::irq_info(header, &IrqInfo { index, flags, count }, &mut self.out);
        Ok(())
    }

    fn set_interrupts(&self, set: &SetIrqs<'_>, descriptors: Vec<OwnedFd>) -> Result<(), Refusal> {
        let refused = |errno| Refusal::Failed { what: "DEVICE_SET_IRQS", errno };
        let (kind, vectors) = self.board.interrupts(set.index);
        let interrupts = self.board.host().interrupts();
        if set.disables_all() && set.index < INTERRUPT_TYPES {
            // Taking down a type that the board does not have is what careful clients do first.
            interrupts.disable(kind);
            return Ok(());
        }
        let end = set.start.checked_add(set.count).filter(|end| *end <= vectors && set.count > 0);
        let end = end.ok_or(refused(Errno::INVAL))? as usize;
        let start = set.start as usize;
        let chosen = |index: &usize| match set.data {
            IrqData::Bools(bools) => bools.get(index - start).is_some_and(|chosen| *chosen != 0),
            IrqData::None | IrqData::Eventfds => true,
        };
        let all = (start..end).filter(chosen);
        // As with a kernel's device: one kind at a time, and the other has to be taken down first.
        if !interrupts.is_free_for(kind) {
            return Err(refused(Errno::INVAL));
        }
        match (set.action, set.data) {
            (IrqAction::Trigger, IrqData::Eventfds) if descriptors.is_empty() => {
                interrupts.disarm(kind, start, end - start);
            }
            (IrqAction::Trigger, IrqData::Eventfds) => {
                let wires: Result<Vec<EventFd>, _> = descriptors.into_iter().map(EventFd::try_from).collect();
                let wires = wires.ok().filter(|wires| wires.len() == end - start);
                interrupts.arm(kind, start, wires.ok_or(refused(Errno::INVAL))?, self.arrival.id);
            }
            (IrqAction::Trigger, _) => interrupts.trigger(all).map_err(|_| refused(Errno::INVAL))?,
            // Eventfds that mask, or tell of masks, would need a thread that listens; nobody here uses them.
            (IrqAction::Mask | IrqAction::Unmask, IrqData::Eventfds) => {
                return Err(refused(Errno::OPNOTSUPP));
            }
            (IrqAction::Mask, _) => interrupts.mask(all, true),
            (IrqAction::Unmask, _) => interrupts.mask(all, false),
        }
        Ok(())
    }
}
