//! `jitney.Buffer`: memory that a card and this process see.

use crate::failure::{Failure, OrRaise};
use crate::memory::Memory;
use jitney::vfio::{self, DmaBuffer, DmaRequest};
use jitney_faces::{Child, Reach, SharedBus, SharedCard};
use jitney_memory::PageSize;
use pyo3::ffi;
use pyo3::prelude::*;
use std::ffi::c_int;
use std::sync::Arc;

/// Memory that a card and this process see.
#[pyclass(module = "jitney", frozen, weakref)]
pub(crate) struct Buffer {
    memory: Arc<Memory>,
}

impl Buffer {
    /// Of a card.
    pub(crate) fn of_card(buffer: DmaBuffer, card: &Arc<SharedCard>) -> Self {
        let memory = Memory::new(buffer, Reach::of_card(card));
        card.adopt(&(Arc::clone(&memory) as Arc<dyn Child>));
        Self { memory }
    }

    /// Of every card of a bus.
    pub(crate) fn of_bus(buffer: DmaBuffer, bus: &Arc<SharedBus>) -> Self {
        Self { memory: Memory::new(buffer, Reach::of_bus(bus)) }
    }

    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }
}

/// What a buffer has to be, in Python's words.
pub(crate) fn request(size: u64, align: u64, below: Option<u64>, pages: &str) -> PyResult<DmaRequest> {
    let pages = match pages {
        "4K" => PageSize::Normal,
        "2M" => PageSize::Huge2M,
        "1G" => PageSize::Huge1G,
        other => {
            let what = format!("there are no pages of {other:?}; use \"4K\", \"2M\" or \"1G\"");
            return Err(Failure::invalid(what).into());
        }
    };
    let top = match below {
        Some(0) => return Err(Failure::invalid("no memory is below address 0").into()),
        Some(below) => below - 1,
        None => u64::MAX,
    };
    Ok(DmaRequest::new(size).aligned(align).below(top).of(pages))
}

#[pymethods]
impl Buffer {
    /// Where cards see its first byte.
    #[getter]
    fn iova(&self) -> u64 {
        self.memory.iova
    }

    /// Its size in bytes, whole pages.
    #[getter]
    fn size(&self) -> u64 {
        self.memory.size
    }

    fn __len__(&self) -> usize {
        usize::try_from(self.memory.size).unwrap_or(usize::MAX)
    }

    /// Whether it was given back.
    #[getter]
    fn closed(&self) -> bool {
        self.memory.slot.is_closed()
    }

    /// All of it as a NumPy array, without a copy.
    #[pyo3(signature = (dtype = None))]
    fn array<'py>(slf: &Bound<'py, Self>, dtype: Option<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        slf.get().memory.slot.check().or_raise()?;
        let numpy = PyModule::import(slf.py(), "numpy")?;
        let dtype = dtype.unwrap_or_else(|| pyo3::types::PyString::new(slf.py(), "u1").into_any());
        numpy.call_method1("frombuffer", (slf, dtype))
    }

    /// Gives it back, and waits until no card reaches it any more.
    fn free(&self, py: Python<'_>) -> PyResult<()> {
        self.memory.free(py)
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (kind, _error, _trace))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        match self.memory.free(py) {
            // A child leaves what is its parent's alone.
            Err(_) if self.memory.slot.check().is_err() => Ok(()),
            // The first exception is the one that matters; the memory goes with what has it.
            Err(_) if !kind.is_none() => Ok(()),
            freed => freed,
        }
    }

    #[expect(unsafe_code, reason = "the buffer protocol is of pointers")]
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let memory = Arc::clone(&slf.get().memory);
        // SAFETY: Python calls this with a view to be filled, and `slf` has the memory.
        unsafe { memory.fill(slf.as_any(), view, flags) }
    }

    #[expect(unsafe_code, reason = "the buffer protocol is of pointers")]
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        self.memory.release();
    }

    fn __repr__(&self) -> String {
        if self.closed() {
            return "<jitney.Buffer, closed>".to_owned();
        }
        format!("<jitney.Buffer of {:#x} bytes at IOVA {:#x}>", self.memory.size, self.memory.iova)
    }
}

/// A buffer that `make` gets.
pub(crate) fn make(
    py: Python<'_>,
    make: impl FnOnce() -> vfio::Result<DmaBuffer> + Send,
) -> PyResult<DmaBuffer> {
    py.detach(make).or_raise()
}
