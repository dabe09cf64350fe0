//! DMA memory as Python's arrays see it, and arrays of any other memory.

#![expect(unsafe_code, reason = "the buffer protocol is of pointers")]

use crate::failure::{Failure, OrRaise};
use jitney::vfio::DmaBuffer;
use jitney_faces::{Child, Reach, SharedCard, Slot};
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;
use pyo3::{Bound, ffi};
use std::collections::BTreeMap;
use std::ffi::c_int;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// A DMA buffer of this process, and how many arrays look at it.
pub(crate) struct Memory {
    pub(crate) slot: Slot<DmaBuffer>,
    /// Where it is in this process.
    address: u64,
    pub(crate) size: u64,
    pub(crate) iova: u64,
    reach: Reach,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    views: usize,
    /// Whether it is being given back, so that no array may look at it any more.
    closing: bool,
    /// Whether other processes were given it.
    shared: bool,
}

/// Where DMA memory begins in this process, to know an array's.
static MEMORY: Mutex<BTreeMap<u64, Weak<Memory>>> = Mutex::new(BTreeMap::new());

impl Memory {
    pub(crate) fn new(buffer: DmaBuffer, reach: Reach) -> Arc<Self> {
        let (address, size, iova) = (buffer.view().address(), buffer.size(), buffer.iova());
        let memory = Arc::new(Self {
            slot: Slot::new("the buffer", Arc::new(buffer)),
            address,
            size,
            iova,
            reach,
            state: Mutex::default(),
        });
        MEMORY.lock().unwrap_or_else(PoisonError::into_inner).insert(address, Arc::downgrade(&memory));
        memory
    }

    /// The buffer that bytes of this process lie in, and where in it.
    fn of(address: u64, length: u64) -> Option<(Arc<Self>, Range<u64>)> {
        let all = MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = all.range(..=address).next_back()?.1.upgrade()?;
        let start = address - memory.address;
        let end = start.checked_add(length)?;
        (end <= memory.size).then_some((memory, start..end))
    }

    /// The buffer, if `card` sees it where it says.
    fn for_card(&self, card: &Arc<SharedCard>) -> Result<DmaBuffer, Failure> {
        self.reach.check(card)?;
        Ok(self.slot.get()?.as_ref().clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_shared(&self) {
        self.state().shared = true;
    }

    /// Gives the buffer back, unless an array or a transfer has it.
    pub(crate) fn free(&self, py: Python<'_>) -> PyResult<()> {
        self.slot.check().or_raise()?;
        let shared = {
            let mut state = self.state();
            if state.views > 0 {
                let (views, arrays) =
                    (state.views, if state.views == 1 { "array looks" } else { "arrays look" });
                return Err(PyBufferError::new_err(format!(
                    "{views} {arrays} at the buffer at IOVA {:#x}: delete them first (del array), or leave the buffer to them",
                    self.iova
                )));
            }
            state.closing = true;
            state.shared
        };
        if py.detach(|| jitney_faces::free(&self.slot, shared)).or_raise()? {
            return Ok(());
        }
        self.state().closing = false;
        Err(PyBufferError::new_err(format!(
            "a transfer still uses the buffer at IOVA {:#x}: wait for it, or cancel it",
            self.iova
        )))
    }

    /// An array's view of all of it.
    ///
    /// # Safety
    /// `view` is one that Python has given to be filled, for `owner`, which has this memory.
    pub(crate) unsafe fn fill(
        &self,
        owner: &Bound<'_, PyAny>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        self.slot.check().or_raise()?;
        let length = isize::try_from(self.size)
            .map_err(|_| PyBufferError::new_err("the buffer is larger than an array can be"))?;
        {
            // Whoever gives it back looks, and closes it, with the same lock.
            let mut state = self.state();
            if state.closing {
                return Err(PyBufferError::new_err("the buffer is closed"));
            }
            state.views += 1;
        }
        let start = self.address as *mut std::ffi::c_void;
        // SAFETY: `view` is Python's, see above; the memory is mapped as long as it is viewed, and may be written to. Python
        // and its arrays know of memory that changes under them, as that of other processes and threads does.
        let filled = unsafe { ffi::PyBuffer_FillInfo(view, owner.as_ptr(), start, length, 0, flags) };
        if filled == 0 {
            return Ok(());
        }
        self.state().views -= 1;
        Err(PyErr::fetch(owner.py()))
    }

    /// An array's view is gone.
    pub(crate) fn release(&self) {
        let mut state = self.state();
        state.views = state.views.saturating_sub(1);
    }
}

impl Child for Memory {
    fn views(&self) -> usize {
        self.state().views
    }

    /// Unless an array looks at it, which may be a new one.
    fn shut(&self) {
        let mut state = self.state();
        if state.views > 0 {
            return;
        }
        state.closing = true;
        drop(state);
        drop(self.slot.take());
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.slot.check().is_err() {
            return;
        }
        let mut all = MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
        // Another may be in its place by now.
        if all.get(&self.address).is_some_and(|own| own.strong_count() == 0) {
            all.remove(&self.address);
        }
    }
}

/// Bytes that a program wants moved.
pub(crate) enum Bytes {
    /// In a buffer that the card sees.
    Dma(DmaBuffer, Range<u64>),
    /// Anywhere else: they are copied.
    Other(Array),
}

impl Bytes {
    /// Those of a buffer, an array, or anything else with the buffer protocol.
    pub(crate) fn of(object: &Bound<'_, PyAny>, card: &Arc<SharedCard>, written: bool) -> PyResult<Self> {
        if let Ok(buffer) = object.cast::<crate::buffer::Buffer>() {
            let memory = buffer.get().memory();
            return Ok(Self::Dma(memory.for_card(card)?, 0..memory.size));
        }
        let array = Array::of(object, written)?;
        match Memory::of(array.address(), array.len() as u64) {
            Some((memory, range)) => Ok(Self::Dma(memory.for_card(card)?, range)),
            None => Ok(Self::Other(array)),
        }
    }
}

/// Memory of a Python object, in one piece.
pub(crate) struct Array(PyUntypedBuffer);

impl Array {
    pub(crate) fn of(object: &Bound<'_, PyAny>, written: bool) -> PyResult<Self> {
        let buffer = PyUntypedBuffer::get(object)?;
        if !buffer.is_c_contiguous() {
            let what = "the array is not in one piece";
            return Err(Failure::invalid(what).remedy("use numpy.ascontiguousarray").into());
        }
        if written && buffer.readonly() {
            return Err(Failure::invalid("the array cannot be written to: it is read-only").into());
        }
        Ok(Self(buffer))
    }

    fn address(&self) -> u64 {
        self.0.buf_ptr() as usize as u64
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len_bytes()
    }

    /// Copies bytes from `offset` on out of it; nothing if it does not have them.
    pub(crate) fn read(&self, _py: Python<'_>, offset: usize, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        if offset.checked_add(length).is_some_and(|end| end <= self.len()) {
            // SAFETY: The range was checked to be in it; it is there as long as this holds it.
            let start = unsafe { self.0.buf_ptr().cast::<u8>().add(offset) };
            // SAFETY: As above, and the target is as long. Python code does not run meanwhile.
            unsafe { std::ptr::copy_nonoverlapping(start, bytes.as_mut_ptr(), length) };
        }
        bytes
    }

    /// Copies bytes to `offset` of it; none if it does not have room for them.
    pub(crate) fn write(&self, _py: Python<'_>, offset: usize, bytes: &[u8]) {
        let fits = offset.checked_add(bytes.len()).is_some_and(|end| end <= self.len());
        if fits && !self.0.readonly() {
            // SAFETY: The range was checked to be in it; it is there as long as this holds it.
            let start = unsafe { self.0.buf_ptr().cast::<u8>().add(offset) };
            // SAFETY: As above; it may be written to, and Python code does not run meanwhile.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len()) };
        }
    }
}
