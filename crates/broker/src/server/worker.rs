//! Workers: threads that do what can wait, one thing after the other, and report.

use crate::machine::{Failure, Outcome, Task, TaskId};
use crate::protocol::CardId;
use jitney_memory::EventFd;
use jitney_vfio::{AddressSpace, OpenedSpace, Result};
use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};
use std::time::Instant;

/// What a worker is told.
pub(super) enum Order {
    /// Do this. The descriptor came with the request that it answers. `again` if a broker before this one may have done it, or a
    /// part of it.
    Begin { id: TaskId, task: Task, descriptor: Option<OwnedFd>, again: bool },
    /// Nobody waits for this any more.
    Cancel { id: TaskId },
    /// This is the address space from now on. What is dropped with the other end of `until` may then be closed.
    Space { space: AddressSpace, until: mpsc::Sender<Infallible> },
    /// Let go of the address space, after `after`, and finish this task when `kept` says that nobody else has it either.
    Return { id: TaskId, after: mpsc::Receiver<Infallible>, kept: Option<OwnedFd> },
}

/// What a worker says when it is done with a task.
pub(super) struct Finished {
    pub(super) task: TaskId,
    pub(super) outcome: std::result::Result<Outcome, Failure>,
    /// What goes with the reply.
    pub(super) descriptors: Vec<OwnedFd>,
    /// Of a card at which it was done: how many vectors are enabled now.
    pub(super) vectors: Option<(CardId, Option<u32>)>,
    /// Cards that were opened.
    pub(super) opened: Option<OpenedSpace>,
}

impl Finished {
    /// With nothing but an outcome.
    pub(super) fn of(task: TaskId, outcome: std::result::Result<Outcome, Failure>) -> Self {
        Self { task, outcome, descriptors: Vec::new(), vectors: None, opened: None }
    }
}

/// How a worker says that something is finished.
#[derive(Clone)]
pub(super) struct Report {
    pub(super) finished: mpsc::Sender<Finished>,
    /// Cards that do not answer any more.
    pub(super) gone: mpsc::Sender<CardId>,
    /// What the server's thread waits for.
    pub(super) wake: Arc<EventFd>,
}

impl Report {
    pub(super) fn send(&self, finished: Finished) {
        // The broker may have stopped meanwhile; then nobody waits for this.
        self.wake_if(self.finished.send(finished).is_ok());
    }

    /// Says that a card does not answer any more, and never will.
    pub(super) fn gone(&self, card: CardId) {
        self.wake_if(self.gone.send(card).is_ok());
    }

    fn wake_if(&self, sent: bool) {
        if sent && let Err(error) = self.wake.signal() {
            tracing::error!(%error, "the broker could not be told that something is done");
        }
    }
}

/// The way to a worker. It ends when this is dropped.
pub(super) struct Worker {
    orders: mpsc::Sender<Order>,
    ending: Ending,
}

/// A worker that is told nothing more.
pub(super) struct Ending(mpsc::Receiver<Infallible>);

impl Ending {
    /// Waits until it has let go of all that it had, at most until `deadline`; whether it has.
    pub(super) fn wait(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        self.0.recv_timeout(left) == Err(mpsc::RecvTimeoutError::Disconnected)
    }
}

impl Worker {
    /// Starts one that runs `work`.
    pub(super) fn start(
        name: String,
        work: impl FnOnce(mpsc::Receiver<Order>) + Send + 'static,
    ) -> Result<Self> {
        let (sender, orders) = mpsc::channel();
        let (alive, ending) = mpsc::channel();
        let run = move || {
            work(orders);
            drop(alive);
        };
        std::thread::Builder::new().name(name).spawn(run).map_err(|error| super::io(&error))?;
        Ok(Self { orders: sender, ending: Ending(ending) })
    }

    /// Tells it something; false if it has ended, which only a panic in it can bring about.
    pub(super) fn tell(&self, order: Order) -> bool {
        self.orders.send(order).is_ok()
    }

    /// Has it end when it has done what it was told.
    pub(super) fn end(self) -> Ending {
        self.ending
    }
}
