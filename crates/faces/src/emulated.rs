//! Emulated boards, as a program of another language asks for them.

use crate::failure::Failure;
use jitney::boards::{self, Catalogue};
use jitney::emulated::EmulatedCard;
use jitney::emulated::emulator::boards::{Board, BoardOptions};
use jitney::emulated::emulator::fault::{Fault, FaultError};
use jitney::emulated::emulator::xdma::LinkLimit;
use std::path::PathBuf;

/// How the board is to be; what is not said is as usual.
#[derive(Debug, Default)]
pub struct Wanted {
    /// The board's or design's name.
    pub board: Option<String>,
    /// A boards file that has it.
    pub file: Option<PathBuf>,
    /// Bytes of its memory.
    pub memory: Option<u64>,
    /// Channels in each direction.
    pub channels: Option<u8>,
    /// Its interrupts, as by `jitney emulate --interrupts`.
    pub interrupts: Option<String>,
    /// What its link carries.
    pub link: Option<LinkLimit>,
    /// The file that its flash is kept in.
    pub flash: Option<PathBuf>,
    /// Faults, as by `jitney emulate --fault`.
    pub faults: Vec<String>,
}

/// A fault by its name.
///
/// # Errors
/// [`Kind::Invalid`](crate::Kind::Invalid), with a list of those that there are.
pub fn fault(text: &str) -> Result<Fault, Failure> {
    text.parse().map_err(|error: FaultError| Failure::invalid(error.to_string()))
}

impl Wanted {
    /// Starts the board, and says which catalogue has it.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::Kind::NotFound) if there is no such board, [`Kind::Invalid`](crate::Kind::Invalid) if it cannot be
    /// so; what the machine says.
    pub fn start(self) -> Result<(EmulatedCard, Catalogue), Failure> {
        let interrupts = self.interrupts.as_deref().map(str::parse).transpose();
        let options = BoardOptions {
            memory: self.memory,
            channels: self.channels,
            interrupts: interrupts.map_err(|error| Failure::invalid(format!("{error}")))?,
            link: self.link,
            flash: self.flash,
            faults: self.faults.iter().map(|text| fault(text)).collect::<Result<_, _>>()?,
            ..BoardOptions::default()
        };
        let wrong = boards::Error::from;
        let (board, catalogue) = match (&self.board, &self.file) {
            (Some(board), None) => {
                let catalogue = Catalogue::load().map_err(wrong)?;
                (Board::named(&catalogue, board)?, catalogue)
            }
            (board, Some(file)) => {
                let board = Board::of_file(file, board.as_deref())?;
                (board, Catalogue::built_in().with_file(file).map_err(wrong)?)
            }
            (None, None) => {
                return Err(Failure::invalid("which board? Give its name, or a boards file"));
            }
        };
        Ok((EmulatedCard::new(&board.with(options))?, catalogue))
    }
}
