//! Allocates IOVA ranges: valid ranges in, aligned and non-overlapping ranges out.
//!
//! An IOVA is the address a card uses for DMA. Each IOVA space (a type1 container, an iommufd IOAS, the map that several
//! vfio-user servers share) needs exactly one [`Allocator`], because the kernel refuses a mapping that overlaps another
//! (EEXIST) or leaves the valid ranges (EINVAL). The allocator is pure: it maps nothing and opens nothing.
//!
//! ```
//! use jitney_iova::{Allocator, Request};
//!
//! // What an Intel machine reports: everything to the top, without the window of the interrupts.
//! let mut space = Allocator::new([0..=0xfedf_ffff, 0xfef0_0000..=0x7f_ffff_ffff], 4096)?;
//!
//! // A card with 64 address bits leaves the space below 4 GiB to those without.
//! let buffer = space.allocate(Request::new(16 << 20))?;
//! assert!(buffer.start >= 1 << 32 && buffer.end - buffer.start == 16 << 20);
//!
//! // A card with 32 address bits, and a ring that must not cross a 64 KiB boundary.
//! let ring = space.allocate(Request { align: 64 << 10, top: 0xffff_ffff, ..Request::new(64 << 10) })?;
//! assert!(ring.end <= 1 << 32 && ring.start.is_multiple_of(64 << 10));
//!
//! assert_eq!(space.containing(ring.start + 100), Some(ring.clone()));
//! assert_eq!(space.free(ring.start)?, 64 << 10);
//! assert_eq!(space.allocated(), 16 << 20);
//! # Ok::<(), jitney_iova::Error>(())
//! ```
//!
//! # Which address is chosen
//!
//! The highest that fits: aligned, free, its last byte at or below the request's `top`. One rule gives three things:
//!
//! * Cards with few address bits keep the low addresses, because requests without a limit come there last. That holds
//!   for 32 bits and for any other number (28, 36, 40).
//! * **IOVA 0 is handed out last of all.** It is a legal address (an XDMA fetches descriptors from it), but also what a
//!   register or a descriptor holds that nobody wrote. As long as nothing is mapped there, using one by mistake is an
//!   IOMMU fault rather than a write into somebody's buffer.
//! * A request fails only if no free range fits, and the answer is known without a scan of the free ranges.
//!
//! Allocations of 2 MiB and more are aligned to 2 MiB at least: the kernel uses 2 MiB IOMMU pages only where the IOVA
//! is aligned too, and maps such a buffer 300 times faster with them.
//!
//! # When an address is used again
//!
//! As late as possible, because a card may write to memory after its driver believes it silent, and that should meet the
//! IOMMU and not somebody else's buffer:
//!
//! * What was freed **rests**. New ranges come from what was never used or has rested, and resting ends, oldest first, when
//!   nothing else fits, when [`MAX_RESTING`] ranges rest, or when a quarter of the space does.
//! * What is in **quarantine** ([`Allocator::quarantine`]) waits until its card was seen quiet ([`Allocator::absolve`]).
//!   It is handed out before that only when a request would otherwise fail: after all that rests, oldest first.
//! * What is **lost** ([`Allocator::lose`]) is never used again.
//!
//! # The last page
//!
//! Valid ranges have inclusive ends, since one may end at `u64::MAX`. The last granule of the 64-bit space is left out
//! of every allocator, so that `iova + size` never overflows and all other ranges can be half-open.

#![forbid(unsafe_code)]

mod allocator;
mod error;
mod free;
mod waiting;

pub use allocator::{Allocator, MAX_ALIGN, MAX_RESTING, Request};
pub use error::Error;
pub use waiting::QuarantineId;
