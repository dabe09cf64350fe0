//! An emulated NiteFury and a broker that owns it, on threads of this process.

use jitney_broker::{Broker, Bus, StopHandle};
use jitney_emulator::boards::{Board, BoardOptions, PluggedBoard};
use jitney_emulator::designs::Catalogue;
use jitney_emulator::{Function, Options, Server};
use jitney_vfio::{CardAddress, OpenOptions, OpenedCard, OpenedSpace, open_all_with};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The BAR of the XDMA, and some of its registers (PG195).
pub(crate) const XDMA: usize = 2;
pub(crate) const H2C0_CONTROL: u64 = 0x0004;
pub(crate) const H2C0_CONTROL_CLEAR: u64 = 0x000c;
pub(crate) const H2C0_STATUS: u64 = 0x0040;
pub(crate) const H2C0_WRITEBACK: u64 = 0x0088;
pub(crate) const USER_ENABLE: u64 = 0x2004;
pub(crate) const USER_VECTORS: u64 = 0x2080;

/// A broker that serves on a thread of its own until this is dropped.
pub(crate) struct Serving {
    socket: PathBuf,
    stop: StopHandle,
    thread: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Serving {
    pub(crate) fn new(spaces: Vec<OpenedSpace>) -> Self {
        Self::of(Broker::new(spaces).unwrap())
    }

    pub(crate) fn of(mut broker: Broker) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("broker.sock");
        broker.listen(&socket, 0o600).unwrap();
        let stop = broker.stop_handle();
        let thread = Some(std::thread::spawn(move || broker.run().map(|_| ()).unwrap()));
        Self { socket, stop, thread, _folder: folder }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Another client.
    pub(crate) fn bus(&self) -> Bus {
        Bus::options().broker(&self.socket).open().unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.stop().unwrap();
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "the broker panicked");
    }
}

/// An emulated NiteFury.
pub(crate) struct Emulated {
    pub(crate) board: Arc<PluggedBoard>,
    pub(crate) address: CardAddress,
    stop: jitney_emulator::StopHandle,
    thread: Option<JoinHandle<()>>,
    folder: Option<tempfile::TempDir>,
}

impl Emulated {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut board = Self::at(&folder.path().join("board.sock"));
        board.folder = Some(folder);
        board
    }

    pub(crate) fn at(socket: &Path) -> Self {
        let made = Mutex::new(None);
        let options = BoardOptions { memory: Some(16 << 20), ..BoardOptions::default() };
        let emulated = Board::named(&Catalogue::built_in(), "nitefury").unwrap().with(options);
        let server = Server::bind(socket, Options::default(), |host| {
            let board = Arc::new(emulated.plug_into(host).unwrap());
            *made.lock().unwrap() = Some(Arc::clone(&board));
            Ok::<_, jitney_emulator::ServerError>(board as Arc<dyn Function>)
        })
        .unwrap();
        let stop = server.stop_handle();
        let thread = Some(std::thread::spawn(move || server.serve().unwrap()));
        let board = made.into_inner().unwrap().unwrap();
        Self { board, address: CardAddress::VfioUser(socket.to_owned()), stop, thread, folder: None }
    }

    /// The board as somebody else who opens it sees it.
    pub(crate) fn look(&self) -> OpenedCard {
        jitney_vfio::open(&self.address).unwrap()
    }
}

impl Drop for Emulated {
    fn drop(&mut self) {
        self.stop.stop().unwrap();
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "the board panicked");
    }
}

/// Both.
pub(crate) struct Rig {
    pub(crate) broker: Serving,
    pub(crate) emulated: Emulated,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let emulated = Emulated::new();
        let spaces = open_all_with(std::slice::from_ref(&emulated.address), OpenOptions::default()).unwrap();
        Self { broker: Serving::new(spaces), emulated }
    }
}

/// Waits until `check` is true, some seconds at most.
pub(crate) fn eventually(what: &str, check: impl Fn() -> bool) {
    let since = Instant::now();
    while !check() {
        assert!(since.elapsed() < Duration::from_secs(5), "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
