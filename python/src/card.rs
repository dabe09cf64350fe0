//! `jitney.Card`.

use crate::board::{Board, Reading};
use crate::buffer::{self, Buffer};
use crate::channel::{C2h, ChannelInfo, H2c, Options};
use crate::failure::{Failure, OrRaise};
use crate::flash::Flash;
use crate::interrupt::{Interrupt, UserInterrupt};
use crate::lease::Lease;
use crate::registers::Registers;
use crate::wait::{Patience, aside, seconds};
use jitney::vfio::{LeaseRequest, Mode, Part, Will};
use jitney::xdma::Direction;
use jitney_faces::SharedCard;
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
        self.shared.slot.check().or_raise()?;
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
        self.shared.slot.with(|_| ()).or_raise()?;
        let shared = Arc::clone(&self.shared);
        aside(py, move || work(shared))
    }

    /// Each thing that has registers and a name.
    fn named(&self, py: Python<'_>) -> PyResult<Py<PyDict>> {
        let all = PyDict::new(py);
        for (name, window) in self.shared.windows().or_raise()? {
            all.set_item(name, Registers::new(window))?;
        }
        Ok(all.unbind())
    }
}

#[pymethods]
impl Card {
    /// Where it was found.
    #[getter]
    fn address(&self) -> PyResult<String> {
        self.shared.slot.with(|card| card.identity().address.clone()).or_raise()
    }

    /// PCI vendor id.
    #[getter]
    fn vendor(&self) -> PyResult<u16> {
        self.shared.slot.with(|card| card.identity().vendor).or_raise()
    }

    /// PCI device id.
    #[getter]
    fn device(&self) -> PyResult<u16> {
        self.shared.slot.with(|card| card.identity().device).or_raise()
    }

    /// PCI revision id.
    #[getter]
    fn revision(&self) -> PyResult<u8> {
        self.shared.slot.with(|card| card.identity().revision).or_raise()
    }

    /// Its device serial number.
    #[getter]
    fn serial(&self, py: Python<'_>) -> PyResult<Option<String>> {
        let number = self.with(py, |card| card.slot.get()?.serial_number().map_err(Failure::from))?;
        Ok(number.map(|number| number.to_string()))
    }

    /// The numbers of its FPGA.
    #[getter]
    fn dna(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let numbers = self.with(py, |card| card.board()?.dna_numbers().map_err(Failure::from))?;
        Ok(numbers.iter().map(ToString::to_string).collect())
    }

    /// Which board it is.
    #[getter]
    fn board(&self, py: Python<'_>) -> PyResult<Board> {
        let board = py.detach(|| self.shared.board()).or_raise()?;
        Ok(Board::new(&board))
    }

    /// The BARs that it has: number and size in bytes.
    #[getter]
    fn bars(&self) -> PyResult<BTreeMap<usize, u64>> {
        let bars = self.shared.slot.with(|card| *card.bars()).or_raise()?;
        let sizes = bars.iter().map(|bar| bar.size).enumerate();
        Ok(sizes.filter(|(_, size)| *size > 0).collect())
    }

    /// The registers of a BAR.
    fn bar(&self, index: usize) -> PyResult<Registers> {
        let region = self.shared.slot.get().or_raise()?.bar(index).or_raise()?;
        Ok(Registers::new(self.shared.window(region)))
    }

    /// PCI configuration space.
    #[getter]
    fn config(&self) -> PyResult<Registers> {
        let region = self.shared.slot.get().or_raise()?.config().or_raise()?;
        Ok(Registers::new(self.shared.window(region)))
    }

    /// The registers of what has a name in the board's design, and of an XDMA.
    #[getter]
    fn registers(&self, py: Python<'_>) -> PyResult<Py<PyDict>> {
        self.shared.slot.with(|_| ()).or_raise()?;
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
        let card = self.shared.slot.get().or_raise()?;
        let buffer = buffer::make(py, || card.dma_buffer(request))?;
        Ok(Buffer::of_card(buffer, &self.shared))
    }

    /// The DMA channels that it has.
    #[getter]
    fn channels(&self, py: Python<'_>) -> PyResult<Vec<ChannelInfo>> {
        let xdma = py.detach(|| self.shared.xdma()).or_raise()?;
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
            .with(py, move |card| -> Result<_, Failure> { Ok(options.apply(card.xdma()?.h2c(index)?)?) })?;
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
            .with(py, move |card| -> Result<_, Failure> { Ok(options.apply(card.xdma()?.c2h(index)?)?) })?;
        Ok(C2h::new(channel, &self.shared))
    }

    /// An interrupt line of the design's own, which is this program's until it is closed.
    fn user_interrupt(&self, py: Python<'_>, line: u8) -> PyResult<UserInterrupt> {
        let interrupt =
            self.with(py, move |card| -> Result<_, Failure> { Ok(card.xdma()?.user_interrupt(line)?) })?;
        Ok(UserInterrupt::new(interrupt, &self.shared))
    }

    /// How many interrupt vectors it has.
    #[getter]
    fn vectors(&self) -> PyResult<u32> {
        self.shared.slot.get().or_raise()?.vectors().or_raise()
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
        let readings = self.with(py, |card| card.readings())?;
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
