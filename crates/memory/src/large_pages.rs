//! Pages of 2 MiB for memory for which none were reserved.
//!
//! Linux 6.1 and later put any 2 MiB of a file in memory on one large page when they are asked to (`MADV_COLLAPSE`), whatever
//! `/sys/kernel/mm/transparent_hugepage` says, but for `deny` in its `shmem_enabled`. It takes as long as zeroing the page, which
//! normal pages cost, too; what is saved is the work by the page: a fault, a pin and an entry of the IOMMU for each of 512.

use crate::error::{Error, Result};
use crate::mapped::{self, Access, Mapped};
use crate::memfd::Memfd;
use crate::pages::PageSize;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use std::ops::Range;

const LARGE_PAGE: u64 = mapped::LARGE_PAGE as u64;

const SMAPS: &str = "/proc/self/smaps";

/// Of a mapping in `/proc/PID/smaps`: what is on large pages, in KiB. Those that were reserved count for themselves.
const LARGE: [&str; 4] = ["ShmemPmdMapped:", "FilePmdMapped:", "Shared_Hugetlb:", "Private_Hugetlb:"];

impl Memfd {
    /// Has the kernel make up its mind about a part of the memory before it is pinned: on which NUMA node it is taken, as far as
    /// it is not there yet, and, of memory of normal pages, that all whole 2 MiB are on a large page each. What is in the memory
    /// stays. No memory is taken but what the part needs, and nothing is when it has none of 2 MiB.
    ///
    /// # Errors
    /// What the kernel answers; the memory is as good as before, and so is what could be done of it. It is `EINVAL` before
    /// Linux 6.1 and where large pages are forbidden, `ENOMEM` where free memory has no piece that is large enough, `EAGAIN`
    /// where pages are in use.
    pub fn settle(&self, offset: u64, size: u64, node: Option<u32>) -> Result<()> {
        let end =
            offset.checked_add(size).filter(|end| size > 0 && *end <= self.size()).ok_or_else(|| {
                Error::Descriptor {
                    expected: format!("memory of {size:#x} bytes at {offset:#x}").into(),
                    found: format!("one of {:#x} bytes", self.size()),
                }
            })?;
        let on_node = match node {
            Some(node) => self.view(offset..end, self.page_size(), Access::ReadWrite).and_then(|view| {
                view.prefer_node(node).map_err(|errno| {
                    Error::system("mbind", format!("of {size:#x} bytes to node {node}"), errno)
                })
            }),
            None => Ok(()),
        };
        let large = offset.next_multiple_of(LARGE_PAGE)..end / LARGE_PAGE * LARGE_PAGE;
        match self.page_size() {
            PageSize::Normal if !large.is_empty() => self.collapse(large).and(on_node),
            _ => on_node,
        }
    }

    fn collapse(&self, range: Range<u64>) -> Result<()> {
        let failed = |operation, errno| {
            Error::system(operation, format!("of {:#x} bytes of memory", range.end - range.start), errno)
        };
        // Of each large page something has to be there, and where that is, the page will be.
        for offset in range.clone().step_by(mapped::LARGE_PAGE) {
            let (nothing_else, normal) = (FallocateFlags::empty(), PageSize::Normal.bytes());
            fallocate(self, nothing_else, offset, normal).map_err(|errno| failed("fallocate", errno))?;
        }
        let view = self.view(range.clone(), PageSize::Normal, Access::ReadWrite)?;
        // One by one, and with something of each met by this view: else Linux 6.1 does one and says that it did none.
        let mut lacking = None;
        for offset in (0..view.len()).step_by(mapped::LARGE_PAGE) {
            if view.load::<u8>(offset as u64).is_err() {
                break;
            }
            let outcome = match view.collapse(offset) {
                // Pages were on their way from one list of the kernel's to another.
                Err(Errno::AGAIN) => view.collapse(offset),
                outcome => outcome,
            };
            match outcome {
                Ok(()) => {}
                // The kernel has looked for free memory in one piece, and moved what was in the way, in vain. It may find some
                // at the next attempt, but each takes its time.
                Err(Errno::NOMEM | Errno::AGAIN | Errno::BUSY) if lacking.is_none() => {
                    lacking = outcome.err()
                }
                Err(errno) => return Err(failed("MADV_COLLAPSE", errno)),
            }
        }
        lacking.map_or(Ok(()), |errno| Err(failed("MADV_COLLAPSE", errno)))
    }

    /// A view of the whole pages that have a part of `range`.
    fn view(&self, range: Range<u64>, pages: PageSize, access: Access) -> Result<Mapped> {
        let start = range.start / pages.bytes() * pages.bytes();
        let len = usize::try_from(range.end - start).unwrap_or(usize::MAX);
        Mapped::shared(self, start, len, access)
    }

    /// Whether all of the memory is there, so that reading it takes no more.
    pub(crate) fn is_populated(&self) -> Result<bool> {
        let stat =
            rustix::fs::fstat(self).map_err(|errno| Error::system("fstat", "of a file in memory", errno))?;
        /// The unit of `st_blocks`.
        const BLOCK: u64 = 512;
        Ok(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(BLOCK) >= self.size())
    }

    /// How many bytes of the memory are on pages of 2 MiB or more: all if it was made of them, else what the kernel could
    /// [put on such](Self::settle). Memory that is not all there has none.
    ///
    /// # Errors
    /// What `/proc/self/smaps` says instead, or the kernel when the memory is to be mapped.
    pub fn on_large_pages(&self) -> Result<u64> {
        if self.page_size() != PageSize::Normal {
            return Ok(self.size());
        }
        if self.size() < LARGE_PAGE || !self.is_populated()? {
            return Ok(0);
        }
        // It may be sealed for readers.
        let view = self.view(0..self.size(), PageSize::Normal, Access::ReadOnly)?;
        // It is counted what this view has met.
        for offset in (0..self.size()).step_by(mapped::LARGE_PAGE) {
            view.load::<u8>(offset).map_err(|_| Error::Size {
                object: "a view of memory".into(),
                size: self.size(),
                multiple: LARGE_PAGE,
            })?;
        }
        let text = std::fs::read_to_string(SMAPS).map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            Error::system("read", format!("of {SMAPS}"), errno)
        })?;
        let start = view.address();
        Ok(large_bytes(&text, start..start + self.size()).min(self.size()))
    }
}

/// The bytes on large pages of all mappings that lie in `range`.
fn large_bytes(smaps: &str, range: Range<u64>) -> u64 {
    let mut inside = false;
    let mut kib = 0;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        if LARGE.contains(&first) {
            let number = words.next().and_then(|number| number.parse::<u64>().ok());
            kib += if inside { number.unwrap_or(0) } else { 0 };
        } else if let Some((start, end)) = first.split_once('-')
            && let (Ok(start), Ok(end)) = (u64::from_str_radix(start, 16), u64::from_str_radix(end, 16))
        {
            inside = range.start <= start && end <= range.end;
        }
    }
    kib * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mappings_within_the_range_count() {
        let mapping = |addresses: &str, kib: u32| {
            format!(
                "{addresses} rw-s 00000000 00:01 17  /memfd:jitney-dma (deleted)\nSize: 4096 kB\nAnonHugePages: 0 kB\n\
                 ShmemPmdMapped: {kib} kB\nFilePmdMapped: 0 kB\nShared_Hugetlb: 0 kB\nVmFlags: rd wr\n"
            )
        };
        let text = [("200000-400000", 2048), ("400000-a00000", 4096), ("a00000-c00000", 2048)]
            .map(|(addresses, kib)| mapping(addresses, kib))
            .concat();
        assert_eq!(large_bytes(&text, 0x40_0000..0xa0_0000), 4 << 20);
        assert_eq!(large_bytes(&text, 0x20_0000..0xa0_0000), 6 << 20);
        assert_eq!(large_bytes(&text, 0x50_0000..0xa0_0000), 0);
        assert_eq!(large_bytes("", 0..u64::MAX), 0);
    }
}
