//! Where memory lies in the machine, as `/proc/self/pagemap` says (Documentation/admin-guide/mm/pagemap.rst).

use crate::error::{Error, ErrorKind, Result};
use jitney_memory::{Access, Mapping, Memfd, PageSize};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::FileExt;

const PAGEMAP: &str = "/proc/self/pagemap";

/// Bits of an entry, of which there is one for each normal page: the page is in memory, and its number there.
const PRESENT: u64 = 1 << 63;
const NUMBER: u64 = (1 << 55) - 1;

/// The physical address of each of the memory's huge pages, in the order in which they are in it. Pages that are not there
/// yet are taken in that order.
///
/// # Errors
/// [`ErrorKind::Invalid`] for memory of normal pages, which the kernel moves as it likes; [`ErrorKind::Denied`] without
/// CAP_SYS_ADMIN; what the system says.
pub(super) fn addresses(memory: &Memfd) -> Result<Vec<u64>> {
    let pages = memory.page_size();
    if pages == PageSize::Normal {
        let what = "memory of normal pages has no lasting physical address";
        return Err(Error::new(ErrorKind::Invalid, what).with_remedy("make it of huge pages"));
    }
    let length = usize::try_from(memory.size()).unwrap_or(usize::MAX);
    let view = Mapping::shared(memory, 0, length, Access::ReadWrite)?;
    let pagemap = File::open(PAGEMAP).map_err(|error| failed(&error))?;
    let normal = PageSize::Normal.bytes();
    let huge = (0..memory.size()).step_by(usize::try_from(pages.bytes()).unwrap_or(usize::MAX));
    huge.map(|offset| {
        view.load8(offset)?;
        let mut entry = [0; size_of::<u64>()];
        let at = (view.address() + offset) / normal * entry.len() as u64;
        pagemap.read_exact_at(&mut entry, at).map_err(|error| failed(&error))?;
        address(u64::from_ne_bytes(entry), normal)
    })
    .collect()
}

/// The physical address that an entry tells.
fn address(entry: u64, normal: u64) -> Result<u64> {
    match entry & NUMBER {
        _ if entry & PRESENT == 0 => {
            Err(Error::new(ErrorKind::System, "a huge page that was touched is not in memory"))
        }
        // The kernel hides it; page 0 is never a program's.
        0 => Err(Error::new(
            ErrorKind::Denied,
            format!("{PAGEMAP} shows physical addresses only to those who have CAP_SYS_ADMIN"),
        )
        .with_remedy("run as root the program that owns the cards")),
        number => Ok(number * normal),
    }
}

fn failed(error: &std::io::Error) -> Error {
    let what = format!("asking {PAGEMAP} where memory lies");
    match Errno::from_io_error(error) {
        Some(Errno::NOENT) => Error::from_errno(Errno::NOENT, what)
            .with_remedy("start a kernel that was built with CONFIG_PROC_PAGE_MONITOR"),
        Some(errno) => Error::from_errno(errno, what),
        None => Error::new(ErrorKind::System, format!("{what}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_tells_an_address_or_why_not() {
        // Soft-dirty, file-backed and exclusive are bits of their own.
        assert_eq!(address(PRESENT | 1 << 61 | 1 << 56 | 1 << 55 | 0x12_3400, 4096).unwrap(), 0x1_2340_0000);
        assert_eq!(address(0x12_3400, 4096).unwrap_err().kind(), ErrorKind::System);
        let hidden = address(PRESENT | 1 << 61, 4096).unwrap_err();
        assert_eq!(hidden.kind(), ErrorKind::Denied);
        assert!(hidden.to_string().contains("CAP_SYS_ADMIN"), "{hidden}");
    }

    #[test]
    fn normal_pages_are_refused() {
        let memory = Memfd::create("test", 8192, PageSize::Normal).unwrap();
        assert_eq!(addresses(&memory).unwrap_err().kind(), ErrorKind::Invalid);
    }
}
