//! `jitney.Ring`: a stream that another process captures, read without slowing it down.

use crate::capture::Block;
use crate::failure::{Failure, OrRaise};
use crate::wait::{seconds, wait};
use jitney::ring::{End, Next, Reader};
use jitney::vfio::DmaView;
use jitney_faces::Slot;
use pyo3::prelude::*;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A reader of a ring that another process writes.
#[pyclass(module = "jitney", frozen)]
pub(crate) struct Ring {
    slot: Slot<Mutex<State>>,
    block_size: usize,
    blocks: u32,
}

struct State {
    reader: Reader,
    ended: Option<End>,
}

/// A block that was copied out.
struct Copied {
    number: u64,
    ends_packet: bool,
    lost: u64,
    data: Vec<u8>,
}

/// What a look came to.
enum Found {
    Block(Copied),
    Ended,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn next(&mut self, timeout: Duration) -> Result<Option<Found>, Failure> {
        loop {
            let mut block = match self.reader.next(timeout)? {
                Next::Block(block) => block,
                Next::Nothing => return Ok(None),
                Next::Ended(how) => {
                    self.ended = Some(how);
                    return Ok(Some(Found::Ended));
                }
            };
            let mut data = vec![0; block.len()];
            let (number, ends_packet, lost) = (block.number(), block.ends_packet(), block.lost().blocks);
            match block.read(0, &mut data) {
                Ok(()) => return Ok(Some(Found::Block(Copied { number, ends_packet, lost, data }))),
                // It is among those that are lost in front of the next.
                Err(error) if error.is_overrun() => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Ring {
    pub(crate) fn new(view: DmaView) -> PyResult<Self> {
        let reader = Reader::new(view).or_raise()?;
        let (block_size, blocks) = (reader.shape().block_size(), reader.shape().blocks());
        let slot = Slot::new("the ring", Arc::new(Mutex::new(State { reader, ended: None })));
        Ok(Self { slot, block_size, blocks })
    }
}

#[pymethods]
impl Ring {
    /// The most bytes of a block.
    #[getter]
    fn block_size(&self) -> usize {
        self.block_size
    }

    /// How many blocks it has.
    #[getter]
    fn blocks(&self) -> u32 {
        self.blocks
    }

    /// The next block; None if there is none in `timeout` seconds, or if the writer has ended.
    #[pyo3(signature = (timeout = None))]
    fn read(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Block>> {
        match wait(py, seconds(timeout)?, |slice| lock(&*self.slot.get()?).next(slice))? {
            Some(Found::Block(own)) => {
                Ok(Some(Block::new(py, (own.number, own.ends_packet, own.lost), &own.data)))
            }
            Some(Found::Ended) | None => Ok(None),
        }
    }

    /// How it has ended: `closed` by its writer, or `gone` with it; None as long as it goes on.
    #[getter]
    fn ended(&self) -> PyResult<Option<&'static str>> {
        let ended = self.slot.with(|state| lock(state).ended).or_raise()?;
        Ok(ended.map(|how| match how {
            End::Closed => "closed",
            End::Gone => "gone",
        }))
    }

    /// How many blocks this reader has lost.
    #[getter]
    fn lost(&self) -> PyResult<u64> {
        self.slot.with(|state| lock(state).reader.lost().blocks).or_raise()
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Block>> {
        self.read(py, None)
    }

    /// Lets go of it.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.slot.check().or_raise()?;
        let reader = self.slot.take();
        py.detach(|| drop(reader));
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
        format!("<jitney.Ring of {} blocks of {:#x} bytes>", self.blocks, self.block_size)
    }
}
