//! `jitney.emulate`: a board in this process, for tests.

use crate::card::Card;
use crate::failure::{Failure, OrRaise};
use crate::wait::aside;
use jitney::emulated;
use jitney::emulated::emulator::xdma::LinkLimit;
use jitney_faces::{SharedCard, Slot, Wanted, fault};
use pyo3::prelude::*;
use std::sync::Arc;

/// A card of an emulated board.
#[pyclass(module = "jitney", frozen, extends = Card)]
pub(crate) struct EmulatedCard {
    slot: Slot<emulated::EmulatedCard>,
}

/// What its link carries: bytes a second, or as `gen2x4`.
#[derive(FromPyObject)]
pub(crate) enum Link {
    Rate(u64),
    Pcie(String),
}

impl Link {
    pub(crate) fn limit(self) -> PyResult<LinkLimit> {
        match self {
            Self::Rate(rate) => Ok(LinkLimit::Rate(rate)),
            Self::Pcie(text) => text.parse().map_err(|error| Failure::invalid(format!("{error}")).into()),
        }
    }
}

/// Starts an emulated board, and opens its card.
pub(crate) fn emulate(py: Python<'_>, wanted: Wanted) -> PyResult<Py<EmulatedCard>> {
    let (emulated, catalogue) = aside(py, move || wanted.start())?;
    let card = Card::new(SharedCard::new(emulated.card(), None, Some(catalogue)));
    let own = EmulatedCard { slot: Slot::new("the emulated board", Arc::new(emulated)) };
    Py::new(py, PyClassInitializer::from(card).add_subclass(own))
}

impl EmulatedCard {
    fn shut(slf: &PyRef<'_, Self>, strict: bool) -> PyResult<()> {
        slf.slot.check().or_raise()?;
        slf.as_super().shut(slf.py(), strict)?;
        let board = slf.slot.take();
        slf.py().detach(|| drop(board));
        Ok(())
    }
}

#[pymethods]
impl EmulatedCard {
    /// Sets the level of an interrupt line of the design's own, as its logic would.
    fn set_user_interrupt(&self, line: u8, level: bool) -> PyResult<()> {
        let emulated = self.slot.get().or_raise()?;
        emulated.board().set_user_interrupt(line, level);
        Ok(())
    }

    /// Has a fault happen, named as by `jitney emulate --fault`.
    fn inject(&self, name: &str) -> PyResult<()> {
        let fault = fault(name).or_raise()?;
        self.slot.get().or_raise()?.board().inject(fault);
        Ok(())
    }

    /// Ends all that was made of the card, and the board.
    fn close(slf: PyRef<'_, Self>) -> PyResult<()> {
        Self::shut(&slf, true)
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(slf: PyRef<'_, Self>, _error: &Bound<'_, PyAny>) -> PyResult<()> {
        // A child leaves what is its parent's alone.
        if slf.slot.check().is_ok() { Self::shut(&slf, false) } else { Ok(()) }
    }

    fn __repr__(slf: PyRef<'_, Self>) -> String {
        let words = slf.as_super().shared().address();
        format!("<jitney.EmulatedCard {words}>")
    }
}
