//! A transfer under way, as its user sees it.

use crate::error::Error;
use crate::interrupt::ChannelInterrupt;
use crate::queue::Queue;
use crate::wait::{Backoff, now};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

/// What a transfer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completed {
    /// Bytes moved. What was received from a stream can be less than there was room for.
    pub bytes: u64,
    /// Descriptors that they took.
    pub descriptors: u64,
    /// From when it was submitted until its end was seen, what was in front of it in the queue included.
    pub duration: Duration,
    /// Of what was received from a stream: whether the bytes end a packet. Otherwise true.
    pub ends_packet: bool,
}

/// A channel's queue and those who wait for it.
#[derive(Debug)]
pub(crate) struct Shared {
    queue: Mutex<Queue>,
    /// Signalled when who slept until the interrupt has looked what it was for.
    turned: Condvar,
}

impl Shared {
    pub(crate) fn new(queue: Queue) -> Self {
        Self { queue: Mutex::new(queue), turned: Condvar::new() }
    }

    /// The queue; a thread that panicked with it left it whole.
    pub(crate) fn lock(&self) -> Locked<'_> {
        Locked { queue: Some(self.queue.lock().unwrap_or_else(PoisonError::into_inner)) }
    }

    /// Has every thread that waits for another's look see for itself.
    pub(crate) fn notify(&self) {
        self.turned.notify_all();
    }
}

/// The queue, while this thread has it. Tasks are woken when it does not have it any more.
pub(crate) struct Locked<'a> {
    /// There until it is dropped.
    queue: Option<MutexGuard<'a, Queue>>,
}

impl Locked<'_> {
    /// Lets others have the queue until `turned` is signalled, for `timeout` at most.
    fn wait(mut self, turned: &Condvar, timeout: Duration) -> Self {
        if let Some(queue) = self.queue.take() {
            let waited = turned.wait_timeout(queue, timeout);
            self.queue = Some(waited.unwrap_or_else(PoisonError::into_inner).0);
        }
        self
    }
}

impl Deref for Locked<'_> {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        match &self.queue {
            Some(queue) => queue,
            None => unreachable!("it is there until it is dropped"),
        }
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Queue {
        match &mut self.queue {
            Some(queue) => queue,
            None => unreachable!("it is there until it is dropped"),
        }
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        if let Some(mut queue) = self.queue.take() {
            let woken = std::mem::take(&mut queue.woken);
            drop(queue);
            woken.into_iter().for_each(Waker::wake);
        }
    }
}

/// Looks whether the transfer with a ticket is over.
type Look = fn(&mut Queue, u64) -> Option<Result<Completed, Error>>;

/// A transfer under way, or over. It has a place in its channel's queue and keeps the channel's lease.
///
/// Dropping it lets the transfer go on; the channel keeps its memory until the engine is done with it. To end it, there is
/// [`cancel`](Self::cancel). Any thread may wait for any transfer; whoever does sees to all of the channel's.
#[must_use = "the transfer goes on, but nobody hears how it ends; call wait"]
pub struct Pending {
    // Before the lease, which goes with the last that has the queue.
    pub(crate) interrupt: Option<Arc<ChannelInterrupt>>,
    pub(crate) ticket: u64,
    pub(crate) shared: Arc<Shared>,
    /// Its outcome was taken, and the queue knows that nobody asks again.
    pub(crate) is_forgotten: bool,
}

impl Pending {
    /// Looks whether the transfer has ended, and gives the engine more to do if there is. Does not wait, but for an engine that
    /// has to be stopped after a failure: as long as the descriptor lasts that it is at, at most a second and what the longest
    /// takes at 100 MB/s.
    ///
    /// # Errors
    /// [`Error::Engine`], [`Error::TimedOut`], [`Error::Behind`] or [`Error::LinkDown`], after the engine was stopped, or
    /// [`Error::CutOff`] or [`Error::Unknown`] if it could not be; [`Error::Cancelled`]. The same again if asked again. A card that
    /// is being unplugged counts as one whose link is down, so that the program lets go of it.
    pub fn poll(&self) -> Result<Option<Completed>, Error> {
        let mut queue = self.shared.lock();
        if let Some(interrupt) = &self.interrupt
            // Who sleeps until it comes sees to everybody; its interrupt is not to be taken away.
            && !queue.watched
            && interrupt.fired(Duration::ZERO)?
        {
            queue.turn_on_interrupt();
            self.shared.notify();
        }
        queue.poll(self.ticket).transpose()
    }

    /// Waits until the transfer has ended.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    pub fn wait(mut self) -> Result<Completed, Error> {
        match self.look_until(None, Queue::take)? {
            Some(completed) => {
                self.is_forgotten = true;
                Ok(completed)
            }
            None => unreachable!("it waits without an end"),
        }
    }

    /// Waits until the transfer has ended, or for `timeout`; nothing if it goes on.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    pub fn wait_for(&self, timeout: Duration) -> Result<Option<Completed>, Error> {
        self.look_until(now().checked_add(timeout), Queue::poll)
    }

    /// Ends the transfer, and says what it did if it was over by then.
    ///
    /// One that the engine has not been given is taken out of the queue. Otherwise the engine is stopped at the end of the
    /// descriptor that it is at, and goes on with the others behind it. What a cancelled transfer has written stays
    /// written, and a packet that it had begun to send has no end.
    ///
    /// # Errors
    /// As [`poll`](Self::poll), of a transfer that was over; or why the engine could not be stopped.
    pub fn cancel(&self) -> Result<Option<Completed>, Error> {
        let outcome = self.shared.lock().cancel(self.ticket);
        self.shared.notify();
        outcome
    }

    /// For an event loop of the caller's own: readable when the channel has interrupted, if it has an interrupt, and when another
    /// channel has that shares its vector.
    /// [`poll`](Self::poll) is to be called then, which makes it unreadable again.
    #[must_use]
    pub fn event(&self) -> Option<BorrowedFd<'_>> {
        self.interrupt.as_ref().map(|interrupt| interrupt.event())
    }

    /// When [`poll`](Self::poll) is to be called at the latest, whether or not there was an [`event`](Self::event): only
    /// by looking does it notice a dead card, a hung engine or a lost interrupt.
    #[must_use]
    pub fn next_look(&self) -> Instant {
        self.shared.lock().next_look()
    }

    /// Whether who has waited for so long sleeps until the interrupt comes.
    #[cfg(feature = "async")]
    pub(crate) fn sleeps(&self, backoff: &Backoff) -> bool {
        self.interrupt.is_some() && !(self.shared.lock().engine.is_adaptive() && backoff.is_short())
    }

    /// Looks by `look` until the transfer is over, or until `end`.
    fn look_until(&self, end: Option<Instant>, look: Look) -> Result<Option<Completed>, Error> {
        let mut queue = self.shared.lock();
        // A short one may be over by now, and then no clock was asked.
        if let Some(outcome) = look(&mut queue, self.ticket) {
            return outcome.map(Some);
        }
        let backoff = Backoff::new();
        loop {
            if self.interrupt.is_some() && !(queue.engine.is_adaptive() && backoff.is_short()) {
                queue = self.sleep(queue, end)?;
            } else {
                drop(queue);
                backoff.pause();
                queue = self.shared.lock();
            }
            if let Some(outcome) = look(&mut queue, self.ticket) {
                return outcome.map(Some);
            }
            if end.is_some_and(|end| now() >= end) {
                return Ok(None);
            }
        }
    }

    /// Sleeps until the interrupt comes, the registers are to be looked at, or `end`.
    fn sleep<'a>(&'a self, mut queue: Locked<'a>, end: Option<Instant>) -> Result<Locked<'a>, Error> {
        let Some(interrupt) = &self.interrupt else { return Ok(queue) };
        let look = queue.next_look();
        let until = end.map_or(look, |end| end.min(look));
        let left = until.saturating_duration_since(now());
        // An interrupt wakes one: whoever watches tells the others.
        if queue.watched {
            // Tasks are not to wait for it.
            if !queue.woken.is_empty() {
                drop(queue);
                return Ok(self.shared.lock());
            }
            return Ok(queue.wait(&self.shared.turned, left));
        }
        queue.arm();
        if queue.is_over(self.ticket) {
            queue.disarm();
            return Ok(queue);
        }
        queue.watched = true;
        drop(queue);
        let fired = interrupt.fired(left);
        let mut queue = self.shared.lock();
        queue.watched = false;
        self.shared.notify();
        let fired = fired.inspect_err(|_| queue.disarm())?;
        // In a shorter wait it may just not have come yet.
        if !fired && left > Duration::ZERO && until == look {
            queue.turn_without_interrupt();
        }
        queue.disarm();
        if fired {
            queue.turn_on_interrupt();
        }
        Ok(queue)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.is_forgotten {
            self.shared.lock().forget(self.ticket);
        }
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}
