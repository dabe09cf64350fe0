//! A board that is emulated in a thread, and the card that its socket leads to.

use jitney_boards::{Catalogue, identify_in};
use jitney_emulator::boards::{Board, BoardError, BoardOptions};
use jitney_emulator::{Function, Options, Server, ServerError, StopHandle};
use jitney_vfio::{Card, CardAddress, DmaBuffer, Owner};
use std::sync::Arc;
use std::thread::JoinHandle;

/// `length` bytes that repeat nowhere, other ones for each `seed`.
pub(crate) fn data(length: usize, seed: u8) -> Vec<u8> {
    let first = u32::from(seed) * 0x1234_5677;
    let words = std::iter::successors(Some(first), |word| {
        Some(word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223))
    });
    words.flat_map(u32::to_le_bytes).take(length).collect()
}

pub(crate) struct Emulated {
    pub(crate) card: Arc<dyn Card>,
    stop: StopHandle,
    thread: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

#[derive(Debug)]
#[expect(dead_code, reason = "for its words, in the panic of a test that fails")]
enum Failure {
    Board(BoardError),
    Server(ServerError),
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        Self::Server(error)
    }
}

impl Emulated {
    /// The board of this name, served, and opened by its owner.
    pub(crate) fn new(name: &str) -> Self {
        Self::of(Board::named(&Catalogue::built_in(), name).unwrap())
    }

    /// The same in a certain revision.
    pub(crate) fn with(name: &str, revision: u32) -> Self {
        let options = BoardOptions { revision: Some(revision), ..BoardOptions::default() };
        Self::of(Board::named(&Catalogue::built_in(), name).unwrap().with(options))
    }

    /// The same, with a fault.
    pub(crate) fn with_fault(name: &str, fault: &str) -> Self {
        let options = BoardOptions { faults: vec![fault.parse().unwrap()], ..BoardOptions::default() };
        Self::of(Board::named(&Catalogue::built_in(), name).unwrap().with(options))
    }

    fn of(board: Board) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("board.sock");
        let server = Server::bind(&socket, Options::default(), |host| {
            let plugged = board.plug_into(host).map_err(Failure::Board)?;
            Ok::<_, Failure>(Arc::new(plugged) as Arc<dyn Function>)
        });
        let server = server.unwrap();
        let stop = server.stop_handle();
        let thread = Some(std::thread::spawn(move || server.serve().unwrap()));
        let owner = Owner::open(&[CardAddress::VfioUser(socket)]).unwrap();
        let card = Arc::clone(&owner.cards()[0]) as Arc<dyn Card>;
        Self { card, stop, thread, _folder: folder }
    }

    pub(crate) fn board(&self) -> jitney_boards::Board {
        identify_in(&Catalogue::built_in(), &self.card).unwrap()
    }

    pub(crate) fn buffer(&self, length: u64) -> DmaBuffer {
        self.card.dma_buffer(length.into()).unwrap()
    }
}

impl Drop for Emulated {
    fn drop(&mut self) {
        self.stop.stop().unwrap();
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            thread.join().unwrap();
        }
    }
}
