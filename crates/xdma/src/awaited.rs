//! Waiting for a transfer as a task, of any executor.
//!
//! `async-io` tells when the interrupt's descriptor is readable and when time has passed, by a thread of its own. A channel without
//! an interrupt is looked at as a thread would: again at once for as long as short transfers take, then after whatever else
//! there is to do, then after pauses that grow.

use crate::error::Error;
use crate::pending::{Completed, Pending};
use crate::wait::{Backoff, Pause, now};
use async_io::{Async, ReadableOwned, Timer};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// The wait for a [`Pending`] transfer. Dropping it lets the transfer go on, as dropping the transfer itself does.
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct Awaited {
    pending: Arc<Pending>,
    since: Option<Backoff>,
    timer: Timer,
    /// The wait for the interrupt, while there is one.
    event: Option<ReadableOwned<OwnedFd>>,
    /// Whether the interrupt was told to wake this task.
    armed: bool,
}

/// Waits until the transfer has ended; [`poll`](Pending::poll) has the errors.
///
/// A channel with an interrupt costs nothing meanwhile. One without is looked at again and again, for 30 µs without a pause.
impl IntoFuture for Pending {
    type Output = Result<Completed, Error>;
    type IntoFuture = Awaited;

    fn into_future(self) -> Awaited {
        Arc::new(self).awaited()
    }
}

impl Pending {
    /// The wait for a transfer whose handle stays somebody's, who can cancel it meanwhile or wait for it again.
    pub fn awaited(self: Arc<Self>) -> Awaited {
        Awaited { pending: self, since: None, timer: Timer::never(), event: None, armed: false }
    }
}

impl Future for Awaited {
    type Output = Result<Completed, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            if let Some(outcome) = this.pending.poll().transpose() {
                this.disarm();
                return Poll::Ready(outcome);
            }
            let backoff = this.since.get_or_insert_with(Backoff::new);
            if this.pending.sleeps(backoff) {
                match this.sleep(context) {
                    Err(error) => return Poll::Ready(Err(error)),
                    Ok(true) => continue,
                    Ok(false) => return Poll::Pending,
                }
            }
            match backoff.next_pause() {
                Pause::Spin => std::hint::spin_loop(),
                Pause::Yield => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Pause::Sleep(time) => {
                    this.timer.set_after(time);
                    if Pin::new(&mut this.timer).poll(context).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl Awaited {
    /// Has the task woken by the interrupt, by a look at the registers that is due, or by another task that has seen the end of
    /// this one's transfer. Whether one of them has come already.
    fn sleep(&mut self, context: &mut Context<'_>) -> Result<bool, Error> {
        let Some(interrupt) = &self.pending.interrupt else { return Ok(true) };
        let next_look = {
            let mut queue = self.pending.shared.lock();
            if !self.armed {
                queue.arm();
                self.armed = true;
            }
            queue.wake(self.pending.ticket, context.waker());
            if queue.is_over(self.pending.ticket) {
                return Ok(true);
            }
            queue.next_look()
        };
        let event = match &mut self.event {
            Some(event) => event,
            None => self.event.insert(interrupt.watched()?.readable_owned()),
        };
        if let Poll::Ready(outcome) = Pin::new(event).poll(context) {
            self.event = None;
            outcome.map_err(|error| Error::waiting(&error))?;
            return Ok(true);
        }
        let pause = next_look.saturating_duration_since(now()).max(Duration::from_nanos(1));
        self.timer.set_after(pause);
        Ok(Pin::new(&mut self.timer).poll(context).is_ready())
    }

    fn disarm(&mut self) {
        if std::mem::take(&mut self.armed) {
            self.pending.shared.lock().disarm();
        }
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        if self.armed {
            self.disarm();
            // It may be the one that the interrupt has woken.
            self.pending.shared.lock().wake_all();
        }
    }
}

/// What watches the interrupt's descriptor, for every task that waits for it.
pub(crate) type Watched = Async<OwnedFd>;
