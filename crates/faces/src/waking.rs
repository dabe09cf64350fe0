//! A transfer as an event loop of the program's own waits for it: by an eventfd, so that no thread of the library's ever calls
//! into the program.

use crate::failure::Failure;
use crate::slot::Slot;
use jitney::xdma::{Awaited, Pending};
use jitney_memory::EventFd;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Where the transfer's end is heard.
#[derive(Debug)]
struct Bell(EventFd);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        // Nobody could be told of one that cannot be rung; the program's wait has an end of its own.
        let _ = self.0.signal();
    }
}

/// The wait for a transfer.
#[derive(Debug)]
pub struct Waking {
    slot: Slot<Mutex<Awaited>>,
    bell: Arc<Bell>,
}

impl Waking {
    /// The wait for this transfer, which is [polled](Self::poll) once before its event means something.
    ///
    /// # Errors
    /// What making an eventfd says.
    pub fn new(pending: Arc<Pending>) -> Result<Self, Failure> {
        let bell = Arc::new(Bell(EventFd::new()?));
        Ok(Self { slot: Slot::new("the transfer", Arc::new(Mutex::new(pending.awaited()))), bell })
    }

    /// What is readable when it is to be polled.
    #[must_use]
    pub fn event(&self) -> BorrowedFd<'_> {
        self.bell.0.as_fd()
    }

    /// Whether the transfer has ended; its handle says how. If not, the event is unreadable until it is to be polled again;
    /// else it stays readable.
    ///
    /// # Errors
    /// [`Kind::Forked`](crate::Kind::Forked); what reading the eventfd says.
    pub fn poll(&self) -> Result<bool, Failure> {
        let awaited = self.slot.get()?;
        self.bell.0.take()?;
        let mut awaited = awaited.lock().unwrap_or_else(PoisonError::into_inner);
        let waker = Waker::from(Arc::clone(&self.bell));
        let polled = Pin::new(&mut *awaited).poll(&mut Context::from_waker(&waker));
        // How it has ended is its handle's to say.
        let ended = matches!(polled, Poll::Ready(_));
        if ended {
            self.bell.0.signal()?;
        }
        Ok(ended)
    }
}
