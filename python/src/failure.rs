//! Errors of the library as exceptions: classes by kind are in `jitney/_errors.py`.

use jitney_faces::Kind;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

/// A failure on its way to Python.
#[derive(Debug, Clone)]
pub(crate) struct Failure(jitney_faces::Failure);

impl<E: Into<jitney_faces::Failure>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl Failure {
    pub(crate) fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self(jitney_faces::Failure::new(kind, what))
    }

    pub(crate) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self(self.0.with_remedy(remedy))
    }

    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self(jitney_faces::Failure::invalid(what))
    }

    pub(crate) fn closed(what: &str) -> Self {
        Self(jitney_faces::Failure::closed(what))
    }

    pub(crate) fn timed_out(what: &str) -> Self {
        Self(jitney_faces::Failure::timed_out(what))
    }
}

/// The exception's class.
const fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::Other => "Error",
        Kind::NotFound => "NotFoundError",
        Kind::Held => "HeldError",
        Kind::Invalid => "InvalidError",
        Kind::OutOfBounds => "OutOfBoundsError",
        Kind::Unsupported => "UnsupportedError",
        Kind::Exhausted => "ExhaustedError",
        Kind::Denied => "DeniedError",
        Kind::LinkDown => "LinkDownError",
        Kind::Disconnected => "DisconnectedError",
        Kind::TimedOut => "TimedOutError",
        Kind::Protocol => "ProtocolError",
        Kind::Transfer => "TransferError",
        Kind::Cancelled => "CancelledError",
        Kind::Flash => "FlashError",
        Kind::Closed => "ClosedError",
        Kind::Forked => "ForkedError",
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        Python::attach(|py| failure.raise(py).unwrap_or_else(|error| error))
    }
}

impl Failure {
    fn raise(self, py: Python<'_>) -> PyResult<PyErr> {
        static ERRORS: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
        let errors = ERRORS
            .get_or_try_init(py, || PyModule::import(py, "jitney._errors").map(Bound::unbind))?
            .bind(py);
        let class = errors.getattr(class(self.0.kind()))?.cast_into::<PyType>()?;
        let facts = PyDict::new(py);
        facts.set_item("errno", self.0.errno())?;
        facts.set_item("holder", self.0.holder())?;
        facts.set_item("remedy", self.0.remedy())?;
        Ok(PyErr::from_value(class.call((self.0.to_string(),), Some(&facts))?))
    }
}

/// The library's results as Python's.
pub(crate) trait OrRaise<T> {
    fn or_raise(self) -> PyResult<T>;
}

impl<T, E: Into<Failure>> OrRaise<T> for Result<T, E> {
    fn or_raise(self) -> PyResult<T> {
        self.map_err(|error| error.into().into())
    }
}
