//! Emulated boards within this process, for tests of programs that drive cards.
//!
//! ```
//! use jitney::emulated::{EmulatedCard, emulator::boards::Board, emulator::designs::Catalogue};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let board = Board::named(&Catalogue::built_in(), "nitefury")?;
//! let emulated = EmulatedCard::new(&board)?;
//!
//! // What follows is the program under test: it has a card, and nothing tells it which kind.
//! let card = emulated.card();
//! let board = jitney::boards::identify(&card)?;
//! let buffer = card.dma_buffer(4096.into())?;
//! board.xdma()?.h2c(0)?.write(&buffer, 0)?;
//! # Ok(())
//! # }
//! ```

pub use jitney_emulator as emulator;

use jitney_emulator::boards::{Board, BoardError, PluggedBoard};
use jitney_emulator::{Function, Options, ServerError, serve_in_process};
use jitney_vfio::{Card, Owner, open_connected};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// How many there were in this process, for their names.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A card of an emulated board, which this process owns alone. The board ends when the last that its card handed out is
/// gone.
#[derive(Debug)]
pub struct EmulatedCard {
    card: Arc<dyn Card>,
    board: Arc<PluggedBoard>,
}

/// Why there is no such card.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum EmulatedError {
    /// The board cannot be as it was asked for.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// The board cannot be served.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The card cannot be opened.
    #[error(transparent)]
    Card(#[from] jitney_vfio::Error),
}

/// What `main` prints of an error that it returns: what people can read.
impl std::fmt::Debug for EmulatedError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl EmulatedCard {
    /// A card of this board.
    ///
    /// # Errors
    /// What [`Board::plug_into`] answers, or sockets and threads that the machine does not have.
    pub fn new(board: &Board) -> Result<Self, EmulatedError> {
        let mut plugged = None;
        let socket = serve_in_process(Options::default(), |host| {
            let board = Arc::new(board.plug_into(host)?);
            plugged = Some(Arc::clone(&board));
            Ok::<_, EmulatedError>(board as Arc<dyn Function>)
        })?;
        let Some(plugged) = plugged else { unreachable!("it was plugged in, or that failed") };
        let address = format!("emulated:{}-{}", board.design().name, COUNT.fetch_add(1, Relaxed));
        let owner = Owner::of(vec![open_connected(socket.into(), address)?])?;
        Ok(Self { card: Arc::clone(&owner.cards()[0]) as Arc<dyn Card>, board: plugged })
    }

    /// The card, as a program drives it.
    #[must_use]
    pub fn card(&self) -> Arc<dyn Card> {
        Arc::clone(&self.card)
    }

    /// The board, to move its wires and to have faults happen.
    #[must_use]
    pub fn board(&self) -> &PluggedBoard {
        &self.board
    }
}
