//! Which pages a file is made of.

use crate::error::{Error, Result};
use crate::pages::PageSize;
use std::os::fd::AsFd;

/// `f_type` of files on huge pages, from linux/magic.h.
const HUGETLBFS_MAGIC: u64 = 0x9584_58F6;

/// The pages of an open file: huge ones if it lives on hugetlbfs.
///
/// # Errors
/// What `fstatfs` answers, or huge pages of a size that x86-64 does not have.
pub fn page_size_of(file: impl AsFd) -> Result<PageSize> {
    let system =
        rustix::fs::fstatfs(file).map_err(|errno| Error::system("fstatfs", "of a file to map", errno))?;
    // The magic number is 32 bits wide; the field is signed and as wide as the machine's words.
    if system.f_type as u64 & 0xFFFF_FFFF != HUGETLBFS_MAGIC {
        return Ok(PageSize::Normal);
    }
    match system.f_bsize as u64 {
        0x20_0000 => Ok(PageSize::Huge2M),
        0x4000_0000 => Ok(PageSize::Huge1G),
        other => Err(Error::Descriptor {
            expected: "pages of 2 MiB or 1 GiB".into(),
            found: format!("huge pages of {other:#x} bytes"),
        }),
    }
}
