//! `jitney.emulate`: a board in this process, for tests.

use crate::card::Card;
use crate::failure::{Failure, OrRaise};
use crate::shared::SharedCard;
use crate::slot::Slot;
use crate::wait::aside;
use jitney::boards::Catalogue;
use jitney::emulated;
use jitney::emulated::emulator::boards::{Board, BoardOptions};
use jitney::emulated::emulator::fault::Fault;
use jitney::emulated::emulator::xdma::LinkLimit;
use pyo3::prelude::*;
use std::path::PathBuf;
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

/// How the board is to be.
pub(crate) struct Wanted {
    pub(crate) board: Option<String>,
    pub(crate) file: Option<PathBuf>,
    pub(crate) memory: Option<u64>,
    pub(crate) channels: Option<u8>,
    pub(crate) interrupts: Option<String>,
    pub(crate) link: Option<Link>,
    pub(crate) flash: Option<PathBuf>,
    pub(crate) faults: Vec<String>,
}

fn fault(text: &str) -> Result<Fault, Failure> {
    text.parse().map_err(|error: emulated::emulator::fault::FaultError| Failure::invalid(error.to_string()))
}

impl Wanted {
    fn start(self) -> Result<(emulated::EmulatedCard, Catalogue), Failure> {
        let interrupts = self.interrupts.as_deref().map(str::parse).transpose();
        let options = BoardOptions {
            memory: self.memory,
            channels: self.channels,
            interrupts: interrupts.map_err(|error| Failure::invalid(format!("{error}")))?,
            link: match self.link {
                None => None,
                Some(Link::Rate(rate)) => Some(LinkLimit::Rate(rate)),
                Some(Link::Pcie(text)) => {
                    Some(text.parse().map_err(|error| Failure::invalid(format!("{error}")))?)
                }
            },
            flash: self.flash,
            faults: self.faults.iter().map(|text| fault(text)).collect::<Result<_, _>>()?,
            ..BoardOptions::default()
        };
        let wrong = jitney::boards::Error::from;
        let (board, catalogue) = match (&self.board, &self.file) {
            (Some(board), None) => {
                let catalogue = Catalogue::load().map_err(wrong)?;
                (Board::named(&catalogue, board)?, catalogue)
            }
            (board, Some(file)) => {
                let board = Board::of_file(file, board.as_deref())?;
                (board, Catalogue::built_in().with_file(file).map_err(wrong)?)
            }
            (None, None) => {
                return Err(Failure::invalid("which board? Give its name, or a boards file"));
            }
        };
        Ok((emulated::EmulatedCard::new(&board.with(options))?, catalogue))
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
        slf.slot.check()?;
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
        let emulated = self.slot.get()?;
        emulated.board().set_user_interrupt(line, level);
        Ok(())
    }

    /// Has a fault happen, named as by `jitney emulate --fault`.
    fn inject(&self, name: &str) -> PyResult<()> {
        let fault = fault(name).or_raise()?;
        self.slot.get()?.board().inject(fault);
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
