//! Event descriptors: how an interrupt reaches a process.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::io::{Errno, retry_on_intr};

use crate::error::{Error, Result};
use crate::kernel_signal;

/// An `eventfd(2)`: a counter that one side adds to and another takes from and waits for.
#[derive(Debug)]
pub struct EventFd {
    descriptor: OwnedFd,
    /// Somebody else has it, too, and may clear its flags or fill it.
    shared: bool,
}

impl EventFd {
    /// Makes one with nothing pending, closed on exec, that never blocks a read or write.
    ///
    /// # Errors
    /// What `eventfd` answers, such as `EMFILE`.
    pub fn new() -> Result<Self> {
        rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map(|descriptor| Self { descriptor, shared: false })
            .map_err(|errno| Error::system("eventfd", "for a new event", errno))
    }

    /// The same event by another descriptor.
    ///
    /// # Errors
    /// What `fcntl` answers, such as `EMFILE`.
    pub fn try_clone(&self) -> Result<Self> {
        rustix::io::fcntl_dupfd_cloexec(&self.descriptor, 0)
            .map(|descriptor| Self { descriptor, shared: self.shared })
            .map_err(|errno| Error::system("F_DUPFD_CLOEXEC", "of an event", errno))
    }

    /// Adds one to what is pending and wakes whoever waits. Never waits itself, also where somebody else has the event who clears
    /// its flags and fills it.
    ///
    /// # Errors
    /// What `write` answers. A counter that is full is no error: the event is pending.
    pub fn signal(&self) -> Result<()> {
        if self.shared {
            match kernel_signal::signal(&self.descriptor) {
                Some(signalled) => {
                    return signalled.map_err(|errno| Error::system("io_submit", "to an event", errno));
                }
                None if !self.has_room()? => return Ok(()),
                None => {}
            }
        }
        match retry_on_intr(|| rustix::io::write(&self.descriptor, &1_u64.to_ne_bytes())) {
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(errno) => Err(Error::system("write", "to an event", errno)),
        }
    }

    /// Whether a write would not wait, for kernels without anything better: whoever else has the event could still clear
    /// O_NONBLOCK and fill it between this and the write.
    fn has_room(&self) -> Result<bool> {
        let system = |errno| Error::system("F_SETFL", "of a shared event", errno);
        let flags = rustix::fs::fcntl_getfl(&self.descriptor).map_err(system)?;
        if !flags.contains(OFlags::NONBLOCK) {
            rustix::fs::fcntl_setfl(&self.descriptor, flags | OFlags::NONBLOCK).map_err(system)?;
        }
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut poll = [PollFd::new(&self.descriptor, PollFlags::OUT)];
        match retry_on_intr(|| rustix::event::poll(&mut poll, Some(&now))) {
            Ok(ready) => Ok(ready != 0),
            Err(errno) => Err(Error::system("poll", "of a shared event", errno)),
        }
    }

    /// Takes all that is pending and says how often it was signalled; 0 if nothing is pending.
    ///
    /// # Errors
    /// What `read` answers.
    pub fn take(&self) -> Result<u64> {
        let mut count = [0; 8];
        match retry_on_intr(|| rustix::io::read(&self.descriptor, &mut count)) {
            Ok(_) => Ok(u64::from_ne_bytes(count)),
            Err(Errno::AGAIN) => Ok(0),
            Err(errno) => Err(Error::system("read", "from an event", errno)),
        }
    }

    /// Waits until something is pending, at most `timeout`, without end if it is `None`; says whether it is. Takes
    /// nothing: [`EventFd::take`] does.
    ///
    /// # Errors
    /// What `poll` answers.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        // A time beyond what the clock can hold is no limit.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = deadline
                .map(|deadline| deadline.saturating_duration_since(Instant::now()))
                .and_then(|left| Timespec::try_from(left).ok());
            match rustix::event::poll(&mut [PollFd::new(&self.descriptor, PollFlags::IN)], left.as_ref()) {
                Ok(ready) => return Ok(ready != 0),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::system("poll", "of an event", errno)),
            }
        }
    }
}

/// What an eventfd is called in /proc. It has no type of its own to ask for.
const EVENT: &str = "anon_inode:[eventfd]";

/// Whether a descriptor that somebody sent is an event. Nothing is done to it.
#[must_use]
pub fn is_event(descriptor: impl AsFd) -> bool {
    name_of(descriptor).is_ok_and(|name| name.as_os_str() == EVENT)
}

fn name_of(descriptor: impl AsFd) -> Result<PathBuf> {
    let link = format!("/proc/self/fd/{}", descriptor.as_fd().as_raw_fd());
    fs::read_link(&link).map_err(|error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        Error::system("readlink", link.clone(), errno)
    })
}

/// Takes a descriptor that somebody sent as an event. It is made non-blocking, which holds for the sender's as
/// well.
impl TryFrom<OwnedFd> for EventFd {
    type Error = Error;

    fn try_from(descriptor: OwnedFd) -> Result<Self> {
        let target = name_of(&descriptor)?;
        if target.as_os_str() != EVENT {
            return Err(Error::Descriptor {
                expected: "an eventfd".into(),
                found: target.display().to_string(),
            });
        }
        rustix::fs::fcntl_getfl(&descriptor)
            .and_then(|flags| rustix::fs::fcntl_setfl(&descriptor, flags | OFlags::NONBLOCK))
            .map_err(|errno| Error::system("F_SETFL", "of a received event", errno))?;
        kernel_signal::prepare();
        Ok(Self { descriptor, shared: true })
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl From<EventFd> for OwnedFd {
    fn from(event: EventFd) -> Self {
        event.descriptor
    }
}
