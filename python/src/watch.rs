//! `jitney.Watch`: cards that arrive and leave.

use crate::bus::CardInfo;
use crate::failure::{Failure, OrRaise};
use crate::wait::{seconds, wait};
use jitney::boards::{self, Catalogue};
use jitney_faces::{Kind, Slot, is_forked};
use pyo3::prelude::*;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

/// A card has come, or is not there any more.
#[pyclass(module = "jitney", frozen, get_all)]
pub(crate) struct Change {
    /// Whether it has come; else it has left.
    arrived: bool,
    /// Which card.
    card: Py<CardInfo>,
}

impl Change {
    fn new(py: Python<'_>, change: jitney::Change) -> PyResult<Self> {
        let catalogue = Catalogue::load().map_err(boards::Error::from).or_raise()?;
        let arrived = matches!(change, jitney::Change::Arrived(_));
        let card = Py::new(py, CardInfo::new(change.card().clone(), &catalogue))?;
        Ok(Self { arrived, card })
    }
}

#[pymethods]
impl Change {
    fn __repr__(&self) -> String {
        let how = if self.arrived { "has arrived" } else { "has left" };
        format!("<jitney.Change: {} {how}>", self.card.get().address())
    }
}

/// Hears of cards that arrive and leave.
#[pyclass(module = "jitney", frozen)]
pub(crate) struct Watch {
    slot: Slot<jitney::Watch>,
}

impl Watch {
    pub(crate) fn new(watch: jitney::Watch) -> Self {
        Self { slot: Slot::new("the watch", Arc::new(watch)) }
    }
}

#[pymethods]
impl Watch {
    /// The next change; None if there is none in `timeout` seconds.
    #[pyo3(signature = (timeout = None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Change>> {
        let look = |slice| -> Result<_, Failure> { Ok(self.slot.get()?.wait(Some(slice))?) };
        wait(py, seconds(timeout)?, look)?.map(|change| Change::new(py, change)).transpose()
    }

    /// The next change, if there is one by now.
    fn poll(&self, py: Python<'_>) -> PyResult<Option<Change>> {
        let watch = self.slot.get().or_raise()?;
        let change = py.detach(|| watch.poll()).or_raise()?;
        change.map(|change| Change::new(py, change)).transpose()
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    /// It has no end but an error, and the program's.
    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Change>> {
        self.wait(py, None)
    }

    fn __aiter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __anext__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        if is_forked() {
            let what = "a process that was forked cannot await: what would wake it is its parent's";
            return Err(Failure::new(Kind::Forked, what).remedy("open a bus in it").into());
        }
        PyModule::import(slf.py(), "jitney._aio")?.call_method1("changed", (slf,))
    }

    /// For an event loop: what is readable when there may be something to poll for.
    fn fileno(&self) -> PyResult<i32> {
        self.slot.with(|watch| watch.as_fd().as_raw_fd()).or_raise()
    }

    /// Whether it was given back.
    #[getter]
    fn closed(&self) -> bool {
        self.slot.is_closed()
    }

    /// Hears no more.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.slot.check().or_raise()?;
        let watch = self.slot.take();
        py.detach(|| drop(watch));
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
        format!("<jitney.Watch{}>", if self.slot.is_closed() { ", closed" } else { "" })
    }
}
