//! What goes wrong with a ring.

/// Why a ring cannot be written or read.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A ring cannot have this shape.
    #[error(
        "a ring cannot have {blocks} blocks of {bytes} bytes; use 4 to 1023 blocks, of a multiple of 64 bytes up to 8 MiB"
    )]
    Shape {
        /// How many blocks.
        blocks: u32,
        /// Of how many bytes.
        bytes: u32,
    },
    /// The buffer is too small for it.
    #[error("the ring takes {needed:#x} bytes, and the buffer has {there:#x}; make it as the shape requests")]
    Size {
        /// What the ring takes.
        needed: u64,
        /// What there is.
        there: u64,
    },
    /// The memory holds no ring, or one that its writer has not made yet.
    #[error("there is no ring in this memory: {0}")]
    NoRing(String),
    /// What the writer says cannot be. It is another program, or has spoiled its memory.
    #[error("the ring is broken: {0}; start its writer again")]
    Broken(String),
    /// More bytes than a block can have.
    #[error("{length} bytes do not fit into a block of {most}")]
    TooLong {
        /// How many there are.
        length: usize,
        /// How many fit.
        most: usize,
    },
    /// Bytes outside of the block.
    #[error("bytes {offset} to {end} of a block of {length}")]
    OutOfBlock {
        /// From where.
        offset: usize,
        /// To where.
        end: usize,
        /// What it has.
        length: usize,
    },
    /// The block was overwritten while it was read: what was read of it may be of another.
    #[error("block {0} was overwritten while it was read; read faster, or make the ring larger")]
    Overrun(u64),
    /// The memory, or the broker.
    #[error(transparent)]
    Memory(#[from] jitney_vfio::Error),
    /// The card's engine.
    #[error(transparent)]
    Card(#[from] jitney_xdma::Error),
}

/// What `main` prints of an error that it returns: what people can read.
impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Error {
    /// Whether a block was overwritten while it was read. It counts as lost, and the reader goes on.
    #[must_use]
    pub const fn is_overrun(&self) -> bool {
        matches!(self, Self::Overrun(_))
    }
}

impl From<jitney_memory::AccessError> for Error {
    fn from(error: jitney_memory::AccessError) -> Self {
        Self::Memory(error.into())
    }
}

impl From<jitney_memory::Error> for Error {
    fn from(error: jitney_memory::Error) -> Self {
        Self::Memory(error.into())
    }
}
