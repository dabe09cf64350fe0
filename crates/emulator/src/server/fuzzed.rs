//! A whole board for a fuzz target: without socket and threads, its engines run when they are told to.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use jitney_designs::Catalogue;
use jitney_memory::EventFd;

use super::board::Board;
use crate::boards::{self, BoardError, BoardOptions, PluggedBoard};
use crate::function::{Function, InterruptKind};
use crate::host::{Allowed, BoardHost, ConnectionId, Kindness, Range};

/// The one client of such a board.
const CLIENT: ConnectionId = ConnectionId(0);
/// Who keeps a file mapped.
const KEEPER: ConnectionId = ConnectionId(1);

/// A board with its host and one client, all in one thread.
pub struct FuzzedBoard {
    board: Board,
    model: Arc<PluggedBoard>,
}

impl FuzzedBoard {
    /// The board of this name.
    ///
    /// # Errors
    /// As [`boards::Board::named`] and [`plug_into`](boards::Board::plug_into).
    pub fn new(name: &str, options: &BoardOptions) -> Result<Self, BoardError> {
        let host = Arc::new(BoardHost::new(Kindness::default()));
        let board = boards::Board::named(&Catalogue::built_in(), name)?.with(options.clone());
        let model = Arc::new(board.plug_into(Arc::clone(&host) as _)?);
        match Board::new(Arc::clone(&model) as Arc<dyn Function>, host) {
            Ok(board) => Ok(Self { board, model }),
            // The models are tested.
            Err(what) => unreachable!("{name}: {what}"),
        }
    }

    /// Reads from a region; whether it could.
    pub fn read(&self, region: u32, offset: u64, data: &mut [u8]) -> bool {
        self.board.read(region, offset, data).is_ok()
    }

    /// Writes to a region; whether it could.
    pub fn write(&self, region: u32, offset: u64, data: &[u8]) -> bool {
        self.board.write(region, offset, data).is_ok()
    }

    /// Maps memory; whether it could.
    pub fn map(
        &self,
        file: &OwnedFd,
        offset: u64,
        iova: u64,
        size: u64,
        (read, write): (bool, bool),
    ) -> bool {
        Range::new(iova, size).is_some_and(|range| {
            self.board.host().map_file(range, Allowed { read, write }, CLIENT, file, offset).is_ok()
        })
    }

    /// Maps a file for good, with no right and at the end of all addresses: mapping parts of it then costs little.
    pub fn keep(&self, file: &OwnedFd, size: u64) {
        let range = Range::new(u64::MAX - size, size);
        let none = Allowed { read: false, write: false };
        let kept = range.map(|range| self.board.host().map_file(range, none, KEEPER, file, 0));
        assert_eq!(kept, Some(Ok(())), "a file of {size:#x} bytes");
    }

    /// Fills the card's memory, which a reset does not touch.
    pub fn fill_memory(&self, byte: u8) {
        self.model.fill_memory(byte);
    }

    /// Takes memory away; whether it could.
    pub fn unmap(&self, iova: u64, size: u64) -> bool {
        Range::new(iova, size).is_some_and(|range| self.board.host().unmap(range, CLIENT).is_ok())
    }

    /// Resets the board.
    pub fn reset(&self) {
        self.board.reset();
    }

    /// Wires a vector, or none if there is no event.
    pub fn arm(&self, vector: u16, event: Option<EventFd>) {
        let interrupts = self.board.host().interrupts();
        match event {
            Some(event) => interrupts.arm(InterruptKind::MsiX, vector.into(), vec![event], CLIENT),
            None => interrupts.disarm(InterruptKind::MsiX, vector.into(), 1),
        }
    }

    /// Sets the level of a user interrupt's request.
    pub fn set_user_interrupt(&self, interrupt: u8, level: bool) {
        self.model.set_user_interrupt(interrupt, level);
    }

    /// Executes up to `most` descriptors of each channel; says how many there were.
    pub fn step(&self, most: u32) -> u32 {
        self.model.step(most)
    }
}
