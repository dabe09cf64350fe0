//! Signals an eventfd as the kernel does: without ever waiting, however full its counter is and whatever flags it has.
//!
//! A write to an eventfd waits while the counter is full, unless `O_NONBLOCK` is set; and whoever else has the eventfd can
//! clear that flag and fill the counter between any two calls of ours. The kernel's own signals never wait. One of those is
//! what io_submit(2) sends when an operation has ended (`IOCB_FLAG_RESFD`): so a read of no bytes of a file in memory, which
//! ends at once, signals.

#![expect(unsafe_code, reason = "io_setup, io_submit and io_getevents have no safe form")]

use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

/// Operations whose end nobody has looked at yet.
const WAITING: usize = 64;
/// How often room is made for one more of them, should others always be faster.
const ATTEMPTS: usize = 1000;

/// `struct iocb` of linux/aio_abi.h.
#[repr(C)]
#[derive(Default)]
struct Operation {
    data: u64,
    /// The kernel writes here.
    #[cfg(target_endian = "little")]
    key: u32,
    rw_flags: u32,
    #[cfg(target_endian = "big")]
    key: u32,
    opcode: u16,
    priority: i16,
    descriptor: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    event: u32,
}
const _: () = assert!(size_of::<Operation>() == 64);

const PREAD: u16 = 0;
const RESFD: u32 = 1;

/// `struct io_event`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Ended([u64; 4]);

/// What this process signals with.
#[derive(Debug)]
struct Signals {
    context: libc::c_ulong,
    file: OwnedFd,
}

// It ends with the process.
static SIGNALS: OnceLock<Option<Signals>> = OnceLock::new();

/// Gets what signalling needs, once for the process, so that it is there when there are no descriptors left.
pub(crate) fn prepare() {
    signals();
}

fn signals() -> Option<&'static Signals> {
    SIGNALS.get_or_init(|| Signals::new().ok()).as_ref()
}

/// Signals an eventfd; `None` where the kernel does not offer this, which it may not in a container.
pub(crate) fn signal(event: impl AsFd) -> Option<Result<(), Errno>> {
    let signals = signals()?;
    Some(signals.send(event.as_fd().as_raw_fd()))
}

impl Signals {
    fn new() -> Result<Self, Errno> {
        let file = rustix::fs::memfd_create("jitney-signals", MemfdFlags::CLOEXEC)?;
        let mut context: libc::c_ulong = 0;
        // SAFETY: The kernel writes one word, which is ours.
        let answer = unsafe { libc::syscall(libc::SYS_io_setup, WAITING, &raw mut context) };
        done(answer)?;
        Ok(Self { context, file })
    }

    fn send(&self, event: RawFd) -> Result<(), Errno> {
        let number = |descriptor: RawFd| u32::try_from(descriptor).map_err(|_| Errno::BADF);
        let mut operation = Operation {
            opcode: PREAD,
            descriptor: number(self.file.as_raw_fd())?,
            flags: RESFD,
            event: number(event)?,
            ..Operation::default()
        };
        let mut list = [&raw mut operation];
        for _ in 0..ATTEMPTS {
            // SAFETY: One operation, which lives until the call returns. It reads no bytes, so that its buffer is not touched,
            // and the kernel does not look at it again.
            let answer =
                unsafe { libc::syscall(libc::SYS_io_submit, self.context, 1_usize, list.as_mut_ptr()) };
            match done(answer) {
                Err(Errno::AGAIN) => self.forget_ended()?,
                Err(Errno::INTR) => {}
                answer => return answer.map(drop),
            }
        }
        Err(Errno::AGAIN)
    }

    /// Makes room for more operations.
    fn forget_ended(&self) -> Result<(), Errno> {
        let mut ended = [Ended::default(); WAITING];
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: The kernel writes at most so many events, for which there is room.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                self.context,
                0_usize,
                WAITING,
                ended.as_mut_ptr(),
                &raw const now,
            )
        };
        match done(answer) {
            Err(Errno::INTR) | Ok(_) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

fn done(answer: libc::c_long) -> Result<libc::c_long, Errno> {
    match answer {
        0.. => Ok(answer),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}
