//! `jitney.Capture`: a stream that is received without an end.

use crate::failure::{Failure, OrRaise};
use crate::wait::{seconds, wait};
use jitney::xdma;
use jitney_faces::SharedCard;
use jitney_faces::Slot;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A block of a stream.
#[pyclass(module = "jitney", frozen, get_all)]
pub(crate) struct Block {
    /// Its number, counted from 0, those that were lost included.
    number: u64,
    /// Its bytes.
    data: Py<PyBytes>,
    /// Whether they end a packet.
    ends_packet: bool,
    /// Blocks directly in front of it that were lost.
    lost: u64,
}

impl Block {
    pub(crate) fn new(py: Python<'_>, (number, ends_packet, lost): (u64, bool, u64), data: &[u8]) -> Self {
        Self { number, data: PyBytes::new(py, data).unbind(), ends_packet, lost }
    }
}

#[pymethods]
impl Block {
    fn __len__(&self, py: Python<'_>) -> usize {
        self.data.bind(py).as_bytes().len()
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let (number, bytes) = (self.number, self.__len__(py));
        let lost = if self.lost > 0 { format!(", {} lost before it", self.lost) } else { String::new() };
        format!("<jitney.Block {number} of {bytes} bytes{lost}>")
    }
}

/// A ring of blocks that a stream is received into.
#[pyclass(module = "jitney", frozen)]
pub(crate) struct Capture {
    slot: Arc<Slot<Mutex<State>>>,
    name: String,
}

struct State {
    capture: xdma::Capture,
    block: Vec<u8>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Capture {
    pub(crate) fn new(capture: xdma::Capture, card: &SharedCard, name: &str) -> Self {
        let block = vec![0; capture.block_size()];
        let slot = card.made("the capture", Mutex::new(State { capture, block }));
        Self { slot, name: name.to_owned() }
    }
}

#[pymethods]
impl Capture {
    /// The next block; None if there is none in `timeout` seconds.
    #[pyo3(signature = (timeout = None))]
    fn read(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Block>> {
        // With the block, as another thread may read the next; and one may close it.
        let found = wait(py, seconds(timeout)?, |slice| -> Result<_, Failure> {
            let state = self.slot.get()?;
            let mut state = lock(&state);
            let State { capture, block } = &mut *state;
            let captured = capture.read(block, Some(slice))?;
            Ok(captured.map(|captured| (captured, block.get(..captured.bytes).unwrap_or_default().to_vec())))
        })?;
        Ok(found.map(|(own, data)| Block::new(py, (own.sequence, own.ends_packet, own.lost), &data)))
    }

    /// How many blocks were overwritten before they were read.
    #[getter]
    fn lost(&self) -> PyResult<u64> {
        self.slot.with(|state| lock(state).capture.lost()).or_raise()
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Block>> {
        self.read(py, None)
    }

    /// Whether it was ended.
    #[getter]
    fn closed(&self) -> bool {
        self.slot.is_closed()
    }

    /// Stops the engine, and gives the channel back.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.slot.check().or_raise()?;
        let capture = self.slot.take();
        py.detach(|| drop(capture));
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
        format!("<jitney.Capture of {}{}>", self.name, if self.closed() { ", closed" } else { "" })
    }
}
