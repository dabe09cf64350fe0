//! Reading and writing.

#![expect(unsafe_code, reason = "functions of the C library's names and types")]

use super::{answer, claimed, device};
use crate::failure::{Failure, Outcome};
use crate::placeholder::Opened;
use crate::real;
use crate::user_memory::UserMemory;
use libc::{c_int, c_uint, c_void, iovec, off_t, size_t, ssize_t};
use rustix::io::Errno;

/// The most pieces that a call has, as of any file.
const MOST: usize = 1024;

/// One piece, or several: each is a transfer of its own, and the first that is not whole is the last.
type Mover = fn(c_int, Opened, UserMemory, Option<i64>) -> Outcome<usize>;

fn one(
    name: &str,
    mover: Mover,
    descriptor: c_int,
    opened: Opened,
    memory: UserMemory,
    at: Option<i64>,
) -> ssize_t {
    answer(format_args!("{name} of {:#x} bytes of {}", memory.len(), opened.node), -1, || {
        signed(mover(descriptor, opened, memory, at)?)
    })
}

fn signed(count: usize) -> Outcome<ssize_t> {
    ssize_t::try_from(count).map_err(|_| Failure::silent(Errno::INVAL))
}

fn several(
    name: &str,
    mover: Mover,
    descriptor: c_int,
    opened: Opened,
    vectors: *const iovec,
    count: c_int,
    at: Option<i64>,
) -> ssize_t {
    answer(format_args!("{name} of {}", opened.node), -1, || {
        let count = usize::try_from(count).ok().filter(|count| *count <= MOST);
        let count = count.ok_or_else(|| Failure::silent(Errno::INVAL))?;
        let mut done = 0;
        for index in 0..count {
            let piece = vector(vectors, index)?;
            let begins = match at {
                Some(at) => Some(at.saturating_add(signed(done)? as i64)),
                // The position may stay where it is; the pieces follow each other anyway.
                None => device::lseek(descriptor, opened, 0, libc::SEEK_CUR)
                    .ok()
                    .filter(|_| !super::files::is_event(opened.node))
                    .map(|position| position.saturating_add(i64::try_from(done).unwrap_or(i64::MAX))),
            };
            match mover(descriptor, opened, piece, begins) {
                Ok(moved) => {
                    done += moved;
                    if moved < piece.len() {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(failure) => return Err(failure),
            }
        }
        if at.is_none() {
            device::advance_by(descriptor, opened, done)?;
        }
        signed(done)
    })
}

/// The piece with this number of the program's list.
fn vector(vectors: *const iovec, index: usize) -> Outcome<UserMemory> {
    let mut words = [0; 16];
    UserMemory::new(vectors.wrapping_add(index).cast(), words.len()).read(&mut words)?;
    let word = |at: usize| {
        words.get(at..at + 8).and_then(|word| word.try_into().ok()).map_or(0, usize::from_ne_bytes)
    };
    Ok(UserMemory::at(word(0), word(8)))
}

macro_rules! single {
    ($($name:ident($($argument:ident: $type:ty),*) by $mover:path, at $at:expr;)*) => {$(
        #[doc = concat!("`", stringify!($name), "`, of devices too.")]
        ///
        /// # Safety
        /// As the C library's.
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $name(descriptor: c_int, buffer: *mut c_void, count: size_t, $($argument: $type),*) -> ssize_t {
            match claimed(descriptor) {
                Some(opened) => one(stringify!($name), $mover, descriptor, opened, UserMemory::new(buffer, count), $at),
                // SAFETY: with what the caller gave.
                None => unsafe { real::$name(descriptor, buffer, count, $($argument),*) },
            }
        }
    )*};
}

single! {
    read() by device::read, at None;
    __read_chk(room: size_t) by device::read, at None;
    pread(offset: off_t) by device::read, at Some(offset);
    pread64(offset: off_t) by device::read, at Some(offset);
    __pread_chk(offset: off_t, room: size_t) by device::read, at Some(offset);
    __pread64_chk(offset: off_t, room: size_t) by device::read, at Some(offset);
    write() by device::write, at None;
    pwrite(offset: off_t) by device::write, at Some(offset);
    pwrite64(offset: off_t) by device::write, at Some(offset);
}

macro_rules! multiple {
    ($($name:ident($($argument:ident: $type:ty),*) by $mover:path, at $at:expr;)*) => {$(
        #[doc = concat!("`", stringify!($name), "`, of devices too.")]
        ///
        /// # Safety
        /// As the C library's.
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $name(descriptor: c_int, vectors: *const iovec, count: c_int, $($argument: $type),*) -> ssize_t {
            match claimed(descriptor) {
                Some(opened) => several(stringify!($name), $mover, descriptor, opened, vectors, count, $at),
                // SAFETY: with what the caller gave.
                None => unsafe { real::$name(descriptor, vectors, count, $($argument),*) },
            }
        }
    )*};
}

multiple! {
    readv() by device::read, at None;
    preadv(offset: off_t) by device::read, at Some(offset);
    preadv64(offset: off_t) by device::read, at Some(offset);
    preadv2(offset: off_t, flags: c_int) by device::read, at Some(offset).filter(|offset| *offset != -1);
    preadv64v2(offset: off_t, flags: c_int) by device::read, at Some(offset).filter(|offset| *offset != -1);
    writev() by device::write, at None;
    pwritev(offset: off_t) by device::write, at Some(offset);
    pwritev64(offset: off_t) by device::write, at Some(offset);
    pwritev2(offset: off_t, flags: c_int) by device::write, at Some(offset).filter(|offset| *offset != -1);
    pwritev64v2(offset: off_t, flags: c_int) by device::write, at Some(offset).filter(|offset| *offset != -1);
}

macro_rules! within_the_kernel {
    ($($name:ident($($argument:ident: $type:ty),*), of $one:ident and $other:ident;)*) => {$(
        #[doc = concat!("`", stringify!($name), "`, which devices do not know: programs then read and write.")]
        ///
        /// # Safety
        /// As the C library's.
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $name($($argument: $type),*) -> ssize_t {
            match claimed($one).or_else(|| claimed($other)) {
                Some(opened) => answer(format_args!("{} of {}", stringify!($name), opened.node), -1, || {
                    Err(Failure::silent(Errno::INVAL))
                }),
                // SAFETY: with what the caller gave.
                None => unsafe { real::$name($($argument),*) },
            }
        }
    )*};
}

within_the_kernel! {
    copy_file_range(from: c_int, from_offset: *mut off_t, to: c_int, to_offset: *mut off_t, count: size_t, flags: c_uint), of from and to;
    sendfile(to: c_int, from: c_int, offset: *mut off_t, count: size_t), of from and to;
    sendfile64(to: c_int, from: c_int, offset: *mut off_t, count: size_t), of from and to;
    splice(from: c_int, from_offset: *mut off_t, to: c_int, to_offset: *mut off_t, count: size_t, flags: c_uint), of from and to;
}
