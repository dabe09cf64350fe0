//! Errors of the library as exceptions: classes by kind are in `jitney/_errors.py`.

use jitney::boards::{self, FlashError};
use jitney::emulated::{EmulatedError, emulator::boards::BoardError};
use jitney::vfio::ErrorKind;
use jitney::{ring, vfio, xdma};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

/// A failure on its way to Python.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    /// The exception's class.
    class: &'static str,
    message: String,
    errno: Option<i32>,
    remedy: Option<String>,
}

impl Failure {
    pub(crate) fn new(class: &'static str, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), errno: None, remedy: None }
    }

    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        let remedy = remedy.into();
        self.message = format!("{}; {remedy}", self.message);
        self.remedy = Some(remedy);
        self
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new("InvalidError", message)
    }

    pub(crate) fn closed(what: &str) -> Self {
        Self::new("ClosedError", format!("{what} is closed"))
    }

    pub(crate) fn forked(what: &str) -> Self {
        Self::new("ForkedError", format!("{what} is the parent's: this process was forked from it"))
            .remedy("open the card in the child, or start processes by multiprocessing's \"spawn\"")
    }

    pub(crate) fn timed_out(what: &str) -> Self {
        Self::new("TimedOutError", format!("{what}: not in the time that was given"))
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.class == "NotFoundError"
    }

    /// Who holds what was asked for, where the message says: `pid 4211 (jitney test ddr)`.
    fn holder(&self) -> Option<&str> {
        if self.message.contains("this process itself has") {
            return Some("this process");
        }
        let rest = self.message.split_once(" is held by ")?.1;
        let mut depth = 0_usize;
        let end = rest.char_indices().find(|(at, letter)| {
            match letter {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && matches!(letter, ':' | ';' | ',') && rest[*at..].len() > 1
        });
        Some(rest[..end.map_or(rest.len(), |(at, _)| at)].trim())
    }
}

const fn class(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "NotFoundError",
        ErrorKind::Held => "HeldError",
        ErrorKind::Invalid => "InvalidError",
        ErrorKind::OutOfBounds => "OutOfBoundsError",
        ErrorKind::Unsupported => "UnsupportedError",
        ErrorKind::Exhausted => "ExhaustedError",
        ErrorKind::Denied => "DeniedError",
        ErrorKind::LinkDown => "LinkDownError",
        ErrorKind::Disconnected => "DisconnectedError",
        ErrorKind::TimedOut => "TimedOutError",
        ErrorKind::Protocol => "ProtocolError",
        _ => "Error",
    }
}

impl From<vfio::Error> for Failure {
    fn from(error: vfio::Error) -> Self {
        Self {
            class: class(error.kind()),
            message: error.to_string(),
            errno: error.errno().map(|errno| errno.raw_os_error()),
            remedy: error.remedy().map(str::to_owned),
        }
    }
}

impl From<xdma::Error> for Failure {
    fn from(error: xdma::Error) -> Self {
        use xdma::Error as Xdma;
        let class = match error {
            Xdma::Card(error) | Xdma::LinkDown(error) | Xdma::CutOff(error) | Xdma::Unknown(error) => {
                return error.into();
            }
            Xdma::NoXdma { .. } | Xdma::NoChannel { .. } => "NotFoundError",
            Xdma::Stream { .. } | Xdma::Plan { .. } => "InvalidError",
            Xdma::Range { .. } => "OutOfBoundsError",
            Xdma::TimedOut { .. } => "TimedOutError",
            Xdma::Cancelled { .. } => "CancelledError",
            _ => "TransferError",
        };
        Self::new(class, error.to_string())
    }
}

impl From<boards::Error> for Failure {
    fn from(error: boards::Error) -> Self {
        use boards::Error as Board;
        let class = match error {
            Board::Card(error) => return error.into(),
            Board::Xdma(error) => return error.into(),
            Board::UnknownBoard { .. }
            | Board::NoPeripheral { .. }
            | Board::NoPeripheralNamed { .. }
            | Board::NoXdma { .. } => "NotFoundError",
            Board::OutsideBar { .. } | Board::OutsideFrame { .. } => "OutOfBoundsError",
            Board::Catalogue(_) => "InvalidError",
            Board::Flash(ref flash) => match **flash {
                FlashError::Range { .. } => "OutOfBoundsError",
                _ => "FlashError",
            },
            _ => "Error",
        };
        Self::new(class, error.to_string())
    }
}

impl From<ring::Error> for Failure {
    fn from(error: ring::Error) -> Self {
        use ring::Error as Ring;
        let class = match error {
            Ring::Memory(error) => return error.into(),
            Ring::Card(error) => return error.into(),
            Ring::NoRing(_) => "NotFoundError",
            Ring::Shape { .. } | Ring::Size { .. } => "InvalidError",
            _ => "ProtocolError",
        };
        Self::new(class, error.to_string())
    }
}

impl From<BoardError> for Failure {
    fn from(error: BoardError) -> Self {
        let class = match error {
            BoardError::Unknown { .. } => "NotFoundError",
            _ => "InvalidError",
        };
        Self::new(class, error.to_string())
    }
}

impl From<EmulatedError> for Failure {
    fn from(error: EmulatedError) -> Self {
        match error {
            EmulatedError::Board(error) => error.into(),
            EmulatedError::Card(error) => error.into(),
            other => Self::new("Error", other.to_string()),
        }
    }
}

impl From<jitney_memory::Error> for Failure {
    fn from(error: jitney_memory::Error) -> Self {
        vfio::Error::from(error).into()
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
        let class = errors.getattr(self.class)?.cast_into::<PyType>()?;
        let facts = PyDict::new(py);
        facts.set_item("errno", self.errno)?;
        facts.set_item("holder", self.holder())?;
        facts.set_item("remedy", &self.remedy)?;
        Ok(PyErr::from_value(class.call((&self.message,), Some(&facts))?))
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
