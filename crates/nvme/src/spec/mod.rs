//! NVM Express as types: registers, queue entries, identify structures, status codes. Sections are those of the NVM Express Base
//! Specification 1.4. No I/O.

pub mod entry;
pub mod identify;
pub mod prp;
pub mod registers;
pub mod status;

/// Bytes of a memory page: what CC.MPS = 0 stands for (section 3.1.5), and the least that there is.
pub const PAGE: u64 = 4096;
