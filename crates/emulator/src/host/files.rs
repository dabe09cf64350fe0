//! The files behind the clients' memory, each mapped once.
//!
//! A guest behind an IOMMU maps its memory page by page: 1 GiB comes as 262 144 messages, each with a descriptor of the
//! same file. One `mmap` each would run into `vm.max_map_count` (65 530), so a file is mapped whole when it is first
//! seen, and its maps are offsets into that. The mapping goes with the last of them.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use jitney_memory::{Access, Mapping};
use rustix::fs::{FileType, OFlags, SealFlags};
use rustix::io::Errno;

use super::client_memory::ClientMemory;
use super::dma_table::Allowed;

/// The mapped files of a board, by device and inode.
#[derive(Debug, Default)]
pub(crate) struct Files {
    mapped: HashMap<(u64, u64), Weak<ClientMemory>>,
    /// Number of entries at which those without a mapping are thrown out.
    sweep_at: usize,
    /// Every mapping that somebody may still use, those of files that have grown since included.
    alive: Vec<Weak<ClientMemory>>,
}

/// The most files that are mapped at a time, and the most bytes of them: a hundredth of what a process can have of either
/// (`vm.max_map_count`; 128 TiB), so that nobody's files leave none for the board itself and its other clients.
const MOST_FILES: usize = 4096;
const MOST_BYTES: u64 = 16 << 40;

impl Files {
    /// The mapping of the whole of `file`, which has to hold `size` bytes at `offset` and be open for what is `allowed`.
    pub(crate) fn map(
        &mut self,
        file: &OwnedFd,
        offset: u64,
        size: u64,
        allowed: Allowed,
    ) -> Result<Arc<ClientMemory>, Errno> {
        let stat = rustix::fs::fstat(file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        // Nobody but who has it decides when a page of such a file comes, and a board waits for it with everybody.
        if REMOTE.contains(&magic(rustix::fs::fstatfs(file)?.f_type)) {
            return Err(Errno::INVAL);
        }
        let length = u64::try_from(stat.st_size).map_err(|_| Errno::INVAL)?;
        let end = offset.checked_add(size).filter(|end| *end <= length).ok_or(Errno::INVAL)?;
        // A mapping that another descriptor was good for must not lend this one its rights.
        let mode = rustix::fs::fcntl_getfl(file)? & OFlags::RWMODE;
        let writable = mode == OFlags::RDWR;
        if mode == OFlags::WRONLY || (allowed.write && !writable) {
            return Err(Errno::ACCESS);
        }

        let key = (stat.st_dev, stat.st_ino);
        if let Some(mapping) = self.mapped.get(&key).and_then(Weak::upgrade) {
            let rights = !allowed.write || mapping.mapping().access() == Access::ReadWrite;
            if rights && mapping.mapping().len() as u64 >= end {
                return Ok(mapping);
            }
        }
        self.check_room(length)?;
        let length = usize::try_from(length).map_err(|_| Errno::NOMEM)?;
        let access = if writable { Access::ReadWrite } else { Access::ReadOnly };
        let mapping = Mapping::shared(file, 0, length, access)
            .map_err(|error| error.errno().unwrap_or(Errno::INVAL))?;
        let mapping = Arc::new(ClientMemory::new(mapping, is_steady(file)?)?);
        self.sweep();
        self.alive.push(Arc::downgrade(&mapping));
        self.mapped.insert(key, Arc::downgrade(&mapping));
        Ok(mapping)
    }

    /// Fails as VFIO does where there are too many maps if there is no room for `length` bytes more.
    fn check_room(&mut self, length: u64) -> Result<(), Errno> {
        self.alive.retain(|mapping| mapping.strong_count() > 0);
        let bytes: u64 =
            self.alive.iter().filter_map(Weak::upgrade).map(|memory| memory.mapping().len() as u64).sum();
        let fits = bytes.checked_add(length).is_some_and(|bytes| bytes <= MOST_BYTES);
        if fits && self.alive.len() < MOST_FILES { Ok(()) } else { Err(Errno::NOSPC) }
    }

    /// Throws out entries whose mapping is gone, seldom enough to cost nothing on average.
    fn sweep(&mut self) {
        if self.mapped.len() >= self.sweep_at {
            self.mapped.retain(|_, mapping| mapping.strong_count() > 0);
            self.sweep_at = (2 * self.mapped.len()).max(64);
        }
    }
}

/// `f_type` of file systems whose files come from another process or machine: FUSE, NFS, 9P, SMB, CIFS, Ceph, AFS (linux/magic.h).
const REMOTE: [u64; 7] =
    [0x6573_5546, 0x6969, 0x0102_1997, 0xFE53_4D42, 0xFF53_4D42, 0x00C3_6400, 0x5346_414F];

/// `f_type` without its sign.
fn magic(kind: i64) -> u64 {
    kind.cast_unsigned() & 0xFFFF_FFFF
}

/// `f_type` of files on huge pages, from linux/magic.h.
const HUGETLBFS_MAGIC: u64 = 0x9584_58F6;

/// Whether nothing can take away what of a file is mapped.
///
/// QEMU seals `memory-backend-memfd`, and jitney its buffers. A hole in a file on huge pages needs a page when it is
/// touched, and perhaps there is none; one in normal memory is filled, or the machine is out of memory anyhow.
fn is_steady(file: &OwnedFd) -> Result<bool, Errno> {
    // Only files in memory know seals; all others answer EINVAL.
    let sealed = rustix::fs::fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
    // The magic number is 32 bits wide; the field is signed and as wide as the machine's words.
    let huge = rustix::fs::fstatfs(file)?.f_type as u64 & 0xFFFF_FFFF == HUGETLBFS_MAGIC;
    Ok(sealed && !huge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jitney_memory::{Memfd, PageSize};
    use std::os::fd::AsFd;

    const READ: Allowed = Allowed { read: true, write: false };

    #[test]
    fn there_is_a_most_of_files_and_of_their_bytes() {
        let mut files = Files::default();
        let sparse = |bytes| Memfd::create("client", bytes, PageSize::Normal).unwrap();
        let large = sparse(10 << 40);
        let descriptor = large.as_fd().try_clone_to_owned().unwrap();
        let kept = files.map(&descriptor, 0, 4096, READ).unwrap();
        assert!(files.map(&descriptor, 4096, 4096, READ).is_ok(), "the same file again");
        let other = sparse(10 << 40).as_fd().try_clone_to_owned().unwrap();
        assert_eq!(files.map(&other, 0, 4096, READ).unwrap_err(), Errno::NOSPC);
        drop(kept);
        assert!(files.map(&other, 0, 4096, READ).is_ok(), "the first is gone");

        let mut files = Files::default();
        let one = sparse(4096).as_fd().try_clone_to_owned().unwrap();
        let memory = files.map(&one, 0, 4096, READ).unwrap();
        files.alive = std::iter::repeat_n(Arc::downgrade(&memory), MOST_FILES).collect();
        assert_eq!(files.map(&other, 0, 4096, READ).unwrap_err(), Errno::NOSPC);
    }
    const BOTH: Allowed = Allowed { read: true, write: true };

    fn memory(size: u64) -> OwnedFd {
        Memfd::create("files-test", size, PageSize::Normal).unwrap().into_fd()
    }

    #[test]
    fn a_file_is_mapped_once_and_let_go_with_its_last_user() {
        let mut files = Files::default();
        let file = memory(0x10000);
        let again = file.as_fd().try_clone_to_owned().unwrap();
        let first = files.map(&file, 0, 0x1000, BOTH).unwrap();
        let second = files.map(&again, 0x1000, 0x1000, READ).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        let weak = Arc::downgrade(&first);
        drop((first, second));
        assert!(weak.upgrade().is_none());
    }

    #[test]
    fn more_than_the_file_holds_is_refused() {
        let mut files = Files::default();
        let file = memory(0x2000);
        let refused =
            |result: Result<Arc<ClientMemory>, Errno>| assert_eq!(result.unwrap_err(), Errno::INVAL);
        refused(files.map(&file, 0, 0x2001, BOTH));
        refused(files.map(&file, 0x2000, 1, BOTH));
        refused(files.map(&file, u64::MAX, 2, BOTH));
        let (pipe, _writer) = rustix::pipe::pipe().unwrap();
        refused(files.map(&pipe, 0, 1, READ));
    }

    #[test]
    fn a_descriptor_for_reading_gives_no_right_to_write() {
        let mut files = Files::default();
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(0x1000).unwrap();
        let writable: OwnedFd = file.reopen().unwrap().into();
        let readable: OwnedFd = std::fs::File::open(file.path()).unwrap().into();
        let writable: OwnedFd = match files.map(&writable, 0, 0x1000, BOTH) {
            Ok(_) => writable,
            Err(errno) => panic!("{errno}"),
        };
        let _kept = files.map(&writable, 0, 0x1000, BOTH).unwrap();
        assert_eq!(files.map(&readable, 0, 0x1000, BOTH).unwrap_err(), Errno::ACCESS);
        files.map(&readable, 0, 0x1000, READ).unwrap();
    }

    #[test]
    fn a_file_that_has_grown_is_mapped_anew() {
        let mut files = Files::default();
        let file = tempfile::tempfile().unwrap();
        file.set_len(0x1000).unwrap();
        let descriptor: OwnedFd = file.try_clone().unwrap().into();
        let small = files.map(&descriptor, 0, 0x1000, BOTH).unwrap();
        file.set_len(0x3000).unwrap();
        let large = files.map(&descriptor, 0x2000, 0x1000, BOTH).unwrap();
        assert_eq!((small.mapping().len(), large.mapping().len()), (0x1000, 0x3000));
    }

    #[test]
    fn entries_of_the_past_do_not_pile_up() {
        let mut files = Files::default();
        for _ in 0..1000 {
            files.map(&memory(0x1000), 0, 0x1000, BOTH).unwrap();
        }
        assert!(files.mapped.len() <= 64);
    }
}
