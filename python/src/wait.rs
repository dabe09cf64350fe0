//! Waiting without the interpreter's lock, and so that Ctrl-C ends it.

use crate::failure::{Failure, OrRaise};
use jitney_faces::Kind;
use pyo3::Borrowed;
use pyo3::prelude::*;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// How long a signal waits for its handler at most.
const SLICE: Duration = Duration::from_millis(20);

/// How long to stand in line for a lease.
pub(crate) enum Patience {
    /// Nobody said; the bus knows.
    Usual,
    /// Seconds, or for ever.
    Given(Option<f64>),
}

impl<'py> FromPyObject<'_, 'py> for Patience {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        object.extract().map(Self::Given)
    }
}

/// Seconds, as Python has them; nothing for ever.
pub(crate) fn seconds(timeout: Option<f64>) -> PyResult<Option<Duration>> {
    let wrong = |seconds| {
        Failure::invalid(format!("a timeout cannot be {seconds} s; use seconds from 0 on, or None"))
    };
    match timeout {
        None => Ok(None),
        Some(seconds) if seconds == f64::INFINITY => Ok(None),
        Some(seconds) => Duration::try_from_secs_f64(seconds).map(Some).map_err(|_| wrong(seconds).into()),
    }
}

/// Waits by `look`, which waits itself for the time that it is given, until it finds something or `timeout` has passed.
///
/// # Errors
/// What `look` says, and what the handler of a signal raises; `look` can be called again after that.
pub(crate) fn wait<T: Send, E: Into<Failure> + Send>(
    py: Python<'_>,
    timeout: Option<Duration>,
    mut look: impl FnMut(Duration) -> Result<Option<T>, E> + Send,
) -> PyResult<Option<T>> {
    let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        let left = end.map_or(SLICE, |end| end.saturating_duration_since(Instant::now()));
        let slice = left.min(SLICE);
        if let Some(found) = py.detach(|| look(slice)).or_raise()? {
            return Ok(Some(found));
        }
        py.check_signals()?;
        if left.is_zero() {
            return Ok(None);
        }
    }
}

/// Does what can last, and cannot be asked to stop, in a thread of its own. What it comes to after a signal was raised here is
/// given back at once.
pub(crate) fn aside<T: Send + 'static, E: Into<Failure> + Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> PyResult<T> {
    let (give, mut take) = sync_channel(1);
    let worker = move || {
        // Nobody may wait for it any more.
        let _ = give.send(work());
    };
    std::thread::Builder::new()
        .name("jitney-python".into())
        .spawn(worker)
        .map_err(|error| Failure::new(Kind::Exhausted, format!("cannot start a thread: {error}")))?;
    loop {
        let looked = py.detach(move || (take.recv_timeout(SLICE), take));
        take = looked.1;
        match looked.0 {
            Ok(outcome) => return outcome.or_raise(),
            Err(RecvTimeoutError::Timeout) => py.check_signals()?,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::new(Kind::Other, "a thread of the library's has ended by itself").into());
            }
        }
    }
}
