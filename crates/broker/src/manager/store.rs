//! Descriptors that the service manager keeps for the broker that comes after this one: sd_pid_notify_with_fds(3), FDSTORE.

use jitney_memory::descriptors::{self, Wait};
use jitney_vfio::Result;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::pipe::{PipeFlags, pipe_with};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

/// What the names of kept descriptors begin with, for the manager, which has others as well.
pub(super) const PREFIX: &str = "j.";

/// How long it is waited for a manager that reads nothing, where it has to be sure that something is kept.
const LIMIT: Duration = Duration::from_secs(1);

/// The way to a manager that keeps descriptors.
///
/// What is sent stays in the manager's queue also if this process ends before it was read.
#[derive(Debug)]
pub(crate) struct Store {
    socket: UnixDatagram,
    /// What the manager had no room for yet, in order.
    unsent: VecDeque<(String, Option<OwnedFd>)>,
    /// The manager is gone: nothing is kept any more.
    gone: bool,
    /// It was waited for in vain, and is not waited for again until it has taken all that there is.
    hung: bool,
    /// Since when it takes nothing.
    since: Option<Instant>,
}

impl Store {
    /// `socket` does not wait.
    pub(super) const fn new(socket: UnixDatagram) -> Self {
        Self { socket, unsent: VecDeque::new(), gone: false, hung: false, since: None }
    }

    /// Has it keep `descriptor` under `name`, soon.
    pub(crate) fn keep(&mut self, name: &str, descriptor: impl AsFd) {
        // It would drop what has hung up otherwise: a client that is gone, whose will is still to be carried out.
        self.say(format!("FDSTORE=1\nFDNAME={PREFIX}{name}\nFDPOLL=0"), Some(descriptor.as_fd()));
    }

    /// Has it let go of what it keeps under `name`.
    pub(crate) fn forget(&mut self, name: &str) {
        self.say(format!("FDSTOREREMOVE=1\nFDNAME={PREFIX}{name}"), None);
    }

    fn say(&mut self, what: String, descriptor: Option<BorrowedFd<'_>>) {
        if self.gone {
            return;
        }
        if self.unsent.is_empty() && self.send(&what, descriptor) {
            return;
        }
        match descriptor.map(|descriptor| descriptor.try_clone_to_owned()).transpose() {
            Ok(copy) => self.unsent.push_back((what, copy)),
            Err(error) => {
                tracing::error!(%error, "a descriptor cannot be kept for the broker that comes next")
            }
        }
    }

    /// Whether it was sent, or never will be.
    fn send(&mut self, what: &str, descriptor: Option<BorrowedFd<'_>>) -> bool {
        let with: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
        match descriptors::send(&self.socket, &[IoSlice::new(what.as_bytes())], &with, Wait::Never) {
            Ok(_) => true,
            Err(error) if error.would_block() => false,
            Err(error) if error.errno() == Some(rustix::io::Errno::TOOMANYREFS) => false,
            Err(error) => {
                tracing::error!(%error, "nobody keeps descriptors any more for a broker that comes after this one");
                self.gone = true;
                true
            }
        }
    }

    /// Sends what there was no room for; whether that was all.
    pub(crate) fn flush(&mut self) -> bool {
        while let Some((what, descriptor)) = self.unsent.pop_front() {
            if !self.send(&what, descriptor.as_ref().map(AsFd::as_fd)) {
                self.unsent.push_front((what, descriptor));
                self.since.get_or_insert_with(Instant::now);
                return false;
            }
            self.since = None;
        }
        (self.hung, self.since) = (false, None);
        true
    }

    /// Since when the manager takes nothing, if there is something that it should take.
    pub(crate) const fn hangs_since(&self) -> Option<Instant> {
        self.since
    }

    /// Waits until all is sent, but not for a manager that has hung. Whether it is.
    pub(crate) fn settle(&mut self) -> bool {
        let until = Instant::now() + LIMIT;
        while !self.flush() {
            let left = until.saturating_duration_since(Instant::now());
            if self.hung || left.is_zero() {
                if !self.hung {
                    tracing::error!("the service manager does not take what it is to keep");
                }
                self.hung = true;
                return false;
            }
            let left = Timespec::try_from(left.min(Duration::from_millis(10))).ok();
            // Woken or not, it is tried again.
            let _ = rustix::event::poll(&mut [PollFd::new(&self.socket, PollFlags::OUT)], left.as_ref());
        }
        true
    }

    /// Something that hangs up when the manager has done all that was said; `None` if there is none.
    pub(crate) fn ask_barrier(&mut self) -> Option<OwnedFd> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).ok()?;
        self.say("BARRIER=1".into(), Some(theirs.as_fd()));
        Some(ours)
    }

    /// Waits until the manager has done all that was said: sd_notify_barrier(3). False if there is none any more, or it has hung.
    pub(crate) fn barrier(&mut self) -> bool {
        if !self.settle() {
            return false;
        }
        let Some(ours) = self.ask_barrier() else { return false };
        if !self.settle() || self.gone {
            return false;
        }
        let limit = Timespec::try_from(LIMIT).ok();
        // It says nothing there: it closes it.
        rustix::event::poll(&mut [PollFd::new(&ours, PollFlags::IN)], limit.as_ref()) == Ok(1)
    }
}

#[cfg(test)]
impl Store {
    /// Sends to the socket at `path`.
    pub(super) fn connect(&mut self, path: &std::path::Path) {
        self.socket.connect(path).unwrap();
    }
}

/// The one by way of `socket`.
pub(super) fn of(socket: &UnixDatagram) -> Result<Store> {
    let copy = socket.try_clone().map_err(|error| super::io(&error, "the service manager's socket"))?;
    Ok(Store::new(copy))
}
