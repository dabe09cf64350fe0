//! Waiting for a transfer as a task of Tokio's.
//!
//! Tokio tells when a descriptor is readable, which is all that this needs of it (feature `net`): the interrupt is one
//! descriptor, and the looks that a wait takes now and then are another, a `timerfd(2)`. That one is finer than Tokio's
//! own clock too, whose millisecond is an age to a channel that is polled.

use crate::error::Error;
use crate::pending::{Completed, Pending};
use crate::wait::now;
use jitney_vfio::{Error as CardError, ErrorKind};
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How often a channel is looked at that does not interrupt.
const POLL: Duration = Duration::from_micros(100);

impl Pending<'_> {
    /// Waits until the transfer has ended, as a task of Tokio's. Dropping the future stops the engine, as dropping the
    /// transfer itself does.
    ///
    /// A channel that completes by interrupt costs nothing meanwhile; one that is polled is looked at every 100 µs.
    ///
    /// # Errors
    /// As [`poll`](Self::poll); [`Error::Card`] if there is no descriptor left for the wait.
    ///
    /// # Panics
    /// Outside of a Tokio runtime, or in one without I/O (`enable_io`).
    pub async fn finished(mut self) -> Result<Completed, Error> {
        let mut wakers = None;
        loop {
            if let Some(completed) = self.poll()? {
                return Ok(completed);
            }
            let wakers = match &wakers {
                Some(wakers) => wakers,
                None => wakers.insert(Wakers::new(&self)?),
            };
            let pause = match self.event() {
                Some(_) => self.next_look().saturating_duration_since(now()),
                None => POLL,
            };
            wakers.either(pause).await?;
        }
    }
}

/// What wakes a task that waits for a transfer.
struct Wakers {
    event: Option<AsyncFd<OwnedFd>>,
    timer: AsyncFd<OwnedFd>,
}

impl Wakers {
    fn new(pending: &Pending<'_>) -> Result<Self, Error> {
        // A descriptor of its own, because the task goes on using the transfer.
        let event = pending.event().map(|event| event.try_clone_to_owned().and_then(watched)).transpose();
        let timer = rustix::time::timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        );
        let timer = timer.map_err(io::Error::from).and_then(watched);
        Ok(Self { event: event.map_err(failed)?, timer: timer.map_err(failed)? })
    }

    /// Waits for the interrupt, `pause` at most.
    async fn either(&self, pause: Duration) -> Result<(), Error> {
        // A timer that is set to zero never ends.
        let pause = pause.max(Duration::from_nanos(1));
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let setting = Itimerspec { it_interval: zero, it_value: Timespec::try_from(pause).unwrap_or(zero) };
        // Setting it takes back what it has to say of an earlier pause.
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &setting)
            .map_err(|errno| failed(errno.into()))?;
        poll_fn(|context| self.poll(context)).await.map_err(failed)
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(event) = &self.event
            && let Poll::Ready(guard) = event.poll_read_ready(context)
        {
            // Whatever fires from here on makes it ready again; what has fired is taken by the look that follows.
            guard?.clear_ready();
            return Poll::Ready(Ok(()));
        }
        ready!(self.timer.poll_read_ready(context))?.clear_ready();
        Poll::Ready(Ok(()))
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe for the sake of types whose descriptor may change; that of an OwnedFd never does"
)]
fn watched(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, Interest::READABLE)
}

fn failed(error: io::Error) -> Error {
    let what = "waiting for the end of a transfer";
    match Errno::from_io_error(&error) {
        Some(errno) => CardError::from_errno(errno, what).into(),
        None => CardError::new(ErrorKind::System, format!("{what}: {error}")).into(),
    }
}
