//! `jitney.Lease`.

use crate::failure::OrRaise;
use jitney::vfio;
use jitney_faces::Slot;
use pyo3::prelude::*;
use std::sync::Arc;

/// A right on a named part of a card.
#[pyclass(module = "jitney", frozen)]
pub(crate) struct Lease {
    slot: Arc<Slot<vfio::Lease>>,
    part: String,
}

impl Lease {
    pub(crate) fn new(slot: Arc<Slot<vfio::Lease>>, part: String) -> Self {
        Self { slot, part }
    }
}

#[pymethods]
impl Lease {
    /// The part that it is a right on.
    #[getter]
    fn part(&self) -> &str {
        &self.part
    }

    /// Whether it was given back.
    #[getter]
    fn closed(&self) -> bool {
        self.slot.is_closed()
    }

    /// Gives it back.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.slot.check().or_raise()?;
        let lease = self.slot.take();
        py.detach(|| drop(lease));
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
        format!("<jitney.Lease on {}{}>", self.part, if self.closed() { ", closed" } else { "" })
    }
}
