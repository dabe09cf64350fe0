//! A mapping of memory or of registers: where it is, what lies within it, and each kind of access. What is which is said by
//! the two types that are made of it, [`Mapping`](crate::Mapping) and [`Registers`](crate::Registers).

#![expect(unsafe_code, reason = "mmap, and access to memory through raw pointers")]

use std::ffi::c_void;
use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::time::Duration;

use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::thread::futex;
use rustix::time::Timespec;

use crate::error::{AccessError, Error, Result};
use crate::hugetlb::page_size_of;
use crate::pages::PageSize;
use crate::past_caches;

// Lengths travel as u64 and are used as usize.
const _: () = assert!(usize::BITS == 64);

/// The large pages of x86-64, which 512 normal ones make.
pub(crate) const LARGE_PAGE: usize = 2 << 20;

/// What a mapping may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Loads only. Stores are refused, by the mapping and by the processor.
    ReadOnly,
    /// Loads and stores.
    ReadWrite,
}

/// A range of mapped memory that others may change at any time; unmapped when dropped.
///
/// No reference to it ever exists. Copies and volatile accesses by several threads at once are, read strictly, not covered by
/// Rust's memory model; they are what every program does that shares memory with devices, since the compiler makes one
/// plain instruction of each.
#[derive(Debug)]
pub(crate) struct Mapped {
    base: NonNull<c_void>,
    len: usize,
    /// What the kernel mapped: `len` rounded up to whole pages.
    mapped: usize,
    access: Access,
}

// SAFETY: The mapping belongs to the process, not to a thread: any thread may use and unmap it.
unsafe impl Send for Mapped {}

// SAFETY: No method makes a reference to the memory or assumes that it stays unchanged: others write to it in any
// case. All accesses are within bounds and while the mapping exists, as it is unmapped only by Drop, which needs it
// alone.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Maps `len` bytes of a file or device from `offset`, shared with everybody else who has it.
    ///
    /// `offset` is a multiple of the page size. A file has to be that long; unless it is sealed against shrinking (see
    /// [`Memfd`](crate::Memfd)), whoever shortens it later kills this process by SIGBUS.
    pub(crate) fn shared(file: impl AsFd, offset: u64, len: usize, access: Access) -> Result<Self> {
        let object = || format!("of {len} bytes at {offset:#x} of a file");
        let stat =
            rustix::fs::fstat(&file).map_err(|errno| Error::system("fstat", "of a file to map", errno))?;
        let mut pages = PageSize::Normal;
        let is_memory = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if is_memory {
            let size = u64::try_from(stat.st_size).unwrap_or(0);
            if offset.checked_add(len as u64).is_none_or(|end| end > size) {
                return Err(Error::Descriptor {
                    expected: format!("a file that holds {len:#x} bytes at {offset:#x}").into(),
                    found: format!("one of {size:#x} bytes"),
                });
            }
            pages = page_size_of(file.as_fd())?;
        }
        let mapped = whole_pages(len, pages)?;
        let protection = match access {
            Access::ReadOnly => ProtFlags::READ,
            Access::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
        };
        let mapping = match is_memory && pages == PageSize::Normal && mapped >= LARGE_PAGE {
            true => map_for_large_pages(&file, offset, mapped, protection),
            // SAFETY: A new mapping at an address that the kernel chooses changes no memory that exists.
            false => unsafe {
                rustix::mm::mmap(std::ptr::null_mut(), mapped, protection, MapFlags::SHARED, &file, offset)
            },
        };
        Self::new(mapping, len, mapped, access).map_err(|errno| Error::system("mmap", object(), errno))
    }

    /// Maps `len` bytes of zeroed memory of this process alone.
    ///
    /// Nothing is set aside for it: memory that nobody wrote to costs nothing, even when it is read. The first
    /// write takes a page. Huge pages are not asked for: copies of 1 GiB were measured to be no faster with them,
    /// and one written byte would cost 2 MiB.
    pub(crate) fn anonymous(len: usize) -> Result<Self> {
        let mapped = whole_pages(len, PageSize::Normal)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: A new mapping at an address that the kernel chooses changes no memory that exists.
        let mapping = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                mapped,
                ProtFlags::READ | ProtFlags::WRITE,
                flags,
            )
        };
        Self::new(mapping, len, mapped, Access::ReadWrite)
            .map_err(|errno| Error::system("mmap", format!("of {len} bytes of anonymous memory"), errno))
    }

    fn new(
        mapping: Result<*mut c_void, Errno>,
        len: usize,
        mapped: usize,
        access: Access,
    ) -> Result<Self, Errno> {
        // Nothing is mapped at address zero without asking for that address.
        let base = NonNull::new(mapping?).ok_or(Errno::NOMEM)?;
        Ok(Self { base, len, mapped, access })
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// All of its bytes.
    ///
    /// # Safety
    /// Nobody writes to them while the slice lives: no other process, no card, and no method of this.
    pub(crate) unsafe fn bytes(&self) -> &[u8] {
        // SAFETY: They are mapped, readable and initialised for as long as this lives; the caller sees to it that they stay as
        // they are.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().cast(), self.len) }
    }

    /// The same to write to; the mapping allows it.
    ///
    /// # Safety
    /// Nobody else reads or writes them while the slice lives.
    pub(crate) unsafe fn bytes_mut(&mut self) -> &mut [u8] {
        assert!(self.access == Access::ReadWrite, "a mapping that can be written to");
        // SAFETY: As above; `self` is borrowed for as long, and the caller sees to everybody else.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr().cast(), self.len) }
    }

    /// What it may be used for.
    pub(crate) fn access(&self) -> Access {
        self.access
    }

    /// Where it is in this process: a number for calls that have the kernel pin or map the memory, such as VFIO's
    /// `MAP_DMA`. It is no way to the memory itself, and means nothing once the mapping is dropped.
    pub(crate) fn address(&self) -> u64 {
        self.base.addr().get() as u64
    }

    /// Puts 2 MiB of it from `offset` on, which is where a large page can begin, on one such page, what is in them with it.
    pub(crate) fn collapse(&self, offset: usize) -> Result<(), Errno> {
        if offset.checked_add(LARGE_PAGE).is_none_or(|end| end > self.mapped) {
            return Err(Errno::INVAL);
        }
        let start = self.base.as_ptr().wrapping_byte_add(offset);
        // SAFETY: The range is in this mapping. Its bytes stay what they are, for everybody who has them.
        let outcome = unsafe { libc::madvise(start, LARGE_PAGE, libc::MADV_COLLAPSE) };
        if outcome == 0 { Ok(()) } else { Err(last_errno()) }
    }

    /// Has pages of the file that are not there yet taken from a NUMA node, as long as that has some. It holds for everybody who
    /// has the file.
    pub(crate) fn prefer_node(&self, node: u32) -> Result<(), Errno> {
        let mut nodes = [0_u64; NODES / u64::BITS as usize];
        let word = nodes.get_mut((node / u64::BITS) as usize).ok_or(Errno::INVAL)?;
        *word = 1 << (node % u64::BITS);
        // SAFETY: The range is this mapping, of which no byte changes, and the mask has as many bits as is said: the kernel takes
        // one off.
        let outcome = unsafe {
            libc::syscall(
                libc::SYS_mbind,
                self.base.as_ptr(),
                self.mapped,
                libc::MPOL_PREFERRED,
                nodes.as_ptr(),
                NODES + 1,
                0,
            )
        };
        if outcome == 0 { Ok(()) } else { Err(last_errno()) }
    }

    /// Copies the bytes from `offset` on into `buffer`.
    #[inline]
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), AccessError> {
        let from = self.readable(offset, buffer.len())?;
        fence(Ordering::Acquire);
        // SAFETY: `readable` checked the source; the buffer is as long, and no reference to the mapping can exist.
        unsafe { std::ptr::copy_nonoverlapping(from, buffer.as_mut_ptr(), buffer.len()) };
        Ok(())
    }

    /// Copies `bytes` to `offset`.
    #[inline]
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), AccessError> {
        let to = self.writable(offset, bytes.len())?;
        // SAFETY: `writable` checked the target; the source is as long, and no reference to the mapping can exist.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        fence(Ordering::Release);
        Ok(())
    }

    /// Copies `bytes` to `offset`, past the caches.
    #[inline]
    pub(crate) fn write_past_caches(&self, offset: u64, bytes: &[u8]) -> Result<(), AccessError> {
        let to = self.writable(offset, bytes.len())?;
        // SAFETY: `writable` checked the target; the source is as long, and no reference to the mapping can exist.
        unsafe { past_caches::copy(bytes.as_ptr(), to, bytes.len()) };
        fence(Ordering::Release);
        Ok(())
    }

    /// Copies `len` bytes from `offset` to `to_offset` of another mapping or of this one; the ranges may overlap.
    pub(crate) fn copy_to(
        &self,
        offset: u64,
        to: &Self,
        to_offset: u64,
        len: usize,
    ) -> Result<(), AccessError> {
        let source = self.readable(offset, len)?;
        let target = to.writable(to_offset, len)?;
        fence(Ordering::Acquire);
        // SAFETY: Both ranges were checked, each against its own mapping; `copy` allows them to overlap.
        unsafe { std::ptr::copy(source, target, len) };
        fence(Ordering::Release);
        Ok(())
    }

    /// The same past the caches, unless the ranges overlap.
    pub(crate) fn copy_past_caches_to(
        &self,
        offset: u64,
        to: &Self,
        to_offset: u64,
        len: usize,
    ) -> Result<(), AccessError> {
        let source = self.readable(offset, len)?;
        let target = to.writable(to_offset, len)?;
        if source.addr().abs_diff(target.addr()) < len {
            return self.copy_to(offset, to, to_offset, len);
        }
        fence(Ordering::Acquire);
        // SAFETY: Both ranges were checked, each against its own mapping, and do not overlap.
        unsafe { past_caches::copy(source, target, len) };
        fence(Ordering::Release);
        Ok(())
    }

    /// Sets `len` bytes from `offset` on to `byte`.
    pub(crate) fn fill(&self, offset: u64, len: usize, byte: u8) -> Result<(), AccessError> {
        let target = self.writable(offset, len)?;
        // SAFETY: `writable` checked the range.
        unsafe { target.write_bytes(byte, len) };
        fence(Ordering::Release);
        Ok(())
    }

    /// Loads 32 bits of memory such that what is read afterwards was written before whoever stored them did.
    #[inline]
    pub(crate) fn load_acquire32(&self, offset: u64) -> Result<u32, AccessError> {
        let word = self.aligned(offset, self.readable(offset, size_of::<u32>())?.cast::<u32>().cast_mut())?;
        // SAFETY: In bounds and aligned; the mapping outlives the reference, and all others who use this word while
        // it says that data is ready use atomic accesses too, or are outside this process.
        let value = unsafe { AtomicU32::from_ptr(word) }.load(Ordering::Relaxed);
        // On memory that is mapped read-only, only a relaxed load is promised to be a plain one.
        fence(Ordering::Acquire);
        Ok(value)
    }

    /// Stores 32 bits of memory such that who loads them sees all that was written before.
    #[inline]
    pub(crate) fn store_release32(&self, offset: u64, value: u32) -> Result<(), AccessError> {
        let word = self.aligned(offset, self.writable(offset, size_of::<u32>())?.cast::<u32>())?;
        // SAFETY: As for `load_acquire32`, and writable.
        unsafe { AtomicU32::from_ptr(word) }.store(value, Ordering::Release);
        Ok(())
    }

    /// Loads 64 bits of memory such that what is read afterwards was written before whoever stored them did.
    #[inline]
    pub(crate) fn load_acquire64(&self, offset: u64) -> Result<u64, AccessError> {
        let word = self.aligned(offset, self.readable(offset, size_of::<u64>())?.cast::<u64>().cast_mut())?;
        // SAFETY: As for `load_acquire32`.
        let value = unsafe { AtomicU64::from_ptr(word) }.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        Ok(value)
    }

    /// Stores 64 bits of memory such that who loads them sees all that was written before.
    #[inline]
    pub(crate) fn store_release64(&self, offset: u64, value: u64) -> Result<(), AccessError> {
        let word = self.aligned(offset, self.writable(offset, size_of::<u64>())?.cast::<u64>())?;
        // SAFETY: As for `load_acquire32`, and writable.
        unsafe { AtomicU64::from_ptr(word) }.store(value, Ordering::Release);
        Ok(())
    }

    /// Sleeps until somebody wakes those who wait for this word, for `timeout` at most, if it is `value`; whether that was before.
    pub(crate) fn wait32(&self, offset: u64, value: u32, timeout: Duration) -> Result<bool> {
        let word = self.aligned(offset, self.readable(offset, size_of::<u32>())?.cast::<u32>().cast_mut())?;
        // SAFETY: As for `load_acquire32`; the kernel only loads it, which a read-only mapping of a file allows.
        let word = unsafe { AtomicU32::from_ptr(word) };
        let longest = Timespec { tv_sec: i64::MAX, tv_nsec: 0 };
        let timeout = Timespec::try_from(timeout).unwrap_or(longest);
        match futex::wait(word, futex::Flags::empty(), value, Some(&timeout)) {
            // A signal's handler ran, or it has another value already.
            Ok(()) | Err(Errno::INTR | Errno::AGAIN) => Ok(true),
            Err(Errno::TIMEDOUT) => Ok(false),
            Err(errno) => Err(Error::system("futex", "wait for a word of shared memory", errno)),
        }
    }

    /// Wakes all who wait for this word, in whatever process.
    pub(crate) fn wake32(&self, offset: u64) -> Result<()> {
        let word = self.aligned(offset, self.writable(offset, size_of::<u32>())?.cast::<u32>())?;
        // SAFETY: As for `load_acquire32`; nothing of it is changed.
        let word = unsafe { AtomicU32::from_ptr(word) };
        let all = i32::MAX.cast_unsigned();
        let woken = futex::wake(word, futex::Flags::empty(), all);
        woken.map(drop).map_err(|errno| Error::system("futex", "wake who waits for shared memory", errno))
    }

    /// The 32 bits at `offset`, checked once, to be read and written often.
    pub(crate) fn cell32(&self, offset: u64) -> Result<Cell32<'_>, AccessError> {
        let word = self.aligned(offset, self.writable(offset, size_of::<u32>())?.cast::<u32>())?;
        Ok(Cell32 { word, mapping: PhantomData })
    }

    /// One volatile access, in the host's byte order.
    #[inline]
    pub(crate) fn load<T: Word>(&self, offset: u64) -> Result<T, AccessError> {
        let word = self.aligned(offset, self.readable(offset, size_of::<T>())?.cast::<T>().cast_mut())?;
        // SAFETY: In bounds and aligned; every bit pattern is a value of an unsigned integer.
        Ok(unsafe { word.read_volatile() })
    }

    /// One volatile access, in the host's byte order.
    #[inline]
    pub(crate) fn store<T: Word>(&self, offset: u64, value: T) -> Result<(), AccessError> {
        let word = self.aligned(offset, self.writable(offset, size_of::<T>())?.cast::<T>())?;
        // SAFETY: In bounds, aligned and writable.
        unsafe { word.write_volatile(value) };
        Ok(())
    }

    /// The address of `len` bytes at `offset`, all within the mapping. The one place where bounds are checked.
    #[inline]
    fn readable(&self, offset: u64, len: usize) -> Result<*const u8, AccessError> {
        match self.len.checked_sub(len) {
            #[expect(clippy::cast_possible_truncation, reason = "usize has 64 bits, asserted above")]
            Some(last) if offset <= last as u64 => {
                Ok(self.base.as_ptr().cast::<u8>().wrapping_add(offset as usize))
            }
            _ => Err(AccessError::OutOfBounds { offset, len, size: self.len }),
        }
    }

    /// As [`Mapped::readable`], of a mapping that may be written.
    #[inline]
    fn writable(&self, offset: u64, len: usize) -> Result<*mut u8, AccessError> {
        let address = self.readable(offset, len)?;
        match self.access {
            Access::ReadWrite => Ok(address.cast_mut()),
            Access::ReadOnly => Err(AccessError::ReadOnly { offset }),
        }
    }

    /// `address` if `offset`, which it stands for, is a multiple of its type's size. The base is that of a page.
    #[inline]
    fn aligned<T: Word>(&self, offset: u64, address: *mut T) -> Result<*mut T, AccessError> {
        if address.is_aligned() {
            Ok(address)
        } else {
            Err(AccessError::Misaligned { offset, align: align_of::<T>() })
        }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: The range was mapped by this value, which nobody else has any more; cells borrow it and are gone.
        let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr(), self.mapped) };
        debug_assert_eq!(unmapped, Ok(()), "a whole mapping can always be unmapped");
    }
}

/// A 32-bit register of a card, such as one that is polled.
///
/// Its bounds were checked when it was made, so that an access is exactly one volatile load or store, ordered as
/// [`Registers`](crate::Registers) says.
#[derive(Debug, Clone, Copy)]
pub struct Cell32<'mapping> {
    word: *mut u32,
    mapping: PhantomData<&'mapping Mapped>,
}

impl Cell32<'_> {
    /// Loads the register, in the host's byte order.
    #[inline(always)]
    #[must_use]
    pub fn read(self) -> u32 {
        // SAFETY: `Mapped::cell32` checked bounds and alignment, and the mapping is borrowed while the cell exists.
        let value = unsafe { self.word.read_volatile() };
        fence(Ordering::Acquire);
        value
    }

    /// Stores to the register, in the host's byte order.
    #[inline(always)]
    pub fn write(self, value: u32) {
        fence(Ordering::Release);
        // SAFETY: As for `read`; `Mapped::cell32` also checked that the mapping may be written.
        unsafe { self.word.write_volatile(value) }
    }
}

/// The unsigned integers that can be loaded and stored: their size is their alignment, and all bit patterns are
/// valid.
pub(crate) trait Word: Copy {}
impl Word for u8 {}
impl Word for u16 {}
impl Word for u32 {}
impl Word for u64 {}

/// How many NUMA nodes a kernel can have (CONFIG_NODES_SHIFT is 10 at most).
const NODES: usize = 1024;

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Maps a file where its large pages, if it has any, can be large pages of the mapping: address and offset differ by whole
/// ones. The kernel looks for such an address only where large pages are on for all files.
fn map_for_large_pages(
    file: impl AsFd,
    offset: u64,
    len: usize,
    protection: ProtFlags,
) -> Result<*mut c_void, Errno> {
    let room = len.checked_add(LARGE_PAGE).ok_or(Errno::NOMEM)?;
    let nothing = (ProtFlags::empty(), MapFlags::PRIVATE | MapFlags::NORESERVE);
    // SAFETY: A new mapping at an address that the kernel chooses changes no memory that exists.
    let reserved = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), room, nothing.0, nothing.1) };
    let Ok(reserved) = reserved else {
        // Addresses are limited: the wish is not worth a failure.
        // SAFETY: As above.
        return unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), len, protection, MapFlags::SHARED, file, offset)
        };
    };
    let before = usize::try_from(offset).unwrap_or(0).wrapping_sub(reserved.addr()) % LARGE_PAGE;
    let there = reserved.wrapping_byte_add(before);
    let flags = MapFlags::SHARED | MapFlags::FIXED;
    // SAFETY: What is mapped over is a part of what was just reserved, which nobody else knows.
    let mapping = unsafe { rustix::mm::mmap(there, len, protection, flags, file, offset) };
    let left = match mapping {
        Ok(_) => [(reserved, before), (there.wrapping_byte_add(len), LARGE_PAGE - before)],
        Err(_) => [(reserved, room), (reserved, 0)],
    };
    for (start, size) in left.into_iter().filter(|(_, size)| *size > 0) {
        // SAFETY: A part of what was just reserved, and not the part that was mapped over.
        let unmapped = unsafe { rustix::mm::munmap(start, size) };
        debug_assert_eq!(unmapped, Ok(()), "what was just mapped can be unmapped");
    }
    mapping
}

/// `len` rounded up to whole pages: `munmap` of huge pages demands it, and `mmap` does the same by itself.
fn whole_pages(len: usize, pages: PageSize) -> Result<usize> {
    let refused = || Error::Size { object: "a mapping".into(), size: len as u64, multiple: 1 };
    if len == 0 {
        return Err(refused());
    }
    pages.round_up(len as u64).and_then(|len| usize::try_from(len).ok()).ok_or_else(refused)
}
