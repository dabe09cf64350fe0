//! DMA memory as Python's arrays see it, and arrays of any other memory.

#![expect(unsafe_code, reason = "the buffer protocol is of pointers")]

use crate::failure::Failure;
use crate::shared::{SharedBus, SharedCard};
use crate::slot::{Child, Slot};
use jitney::vfio::DmaBuffer;
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
    /// Whose cards see it.
    card: Weak<SharedCard>,
    bus: Option<Weak<SharedBus>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    views: usize,
    /// Whether other processes were given it.
    shared: bool,
}

/// Where DMA memory begins in this process, to know an array's.
static MEMORY: Mutex<BTreeMap<u64, Weak<Memory>>> = Mutex::new(BTreeMap::new());

impl Memory {
    /// Of a card, or else of a bus.
    pub(crate) fn new(
        buffer: DmaBuffer,
        card: Option<&Arc<SharedCard>>,
        bus: Option<&Arc<SharedBus>>,
    ) -> Arc<Self> {
        let (address, size, iova) = (buffer.view().address(), buffer.size(), buffer.iova());
        let memory = Arc::new(Self {
            slot: Slot::new("the buffer", Arc::new(buffer)),
            address,
            size,
            iova,
            card: card.map_or_else(Weak::new, Arc::downgrade),
            bus: bus.map(Arc::downgrade),
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
        let same_card = self.card.ptr_eq(&Arc::downgrade(card));
        let same_bus = self.bus.as_ref().zip(card.bus.as_ref());
        let same_bus = same_bus.is_some_and(|(own, bus)| own.ptr_eq(&Arc::downgrade(bus)) && !bus.isolated);
        let of_isolated_bus = self.card.strong_count() == 0
            && self
                .bus
                .as_ref()
                .zip(card.bus.as_ref())
                .is_some_and(|(own, bus)| own.ptr_eq(&Arc::downgrade(bus)));
        if same_card || same_bus || of_isolated_bus {
            return Ok(self.slot.get()?.as_ref().clone());
        }
        let what = "the buffer is of another card or bus, and this card does not see it";
        Err(Failure::invalid(what).remedy("make it by this card's buffer()"))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_shared(&self) {
        self.state().shared = true;
    }

    /// Gives the buffer back, unless an array or a transfer has it.
    pub(crate) fn free(&self, py: Python<'_>) -> PyResult<()> {
        self.slot.check()?;
        let shared = {
            let state = self.state();
            if state.views > 0 {
                let (views, arrays) =
                    (state.views, if state.views == 1 { "array looks" } else { "arrays look" });
                return Err(PyBufferError::new_err(format!(
                    "{views} {arrays} at the buffer at IOVA {:#x}: delete them first (del array), or leave the buffer to them",
                    self.iova
                )));
            }
            state.shared
        };
        let Some(buffer) = self.slot.take() else { return Ok(()) };
        let busy = || {
            PyBufferError::new_err(format!(
                "a transfer still uses the buffer at IOVA {:#x}: wait for it, or cancel it",
                self.iova
            ))
        };
        let buffer = match Arc::try_unwrap(buffer) {
            Ok(buffer) => buffer,
            Err(buffer) => {
                self.slot.put(buffer);
                return Err(busy());
            }
        };
        if shared {
            // Others have its memory, so that it cannot be asked whether a transfer has it; then it goes when that ends.
            return py.detach(|| buffer.free()).map_err(|error| Failure::from(error).into());
        }
        match buffer.into_own() {
            Ok(own) => py.detach(|| own.into_shared().free()).map_err(|error| Failure::from(error).into()),
            Err(buffer) => {
                self.slot.put(Arc::new(buffer));
                Err(busy())
            }
        }
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
        self.slot.get().map_err(|failure| PyBufferError::new_err(PyErr::from(failure).to_string()))?;
        let length = isize::try_from(self.size)
            .map_err(|_| PyBufferError::new_err("the buffer is larger than an array can be"))?;
        // From here on it is not freed, which is looked at with the same lock.
        self.state().views += 1;
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

    fn shut(&self) {
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
