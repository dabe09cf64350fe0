//! What went wrong with a board or its catalogue, where, and what to do about it.

use crate::flash::FlashError;
use jitney_designs::Kind;
use jitney_vfio::Identity;

/// The result of an operation on a board or the catalogue.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure, in words that say what, where and what to do.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The card failed. [`ErrorKind::LinkDown`](jitney_vfio::ErrorKind::LinkDown) if its registers read as all-ones.
    #[error(transparent)]
    Card(#[from] jitney_vfio::Error),

    /// The XDMA is not there, or is not what it has to be.
    #[error(transparent)]
    Xdma(#[from] jitney_xdma::Error),

    /// No design in the catalogue has the card's ids.
    #[error(
        "{card} is no board in the catalogue: subsystem {:04x}:{:04x}, revision {:#04x}{seen}; \
         describe it in a file in ~/.config/jitney/boards/, or in one that JITNEY_BOARDS names{unusable}",
        card.subsystem_vendor, card.subsystem_device, card.revision
    )]
    UnknownBoard {
        /// Who the card is.
        card: Box<Identity>,
        /// What its id word says, if designs with these ids have one; else empty.
        seen: String,
        /// Which boards files are wrong, one of which may have it; mostly empty.
        unusable: String,
    },

    /// The design has no such peripheral.
    #[error("the {design} of {card} has no {kind} number {index}; it has {there}")]
    NoPeripheral {
        /// The card's address.
        card: String,
        /// The design's name.
        design: String,
        /// What was asked for.
        kind: Kind,
        /// Which of them, from 0.
        index: usize,
        /// The peripherals that it has, in words.
        there: String,
    },

    /// The design has no peripheral of this name.
    #[error("the {design} of {card} has no peripheral that is called {name:?}; it has {there}")]
    NoPeripheralNamed {
        /// The card's address.
        card: String,
        /// The design's name.
        design: String,
        /// What was asked for.
        name: String,
        /// The names that there are, in words.
        there: String,
    },

    /// A peripheral of the catalogue does not fit into the card's BAR.
    #[error(
        "the {kind} of {design} is at {offset:#x} to {end:#x} of BAR {bar}, but on {card} that BAR has \
         {size:#x} bytes; the card has another design than its ids say, or the boards file is wrong"
    )]
    OutsideBar {
        /// The card's address.
        card: String,
        /// The design's name.
        design: String,
        /// Which peripheral.
        kind: Kind,
        /// The BAR that it should be in.
        bar: u8,
        /// Where its frame starts, in bytes.
        offset: u64,
        /// Where its frame ends, in bytes.
        end: u64,
        /// The size of the BAR on this card in bytes, 0 if it is not there.
        size: u64,
    },

    /// The design has no DMA engine that this project drives.
    #[error("the {design} of {card} has no XDMA: {what}")]
    NoXdma {
        /// The card's address.
        card: String,
        /// The design's name.
        design: String,
        /// What it has instead.
        what: &'static str,
    },

    /// The firmware of the card management refused a message.
    #[error("the cms of {card} refuses message {opcode:#04x} with error {code:#x}: {what}")]
    CardManagement {
        /// The card's address.
        card: String,
        /// The message.
        opcode: u8,
        /// The error as the firmware says it.
        code: u32,
        /// The error in words.
        what: &'static str,
    },

    /// A device on an I2C bus did not acknowledge.
    #[error(
        "no device at {address:#04x} of {bus} acknowledges{}: it is not there, is busy, or takes no more",
        if *sent == 0 { String::new() } else { format!(" (of what goes to it, {sent} words were given to the core)") }
    )]
    NotAcknowledged {
        /// The bus.
        bus: String,
        /// The device's address, 7 bits.
        address: u8,
        /// How many words behind the address the core had been given, of which it may have sent fewer.
        sent: usize,
    },

    /// A register access outside of a peripheral's frame.
    #[error("offset {offset:#x} is outside of the {kind}, which has {size:#x} bytes of registers")]
    OutsideFrame {
        /// Which peripheral.
        kind: Kind,
        /// The offset in the frame, in bytes.
        offset: u64,
        /// The size of the frame in bytes.
        size: u64,
    },

    /// The flash, or the bus that it is on.
    #[error(transparent)]
    Flash(Box<FlashError>),

    /// A boards file cannot be used.
    #[error(transparent)]
    Catalogue(#[from] jitney_designs::Error),
}

/// What `main` prints of an error that it returns: what people can read.
impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl From<FlashError> for Error {
    fn from(error: FlashError) -> Self {
        Self::Flash(Box::new(error))
    }
}

impl Error {
    /// Whether the core of a bus has stopped for it.
    pub(crate) fn is_of_the_bus(&self) -> bool {
        matches!(self, Self::Flash(error) if matches!(**error, FlashError::Command { .. } | FlashError::Core { .. }))
    }
}
