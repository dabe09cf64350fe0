//! A transfer as a task of `asyncio` waits for it: woken through an eventfd, so that no thread of the library's ever needs the
//! interpreter.

use crate::failure::{Failure, OrRaise};
use crate::slot::Slot;
use jitney::xdma::{Awaited, Pending};
use jitney_memory::EventFd;
use pyo3::prelude::*;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Where the transfer's end is heard.
struct Bell(EventFd);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        // A bell that cannot be rung is looked at again, see `_aio.finished`.
        let _ = self.0.signal();
    }
}

/// The wait for a transfer.
#[pyclass(module = "jitney", frozen)]
pub(crate) struct Waking {
    slot: Slot<Mutex<Awaited>>,
    bell: Arc<Bell>,
}

impl Waking {
    pub(crate) fn new(pending: Arc<Pending>) -> Result<Self, Failure> {
        let bell = Arc::new(Bell(EventFd::new()?));
        Ok(Self { slot: Slot::new("the transfer", Arc::new(Mutex::new(pending.awaited()))), bell })
    }
}

#[pymethods]
impl Waking {
    /// What is readable when it is to be polled.
    fn fileno(&self) -> i32 {
        self.bell.0.as_fd().as_raw_fd()
    }

    /// Whether the transfer has ended.
    fn poll(&self) -> PyResult<bool> {
        self.bell.0.take().or_raise()?;
        let awaited = self.slot.get()?;
        let mut awaited = awaited.lock().unwrap_or_else(PoisonError::into_inner);
        let waker = Waker::from(Arc::clone(&self.bell));
        let polled = Pin::new(&mut *awaited).poll(&mut Context::from_waker(&waker));
        // How it has ended is its handle's to say.
        Ok(matches!(polled, Poll::Ready(_)))
    }
}
