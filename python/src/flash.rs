//! `jitney.Flash`: a board's configuration flash.

use crate::failure::{Failure, OrRaise};
use crate::memory::Array;
use crate::wait::aside;
use jitney::boards::{self, flash};
use jitney_faces::Kind;
use jitney_faces::Slot;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::sync::Arc;

/// What is read before a signal is looked for.
const PIECE: usize = 4096;

/// A flash, identified, whose bus this program has.
#[pyclass(module = "jitney", frozen)]
pub(crate) struct Flash {
    slot: Arc<Slot<boards::Flash>>,
}

/// What a flash is.
#[pyclass(module = "jitney", frozen, get_all)]
pub(crate) struct FlashPart {
    /// What it is called, if its ID is known.
    name: Option<String>,
    /// Who made it.
    maker: String,
    /// Its ID as hexadecimal digits.
    id: String,
    /// Bytes in all.
    size: u64,
    /// Bytes that are erased at once.
    sector: u64,
    /// Bytes that are programmed at once.
    page: u64,
}

#[pymethods]
impl FlashPart {
    fn __repr__(&self) -> String {
        let name = self.name.as_deref().unwrap_or("of no known name");
        format!("<jitney.FlashPart: {} {name}, {:#x} bytes>", self.maker, self.size)
    }
}

/// How a flash differs from an image.
#[pyclass(module = "jitney", frozen, get_all)]
pub(crate) struct Difference {
    /// How many bytes differ.
    bytes: u64,
    /// Address of the first of them.
    first: u64,
    /// What it should be.
    expected: u8,
    /// What it is.
    read: u8,
}

#[pymethods]
impl Difference {
    fn __repr__(&self) -> String {
        let Self { bytes, first, expected, read } = self;
        format!("<jitney.Difference: {bytes} bytes; at {first:#x} is {read:#04x}, not {expected:#04x}>")
    }
}

/// What writing an image came to.
#[pyclass(module = "jitney", frozen, get_all)]
pub(crate) struct Written {
    /// Sectors that the image touches.
    sectors: u64,
    /// Those that were right already.
    equal: u64,
    /// Those that were erased.
    erased: u64,
    /// Those that were programmed, and read back.
    written: u64,
}

#[pymethods]
impl Written {
    fn __repr__(&self) -> String {
        let Self { sectors, equal, erased, written } = self;
        format!("<jitney.Written: {sectors} sectors, {equal} equal, {erased} erased, {written} written>")
    }
}

/// Bytes of a Python object.
fn bytes(image: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let array = Array::of(image, false)?;
    Ok(array.read(image.py(), 0, array.len()))
}

/// What a signal's handler, or who shows progress, has raised.
fn heard(py: Python<'_>, progress: Option<&Py<PyAny>>, done: u64, of: usize) -> PyResult<()> {
    py.check_signals()?;
    match progress {
        Some(progress) => progress.call1(py, (done, of)).map(drop),
        None => Ok(()),
    }
}

#[pymethods]
impl Flash {
    /// What it is.
    #[getter]
    fn part(&self) -> PyResult<FlashPart> {
        let flash = self.slot.get().or_raise()?;
        let part = flash.part();
        Ok(FlashPart {
            name: part.name.map(str::to_owned),
            maker: part.maker.to_string(),
            id: part.id.iter().map(|byte| format!("{byte:02x}")).collect(),
            size: part.size,
            sector: part.sector,
            page: part.page,
        })
    }

    /// Reads bytes from `address` on.
    fn read<'py>(&self, py: Python<'py>, address: u64, size: usize) -> PyResult<Bound<'py, PyBytes>> {
        let flash = self.slot.get().or_raise()?;
        let end = address.checked_add(size as u64);
        if end.is_none_or(|end| end > flash.part().size) {
            let what = format!(
                "{size:#x} bytes from {address:#x} on are not all in the flash, which has {:#x}",
                flash.part().size
            );
            return Err(Failure::new(Kind::OutOfBounds, what).into());
        }
        let mut data = vec![0; size];
        for (piece, start) in data.chunks_mut(PIECE).zip((address..).step_by(PIECE)) {
            py.detach(|| flash.read(start, piece)).or_raise()?;
            py.check_signals()?;
        }
        Ok(PyBytes::new(py, &data))
    }

    /// Compares it with an image from `offset` on: how it differs, or None.
    #[pyo3(signature = (image, offset = 0, *, progress = None))]
    fn verify(
        &self,
        py: Python<'_>,
        image: &Bound<'_, PyAny>,
        offset: u64,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Option<Difference>> {
        let (flash, image) = (self.slot.get().or_raise()?, bytes(image)?);
        let (mut raised, mut done) = (None, 0);
        let go_on = |bytes| {
            done += bytes;
            raised = Python::attach(|py| heard(py, progress.as_ref(), done, image.len())).err();
            raised.is_none()
        };
        let found = py.detach(|| flash::compare(&flash, &image, offset, go_on)).or_raise()?;
        match raised {
            Some(error) => Err(error),
            None => Ok(found.map(|own| Difference {
                bytes: own.bytes,
                first: own.first,
                expected: own.expected,
                read: own.read,
            })),
        }
    }

    /// Writes an image from `offset` on, and reads it back. What is there already is left alone; a half-written image starts no
    /// FPGA.
    #[pyo3(signature = (image, offset = 0, *, progress = None))]
    fn write(
        &self,
        py: Python<'_>,
        image: &Bound<'_, PyAny>,
        offset: u64,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Written> {
        let (flash, image) = (self.slot.get().or_raise()?, bytes(image)?);
        let (mut raised, mut done) = (None, 0);
        let go_on = |step: flash::Progress| {
            done += step.bytes;
            raised = Python::attach(|py| heard(py, progress.as_ref(), done, image.len())).err();
            raised.is_none()
        };
        let written = py.detach(|| -> Result<_, Failure> {
            let update = flash::Update::new(&flash, &image, offset)?;
            Ok(update.run(go_on).map_err(|stopped| Failure::new(Kind::Flash, stopped.to_string())))
        });
        match (raised, written.or_raise()?) {
            // With the state of the flash, which matters more than that it was interrupted.
            (Some(error), Err(stopped)) => {
                error.set_cause(py, Some(stopped.into()));
                Err(error)
            }
            (_, Err(stopped)) => Err(stopped.into()),
            (_, Ok(own)) => Ok(Written {
                sectors: own.sectors,
                equal: own.equal,
                erased: own.erased,
                written: own.written,
            }),
        }
    }

    /// The bits of its status register that protect blocks from being written; 0 if none is.
    #[getter]
    fn protection(&self, py: Python<'_>) -> PyResult<u8> {
        let flash = self.slot.get().or_raise()?;
        py.detach(|| flash.protection()).or_raise()
    }

    /// Takes the protection of all blocks off, for good.
    fn unprotect(&self, py: Python<'_>) -> PyResult<()> {
        let flash = self.slot.get().or_raise()?;
        aside(py, move || flash.unprotect())
    }

    /// Whether it was given back.
    #[getter]
    fn closed(&self) -> bool {
        self.slot.is_closed()
    }

    /// Gives its bus back.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.slot.check().or_raise()?;
        let flash = self.slot.take();
        py.detach(|| drop(flash));
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
        "<jitney.Flash>".to_owned()
    }
}

impl Flash {
    pub(crate) fn new(slot: Arc<Slot<boards::Flash>>) -> Self {
        Self { slot }
    }
}
