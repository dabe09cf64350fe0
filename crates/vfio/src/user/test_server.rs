//! A vfio-user server for the tests of this crate: as little of a card as the client needs, and able to misbehave.

use jitney_memory::descriptors::{self, Wait};
use jitney_memory::{EventFd, Mapping, Memfd, PageSize};
use jitney_vfio_user::{
    Capabilities, Command, DeviceFlags, DeviceInfo, DmaAccess, DmaRequest, Frames, Header, HeaderFlags,
    IrqData, IrqFlags, IrqInfo, MmapArea, RegionAccess, RegionFlags, RegionInfo, RegionQuery, Request,
    Version, errno, reply,
};
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What goes wrong, at the first access to region 0 unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Fault {
    #[default]
    None,
    /// It hangs up without a reply.
    Dies,
    /// It hangs up in the middle of the reply.
    DiesWithin,
    /// It never replies.
    Silent,
    /// It replies with another message's number.
    WrongId,
    /// It replies with an errno.
    Errno(u32),
    /// It refuses to map memory, with this errno.
    MapErrno(u32),
    /// It replies with fewer bytes than were asked for.
    Short,
    /// Its reply is about another offset.
    OtherOffset,
    /// Its header announces an impossible size.
    BadSize,
    /// It sends the reply byte by byte.
    Dribbles,
    /// It asks for memory of the client's before it replies.
    Asks,
    /// It sends its first message with another major version.
    Major,
    /// It says that it is no PCI device.
    NotPci,
    /// It says that it unmapped less than it was asked to.
    UnmapsLess,
}

/// What the tests see of the card.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Ranges that are mapped, by IOVA.
    pub(crate) maps: BTreeMap<u64, u64>,
    /// Vectors that are wired.
    pub(crate) wires: BTreeMap<u32, EventFd>,
    /// Start, count and number of descriptors of each SET_IRQS.
    pub(crate) set_irqs: Vec<(u32, u32, usize)>,
    pub(crate) resets: u32,
    /// The last request.
    pub(crate) asked_last: Option<Command>,
    pub(crate) command: u16,
    /// What the last write of each offset of region 0 wrote.
    pub(crate) written: BTreeMap<u64, Vec<u8>>,
    /// What the client answered to [`Fault::Asks`].
    pub(crate) answer: Option<Header>,
}

/// The card: region 0 is trapped, region 2 is memory, 7 is configuration space. It has four vectors (MSI-X).
pub(crate) struct TestServer {
    pub(crate) seen: Arc<Mutex<Seen>>,
    pub(crate) memory: Arc<Memfd>,
    pub(crate) fault: Fault,
    /// Region 2 is described by areas.
    pub(crate) areas: Option<Vec<MmapArea>>,
    pub(crate) max_msg_fds: u32,
}

pub(crate) const BAR0_SIZE: u64 = 0x1000;
pub(crate) const BAR2_SIZE: u64 = 0x4000;

impl TestServer {
    pub(crate) fn new(fault: Fault) -> Self {
        let memory = Memfd::create("bar2", BAR2_SIZE, PageSize::Normal).unwrap();
        Self { seen: Arc::default(), memory: Arc::new(memory), fault, areas: None, max_msg_fds: 2 }
    }

    /// Serves on one end of a pair of sockets; the other is the client's.
    pub(crate) fn start(self) -> (OwnedFd, JoinHandle<()>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (theirs.into(), std::thread::spawn(move || self.serve(&ours)))
    }

    /// Serves one connection until its end, or until the fault.
    pub(crate) fn serve(&self, socket: &UnixStream) {
        let mut frames = Frames::new();
        let mut came = Vec::new();
        let mut out = Vec::new();
        loop {
            out.clear();
            let mut sent: Option<BorrowedFd<'_>> = None;
            match frames.next_message().unwrap() {
                None => {
                    let received = descriptors::receive(socket, frames.space(), 16, Wait::Block);
                    let Ok(received) = received else { return };
                    if received.len == 0 {
                        return;
                    }
                    came.extend(received.descriptors);
                    frames.filled(received.len);
                }
                Some(message) if message.header.is_reply() => {
                    self.seen.lock().unwrap().answer = Some(message.header);
                }
                Some(message) => {
                    let header = message.header;
                    let request = Request::decode(header.command, message.body).unwrap();
                    if let Request::RegionRead(DATA) = request
                        && !self.misbehave(socket, &header, &mut out)
                    {
                        return;
                    }
                    self.answer(&header, request, std::mem::take(&mut came), &mut out, &mut sent);
                    match self.fault {
                        Fault::Dribbles => out.chunks(1).for_each(|byte| send(socket, byte, None)),
                        _ => send(socket, &out, sent),
                    }
                }
            }
        }
    }

    /// Returns whether to go on to a proper reply.
    fn misbehave(&self, socket: &UnixStream, header: &Header, out: &mut Vec<u8>) -> bool {
        let other = RegionAccess { offset: 4, ..DATA };
        let mut wrong = *header;
        match self.fault {
            Fault::Dies => return false,
            Fault::DiesWithin => {
                reply::region_read(header, DATA, out);
                send(socket, &out[..20], None);
                return false;
            }
            Fault::Silent => {
                let mut rest = [0; 1];
                let _until_the_client_hangs_up = descriptors::receive(socket, &mut rest, 0, Wait::Block);
                return false;
            }
            Fault::WrongId => {
                wrong.id = wrong.id.wrapping_add(1);
                reply::region_read(&wrong, DATA, out);
            }
            Fault::Errno(errno) => reply::error(header, errno, out),
            Fault::Short => {
                reply::region_read(header, RegionAccess { count: 2, ..DATA }, out);
            }
            Fault::OtherOffset => {
                reply::region_read(header, other, out);
            }
            Fault::BadSize => {
                wrong.size = 3;
                wrong.flags = HeaderFlags::new().with_kind(HeaderFlags::REPLY);
                wrong.encode(out);
            }
            Fault::Asks => {
                DmaRequest::Read(DmaAccess { address: 0, count: 8 }).encode(99, out);
                send(socket, out, None);
                out.clear();
                return true;
            }
            _ => return true,
        }
        send(socket, out, None);
        // The client has what it needs; what it sends on another try, if any, is answered by hanging up.
        let mut rest = [0; 1024];
        while descriptors::receive(socket, &mut rest, 0, Wait::Block).is_ok_and(|more| more.len > 0) {
            if matches!(self.fault, Fault::Errno(_) | Fault::Short | Fault::OtherOffset) {
                return false;
            }
        }
        false
    }

    fn answer<'a>(
        &'a self,
        header: &Header,
        request: Request<'_>,
        mut came: Vec<OwnedFd>,
        out: &mut Vec<u8>,
        sent: &mut Option<BorrowedFd<'a>>,
    ) {
        let mut seen = self.seen.lock().unwrap();
        seen.asked_last = Some(request.command());
        match request {
            Request::Version(proposed) => {
                let capabilities = Capabilities { max_msg_fds: self.max_msg_fds, ..Capabilities::default() };
                let mut answer = Version { capabilities, ..proposed };
                if self.fault == Fault::Major {
                    answer.major = 7;
                }
                reply::version(header, &answer, out);
            }
            Request::DeviceInfo => {
                let flags = DeviceFlags::new().with_reset(true).with_pci(self.fault != Fault::NotPci);
                reply::device_info(header, &DeviceInfo { flags, num_regions: 9, num_irqs: 5 }, out);
            }
            Request::RegionInfo(query) => {
                if query.index == 2 {
                    *sent = Some(self.memory.as_fd());
                }
                reply::region_info(header, &query, &self.region(&query), out);
            }
            Request::IrqInfo { index } => {
                let count = if index == 2 { 4 } else { 0 };
                reply::irq_info(
                    header,
                    &IrqInfo { index, flags: IrqFlags::new().with_eventfd(true), count },
                    out,
                );
            }
            Request::SetIrqs(set) => {
                seen.set_irqs.push((set.start, set.count, came.len()));
                if set.data == IrqData::Eventfds {
                    (set.start..set.start + set.count).for_each(|vector| drop(seen.wires.remove(&vector)));
                    for (vector, event) in (set.start..).zip(came.drain(..)) {
                        seen.wires.insert(vector, EventFd::try_from(event).unwrap());
                    }
                } else if set.disables_all() {
                    seen.wires.clear();
                }
                reply::done(header, out);
            }
            Request::DmaMap(map) => {
                if let Fault::MapErrno(errno) = self.fault {
                    return reply::error(header, errno, out);
                }
                let there = seen.maps.range(..map.address + map.size).next_back();
                if there.is_some_and(|(start, size)| start + size > map.address) {
                    return reply::error(header, errno::EEXIST, out);
                }
                // Fails the test if no descriptor came, or one that is too short.
                Mapping::shared(
                    &came[0],
                    map.offset,
                    map.size.try_into().unwrap(),
                    jitney_memory::Access::ReadWrite,
                )
                .unwrap();
                seen.maps.insert(map.address, map.size);
                reply::done(header, out);
            }
            Request::DmaUnmap(mut unmap) => {
                if seen.maps.remove(&unmap.address) != Some(unmap.size) {
                    return reply::error(header, errno::EINVAL, out);
                }
                if self.fault == Fault::UnmapsLess {
                    unmap.size = 0;
                }
                reply::dma_unmapped(header, &unmap, out);
            }
            Request::RegionRead(access) => {
                let command = seen.command;
                let bytes = reply::region_read(header, access, out);
                match (access.region, access.offset) {
                    (7, 0x00) => bytes.copy_from_slice(&0x10ee_u16.to_le_bytes()),
                    (7, 0x02) => bytes.copy_from_slice(&0x7011_u16.to_le_bytes()),
                    (7, 0x04) => bytes.copy_from_slice(&command.to_le_bytes()),
                    (7, 0x08) if bytes.len() == 4 => bytes.copy_from_slice(&0x0580_0003_u32.to_le_bytes()),
                    (7, 0x08) => bytes[0] = 3,
                    (0, _) => bytes.iter_mut().zip((1..=255).cycle()).for_each(|(byte, value)| *byte = value),
                    _ => {}
                }
            }
            Request::RegionWrite { region, offset, data } => {
                match (region, offset) {
                    (7, 0x04) => seen.command = u16::from_le_bytes([data[0], data[1]]),
                    (0, _) => drop(seen.written.insert(offset, data.to_vec())),
                    _ => {}
                }
                let count = data.len().try_into().unwrap();
                reply::region_written(header, RegionAccess { region, offset, count }, out);
            }
            Request::DeviceReset => {
                seen.resets += 1;
                seen.command = 0;
                reply::done(header, out);
            }
            _ => reply::error(header, errno::ENOTSUP, out),
        }
    }

    fn region(&self, query: &RegionQuery) -> RegionInfo {
        let index = query.index;
        let flags = RegionFlags::new().with_read(true).with_write(true);
        let (size, flags, sparse) = match index {
            0 => (BAR0_SIZE, flags, None),
            2 => (BAR2_SIZE, flags.with_mmap(true), self.areas.clone()),
            7 => (0x1000, flags, None),
            _ => (0, RegionFlags::new(), None),
        };
        RegionInfo { index, flags, size, offset: 0, sparse }
    }
}

/// The access at which faults happen.
pub(crate) const DATA: RegionAccess = RegionAccess { region: 0, offset: 0, count: 4 };

fn send(socket: &UnixStream, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) {
    // The client may be gone already; that is for the test to notice.
    let _gone = descriptors::send_all(socket, &[IoSlice::new(bytes)], descriptor.as_slice());
}
