//! What can be chosen about an emulated board, and what can be wrong with a choice.

use crate::fault::Fault;
use crate::function::InterruptKind;
use crate::xdma::{LinkLimit, PeriodicInterrupt};
use std::path::PathBuf;
use std::str::FromStr;

/// What can be chosen about a board. What is not given is as on the true board, but that it can interrupt.
#[derive(Debug, Clone, Default)]
pub struct BoardOptions {
    /// Card memory in bytes, a multiple of 4 KiB.
    pub memory: Option<u64>,
    /// Which build of the design; the PCI revision, or the version where the design has a word for it.
    pub revision: Option<u32>,
    /// The one kind of interrupt that the function has, if not all that its core was generated with; also of an XDMA
    /// that was generated without it.
    pub interrupts: Option<InterruptKind>,
    /// DMA channels in each direction, where the design was built with different numbers of them.
    pub channels: Option<u8>,
    /// Lanes of the slot that the board is in, if fewer than it can use.
    pub lanes: Option<u8>,
    /// What its link carries, to make transfers last; as much as this machine's memory does if not given. Nothing on a
    /// board without DMA.
    pub link: Option<LinkLimit>,
    /// A DMA channel stops with "bad magic" where a block of adjacent descriptors does not count down as PG195 has it
    /// ("Nxt_adj"). Without it the block is executed as it lies there, as by cards.
    pub strict_adjacency: bool,
    /// User interrupts that come by themselves, of those that the design has.
    pub user_interrupts: Vec<PeriodicInterrupt>,
    /// The file that keeps the bytes of its flash; without it they go with the board.
    pub flash: Option<PathBuf>,
    /// Faults to produce.
    pub faults: Vec<Fault>,
}

/// Why there is no such board.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BoardError {
    /// No board has this name.
    #[error(
        "no board is called '{given}'; did you mean '{nearest}'? There are {}the designs of the catalogue by their names{unusable}",
        short.iter().map(|name| format!("{name}, ")).collect::<String>()
    )]
    Unknown {
        /// What was given.
        given: String,
        /// The name most like it.
        nearest: String,
        /// Names of boards other than those of their designs.
        short: Vec<String>,
        /// Which boards files are wrong, one of which may have it; mostly empty.
        unusable: String,
    },
    /// A boards file cannot be used.
    #[error(transparent)]
    File(#[from] jitney_designs::Error),
    /// It was not said which design of a file is meant.
    #[error("{} has {}; say which as {}#NAME", path.display(), designs(there), path.display())]
    Choice {
        /// The file.
        path: PathBuf,
        /// The designs in it.
        there: Vec<String>,
    },
    /// The design has no peripheral of this name.
    #[error("{board} has no one peripheral that is called '{given}'; there are: {}", there.join(", "))]
    Peripheral {
        /// The board.
        board: String,
        /// What was given.
        given: String,
        /// The names of its peripherals, or their kinds.
        there: Vec<String>,
    },
    /// There is nothing on the card that a part of one's own could be behind.
    #[error("{board} has no {given}")]
    Part {
        /// The board.
        board: String,
        /// What it would need.
        given: String,
    },
    /// The board cannot be had with this option.
    #[error("{board} cannot have {option} {given}: {allowed}")]
    Option {
        /// The board.
        board: String,
        /// Which option.
        option: &'static str,
        /// What was given.
        given: String,
        /// What would do.
        allowed: String,
    },
    /// No kind of interrupt has this name.
    #[error("no kind of interrupt is called '{given}': there are msix, msi, intx and none")]
    Interrupts {
        /// What was given.
        given: String,
    },
    /// Two things of the board are at one address.
    #[error(transparent)]
    Map(#[from] crate::axi::MapError),
    /// The card's memory could not be made.
    #[error("cannot make the memory of an emulated board: {0}")]
    Memory(#[from] jitney_memory::Error),
    /// The file of its flash cannot be used.
    #[error(transparent)]
    Flash(#[from] crate::spi::nor::FlashFileError),
    /// The core could not be made.
    #[error(transparent)]
    Xdma(#[from] crate::xdma::XdmaError),
}

fn designs(names: &[String]) -> String {
    if names.is_empty() { "no design".into() } else { format!("several designs: {}", names.join(", ")) }
}

/// Reads `msix`, `msi`, `intx` or `none`.
impl FromStr for InterruptKind {
    type Err = BoardError;

    fn from_str(text: &str) -> Result<Self, BoardError> {
        match text {
            "msix" => Ok(Self::MsiX),
            "msi" => Ok(Self::Msi),
            "intx" => Ok(Self::Intx),
            "none" => Ok(Self::None),
            _ => Err(BoardError::Interrupts { given: text.to_owned() }),
        }
    }
}
