//! `jitney.Transfer`: a transfer under way.

use crate::failure::{Failure, OrRaise};
use crate::shared::SharedCard;
use crate::slot::{Slot, is_forked};
use crate::wait::{seconds, wait};
use crate::waking::Waking;
use jitney::xdma::{self, Pending};
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::Duration;

/// What a transfer did.
#[pyclass(module = "jitney", frozen, get_all)]
pub(crate) struct Completed {
    /// Bytes moved.
    bytes: u64,
    /// Descriptors that they took.
    descriptors: u64,
    /// From when it was submitted until its end was seen, in seconds.
    seconds: f64,
    /// Of what was received from a stream: whether the bytes end a packet.
    ends_packet: bool,
}

impl Completed {
    pub(crate) fn new(done: xdma::Completed) -> Self {
        let xdma::Completed { bytes, descriptors, duration, ends_packet } = done;
        Self { bytes, descriptors, seconds: duration.as_secs_f64(), ends_packet }
    }

    pub(crate) fn none() -> Self {
        Self { bytes: 0, descriptors: 0, seconds: 0.0, ends_packet: true }
    }

    /// Another piece of the same.
    pub(crate) fn add(&mut self, done: xdma::Completed) {
        self.bytes += done.bytes;
        self.descriptors += done.descriptors;
        self.seconds += done.duration.as_secs_f64();
    }
}

#[pymethods]
impl Completed {
    fn __repr__(&self) -> String {
        let Self { bytes, descriptors, seconds, ends_packet } = self;
        let packet = if *ends_packet { "" } else { ", the packet goes on" };
        format!(
            "<jitney.Completed: {bytes} bytes by {descriptors} descriptors in {:.1} us{packet}>",
            seconds * 1e6
        )
    }
}

/// Waits for a transfer that nobody else can wait for: it is ended if a signal ends the wait, or, where there is a time-out, when
/// that has passed. Nothing then.
pub(crate) fn finish(
    py: Python<'_>,
    name: &str,
    pending: Arc<Pending>,
    timeout: Option<Option<Duration>>,
) -> PyResult<Option<xdma::Completed>> {
    let outcome = wait(py, timeout.flatten(), |slice| pending.wait_for(slice));
    let unfinished = match &outcome {
        Ok(None) => true,
        Ok(Some(_)) => false,
        // A signal, after which it goes on; or its own failure, which ends it.
        Err(_) => true,
    };
    if unfinished {
        let cancelled = py.detach(|| pending.cancel());
        // It may have been over just then.
        if let (Ok(None), Ok(Some(completed))) = (&outcome, cancelled) {
            return Ok(Some(completed));
        }
    }
    let _ = name;
    outcome
}

/// A transfer under way, or over.
#[pyclass(module = "jitney", frozen)]
pub(crate) struct Transfer {
    slot: Arc<Slot<Pending>>,
    name: String,
}

impl Transfer {
    pub(crate) fn new(pending: Pending, card: &SharedCard, name: &str) -> Self {
        Self { slot: card.made("the transfer", pending), name: name.to_owned() }
    }
}

#[pymethods]
impl Transfer {
    /// Waits until it has ended, and says what it did. It goes on if `timeout` seconds pass first.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Completed> {
        let (pending, timeout) = (self.slot.get()?, seconds(timeout)?);
        match wait(py, timeout, |slice| pending.wait_for(slice))? {
            Some(done) => Ok(Completed::new(done)),
            None => Err(Failure::timed_out(&format!("the transfer on {}", self.name)).into()),
        }
    }

    /// Whether it has ended, well or not.
    fn done(&self, py: Python<'_>) -> PyResult<bool> {
        let pending = self.slot.get()?;
        Ok(py.detach(|| !matches!(pending.poll(), Ok(None))))
    }

    /// Ends it; whether it was not over by then.
    fn cancel(&self, py: Python<'_>) -> PyResult<bool> {
        let pending = self.slot.get()?;
        let over = py.detach(|| !matches!(pending.poll(), Ok(None)));
        if over {
            return Ok(false);
        }
        Ok(py.detach(|| pending.cancel()).or_raise()?.is_none())
    }

    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        if is_forked() {
            let what = "a process that was forked cannot await: what would wake it is its parent's";
            return Err(Failure::new("ForkedError", what).remedy("use wait()").into());
        }
        let py = slf.py();
        let waking = Waking::new(slf.get().slot.get()?)?;
        let waits = PyModule::import(py, "jitney._aio")?;
        waits.call_method1("finished", (waking,))?.call_method0("__await__")
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let state = match self.slot.get().map(|pending| py.detach(|| pending.poll())) {
            Err(_) => "closed".to_owned(),
            Ok(Ok(None)) => "under way".to_owned(),
            Ok(Ok(Some(done))) => format!("done, {} bytes", done.bytes),
            Ok(Err(_)) => "failed".to_owned(),
        };
        format!("<jitney.Transfer on {}, {state}>", self.name)
    }
}
