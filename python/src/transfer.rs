//! `jitney.Transfer`: a transfer under way.

use crate::failure::{Failure, OrRaise};
use crate::wait::{seconds, wait};
use jitney::xdma::{self, Pending};
use jitney_faces::{Flight, Kind, is_forked};
use pyo3::prelude::*;
use std::os::fd::AsRawFd;
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

/// Waits for a transfer that nobody else can wait for: it is ended if a signal ends the wait, or when `timeout` has passed. Nothing
/// then.
pub(crate) fn finish(
    py: Python<'_>,
    pending: &Pending,
    timeout: Option<Duration>,
) -> PyResult<Option<xdma::Completed>> {
    let outcome = wait(py, timeout, |slice| pending.wait_for(slice));
    if let Ok(Some(_)) = outcome {
        return outcome;
    }
    // What it has failed with, if it has, is said already.
    let cancelled = py.detach(|| pending.cancel());
    match (outcome, cancelled) {
        // It was over just then.
        (Ok(None), Ok(Some(completed))) => Ok(Some(completed)),
        (outcome, _) => outcome,
    }
}

/// A transfer under way, or over.
#[pyclass(module = "jitney", frozen)]
pub(crate) struct Transfer {
    flight: Arc<Flight>,
}

impl Transfer {
    pub(crate) fn new(flight: Arc<Flight>) -> Self {
        Self { flight }
    }
}

#[pymethods]
impl Transfer {
    /// Waits until it has ended, and says what it did. It goes on if `timeout` seconds pass first.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Completed> {
        match wait(py, seconds(timeout)?, |slice| self.flight.look(slice))? {
            Some(done) => Ok(Completed::new(done)),
            None => Err(Failure::timed_out(&format!("the transfer on {}", self.flight.name())).into()),
        }
    }

    /// Whether it has ended, well or not.
    fn done(&self, py: Python<'_>) -> PyResult<bool> {
        self.flight.pending().or_raise()?;
        Ok(py.detach(|| !matches!(self.flight.look(Duration::ZERO), Ok(None))))
    }

    /// Ends it; whether it was not over by then.
    fn cancel(&self, py: Python<'_>) -> PyResult<bool> {
        py.detach(|| self.flight.cancel()).or_raise()
    }

    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        if is_forked() {
            let what = "a process that was forked cannot await: what would wake it is its parent's";
            return Err(Failure::new(Kind::Forked, what).remedy("use wait()").into());
        }
        let waking = match slf.get().flight.pending().or_raise()? {
            Some(pending) => Some(Waking::new(pending)?),
            None => None,
        };
        let waits = PyModule::import(slf.py(), "jitney._aio")?;
        waits.call_method1("finished", (waking, slf))?.call_method0("__await__")
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let state = match py.detach(|| self.flight.look(Duration::ZERO)) {
            Ok(None) => "under way".to_owned(),
            Ok(Some(done)) => format!("done, {} bytes", done.bytes),
            Err(_) => "failed".to_owned(),
        };
        format!("<jitney.Transfer on {}, {state}>", self.flight.name())
    }
}

/// The wait for a transfer.
#[pyclass(module = "jitney", frozen)]
struct Waking(jitney_faces::Waking);

impl Waking {
    fn new(pending: Arc<Pending>) -> PyResult<Self> {
        jitney_faces::Waking::new(pending).map(Self).or_raise()
    }
}

#[pymethods]
impl Waking {
    /// What is readable when it is to be polled.
    fn fileno(&self) -> i32 {
        self.0.event().as_raw_fd()
    }

    /// Whether the transfer has ended.
    fn poll(&self) -> PyResult<bool> {
        self.0.poll().or_raise()
    }
}
