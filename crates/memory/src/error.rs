//! What can go wrong with memory and descriptors.

use std::borrow::Cow;
use std::fmt;

use rustix::io::Errno;

use crate::errno::Explained;
use crate::pages::{HugePool, PageSize};

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure, with what was attempted, on what, why it failed and, where it is known, what to do.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("{operation} {object}: {}{}", Explained(*errno), Remedy(remedy(operation, *errno)))]
    System {
        /// The system call.
        operation: &'static str,
        /// What it was called on, in words.
        object: Cow<'static, str>,
        /// What the kernel answered.
        errno: Errno,
    },

    /// There are fewer free huge pages than the memory needs.
    #[error(
        "memory '{name}' needs {needed} huge pages of {pages} each, {free} are free; \
         reserve them with: {}",
        HugePool::command(*pages, *total)
    )]
    HugePages {
        /// Name of the memory that was to be made.
        name: String,
        /// Size of each page.
        pages: PageSize,
        /// Number of pages that the memory needs.
        needed: u64,
        /// Number of pages that are free and not promised to anybody else.
        free: u64,
        /// Number of pages to reserve in all, so that enough are free.
        total: u64,
    },

    /// A size that cannot be had.
    #[error("{object}: the size {size:#x} is not a multiple of {multiple:#x} bytes greater than zero")]
    Size {
        /// What was to be made.
        object: Cow<'static, str>,
        /// The size asked for, in bytes.
        size: u64,
        /// What it must be a multiple of, in bytes.
        multiple: u64,
    },

    /// A descriptor is not what it has to be.
    #[error("descriptor refused: expected {expected}, got {found}")]
    Descriptor {
        /// What the descriptor had to be.
        expected: Cow<'static, str>,
        /// What it is.
        found: String,
    },

    /// A message is longer than the buffer that was to receive it. Its rest is lost.
    #[error("the peer sent a message longer than the {capacity} bytes that this protocol allows here")]
    MessageTruncated {
        /// Size of the buffer in bytes.
        capacity: usize,
    },

    /// A message came with more descriptors than its protocol allows.
    #[error("the peer sent more descriptors than the {allowed} that this protocol allows here")]
    DescriptorsTruncated {
        /// Number of descriptors that the protocol allows.
        allowed: usize,
    },

    /// More descriptors than one message can carry, or descriptors without a byte to carry them.
    #[error(
        "{descriptors} descriptors cannot be sent with {bytes} bytes: at most {max}, and at least one byte"
    )]
    Unsendable {
        /// Number of descriptors.
        descriptors: usize,
        /// Number of bytes in the message.
        bytes: usize,
        /// The kernel's limit of descriptors per message.
        max: usize,
    },

    /// The peer closed a stream within a message.
    #[error("the peer closed the connection after {received} of {expected} bytes of a message")]
    Closed {
        /// Bytes that arrived.
        received: usize,
        /// Bytes that the message has.
        expected: usize,
    },

    /// An access outside a mapping, or one that the mapping does not allow.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// What `main` prints of an error that it returns: what people can read.
impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Error {
    /// A failed system call.
    pub(crate) fn system(
        operation: &'static str,
        object: impl Into<Cow<'static, str>>,
        errno: Errno,
    ) -> Self {
        Self::System { operation, object: object.into(), errno }
    }

    /// What the kernel answered, if a system call failed.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::System { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    /// What was tried on which object, if a system call failed: the message without the errno and the remedy.
    #[must_use]
    pub fn what(&self) -> Option<String> {
        match self {
            Self::System { operation, object, .. } => Some(format!("{operation} {object}")),
            _ => None,
        }
    }

    /// What to do about it, if a system call failed and there is something better to say than what the kernel said.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::System { operation, errno, .. } => remedy(operation, *errno),
            _ => None,
        }
    }

    /// Whether the operation would have had to wait (`EAGAIN`).
    #[must_use]
    pub fn would_block(&self) -> bool {
        self.errno() == Some(Errno::AGAIN)
    }

    /// Whether a signal came before the operation began (`EINTR`).
    #[must_use]
    pub fn interrupted(&self) -> bool {
        self.errno() == Some(Errno::INTR)
    }

    /// Whether the peer of a socket is gone (`EPIPE`, `ECONNRESET`, or the end of a stream within a message).
    #[must_use]
    pub fn peer_gone(&self) -> bool {
        matches!(self, Self::Closed { .. }) || matches!(self.errno(), Some(Errno::PIPE | Errno::CONNRESET))
    }
}

/// A remedy as the end of a message.
struct Remedy(Option<&'static str>);

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
    }
}

/// What to do about a failed system call; nothing where there is nothing better to say than what the kernel said.
fn remedy(operation: &str, errno: Errno) -> Option<&'static str> {
    Some(match (operation, errno) {
        (_, Errno::MFILE) => "raise this process's limit of open files: ulimit -n",
        (_, Errno::NFILE) => "raise the system's limit of open files: sysctl fs.file-max",
        ("mmap", Errno::NOMEM) => "see ulimit -v, and sysctl vm.max_map_count and vm.overcommit_memory",
        ("mmap", Errno::INVAL) => "the offset must be a multiple of the page size",
        ("mmap", Errno::ACCESS) => "the file must be open for reading, and for writing if it is mapped so",
        ("mmap", Errno::PERM) => "the file is sealed against writing: map it for reading only",
        ("sendmsg", Errno::TOOMANYREFS) => {
            "receivers have to take the descriptors that are already on the way"
        }
        _ => return None,
    })
}

/// An access that a mapping refuses. Nothing was read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// The access reaches beyond the mapping.
    #[error("access to {len:#x} bytes at {offset:#x} is outside a mapping of {size:#x} bytes")]
    OutOfBounds {
        /// Where the access starts, in bytes from the start of the mapping.
        offset: u64,
        /// Length of the access in bytes.
        len: usize,
        /// Length of the mapping in bytes.
        size: usize,
    },

    /// The access is not at a multiple of its own size.
    #[error("access at {offset:#x} is not aligned to {align} bytes")]
    Misaligned {
        /// Where the access starts, in bytes from the start of the mapping.
        offset: u64,
        /// The alignment it needs, in bytes.
        align: usize,
    },

    /// The mapping may only be read.
    #[error("write at {offset:#x} to a mapping that is read-only")]
    ReadOnly {
        /// Where the access starts, in bytes from the start of the mapping.
        offset: u64,
    },
}
