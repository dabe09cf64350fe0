//! `jitney.UserInterrupt` and `jitney.Interrupt`.

use crate::failure::{Failure, OrRaise};
use crate::wait::{seconds, wait};
use jitney::{vfio, xdma};
use jitney_faces::SharedCard;
use jitney_faces::Slot;
use pyo3::prelude::*;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// An interrupt line of the design's own.
#[pyclass(module = "jitney", frozen)]
pub(crate) struct UserInterrupt {
    slot: Arc<Slot<Mutex<xdma::UserInterrupt>>>,
    line: u8,
}

/// An interrupt vector.
#[pyclass(module = "jitney", frozen)]
pub(crate) struct Interrupt {
    slot: Arc<Slot<vfio::Interrupt>>,
    vector: u16,
}

fn locked(line: &Mutex<xdma::UserInterrupt>) -> MutexGuard<'_, xdma::UserInterrupt> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a wait found, as one that goes on wants it.
fn found(fired: bool) -> Option<()> {
    fired.then_some(())
}

/// The coroutine that waits for `interrupt`.
fn awaited<'py>(interrupt: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let waits = PyModule::import(interrupt.py(), "jitney._aio")?;
    waits.call_method1("fired", (interrupt,))?.call_method0("__await__")
}

impl UserInterrupt {
    pub(crate) fn new(interrupt: xdma::UserInterrupt, card: &SharedCard) -> Self {
        let line = interrupt.line();
        Self { slot: card.made("the interrupt", Mutex::new(interrupt)), line }
    }
}

#[pymethods]
impl UserInterrupt {
    /// Which line it is.
    #[getter]
    fn line(&self) -> u8 {
        self.line
    }

    /// Whether the logic holds the line up.
    #[getter]
    fn raised(&self, py: Python<'_>) -> PyResult<bool> {
        let interrupt = self.slot.get().or_raise()?;
        py.detach(|| locked(&interrupt).is_raised()).or_raise()
    }

    /// Waits until the line is raised, for `timeout` seconds at most; whether it was.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let look = |slice| -> Result<_, Failure> {
            // Each time, as another thread may close it.
            let interrupt = self.slot.get()?;
            Ok(found(locked(&interrupt).wait(Some(slice))?))
        };
        Ok(wait(py, seconds(timeout)?, look)?.is_some())
    }

    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        awaited(slf.as_any())
    }

    /// For an event loop: what is readable when the line was raised, after `_arm`.
    fn fileno(&self) -> PyResult<i32> {
        self.slot.with(|interrupt| locked(interrupt).as_fd().as_raw_fd()).or_raise()
    }

    /// Lets the line fire.
    fn _arm(&self) -> PyResult<()> {
        let interrupt = self.slot.get().or_raise()?;
        locked(&interrupt).arm().or_raise()
    }

    /// Whether it has fired; then it does not before it is armed again.
    fn _has_fired(&self) -> PyResult<bool> {
        let interrupt = self.slot.get().or_raise()?;
        locked(&interrupt).has_fired().or_raise()
    }

    /// Whether it was given back.
    #[getter]
    fn closed(&self) -> bool {
        self.slot.is_closed()
    }

    /// Gives it back.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.slot.check().or_raise()?;
        let interrupt = self.slot.take();
        py.detach(|| drop(interrupt));
        Ok(())
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, PyAny>) -> PyResult<()> {
        // A child leaves what is its parent's alone.
        if self.slot.check().is_ok() { self.close(py) } else { Ok(()) }
    }

    fn __repr__(&self) -> String {
        format!("<jitney.UserInterrupt {}>", self.line)
    }
}

impl Interrupt {
    pub(crate) fn new(interrupt: vfio::Interrupt, card: &SharedCard) -> Self {
        let vector = interrupt.vector();
        Self { slot: card.made("the interrupt", interrupt), vector }
    }
}

#[pymethods]
impl Interrupt {
    /// Which vector it is.
    #[getter]
    fn vector(&self) -> u16 {
        self.vector
    }

    /// Waits until the vector has fired since the last call, for `timeout` seconds at most; whether it has.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let look = |slice| -> Result<_, Failure> { Ok(found(self.slot.get()?.wait(Some(slice))?)) };
        Ok(wait(py, seconds(timeout)?, look)?.is_some())
    }

    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        awaited(slf.as_any())
    }

    /// For an event loop: what is readable when the vector has fired.
    fn fileno(&self) -> PyResult<i32> {
        self.slot.with(|interrupt| interrupt.as_fd().as_raw_fd()).or_raise()
    }

    fn _arm(&self) -> PyResult<()> {
        let interrupt = self.slot.get().or_raise()?;
        interrupt.rearm().or_raise()
    }

    fn _has_fired(&self) -> PyResult<bool> {
        let interrupt = self.slot.get().or_raise()?;
        interrupt.wait(Some(Duration::ZERO)).or_raise()
    }

    /// Whether it was given back.
    #[getter]
    fn closed(&self) -> bool {
        self.slot.is_closed()
    }

    /// Gives it back.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.slot.check().or_raise()?;
        let interrupt = self.slot.take();
        py.detach(|| drop(interrupt));
        Ok(())
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, PyAny>) -> PyResult<()> {
        // A child leaves what is its parent's alone.
        if self.slot.check().is_ok() { self.close(py) } else { Ok(()) }
    }

    fn __repr__(&self) -> String {
        format!("<jitney.Interrupt {}>", self.vector)
    }
}
