//! `jitney.Registers`: a BAR, configuration space, or the registers of one thing in a BAR.

use crate::failure::{Failure, OrRaise};
use jitney::vfio::{self, Region};
use jitney_faces::{Kind, Window};
use pyo3::prelude::*;
use pyo3::types::{PySlice, PyString};

/// Of so many bytes of registers in a row a signal ends the reading.
const LOOK: u64 = 4096;

/// 32-bit registers, by their offset in bytes.
#[pyclass(module = "jitney", frozen)]
pub(crate) struct Registers {
    window: Window,
}

impl Registers {
    pub(crate) fn new(window: Window) -> Self {
        Self { window }
    }

    #[inline]
    fn access<T: Send>(
        &self,
        py: Python<'_>,
        access: impl FnOnce(&Region) -> vfio::Result<T> + Send,
    ) -> PyResult<T> {
        let slot = self.window.region();
        let done = if self.window.is_slow() {
            let region = slot.get().or_raise()?;
            py.detach(move || access(&region))
        } else {
            slot.with(|region| access(region)).or_raise()?
        };
        done.or_raise()
    }

    #[inline]
    fn at(&self, offset: u64, bytes: u64) -> PyResult<u64> {
        self.window.at(offset, bytes).or_raise()
    }

    /// The offset that a program means by `key`: a number, or a register's name.
    #[inline]
    fn offset(&self, key: &Bound<'_, PyAny>) -> PyResult<u64> {
        if let Ok(offset) = key.extract::<u64>() {
            return Ok(offset);
        }
        let Ok(name) = key.cast::<PyString>() else {
            // What is no number says so itself; one below 0 or of more than 64 bits is none of a register.
            key.extract::<i128>()?;
            let what = format!(
                "offset {key} is outside of {}, which has {:#x} bytes",
                self.window.name(),
                self.window.size()
            );
            return Err(Failure::new(Kind::OutOfBounds, what).into());
        };
        let name = name.to_str()?;
        self.window.offset_of(name).or_raise()
    }
}

/// A value of `bits`, which an exception says if it is none.
fn value(value: &Bound<'_, PyAny>, bits: u32) -> PyResult<u64> {
    let most = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
    match value.extract::<u64>() {
        Ok(number) if number <= most => Ok(number),
        _ => {
            // What is no number says so itself.
            value.call_method0("__index__")?;
            let what = format!("{value} is no value of {bits} bits; use 0 to {most:#x}");
            Err(Failure::invalid(what).into())
        }
    }
}

#[pymethods]
impl Registers {
    /// Which registers of which card they are.
    #[getter]
    fn name(&self) -> &str {
        self.window.name()
    }

    /// Bytes.
    #[getter]
    fn size(&self) -> u64 {
        self.window.size()
    }

    fn __len__(&self) -> usize {
        usize::try_from(self.window.size()).unwrap_or(usize::MAX)
    }

    /// The names of single registers, where they are known.
    #[getter]
    fn names(&self) -> Vec<String> {
        self.window.names().map(str::to_owned).collect()
    }

    fn __getitem__<'py>(&self, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = key.py();
        if let Ok(slice) = key.cast::<PySlice>() {
            let length = isize::try_from(self.window.size()).unwrap_or(isize::MAX);
            let range = slice.indices(length)?;
            let step = if slice.getattr("step")?.is_none() { 4 } else { range.step };
            let offsets = OffsetsOf { next: range.start, stop: range.stop, step };
            let values: Vec<u32> = offsets
                .map(|offset| {
                    let at = self.at(u64::try_from(offset).unwrap_or(u64::MAX), 4)?;
                    if at.is_multiple_of(LOOK) {
                        py.check_signals()?;
                    }
                    self.access(py, |region| region.read32(at))
                })
                .collect::<PyResult<_>>()?;
            return Ok(values.into_pyobject(py)?.into_any());
        }
        let at = self.at(self.offset(key)?, 4)?;
        let value = self.access(py, |region| region.read32(at))?;
        Ok(value.into_pyobject(py)?.into_any())
    }

    fn __setitem__(&self, key: &Bound<'_, PyAny>, new: &Bound<'_, PyAny>) -> PyResult<()> {
        let at = self.at(self.offset(key)?, 4)?;
        let new = u32::try_from(value(new, 32)?).unwrap_or(u32::MAX);
        self.access(key.py(), |region| region.write32(at, new))
    }

    /// Reads a register of 8, 16, 32 or 64 bits.
    #[pyo3(signature = (offset, bits = 32))]
    fn read(&self, offset: &Bound<'_, PyAny>, bits: u32) -> PyResult<u64> {
        let at = self.at(self.offset(offset)?, width(bits)?)?;
        self.access(offset.py(), |region| match bits {
            8 => region.read8(at).map(u64::from),
            16 => region.read16(at).map(u64::from),
            64 => region.read64(at),
            _ => region.read32(at).map(u64::from),
        })
    }

    /// Writes a register of 8, 16, 32 or 64 bits.
    #[pyo3(signature = (offset, new, bits = 32))]
    fn write(&self, offset: &Bound<'_, PyAny>, new: &Bound<'_, PyAny>, bits: u32) -> PyResult<()> {
        let at = self.at(self.offset(offset)?, width(bits)?)?;
        let bytes = value(new, bits)?.to_le_bytes();
        self.access(offset.py(), move |region| {
            let [a, b, c, d, ..] = bytes;
            match bits {
                8 => region.write8(at, a),
                16 => region.write16(at, u16::from_le_bytes([a, b])),
                64 => region.write64(at, u64::from_le_bytes(bytes)),
                _ => region.write32(at, u32::from_le_bytes([a, b, c, d])),
            }
        })
    }

    fn __repr__(&self) -> String {
        format!("<jitney.Registers: {}, {:#x} bytes>", self.window.name(), self.window.size())
    }
}

fn width(bits: u32) -> PyResult<u64> {
    match bits {
        8 | 16 | 32 | 64 => Ok(u64::from(bits / 8)),
        _ => Err(Failure::invalid(format!("no register has {bits} bits; use 8, 16, 32 or 64")).into()),
    }
}

/// The offsets of a slice.
struct OffsetsOf {
    next: isize,
    stop: isize,
    step: isize,
}

impl Iterator for OffsetsOf {
    type Item = isize;

    fn next(&mut self) -> Option<isize> {
        let at = self.next;
        let more = if self.step > 0 { at < self.stop } else { at > self.stop };
        self.next = at.checked_add(self.step)?;
        more.then_some(at)
    }
}
