//! The extension module behind the Python package `jitney`: classes over the library's, one file each. What a user reads is in
//! `package/jitney/_jitney.pyi`.
//!
//! What holds for all of it: what can last lets other threads have the interpreter, and ends when Ctrl-C is pressed
//! ([`wait`]); a Python object has what is the library's in a [`Slot`](jitney_faces::Slot), from which it is given back when it is closed, and
//! refuses a process that was forked.

mod board;
mod buffer;
mod bus;
mod capture;
mod card;
mod channel;
mod emulated;
mod failure;
mod flash;
mod interrupt;
mod lease;
mod memory;
mod pieces;
mod registers;
mod ring;
mod transfer;
mod wait;
mod watch;

use pyo3::prelude::*;

/// PCIe cards from user space, several programs at once.
#[pymodule]
mod _jitney {
    use super::*;

    #[pymodule_export]
    use super::board::{Board, Design, Memory, Reading};
    #[pymodule_export]
    use super::buffer::Buffer;
    #[pymodule_export]
    use super::bus::{Bus, CardInfo, Usage};
    #[pymodule_export]
    use super::capture::{Block, Capture};
    #[pymodule_export]
    use super::card::Card;
    #[pymodule_export]
    use super::channel::{C2h, ChannelInfo, H2c};
    #[pymodule_export]
    use super::emulated::EmulatedCard;
    #[pymodule_export]
    use super::flash::{Difference, Flash, FlashPart, Written};
    #[pymodule_export]
    use super::interrupt::{Interrupt, UserInterrupt};
    #[pymodule_export]
    use super::lease::Lease;
    #[pymodule_export]
    use super::registers::Registers;
    #[pymodule_export]
    use super::ring::Ring;
    #[pymodule_export]
    use super::transfer::{Completed, Transfer};
    #[pymodule_export]
    use super::watch::{Change, Watch};

    /// Opens the card for which all is true that is said; the only one if nothing is.
    #[pyfunction]
    #[pyo3(signature = (selector = None, *, board = None, serial = None, dna = None, r#where = None))]
    fn open(
        py: Python<'_>,
        selector: Option<String>,
        board: Option<String>,
        serial: Option<bus::Serial>,
        dna: Option<String>,
        r#where: Option<Py<PyAny>>,
    ) -> PyResult<Card> {
        let wish = bus::Wish { selector, board, serial, dna, condition: r#where };
        bus::card(py, &bus::default(py)?, wish)
    }

    /// The cards that can be used.
    #[pyfunction]
    fn cards(py: Python<'_>) -> PyResult<Vec<CardInfo>> {
        bus::infos(&*bus::default(py)?)
    }

    /// The designs of the catalogue.
    #[pyfunction]
    fn boards() -> PyResult<Vec<Design>> {
        board::designs()
    }

    /// Starts an emulated board in this process, and opens its card.
    #[pyfunction]
    #[pyo3(signature = (
        board = None, *, file = None, memory = None, channels = None, interrupts = None, link = None, flash = None, faults = Vec::new()
    ))]
    #[expect(clippy::too_many_arguments, reason = "they have names in Python")]
    fn emulate(
        py: Python<'_>,
        board: Option<String>,
        file: Option<std::path::PathBuf>,
        memory: Option<u64>,
        channels: Option<u8>,
        interrupts: Option<String>,
        link: Option<emulated::Link>,
        flash: Option<std::path::PathBuf>,
        faults: Vec<String>,
    ) -> PyResult<Py<EmulatedCard>> {
        emulated::emulate(
            py,
            jitney_faces::Wanted {
                board,
                file,
                memory,
                channels,
                interrupts,
                link: link.map(emulated::Link::limit).transpose()?,
                flash,
                faults,
            },
        )
    }

    /// Called in each child after a fork.
    #[pyfunction]
    fn _forked() {
        jitney_faces::forked();
        bus::forked();
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        let hooks = pyo3::types::PyDict::new(module.py());
        hooks.set_item("after_in_child", module.getattr("_forked")?)?;
        PyModule::import(module.py(), "os")?.call_method("register_at_fork", (), Some(&hooks))?;
        Ok(())
    }
}
