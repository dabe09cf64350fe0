//! A vfio-user client with nothing in it but a socket, and a server to go with it.

use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jitney_emulator::{InterruptKinds, Options, ServerError, StopHandle};
use jitney_memory::descriptors::{self, Wait};
use jitney_memory::{Access, Mapping, Memfd, PageSize};
use jitney_vfio_user::{
    DmaMap, DmaMapFlags, DmaRequest, DmaUnmap, Header, IrqAction, IrqData, RegionAccess, Request, SetIrqs,
    Version, reply,
};

use crate::toy::{self, Toy};

/// Held by every test for reading, and for writing by one that measures the process.
static ALONE: RwLock<()> = RwLock::new(());

/// Waits until no other test runs, and keeps them from running.
pub(crate) fn no_other_test() -> RwLockWriteGuard<'static, ()> {
    ALONE.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The errno values that are asked for.
pub(crate) const EPERM: u32 = 1;
pub(crate) const E2BIG: u32 = 7;
pub(crate) const EEXIST: u32 = 17;
pub(crate) const EINVAL: u32 = 22;
pub(crate) const ENOTSUP: u32 = 95;

pub(crate) struct Fixture {
    pub(crate) path: PathBuf,
    stop: StopHandle,
    server: Option<JoinHandle<Result<(), ServerError>>>,
    _folder: tempfile::TempDir,
    _with_others: Option<RwLockReadGuard<'static, ()>>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with(toy::MSIX)
    }

    pub(crate) fn with(interrupts: InterruptKinds) -> Self {
        Self::beside_others(interrupts, |_| {})
    }

    pub(crate) fn with_options(change: impl FnOnce(&mut Options)) -> Self {
        Self::beside_others(toy::MSIX, change)
    }

    fn beside_others(interrupts: InterruptKinds, change: impl FnOnce(&mut Options)) -> Self {
        let with_others = ALONE.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut fixture = Self::start(interrupts, change);
        fixture._with_others = Some(with_others);
        fixture
    }

    /// A server, and then `test` while no other test runs.
    pub(crate) fn alone(test: impl FnOnce(&Self)) {
        let _alone = no_other_test();
        test(&Self::start(toy::MSIX, |_| {}));
    }

    fn start(interrupts: InterruptKinds, change: impl FnOnce(&mut Options)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("board");
        let patience = Duration::from_millis(500);
        let mut options = Options { patience, strict_writes: true, ..Options::default() };
        change(&mut options);
        let server = Toy::serve(&path, options, interrupts).unwrap();
        let stop = server.stop_handle();
        let server = Some(std::thread::spawn(|| server.serve()));
        Self { path, stop, server, _folder: folder, _with_others: None }
    }

    /// A socket on which nothing has been said.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(&self.path)
    }

    /// A client that has the board open, and lets it master the bus.
    pub(crate) fn open(&self) -> Client {
        let mut client = Client::to(&self.path);
        client.write(7, 4, &[6, 0]).unwrap();
        client
    }

    pub(crate) fn stop(&mut self) {
        self.stop.stop().unwrap();
        if let Some(server) = self.server.take() {
            server.join().unwrap().unwrap();
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop();
        assert!(!self.path.exists(), "the socket stayed behind");
    }
}

pub(crate) struct Client {
    pub(crate) socket: UnixStream,
    id: u16,
    /// Whether questions about memory without a descriptor are answered.
    pub(crate) answers: bool,
    /// That memory, and where it is.
    pub(crate) memory: Vec<u8>,
    pub(crate) memory_at: u64,
    /// How many such questions came.
    pub(crate) asked: usize,
    /// What is wrong with the answers.
    pub(crate) nonsense: Option<Nonsense>,
}

/// What can be wrong with an answer about memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nonsense {
    /// It is an error.
    Refusal,
    /// It has fewer bytes than were asked for.
    Short,
    /// It is about another address.
    Elsewhere,
    /// It is the answer to another command.
    OtherCommand,
    /// It does not come, because the client hangs up.
    Gone,
}

/// A whole message as it came.
pub(crate) struct Received {
    pub(crate) header: Header,
    pub(crate) body: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Client {
    /// A socket on which nothing has been said.
    pub(crate) fn connect(path: &Path) -> Self {
        Self::over(UnixStream::connect(path).unwrap())
    }

    /// A socket that somebody has connected.
    pub(crate) fn over(socket: UnixStream) -> Self {
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self { socket, id: 0, answers: true, memory: Vec::new(), memory_at: 0, asked: 0, nonsense: None }
    }

    /// A client that has the board open.
    pub(crate) fn to(path: &Path) -> Self {
        let mut client = Self::connect(path);
        client.ask(&Request::Version(Version::ours())).unwrap();
        client
    }

    /// Opens the board; whether the server let it.
    pub(crate) fn try_open(&mut self) -> bool {
        let mut message = Vec::new();
        let id = self.next_id();
        Request::Version(Version::ours()).encode(id, &mut message);
        let sent = descriptors::send_all(&self.socket, &[IoSlice::new(&message)], &[]);
        sent.is_ok() && self.reply(id).is_some()
    }

    pub(crate) fn next_id(&mut self) -> u16 {
        self.id = self.id.wrapping_add(1);
        self.id
    }

    pub(crate) fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
        descriptors::send_all(&self.socket, &[IoSlice::new(bytes)], descriptors).unwrap();
    }

    /// The next message, or `None` when the server has closed the connection.
    pub(crate) fn receive(&mut self) -> Option<Received> {
        let mut header = [0; 16];
        let mut descriptors = Vec::new();
        let mut have = 0;
        while have < 16 {
            let part = descriptors::receive(&self.socket, &mut header[have..], 16, Wait::Block);
            let part = match part {
                Err(error) if error.peer_gone() => return None,
                other => other.unwrap(),
            };
            if part.len == 0 {
                assert_eq!(have, 0, "cut off within a header");
                return None;
            }
            // QEMU takes a header in pieces for an error.
            assert_eq!(part.len, 16);
            have += part.len;
            descriptors.extend(part.descriptors);
        }
        let header = Header::decode(&header);
        let mut body = vec![0; header.size as usize - 16];
        self.socket.read_exact(&mut body).unwrap();
        Some(Received { header, body, descriptors })
    }

    /// Answers a question about memory that has no descriptor.
    fn oblige(&mut self, asked: &Received) {
        self.asked += 1;
        if !self.answers {
            return;
        }
        let mut out = Vec::new();
        match DmaRequest::decode(asked.header.command, &asked.body).unwrap() {
            DmaRequest::Read(access) => {
                let start = (access.address - self.memory_at) as usize;
                let source = &self.memory[start..][..access.count as usize];
                reply::dma_read(&asked.header, access, &mut out).copy_from_slice(source);
            }
            DmaRequest::Write { address, data } => {
                let start = (address - self.memory_at) as usize;
                self.memory[start..][..data.len()].copy_from_slice(data);
                let access = jitney_vfio_user::DmaAccess { address, count: data.len() as u32 };
                reply::dma_written(&asked.header, access, &mut out);
            }
            _ => unreachable!(),
        }
        match self.nonsense {
            Some(Nonsense::Refusal) => {
                out.clear();
                reply::error(&asked.header, 14, &mut out);
            }
            Some(Nonsense::Short) => {
                out.truncate(out.len() - 1);
                let size = out.len() as u32;
                out[4..8].copy_from_slice(&size.to_le_bytes());
            }
            Some(Nonsense::Elsewhere) => out[16] ^= 0x40,
            Some(Nonsense::OtherCommand) => out[2] ^= 1,
            Some(Nonsense::Gone) | None => {}
        }
        self.socket.write_all(&out).unwrap();
    }

    /// The reply to message `id`; `None` when the server has closed the connection.
    pub(crate) fn reply(&mut self, id: u16) -> Option<Received> {
        loop {
            let received = self.receive()?;
            if received.header.is_command() {
                self.oblige(&received);
                continue;
            }
            assert_eq!(received.header.id, id, "an answer that nobody waits for");
            return Some(received);
        }
    }

    /// Asks with descriptors; the reply, or the errno it was refused with.
    pub(crate) fn ask_with(
        &mut self,
        request: &Request<'_>,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Received, u32> {
        let id = self.next_id();
        let mut message = Vec::new();
        request.encode(id, &mut message);
        self.send(&message, descriptors);
        let reply = self.reply(id).expect("the connection is open");
        assert_eq!(reply.header.command, request.command().number());
        if reply.header.flags.error() {
            assert!(reply.body.is_empty() && reply.header.error != 0);
            return Err(reply.header.error);
        }
        Ok(reply)
    }

    pub(crate) fn ask(&mut self, request: &Request<'_>) -> Result<Received, u32> {
        self.ask_with(request, &[])
    }

    pub(crate) fn read(&mut self, region: u32, offset: u64, count: u32) -> Result<Vec<u8>, u32> {
        let access = RegionAccess { region, offset, count };
        let reply = self.ask(&Request::RegionRead(access))?;
        Ok(access.data(&reply.body).unwrap().to_vec())
    }

    pub(crate) fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), u32> {
        let reply = self.ask(&Request::RegionWrite { region, offset, data })?;
        let access = RegionAccess { region, offset, count: data.len() as u32 };
        assert_eq!(access.written(&reply.body).unwrap(), access.count);
        Ok(())
    }

    pub(crate) fn get(&mut self, register: u64) -> u32 {
        u32::from_le_bytes(self.read(0, register, 4).unwrap().try_into().unwrap())
    }

    pub(crate) fn set(&mut self, register: u64, value: u32) {
        self.write(0, register, &value.to_le_bytes()).unwrap();
    }

    pub(crate) fn post(&mut self, region: u32, offset: u64, data: &[u8]) {
        let mut message = Vec::new();
        let id = self.next_id();
        Request::RegionWrite { region, offset, data }.encode_posted(id, &mut message);
        self.send(&message, &[]);
    }

    pub(crate) fn map(
        &mut self,
        memory: Option<&impl AsFd>,
        offset: u64,
        address: u64,
        size: u64,
    ) -> Result<(), u32> {
        let flags = DmaMapFlags::new().with_read(true).with_write(true);
        self.map_as(flags, memory, offset, address, size)
    }

    pub(crate) fn map_as(
        &mut self,
        flags: DmaMapFlags,
        memory: Option<&impl AsFd>,
        offset: u64,
        address: u64,
        size: u64,
    ) -> Result<(), u32> {
        let memory: Vec<BorrowedFd<'_>> = memory.map(AsFd::as_fd).into_iter().collect();
        self.ask_with(&Request::DmaMap(DmaMap { flags, offset, address, size }), &memory).map(|_| ())
    }

    pub(crate) fn unmap(&mut self, address: u64, size: u64) -> Result<(), u32> {
        let unmap = DmaUnmap::range(address, size);
        let reply = self.ask(&Request::DmaUnmap(unmap))?;
        assert_eq!(DmaUnmap::decode(&reply.body).unwrap(), unmap);
        Ok(())
    }

    pub(crate) fn interrupts(
        &mut self,
        (index, start, count): (u32, u32, u32),
        action: IrqAction,
        data: IrqData<'_>,
        wires: &[BorrowedFd<'_>],
    ) -> Result<(), u32> {
        self.ask_with(&Request::SetIrqs(SetIrqs { index, start, count, action, data }), wires).map(|_| ())
    }

    /// Starts the engine.
    pub(crate) fn start(&mut self, command: u32, iova: u64, length: u32) {
        self.write(0, toy::IOVA, &iova.to_le_bytes()).unwrap();
        self.set(toy::LENGTH, length);
        self.set(toy::START, command);
    }

    /// Waits for the engine.
    pub(crate) fn outcome(&mut self) -> u32 {
        let start = Instant::now();
        loop {
            match self.get(toy::OUTCOME) {
                0 => assert!(start.elapsed() < Duration::from_secs(20), "the engine hangs"),
                outcome => return outcome,
            }
        }
    }

    pub(crate) fn dma(&mut self, command: u32, iova: u64, length: u32) -> u32 {
        self.start(command, iova, length);
        self.outcome()
    }
}

/// Memory with a descriptor, and our view of it.
pub(crate) fn memory(size: u64) -> (Memfd, Mapping) {
    let file = Memfd::create("client", size, PageSize::Normal).unwrap();
    let view = Mapping::shared(&file, 0, size as usize, Access::ReadWrite).unwrap();
    (file, view)
}

/// Waits until something holds that another thread brings about.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
