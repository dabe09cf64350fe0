//! Memory that processes and cards share, and the descriptors it travels by.
//!
//! - [`Memfd`]: an anonymous file of a size that nobody can change; the form in which DMA memory exists and is
//!   handed on.
//! - [`Mapping`]: a range of memory that others may write to at any time. It is read and written by copies and by
//!   volatile or atomic words, never through a slice.
//! - [`Registers`]: the registers of a card, mapped: one load or store at a time, ordered with what is in memory.
//! - [`descriptors`]: messages with file descriptors over Unix sockets.
//! - [`Peer`]: who is at the other end of a Unix socket.
//! - [`EventFd`]: a counter that wakes somebody in another process; the form in which interrupts arrive.
//! - [`errno_name`]: names for errno values, for every error message of the project.
//!
//! ```
//! use jitney_memory::{Access, Mapping, Memfd, PageSize};
//!
//! let memory = Memfd::create("example", 1 << 20, PageSize::Normal)?;
//! let mine = Mapping::shared(&memory, 0, 1 << 20, Access::ReadWrite)?;
//! let theirs = Mapping::shared(&memory, 0, 1 << 20, Access::ReadOnly)?;
//! mine.store32(0x40, 0xC0FF_EE00)?;
//! assert_eq!(theirs.load32(0x40)?, 0xC0FF_EE00);
//! # Ok::<(), jitney_memory::Error>(())
//! ```

pub mod descriptors;
mod errno;
mod error;
mod event;
mod hugetlb;
mod inherited;
mod kernel_signal;
mod large_pages;
mod mapped;
mod mapping;
mod memfd;
mod pages;
mod past_caches;
mod peer;
mod registers;

#[cfg(not(target_arch = "x86_64"))]
compile_error!(
    "jitney runs on x86-64 only: elsewhere it takes real barriers between DMA memory and registers, and memory that cards \
     see may not be coherent, for which nothing here is made"
);

pub use errno::{Explained, errno_name};
pub use error::{AccessError, Error, Result};
pub use event::{EventFd, is_event};
pub use hugetlb::page_size_of;
pub use inherited::{Inherited, inherited_socket, keep_from_children, take_inherited};
pub use mapped::{Access, Cell32};
pub use mapping::Mapping;
pub use memfd::{Memfd, MemoryId, for_others};
pub use pages::{HugePool, PageSize};
pub use peer::{Peer, PeerCredentials};
pub use registers::Registers;
