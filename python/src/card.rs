//! `jitney.Card`.

use crate::board::{Board, Reading};
use crate::buffer::{self, Buffer};
use crate::channel::{C2h, ChannelInfo, H2c, Options};
use crate::failure::{Failure, OrRaise};
use crate::flash::Flash;
use crate::interrupt::{Interrupt, UserInterrupt};
use crate::lease::Lease;
use crate::registers::Registers;
use crate::shared::SharedCard;
use crate::wait::{Patience, aside, seconds};
use jitney::boards;
use jitney::boards::designs::names_of;
use jitney::vfio::{self, LeaseRequest, Mode, Part, Will};
use jitney::xdma::{Direction, Xdma};
use pyo3::exceptions::PyBufferError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A card that is open.
#[pyclass(module = "jitney", frozen, subclass, weakref)]
pub(crate) struct Card {
    shared: Arc<SharedCard>,
    /// What has a name on it; made when it is first asked for.
    registers: PyOnceLock<Py<PyDict>>,
}

impl Card {
    pub(crate) fn new(shared: Arc<SharedCard>) -> Self {
        Self { shared, registers: PyOnceLock::new() }
    }

    pub(crate) fn shared(&self) -> &Arc<SharedCard> {
        &self.shared
    }

    /// Ends all that was made of the card; with `strict` not while an array looks at its memory.
    pub(crate) fn shut(&self, py: Python<'_>, strict: bool) -> PyResult<()> {
        self.shared.slot.check()?;
        let views = self.shared.views();
        if strict && views > 0 {
            let arrays = if views == 1 { "array looks" } else { "arrays look" };
            return Err(PyBufferError::new_err(format!(
                "{views} {arrays} at buffers of {}: delete them first (del array)",
                self.shared.address()
            )));
        }
        py.detach(|| self.shared.shut());
        Ok(())
    }

    /// Does something with the card that can last.
    fn with<T: Send + 'static, E: Into<Failure> + Send + 'static>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(Arc<SharedCard>) -> Result<T, E> + Send + 'static,
    ) -> PyResult<T> {
        // Before a thread is started for it.
        self.shared.slot.with(|_| ())?;
        let shared = Arc::clone(&self.shared);
        aside(py, move || work(shared))
    }

    fn whole_region(&self, region: vfio::Region) -> Registers {
        let slot = self.shared.made("the registers", region.clone());
        Registers::new(slot, &region)
    }

    /// Each thing that has registers and a name.
    fn named(&self, py: Python<'_>) -> PyResult<Py<PyDict>> {
        let all = PyDict::new(py);
        let card = self.shared.slot.get()?;
        // A card that nobody knows may still have an XDMA.
        let board = match self.shared.board() {
            Ok(board) => Some(board),
            Err(failure) if failure.is_not_found() => None,
            Err(failure) => return Err(failure.into()),
        };
        if let Some(board) = &board {
            let peripherals = board.summary().peripherals;
            for (name, own) in names_of(&peripherals).into_iter().zip(&peripherals) {
                let region = card.bar(own.bar.into()).or_raise()?;
                let size = own.size.min(region.size().saturating_sub(own.offset));
                let part = self.whole_region(region).part(&name, own.offset, size, Vec::new());
                all.set_item(name, part)?;
            }
        }
        if let Some(xdma) = boards::probe(&card).or_raise()? {
            let region = card.bar(xdma.bar()).or_raise()?;
            let size = region.size();
            let part = self.whole_region(region).part("xdma", 0, size, xdma.registers());
            all.set_item("xdma", part)?;
        }
        Ok(all.unbind())
    }
}

/// The XDMA of a card: where its board has it, else where one is found.
fn xdma(shared: &Arc<SharedCard>) -> Result<Xdma, Failure> {
    match shared.board() {
        Ok(board) => Ok(board.xdma()?),
        Err(failure) if failure.is_not_found() => {
            let card = shared.slot.get()?;
            boards::probe(&card)?.ok_or_else(|| {
                Failure::new("NotFoundError", format!("{} has no XDMA that can be found", card.identity()))
            })
        }
        Err(failure) => Err(failure),
    }
}

#[pymethods]
impl Card {
    /// Where it was found.
    #[getter]
    fn address(&self) -> PyResult<String> {
        Ok(self.shared.slot.with(|card| card.identity().address.clone())?)
    }

    /// PCI vendor id.
    #[getter]
    fn vendor(&self) -> PyResult<u16> {
        Ok(self.shared.slot.with(|card| card.identity().vendor)?)
    }

    /// PCI device id.
    #[getter]
    fn device(&self) -> PyResult<u16> {
        Ok(self.shared.slot.with(|card| card.identity().device)?)
    }

    /// PCI revision id.
    #[getter]
    fn revision(&self) -> PyResult<u8> {
        Ok(self.shared.slot.with(|card| card.identity().revision)?)
    }

    /// Which board it is.
    #[getter]
    fn board(&self, py: Python<'_>) -> PyResult<Board> {
        let board = py.detach(|| self.shared.board())?;
        Ok(Board::new(&board))
    }

    /// The BARs that it has: number and size in bytes.
    #[getter]
    fn bars(&self) -> PyResult<BTreeMap<usize, u64>> {
        let bars = self.shared.slot.with(|card| *card.bars())?;
        let sizes = bars.iter().map(|bar| bar.size).enumerate();
        Ok(sizes.filter(|(_, size)| *size > 0).collect())
    }

    /// The registers of a BAR.
    fn bar(&self, index: usize) -> PyResult<Registers> {
        let region = self.shared.slot.get()?.bar(index).or_raise()?;
        Ok(self.whole_region(region))
    }

    /// PCI configuration space.
    #[getter]
    fn config(&self) -> PyResult<Registers> {
        let region = self.shared.slot.get()?.config().or_raise()?;
        Ok(self.whole_region(region))
    }

    /// The registers of what has a name in the board's design, and of an XDMA.
    #[getter]
    fn registers(&self, py: Python<'_>) -> PyResult<Py<PyDict>> {
        self.shared.slot.with(|_| ())?;
        self.registers.get_or_try_init(py, || self.named(py))?.bind(py).copy().map(Bound::unbind)
    }

    /// Memory that this process and the card see.
    #[pyo3(signature = (size, *, align = 1, below = None, pages = "4K"))]
    fn buffer(
        &self,
        py: Python<'_>,
        size: u64,
        align: u64,
        below: Option<u64>,
        pages: &str,
    ) -> PyResult<Buffer> {
        let request = buffer::request(size, align, below, pages)?;
        let card = self.shared.slot.get()?;
        let buffer = buffer::make(py, || card.dma_buffer(request))?;
        Ok(Buffer::of_card(buffer, &self.shared))
    }

    /// The DMA channels that it has.
    #[getter]
    fn channels(&self, py: Python<'_>) -> PyResult<Vec<ChannelInfo>> {
        let xdma = py.detach(|| xdma(&self.shared))?;
        let all = Direction::ALL.into_iter().flat_map(|direction| xdma.channels(direction));
        Ok(all.map(ChannelInfo::new).collect())
    }

    /// A DMA channel to the card, which is this program's until it is closed.
    #[pyo3(signature = (index = 0, *, wait = "poll", timeout = None, depth = None, align = None, longest = None))]
    #[expect(clippy::too_many_arguments, reason = "they have names in Python")]
    fn h2c(
        &self,
        py: Python<'_>,
        index: u8,
        wait: &str,
        timeout: Option<f64>,
        depth: Option<u32>,
        align: Option<u64>,
        longest: Option<u32>,
    ) -> PyResult<H2c> {
        let options = Options::new(wait, timeout, depth, align, longest)?;
        let channel = self
            .with(py, move |card| -> Result<_, Failure> { Ok(options.apply(xdma(&card)?.h2c(index)?)?) })?;
        Ok(H2c::new(channel, &self.shared))
    }

    /// A DMA channel from the card, which is this program's until it is closed.
    #[pyo3(signature = (index = 0, *, wait = "poll", timeout = None, depth = None, align = None, longest = None))]
    #[expect(clippy::too_many_arguments, reason = "they have names in Python")]
    fn c2h(
        &self,
        py: Python<'_>,
        index: u8,
        wait: &str,
        timeout: Option<f64>,
        depth: Option<u32>,
        align: Option<u64>,
        longest: Option<u32>,
    ) -> PyResult<C2h> {
        let options = Options::new(wait, timeout, depth, align, longest)?;
        let channel = self
            .with(py, move |card| -> Result<_, Failure> { Ok(options.apply(xdma(&card)?.c2h(index)?)?) })?;
        Ok(C2h::new(channel, &self.shared))
    }

    /// An interrupt line of the design's own, which is this program's until it is closed.
    fn user_interrupt(&self, py: Python<'_>, line: u8) -> PyResult<UserInterrupt> {
        let interrupt =
            self.with(py, move |card| -> Result<_, Failure> { Ok(xdma(&card)?.user_interrupt(line)?) })?;
        Ok(UserInterrupt::new(interrupt, &self.shared))
    }

    /// How many interrupt vectors it has.
    #[getter]
    fn vectors(&self) -> PyResult<u32> {
        self.shared.slot.get()?.vectors().or_raise()
    }

    /// An interrupt vector, which is this program's until it is closed.
    fn interrupt(&self, py: Python<'_>, vector: u16) -> PyResult<Interrupt> {
        let interrupt =
            self.with(py, move |card| -> Result<_, Failure> { Ok(card.slot.get()?.interrupt(vector)?) })?;
        Ok(Interrupt::new(interrupt, &self.shared))
    }

    /// A right on a named part of the card, until it is closed.
    #[pyo3(
        signature = (part, *, shared = false, wait = Patience::Usual),
        text_signature = "($self, part, *, shared=False, wait=...)"
    )]
    fn lease(&self, py: Python<'_>, part: &str, shared: bool, wait: Patience) -> PyResult<Lease> {
        let wait = match wait {
            Patience::Usual => None,
            Patience::Given(wait) => Some(seconds(wait)?.unwrap_or(std::time::Duration::MAX)),
        };
        let part: Part = part.parse().or_raise()?;
        let name = part.to_string();
        let mode = if shared { Mode::Shared } else { Mode::Exclusive };
        let request = LeaseRequest { part, mode, will: Will::none(), wait };
        let lease =
            self.with(py, move |card| -> Result<_, Failure> { Ok(card.slot.get()?.lease(request)?) })?;
        Ok(Lease::new(self.shared.made("the lease", lease), name))
    }

    /// What its sensors say.
    fn sensors(&self, py: Python<'_>) -> PyResult<Vec<Reading>> {
        let readings = self.with(py, move |card| -> Result<_, Failure> {
            let board = card.board()?;
            let mut all = Vec::new();
            for monitor in board.monitors()? {
                let readings = monitor.readings()?;
                all.extend(readings.into_iter().map(|reading| (monitor.name().to_owned(), reading)));
            }
            Ok(all)
        })?;
        Ok(readings.into_iter().map(|(monitor, reading)| Reading::new(monitor, reading)).collect())
    }

    /// Its configuration flash, whose bus is this program's until it is closed.
    fn flash(&self, py: Python<'_>) -> PyResult<Flash> {
        let shared = Arc::clone(&self.shared);
        let flash =
            aside(py, move || -> Result<_, Failure> { Ok(shared.board()?.quad_spi()?.lease()?.flash()?) })?;
        Ok(Flash::new(self.shared.made("the flash", flash)))
    }

    /// The routes of its stream switch: of each output the input, or None.
    #[getter]
    fn routes(&self, py: Python<'_>) -> PyResult<Vec<Option<u8>>> {
        py.detach(|| -> Result<_, Failure> { Ok(self.shared.board()?.stream_switch()?.routes()?) }).or_raise()
    }

    /// Sets the routes of its stream switch.
    #[setter]
    fn set_routes(&self, py: Python<'_>, routes: Vec<Option<u8>>) -> PyResult<()> {
        self.with(py, move |card| -> Result<_, Failure> {
            Ok(card.board()?.stream_switch()?.lease()?.set_routes(&routes)?)
        })
    }

    /// Resets the card, unless somebody uses a part of it.
    fn reset(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |card| -> Result<_, Failure> { Ok(card.slot.get()?.reset()?) })
    }

    /// Whether it was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.shared.slot.is_closed()
    }

    /// Ends all that was made of the card, and lets go of it.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.shut(py, true)
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, PyAny>) -> PyResult<()> {
        // A child leaves what is its parent's alone.
        if self.shared.slot.check().is_ok() { self.shut(py, false) } else { Ok(()) }
    }

    fn __repr__(&self) -> String {
        let words = self.shared.slot.with(|card| card.identity().to_string());
        format!("<jitney.Card {}>", words.unwrap_or_else(|_| "closed".to_owned()))
    }
}
