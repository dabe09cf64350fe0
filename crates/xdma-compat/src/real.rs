//! The functions behind those of this library: what the loader finds next, the C library's as a rule.
//!
//! The C library's headers declare some of them with a variable number of arguments (`open`, `fcntl`, `ioctl`). On x86-64 these
//! travel as those of any function do, as long as they are integers, which they are; so here they have all that they can have.

#![expect(
    unsafe_code,
    reason = "functions that are found by name, and called as the C library declares them"
)]

use libc::{FILE, c_char, c_int, c_uint, c_ulong, c_void, iovec, mode_t, off_t, sigset_t, size_t, ssize_t};
use std::ffi::CStr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A function, looked up once.
struct Real {
    name: &'static CStr,
    address: AtomicPtr<c_void>,
}

impl Real {
    const fn new(name: &'static CStr) -> Self {
        Self { name, address: AtomicPtr::new(std::ptr::null_mut()) }
    }

    fn find(&self) -> *mut c_void {
        let known = self.address.load(Ordering::Acquire);
        if !known.is_null() {
            return known;
        }
        // SAFETY: the name ends with a zero, and the lookup changes nothing.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        self.address.store(found, Ordering::Release);
        found
    }
}

/// Sets what the program finds in `errno`.
pub(crate) fn set_errno(errno: c_int) {
    // SAFETY: the C library answers where this thread's errno is.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: it is there as long as the thread, and nobody else's.
    unsafe { *place = errno };
}

macro_rules! functions {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty, or $failed:expr;)*) => {$(
        /// The real one.
        ///
        /// # Safety
        /// As the C library's.
        pub(crate) unsafe fn $name($($argument: $type),*) -> $result {
            static REAL: Real = Real::new(match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                Ok(name) => name,
                Err(_) => c"",
            });
            let address = REAL.find();
            if address.is_null() {
                set_errno(libc::ENOSYS);
                return $failed;
            }
            // SAFETY: the C library has a function of this name and of this type.
            let function: unsafe extern "C" fn($($type),*) -> $result = unsafe { std::mem::transmute(address) };
            // SAFETY: the caller sees to the arguments.
            unsafe { function($($argument),*) }
        }
    )*};
}

functions! {
    open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int, or -1;
    open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int, or -1;
    openat(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int, or -1;
    openat64(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int, or -1;
    __open_2(path: *const c_char, flags: c_int) -> c_int, or -1;
    __open64_2(path: *const c_char, flags: c_int) -> c_int, or -1;
    __openat_2(folder: c_int, path: *const c_char, flags: c_int) -> c_int, or -1;
    __openat64_2(folder: c_int, path: *const c_char, flags: c_int) -> c_int, or -1;
    creat(path: *const c_char, mode: mode_t) -> c_int, or -1;
    creat64(path: *const c_char, mode: mode_t) -> c_int, or -1;
    close(descriptor: c_int) -> c_int, or -1;
    dup2(descriptor: c_int, other: c_int) -> c_int, or -1;
    dup3(descriptor: c_int, other: c_int, flags: c_int) -> c_int, or -1;

    read(descriptor: c_int, buffer: *mut c_void, count: size_t) -> ssize_t, or -1;
    __read_chk(descriptor: c_int, buffer: *mut c_void, count: size_t, room: size_t) -> ssize_t, or -1;
    pread(descriptor: c_int, buffer: *mut c_void, count: size_t, offset: off_t) -> ssize_t, or -1;
    pread64(descriptor: c_int, buffer: *mut c_void, count: size_t, offset: off_t) -> ssize_t, or -1;
    __pread_chk(descriptor: c_int, buffer: *mut c_void, count: size_t, offset: off_t, room: size_t) -> ssize_t, or -1;
    __pread64_chk(descriptor: c_int, buffer: *mut c_void, count: size_t, offset: off_t, room: size_t) -> ssize_t, or -1;
    readv(descriptor: c_int, vectors: *const iovec, count: c_int) -> ssize_t, or -1;
    preadv(descriptor: c_int, vectors: *const iovec, count: c_int, offset: off_t) -> ssize_t, or -1;
    preadv64(descriptor: c_int, vectors: *const iovec, count: c_int, offset: off_t) -> ssize_t, or -1;
    preadv2(descriptor: c_int, vectors: *const iovec, count: c_int, offset: off_t, flags: c_int) -> ssize_t, or -1;
    preadv64v2(descriptor: c_int, vectors: *const iovec, count: c_int, offset: off_t, flags: c_int) -> ssize_t, or -1;
    write(descriptor: c_int, buffer: *const c_void, count: size_t) -> ssize_t, or -1;
    pwrite(descriptor: c_int, buffer: *const c_void, count: size_t, offset: off_t) -> ssize_t, or -1;
    pwrite64(descriptor: c_int, buffer: *const c_void, count: size_t, offset: off_t) -> ssize_t, or -1;
    writev(descriptor: c_int, vectors: *const iovec, count: c_int) -> ssize_t, or -1;
    pwritev(descriptor: c_int, vectors: *const iovec, count: c_int, offset: off_t) -> ssize_t, or -1;
    pwritev64(descriptor: c_int, vectors: *const iovec, count: c_int, offset: off_t) -> ssize_t, or -1;
    pwritev2(descriptor: c_int, vectors: *const iovec, count: c_int, offset: off_t, flags: c_int) -> ssize_t, or -1;
    pwritev64v2(descriptor: c_int, vectors: *const iovec, count: c_int, offset: off_t, flags: c_int) -> ssize_t, or -1;
    copy_file_range(from: c_int, from_offset: *mut off_t, to: c_int, to_offset: *mut off_t, count: size_t, flags: c_uint) -> ssize_t, or -1;
    sendfile(to: c_int, from: c_int, offset: *mut off_t, count: size_t) -> ssize_t, or -1;
    sendfile64(to: c_int, from: c_int, offset: *mut off_t, count: size_t) -> ssize_t, or -1;
    splice(from: c_int, from_offset: *mut off_t, to: c_int, to_offset: *mut off_t, count: size_t, flags: c_uint) -> ssize_t, or -1;

    lseek(descriptor: c_int, offset: off_t, whence: c_int) -> off_t, or -1;
    lseek64(descriptor: c_int, offset: off_t, whence: c_int) -> off_t, or -1;
    ioctl(descriptor: c_int, request: c_ulong, argument: *mut c_void) -> c_int, or -1;
    fcntl(descriptor: c_int, command: c_int, argument: *mut c_void) -> c_int, or -1;
    fcntl64(descriptor: c_int, command: c_int, argument: *mut c_void) -> c_int, or -1;
    ftruncate(descriptor: c_int, length: off_t) -> c_int, or -1;
    ftruncate64(descriptor: c_int, length: off_t) -> c_int, or -1;
    flock(descriptor: c_int, operation: c_int) -> c_int, or -1;
    lockf(descriptor: c_int, command: c_int, length: off_t) -> c_int, or -1;
    lockf64(descriptor: c_int, command: c_int, length: off_t) -> c_int, or -1;

    mmap(address: *mut c_void, length: size_t, protection: c_int, flags: c_int, descriptor: c_int, offset: off_t) -> *mut c_void, or libc::MAP_FAILED;
    mmap64(address: *mut c_void, length: size_t, protection: c_int, flags: c_int, descriptor: c_int, offset: off_t) -> *mut c_void, or libc::MAP_FAILED;
    munmap(address: *mut c_void, length: size_t) -> c_int, or -1;
    mprotect(address: *mut c_void, length: size_t, protection: c_int) -> c_int, or -1;
    mremap(address: *mut c_void, old: size_t, new: size_t, flags: c_int, wanted: *mut c_void) -> *mut c_void, or libc::MAP_FAILED;

    stat(path: *const c_char, to: *mut libc::stat) -> c_int, or -1;
    stat64(path: *const c_char, to: *mut libc::stat) -> c_int, or -1;
    lstat(path: *const c_char, to: *mut libc::stat) -> c_int, or -1;
    lstat64(path: *const c_char, to: *mut libc::stat) -> c_int, or -1;
    fstat(descriptor: c_int, to: *mut libc::stat) -> c_int, or -1;
    fstat64(descriptor: c_int, to: *mut libc::stat) -> c_int, or -1;
    fstatat(folder: c_int, path: *const c_char, to: *mut libc::stat, flags: c_int) -> c_int, or -1;
    fstatat64(folder: c_int, path: *const c_char, to: *mut libc::stat, flags: c_int) -> c_int, or -1;
    statx(folder: c_int, path: *const c_char, flags: c_int, mask: c_uint, to: *mut libc::statx) -> c_int, or -1;
    __xstat(version: c_int, path: *const c_char, to: *mut libc::stat) -> c_int, or -1;
    __xstat64(version: c_int, path: *const c_char, to: *mut libc::stat) -> c_int, or -1;
    __lxstat(version: c_int, path: *const c_char, to: *mut libc::stat) -> c_int, or -1;
    __lxstat64(version: c_int, path: *const c_char, to: *mut libc::stat) -> c_int, or -1;
    __fxstat(version: c_int, descriptor: c_int, to: *mut libc::stat) -> c_int, or -1;
    __fxstat64(version: c_int, descriptor: c_int, to: *mut libc::stat) -> c_int, or -1;
    __fxstatat(version: c_int, folder: c_int, path: *const c_char, to: *mut libc::stat, flags: c_int) -> c_int, or -1;
    __fxstatat64(version: c_int, folder: c_int, path: *const c_char, to: *mut libc::stat, flags: c_int) -> c_int, or -1;
    access(path: *const c_char, mode: c_int) -> c_int, or -1;
    faccessat(folder: c_int, path: *const c_char, mode: c_int, flags: c_int) -> c_int, or -1;
    euidaccess(path: *const c_char, mode: c_int) -> c_int, or -1;
    eaccess(path: *const c_char, mode: c_int) -> c_int, or -1;

    fopen(path: *const c_char, mode: *const c_char) -> *mut FILE, or std::ptr::null_mut();
    fopen64(path: *const c_char, mode: *const c_char) -> *mut FILE, or std::ptr::null_mut();
    freopen(path: *const c_char, mode: *const c_char, file: *mut FILE) -> *mut FILE, or std::ptr::null_mut();
    freopen64(path: *const c_char, mode: *const c_char, file: *mut FILE) -> *mut FILE, or std::ptr::null_mut();
    fdopen(descriptor: c_int, mode: *const c_char) -> *mut FILE, or std::ptr::null_mut();
    fileno(file: *mut FILE) -> c_int, or -1;
    fileno_unlocked(file: *mut FILE) -> c_int, or -1;

    opendir(path: *const c_char) -> *mut libc::DIR, or std::ptr::null_mut();
    closedir(folder: *mut libc::DIR) -> c_int, or -1;
    readdir(folder: *mut libc::DIR) -> *mut libc::dirent, or std::ptr::null_mut();
    readdir64(folder: *mut libc::DIR) -> *mut libc::dirent, or std::ptr::null_mut();
    rewinddir(folder: *mut libc::DIR) -> (), or Default::default();

    sigprocmask(how: c_int, set: *const sigset_t, before: *mut sigset_t) -> c_int, or -1;
    pthread_sigmask(how: c_int, set: *const sigset_t, before: *mut sigset_t) -> c_int, or libc::ENOSYS;
    sigaction(signal: c_int, new: *const libc::sigaction, old: *mut libc::sigaction) -> c_int, or -1;
    signal(signal: c_int, handler: libc::sighandler_t) -> libc::sighandler_t, or libc::SIG_ERR;
}

/// Changes this thread's signal mask, whatever the program thinks that it is.
pub(crate) fn set_mask(how: c_int, set: *const sigset_t, before: *mut sigset_t) {
    // SAFETY: both point at sets or nowhere; it fails for another `how` only.
    unsafe { pthread_sigmask(how, set, before) };
}
