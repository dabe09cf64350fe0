//! Anonymous files of a fixed size: memory as a descriptor.
//!
//! A process that maps a file which somebody else shortens afterwards is killed by SIGBUS. Seals take that power
//! from everybody who holds the descriptor, its maker included; who receives such a file checks the seals and can
//! then map it without trusting the sender. See `memfd_create(2)` and `fcntl(2)`, "File Sealing".

use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::error::{Error, Result};
use crate::hugetlb::page_size_of;
use crate::mapped::Access;
use crate::mapping::Mapping;
use crate::pages::{HugePool, PageSize};

/// An anonymous file that is sealed against shrinking: memory that can be handed to others by its descriptor.
#[derive(Debug)]
pub struct Memfd {
    file: OwnedFd,
    size: u64,
    pages: PageSize,
}

/// Which memory a descriptor is of: the same for all descriptors of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MemoryId {
    device: u64,
    inode: u64,
}

impl MemoryId {
    /// Which memory `file` is of.
    ///
    /// # Errors
    /// A descriptor of anything but a file in memory is refused, and nothing of it was touched.
    pub fn of(file: impl AsFd) -> Result<Self> {
        let refuse = |errno: Errno| Error::Descriptor {
            expected: "memory".into(),
            found: format!("a file that cannot be sealed ({errno})"),
        };
        // Only files in memory know seals. No other is asked anything: a file's server may take as long as it likes to answer.
        rustix::fs::fcntl_get_seals(&file).map_err(refuse)?;
        let stat = rustix::fs::fstat(&file).map_err(|errno| Error::system("fstat", "of memory", errno))?;
        Ok(Self { device: stat.st_dev, inode: stat.st_ino })
    }
}

impl Memfd {
    /// Makes `size` bytes of zeroed memory, closed on exec and sealed against shrinking and growing.
    ///
    /// `name` is what /proc/PID/fd and /proc/PID/maps show. The size is a multiple of the page size and not zero
    /// ([`PageSize::round_up`] helps). Huge pages are reserved here: once made, the memory is there. Normal pages
    /// are taken as they are touched.
    ///
    /// # Errors
    /// A size that is no multiple or beyond this process's limit on sizes of files (`ulimit -f`), huge pages that are not free, or
    /// what `memfd_create` and `ftruncate` answer.
    pub fn create(name: &str, size: u64, pages: PageSize) -> Result<Self> {
        if size == 0 || !size.is_multiple_of(pages.bytes()) {
            return Err(Error::Size {
                object: format!("memory '{name}'").into(),
                size,
                multiple: pages.bytes(),
            });
        }
        let failed = |operation, errno| {
            Error::system(operation, format!("of memory '{name}', {size:#x} bytes"), errno)
        };
        // The kernel would not refuse it but kill this process (SIGXFSZ), for memory that somebody else may have asked for.
        if let Some(limit) = getrlimit(Resource::Fsize).current.filter(|&limit| size > limit) {
            let what = format!("of memory '{name}', {size:#x} bytes, with a limit (ulimit -f) of {limit:#x}");
            return Err(Error::system("ftruncate", what, Errno::FBIG));
        }

        let file = match (open(name, pages), pages) {
            (Ok(file), _) => file,
            // The kernel or the processor does not have pages of this size at all.
            (Err(Errno::NODEV | Errno::INVAL | Errno::NOENT), PageSize::Huge2M | PageSize::Huge1G) => {
                return Err(huge_pages_missing(name, size, pages));
            }
            (Err(errno), _) => return Err(failed("memfd_create", errno)),
        };
        rustix::fs::ftruncate(&file, size).map_err(|errno| failed("ftruncate", errno))?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)
            .map_err(|errno| failed("F_ADD_SEALS", errno))?;

        let memfd = Self { file, size, pages };
        if pages != PageSize::Normal {
            memfd.reserve(name)?;
        }
        Ok(memfd)
    }

    /// Takes a descriptor that somebody sent for memory of `expected_size` bytes.
    ///
    /// # Errors
    /// Anything but an anonymous file or file in memory of exactly that size, sealed against shrinking, is refused.
    pub fn adopt(file: OwnedFd, expected_size: u64) -> Result<Self> {
        let refuse = |found: String| Error::Descriptor {
            expected: format!("memory of {expected_size:#x} bytes, sealed against shrinking").into(),
            found,
        };
        let stat = rustix::fs::fstat(&file)
            .map_err(|errno| Error::system("fstat", "of a received descriptor", errno))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::RegularFile {
            return Err(refuse(format!("a descriptor of another kind ({kind:?})")));
        }
        // Only files in memory know seals; all others answer EINVAL.
        let seals = rustix::fs::fcntl_get_seals(&file)
            .map_err(|_| refuse("a file that cannot be sealed".to_owned()))?;
        if !seals.contains(SealFlags::SHRINK) {
            return Err(refuse("memory that its sender can still shrink".to_owned()));
        }
        let size =
            u64::try_from(stat.st_size).map_err(|_| refuse(format!("a size of {} bytes", stat.st_size)))?;
        if size != expected_size {
            return Err(refuse(format!("memory of {size:#x} bytes")));
        }
        let pages = page_size_of(file.as_fd())?;
        Ok(Self { file, size, pages })
    }

    /// Size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The pages it is made of.
    #[must_use]
    pub fn page_size(&self) -> PageSize {
        self.pages
    }

    /// The descriptor alone. The file keeps its seals.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.file
    }

    /// Has the kernel set the huge pages aside for this file.
    ///
    /// `memfd_create` succeeds without a single free huge page. A shared mapping is what reserves them, for as long
    /// as the file lives (Documentation/mm/hugetlbfs_reserv.rst), so that no later access can fail.
    fn reserve(&self, name: &str) -> Result<()> {
        let len = usize::try_from(self.size).map_err(|_| huge_pages_missing(name, self.size, self.pages))?;
        match Mapping::shared(self, 0, len, Access::ReadWrite) {
            Ok(_) => Ok(()),
            Err(error) if error.errno() == Some(Errno::NOMEM) => {
                Err(huge_pages_missing(name, self.size, self.pages))
            }
            Err(error) => Err(error),
        }
    }
}

/// A descriptor of memory to hand to others.
///
/// For [`Access::ReadOnly`] it is open for reading alone, and the memory is sealed: from here on nobody, whatever descriptor
/// they open of it and whoever they are, gets a mapping that can be written to (`F_SEAL_FUTURE_WRITE`, Linux 5.1). Mappings that
/// are there stay as they are, those by which cards reach it included. No more seals can be put on it by anybody.
///
/// # Errors
/// Memory that is sealed for readers cannot be handed out for writing; what the system says.
pub fn for_others(memory: impl AsFd, access: Access) -> Result<OwnedFd> {
    let failed = |operation, errno| Error::system(operation, "of memory to share", errno);
    let path = format!("/proc/self/fd/{}", memory.as_fd().as_raw_fd());
    let open = |flags: OFlags| {
        rustix::fs::open(&path, flags | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| failed("open", errno))
    };
    let writable = open(OFlags::RDWR)?;
    let seals = rustix::fs::fcntl_get_seals(&writable).map_err(|errno| failed("F_GET_SEALS", errno))?;
    let closed = seals.intersects(SealFlags::FUTURE_WRITE | SealFlags::WRITE);
    if access == Access::ReadWrite && closed {
        return Err(Error::Descriptor {
            expected: "memory that can be written to".into(),
            found: "memory that is sealed for readers: it was shared for reading before".into(),
        });
    }
    let wanted = match access {
        Access::ReadOnly => SealFlags::FUTURE_WRITE | SealFlags::SEAL,
        Access::ReadWrite => SealFlags::SEAL,
    };
    if !seals.contains(wanted) {
        rustix::fs::fcntl_add_seals(&writable, wanted).map_err(|errno| failed("F_ADD_SEALS", errno))?;
    }
    match access {
        Access::ReadOnly => open(OFlags::RDONLY),
        Access::ReadWrite => Ok(writable),
    }
}

impl AsFd for Memfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn open(name: &str, pages: PageSize) -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC
        | MemfdFlags::ALLOW_SEALING
        | match pages {
            PageSize::Normal => MemfdFlags::empty(),
            PageSize::Huge2M => MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB,
            PageSize::Huge1G => MemfdFlags::HUGETLB | MemfdFlags::HUGE_1GB,
        };
    // Where vm.memfd_noexec is 2, only files that can never be executed may be made; kernels before 6.3 do not know
    // the flag.
    match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags),
        other => other,
    }
}

fn huge_pages_missing(name: &str, size: u64, pages: PageSize) -> Error {
    let HugePool { total, free } = HugePool::of(pages);
    let needed = size / pages.bytes();
    let total = total.saturating_add(needed.saturating_sub(free));
    Error::HugePages { name: name.to_owned(), pages, needed, free, total }
}
