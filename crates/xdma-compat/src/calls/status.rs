//! What is asked of a path or a descriptor: devices are character devices.

#![expect(unsafe_code, reason = "functions of the C library's names and types")]

use super::{answer, claimed, device, named};
use crate::failure::{Failure, Outcome};
use crate::node::Node;
use crate::real;
use libc::{c_char, c_int, c_uint};

/// The number by which the driver's devices go on many machines; the kernel gives any.
const MAJOR: u32 = 236;
/// A character device that everybody may read and write: whether a program may is decided when it opens it.
const MODE: u32 = libc::S_IFCHR | 0o666;
const BLOCK: i64 = 4096;

fn device_number(node: Node) -> libc::dev_t {
    libc::makedev(MAJOR, u32::from(node.card) << 8 | u32::from(node.kind.number()))
}

/// A number that no other device has.
fn inode(node: Node) -> u64 {
    0x6a69_0000 + (u64::from(node.card) << 8) + u64::from(node.kind.number())
}

fn stat_of(node: Node) -> libc::stat {
    // SAFETY: a status is plain memory, for which zero is a value.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    stat.st_mode = MODE;
    stat.st_nlink = 1;
    stat.st_ino = inode(node);
    stat.st_uid = rustix::process::geteuid().as_raw();
    stat.st_gid = rustix::process::getegid().as_raw();
    stat.st_rdev = device_number(node);
    stat.st_blksize = BLOCK;
    stat
}

/// Answers for a path.
fn of_path(name: &str, found: Result<Node, Failure>, to: *mut libc::stat) -> c_int {
    let node = match found {
        Ok(node) => node,
        Err(failure) => {
            let silent = Failure::silent(failure.errno);
            return answer(format_args!("{name}"), -1, || Err(silent));
        }
    };
    answer(format_args!("{name}({node})"), -1, || {
        device::look(node)?;
        put(node, to)
    })
}

fn put(node: Node, to: *mut libc::stat) -> Outcome<c_int> {
    let stat = stat_of(node);
    let pointer: *const libc::stat = &raw const stat;
    // SAFETY: a status is plain memory without gaps that matter, and lives here.
    let bytes = unsafe { std::slice::from_raw_parts(pointer.cast::<u8>(), size_of::<libc::stat>()) };
    crate::user_memory::UserMemory::new(to.cast(), bytes.len()).write(bytes)?;
    Ok(0)
}

macro_rules! of_paths {
    ($($name:ident($($argument:ident: $type:ty),*), of $folder:expr, $path:ident, $to:ident;)*) => {$(
        #[doc = concat!("`", stringify!($name), "`, of devices too.")]
        ///
        /// # Safety
        /// As the C library's.
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $name($($argument: $type),*) -> c_int {
            match named($folder, $path) {
                Some(found) => of_path(stringify!($name), found, $to),
                // SAFETY: with what the caller gave.
                None => unsafe { real::$name($($argument),*) },
            }
        }
    )*};
}

of_paths! {
    stat(path: *const c_char, to: *mut libc::stat), of libc::AT_FDCWD, path, to;
    stat64(path: *const c_char, to: *mut libc::stat), of libc::AT_FDCWD, path, to;
    lstat(path: *const c_char, to: *mut libc::stat), of libc::AT_FDCWD, path, to;
    lstat64(path: *const c_char, to: *mut libc::stat), of libc::AT_FDCWD, path, to;
    __xstat(version: c_int, path: *const c_char, to: *mut libc::stat), of libc::AT_FDCWD, path, to;
    __xstat64(version: c_int, path: *const c_char, to: *mut libc::stat), of libc::AT_FDCWD, path, to;
    __lxstat(version: c_int, path: *const c_char, to: *mut libc::stat), of libc::AT_FDCWD, path, to;
    __lxstat64(version: c_int, path: *const c_char, to: *mut libc::stat), of libc::AT_FDCWD, path, to;
}

macro_rules! of_descriptors {
    ($($name:ident($($argument:ident: $type:ty),*);)*) => {$(
        #[doc = concat!("`", stringify!($name), "`, of devices too.")]
        ///
        /// # Safety
        /// As the C library's.
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $name($($argument: $type,)* descriptor: c_int, to: *mut libc::stat) -> c_int {
            match claimed(descriptor) {
                Some(opened) => answer(format_args!("fstat of {}", opened.node), -1, || put(opened.node, to)),
                // SAFETY: with what the caller gave.
                None => unsafe { real::$name($($argument,)* descriptor, to) },
            }
        }
    )*};
}

of_descriptors! {
    fstat();
    fstat64();
    __fxstat(version: c_int);
    __fxstat64(version: c_int);
}

/// A device that is meant by a folder's descriptor and a path, which may be empty.
fn at(folder: c_int, path: *const c_char, flags: c_int) -> Option<Result<Node, Failure>> {
    // SAFETY: a path is a string that ends with a zero; its first byte is there.
    let empty = path.is_null() || unsafe { *path } == 0;
    if empty && flags & libc::AT_EMPTY_PATH != 0 {
        return claimed(folder).map(|opened| Ok(opened.node));
    }
    named(folder, path)
}

macro_rules! of_both {
    ($($name:ident($($argument:ident: $type:ty),*);)*) => {$(
        #[doc = concat!("`", stringify!($name), "`, of devices too.")]
        ///
        /// # Safety
        /// As the C library's.
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $name($($argument: $type,)* folder: c_int, path: *const c_char, to: *mut libc::stat, flags: c_int) -> c_int {
            match at(folder, path, flags) {
                Some(found) => of_path(stringify!($name), found, to),
                // SAFETY: with what the caller gave.
                None => unsafe { real::$name($($argument,)* folder, path, to, flags) },
            }
        }
    )*};
}

of_both! {
    fstatat();
    fstatat64();
    __fxstatat(version: c_int);
    __fxstatat64(version: c_int);
}

/// `statx`, of devices too.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn statx(
    folder: c_int,
    path: *const c_char,
    flags: c_int,
    mask: c_uint,
    to: *mut libc::statx,
) -> c_int {
    let found = match at(folder, path, flags) {
        Some(Ok(node)) => node,
        Some(Err(failure)) => {
            let silent = Failure::silent(failure.errno);
            return answer(format_args!("statx"), -1, || Err(silent));
        }
        // SAFETY: with what the caller gave.
        None => return unsafe { real::statx(folder, path, flags, mask, to) },
    };
    answer(format_args!("statx({found})"), -1, || {
        device::look(found)?;
        let stat = stat_of(found);
        // SAFETY: a status is plain memory, for which zero is a value.
        let mut full: libc::statx = unsafe { std::mem::zeroed() };
        full.stx_mask = libc::STATX_BASIC_STATS;
        full.stx_mode = u16::try_from(stat.st_mode).unwrap_or(0);
        full.stx_nlink = 1;
        full.stx_ino = stat.st_ino;
        full.stx_uid = stat.st_uid;
        full.stx_gid = stat.st_gid;
        full.stx_blksize = u32::try_from(BLOCK).unwrap_or(0);
        full.stx_rdev_major = libc::major(stat.st_rdev);
        full.stx_rdev_minor = libc::minor(stat.st_rdev);
        let pointer: *const libc::statx = &raw const full;
        // SAFETY: as above, and it lives here.
        let bytes = unsafe { std::slice::from_raw_parts(pointer.cast::<u8>(), size_of::<libc::statx>()) };
        crate::user_memory::UserMemory::new(to.cast(), bytes.len()).write(bytes)?;
        Ok(0)
    })
}

/// Whether a program may read or write a device: if it is there.
fn may(name: &str, found: Result<Node, Failure>, mode: c_int) -> c_int {
    answer(format_args!("{name}"), -1, || {
        device::look(found.map_err(|failure| Failure::silent(failure.errno))?)?;
        if mode & libc::X_OK != 0 {
            return Err(Failure::silent(rustix::io::Errno::ACCESS));
        }
        Ok(0)
    })
}

macro_rules! questions {
    ($($name:ident($($argument:ident: $type:ty),*), of $folder:expr, $path:ident, $mode:ident;)*) => {$(
        #[doc = concat!("`", stringify!($name), "`, of devices too.")]
        ///
        /// # Safety
        /// As the C library's.
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $name($($argument: $type),*) -> c_int {
            match named($folder, $path) {
                Some(found) => may(stringify!($name), found, $mode),
                // SAFETY: with what the caller gave.
                None => unsafe { real::$name($($argument),*) },
            }
        }
    )*};
}

questions! {
    access(path: *const c_char, mode: c_int), of libc::AT_FDCWD, path, mode;
    euidaccess(path: *const c_char, mode: c_int), of libc::AT_FDCWD, path, mode;
    eaccess(path: *const c_char, mode: c_int), of libc::AT_FDCWD, path, mode;
    faccessat(folder: c_int, path: *const c_char, mode: c_int, flags: c_int), of folder, path, mode;
}
