//! Memory as a descriptor: sizes, seals, and what is refused on receipt.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;

use jitney_memory::{Access, Error, Mapping, Memfd, MemoryId, PageSize, for_others};
use rustix::fs::{MemfdFlags, SealFlags, ftruncate};
use rustix::io::{Errno, FdFlags};

const SIZE: u64 = 0x4000;

fn unsealed(size: u64, seals: SealFlags) -> OwnedFd {
    let file = rustix::fs::memfd_create("unsealed", MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&file, size).unwrap();
    rustix::fs::fcntl_add_seals(&file, seals).unwrap();
    file
}

fn refusal(file: impl Into<OwnedFd>, size: u64) -> String {
    let error = Memfd::adopt(file.into(), size).unwrap_err();
    assert!(matches!(error, Error::Descriptor { .. }), "{error:?}");
    error.to_string()
}

#[test]
fn its_size_cannot_be_changed_and_it_does_not_survive_exec() {
    let memory = Memfd::create("sealed", SIZE, PageSize::Normal).unwrap();
    assert_eq!((memory.size(), memory.page_size()), (SIZE, PageSize::Normal));
    assert_eq!(ftruncate(&memory, SIZE - 1), Err(Errno::PERM));
    assert_eq!(ftruncate(&memory, SIZE + 1), Err(Errno::PERM));
    assert!(rustix::io::fcntl_getfd(&memory).unwrap().contains(FdFlags::CLOEXEC));
}

/// What can be done to memory by this descriptor, and by those that can be opened through it.
fn cannot_be_written(shared: &OwnedFd) {
    let map = |file: &OwnedFd| Mapping::shared(file, 0, 4096, Access::ReadWrite).unwrap_err().errno();
    assert_eq!(map(shared), Some(Errno::ACCESS), "its descriptor is for reading");
    let again = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(format!("/proc/self/fd/{}", shared.as_raw_fd()));
    // Its mode lets everybody open it; the seal is what counts.
    let again = OwnedFd::from(again.unwrap());
    assert_eq!(map(&again), Some(Errno::PERM));
    assert_eq!(rustix::io::pwrite(&again, &[1], 0), Err(Errno::PERM));
    let punch = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
    assert_eq!(rustix::fs::fallocate(&again, punch, 0, 4096), Err(Errno::PERM));
    assert_eq!(ftruncate(&again, 0), Err(Errno::PERM));
}

#[test]
fn what_is_shared_with_readers_nobody_gets_to_write_to_and_who_did_before_still_does() {
    let memory = Memfd::create("shared", SIZE, PageSize::Normal).unwrap();
    let mine = Mapping::shared(&memory, 0, 4096, Access::ReadWrite).unwrap();
    let shared = for_others(&memory, Access::ReadOnly).unwrap();
    cannot_be_written(&shared);
    mine.store32(0, 7).unwrap();
    let received = Memfd::adopt(shared, SIZE).unwrap();
    assert_eq!(Mapping::shared(&received, 0, 4096, Access::ReadOnly).unwrap().load32(0), Ok(7));
    assert_eq!(rustix::fs::fcntl_add_seals(&memory, SealFlags::WRITE), Err(Errno::PERM));
    // Again, and from what somebody else has of it; but not for writing any more.
    cannot_be_written(&for_others(&received, Access::ReadOnly).unwrap());
    let error = for_others(&memory, Access::ReadWrite).unwrap_err();
    assert!(error.to_string().contains("shared for reading before"), "{error}");
}

#[test]
fn of_memory_that_is_sealed_for_readers_the_pages_can_be_counted() {
    let memory = Memfd::create("shared", 2 << 20, PageSize::Normal).unwrap();
    Mapping::shared(&memory, 0, 2 << 20, Access::ReadWrite).unwrap().fill(0, 2 << 20, 1).unwrap();
    for_others(&memory, Access::ReadOnly).unwrap();
    assert!(matches!(memory.on_large_pages().unwrap(), 0 | 0x20_0000));
}

#[test]
fn what_is_shared_with_writers_can_be_written_to_and_not_be_sealed_by_them() {
    let memory = Memfd::create("shared", SIZE, PageSize::Normal).unwrap();
    let shared = for_others(&memory, Access::ReadWrite).unwrap();
    assert_eq!(MemoryId::of(&shared).unwrap(), MemoryId::of(&memory).unwrap());
    assert_eq!(rustix::fs::fcntl_add_seals(&shared, SealFlags::FUTURE_WRITE), Err(Errno::PERM));
    Mapping::shared(&shared, 0, 4096, Access::ReadWrite).unwrap().store32(4, 9).unwrap();
    assert_eq!(Mapping::shared(&memory, 0, 4096, Access::ReadOnly).unwrap().load32(4), Ok(9));
    let other = Memfd::create("other", SIZE, PageSize::Normal).unwrap();
    assert_ne!(MemoryId::of(&other).unwrap(), MemoryId::of(&memory).unwrap());
    assert!(MemoryId::of(std::fs::File::open("/dev/zero").unwrap()).is_err());
    assert!(MemoryId::of(rustix::pipe::pipe().unwrap().0).is_err());
}

/// The mode of such a file lets every user open it to write, so it is the seal that counts.
#[test]
fn nor_does_a_process_of_another_user_get_to_write() {
    if !rustix::process::getuid().is_root() {
        println!("skipped: it takes root to be another user");
        return;
    }
    for (access, written) in [(Access::ReadOnly, false), (Access::ReadWrite, true)] {
        let memory = Memfd::create("shared", SIZE, PageSize::Normal).unwrap();
        Mapping::shared(&memory, 0, 4096, Access::ReadWrite).unwrap().store32(0, 0x0707_0707).unwrap();
        let shared = for_others(&memory, access).unwrap();
        let mut other = std::process::Command::new("sh");
        other.args(["-c", "printf '\\0\\0\\0\\0' 1<> /proc/self/fd/0"]);
        let ended = other.uid(12_345).gid(12_345).stdin(shared).stderr(std::process::Stdio::null()).status();
        assert_eq!(ended.unwrap().success(), written, "{access:?}");
        let word = Mapping::shared(&memory, 0, 4096, Access::ReadOnly).unwrap().load32(0).unwrap();
        assert_eq!(word, if written { 0 } else { 0x0707_0707 });
    }
}

#[test]
fn sizes_are_whole_pages() {
    for (size, pages) in [
        (0, PageSize::Normal),
        (1, PageSize::Normal),
        (u64::MAX, PageSize::Normal),
        (4096, PageSize::Huge2M),
        (2 << 20, PageSize::Huge1G),
    ] {
        let error = Memfd::create("odd", size, pages).unwrap_err();
        assert!(matches!(error, Error::Size { .. }), "{size:#x} of {pages}: {error:?}");
    }
    assert_eq!(PageSize::Huge2M.round_up(1), Some(2 << 20));
    assert_eq!(PageSize::Huge2M.round_up(2 << 20), Some(2 << 20));
    assert_eq!(PageSize::Huge1G.round_up(u64::MAX), None);
}

#[test]
fn a_size_beyond_what_files_may_have_is_the_kernels_error() {
    let size = u64::MAX - (PageSize::Normal.bytes() - 1);
    let error = Memfd::create("vast", size, PageSize::Normal).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::INVAL));
    assert!(error.to_string().contains("ftruncate of memory 'vast'"), "{error}");
    assert!(error.to_string().contains("EINVAL (Invalid argument)"), "{error}");
}

#[test]
fn adopting_what_was_made_keeps_contents_and_size() {
    let memory = Memfd::create("passed on", SIZE, PageSize::Normal).unwrap();
    Mapping::shared(&memory, 0, 4096, Access::ReadWrite).unwrap().store32(0, 7).unwrap();
    let received = Memfd::adopt(memory.into_fd(), SIZE).unwrap();
    assert_eq!((received.size(), received.page_size()), (SIZE, PageSize::Normal));
    assert_eq!(Mapping::shared(&received, 0, 4096, Access::ReadOnly).unwrap().load32(0), Ok(7));
}

#[test]
fn adopting_refuses_memory_that_can_shrink_or_has_another_size() {
    assert!(refusal(unsealed(SIZE, SealFlags::empty()), SIZE).contains("can still shrink"));
    assert!(refusal(unsealed(SIZE, SealFlags::GROW | SealFlags::SEAL), SIZE).contains("can still shrink"));
    let short = unsealed(SIZE - 4096, SealFlags::SHRINK);
    assert!(refusal(short, SIZE).ends_with("got memory of 0x3000 bytes"));
    assert!(refusal(unsealed(SIZE + 4096, SealFlags::SHRINK), SIZE).contains("0x5000"));
    assert!(refusal(unsealed(SIZE, SealFlags::SHRINK), u64::MAX).contains("0x4000"));
}

#[test]
fn adopting_refuses_what_is_not_memory() {
    let mut file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    file.write_all(&[0; 0x4000]).unwrap();
    // Where that directory is itself in memory, the file is refused as one that can shrink.
    let refused = refusal(file, SIZE);
    assert!(refused.contains("cannot be sealed") || refused.contains("can still shrink"), "{refused}");
    assert!(refusal(std::fs::File::open("/dev/zero").unwrap(), SIZE).contains("CharacterDevice"));
    assert!(refusal(std::os::unix::net::UnixStream::pair().unwrap().0, SIZE).contains("Socket"));
    assert!(refusal(rustix::pipe::pipe().unwrap().0, SIZE).contains("Fifo"));
}

#[test]
fn huge_pages_are_there_or_the_error_says_how_to_reserve_them() {
    for pages in [PageSize::Huge2M, PageSize::Huge1G] {
        // More than any machine that runs these tests has.
        let size = pages.bytes() << 12;
        match Memfd::create("too many", size, pages) {
            Err(Error::HugePages { needed, free, total, .. }) => {
                assert_eq!(needed, 1 << 12);
                assert!(free < needed && total >= needed, "{free} free, {total} in all");
            }
            other => panic!("{pages}: {other:?}"),
        }
        let text = Memfd::create("too many", size, pages).unwrap_err().to_string();
        let path = format!("/sys/kernel/mm/hugepages/hugepages-{}kB/nr_hugepages", pages.bytes() / 1024);
        assert!(text.contains("needs 4096 huge pages") && text.contains("sudo tee"), "{text}");
        assert!(text.ends_with(&path), "{text}");
    }
}

#[test]
fn a_huge_page_can_be_used_where_there_is_one() {
    for pages in [PageSize::Huge2M, PageSize::Huge1G] {
        let memory = match Memfd::create("huge", pages.bytes(), pages) {
            Ok(memory) => memory,
            Err(error @ Error::HugePages { .. }) => {
                println!("skipped: {error}");
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        // A length that is not whole pages is mapped and unmapped in whole ones.
        let mapping = Mapping::shared(&memory, 0, 4096, Access::ReadWrite).unwrap();
        mapping.store32(4092, 5).unwrap();
        drop(mapping);
        let received = Memfd::adopt(memory.as_fd().try_clone_to_owned().unwrap(), pages.bytes()).unwrap();
        assert_eq!(received.page_size(), pages);
    }
}
