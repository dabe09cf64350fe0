//! `jitney.Bus`: the cards that a program can use, alone or by a broker; and the bus that `jitney.open` uses.

use crate::buffer::{self, Buffer};
use crate::card::Card;
use crate::failure::{Failure, OrRaise};
use crate::ring::Ring;
use crate::wait::{aside, seconds};
use crate::watch::Watch;
use jitney::boards::Catalogue;
use jitney::boards::dna::DnaNumber;
use jitney::broker::Offer;
use jitney::vfio::{Identity, SerialNumber};
use jitney::{BusOptions, Find, boards};
use jitney_faces::{SharedBus, SharedCard, Slot, choose, offered};
use pyo3::prelude::*;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// The bus of `jitney.open`, as long as a card of it is open: who owns its cards has them once only.
static DEFAULT: Mutex<Option<Weak<SharedBus>>> = Mutex::new(None);

/// A card that can be opened.
#[pyclass(module = "jitney", frozen, get_all)]
pub(crate) struct CardInfo {
    /// Where it was found.
    address: String,
    /// PCI vendor id.
    vendor: u16,
    /// PCI device id.
    device: u16,
    /// PCI subsystem vendor id.
    subsystem_vendor: u16,
    /// PCI subsystem device id.
    subsystem_device: u16,
    /// PCI revision id.
    revision: u8,
    /// Designs of the catalogue that have its ids.
    designs: Vec<String>,
}

#[pymethods]
impl CardInfo {
    fn __repr__(&self) -> String {
        format!("<jitney.CardInfo {} ({:04x}:{:04x})>", self.address, self.vendor, self.device)
    }
}

impl CardInfo {
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn new(identity: Identity, catalogue: &Catalogue) -> Self {
        let designs =
            catalogue.candidates(boards::ids(&identity)).map(|design| design.name.clone()).collect();
        Self {
            address: identity.address,
            vendor: identity.vendor,
            device: identity.device,
            subsystem_vendor: identity.subsystem_vendor,
            subsystem_device: identity.subsystem_device,
            revision: identity.revision,
            designs,
        }
    }
}

/// What a program at the broker uses.
#[pyclass(module = "jitney", frozen, get_all)]
pub(crate) struct Usage {
    /// Its process id, if the broker can tell.
    pid: Option<u32>,
    /// What it called itself.
    program: String,
    /// The addresses of its cards.
    cards: Vec<String>,
    /// Its leases: address of the card, and part.
    leases: Vec<(String, String)>,
    /// Leases that it waits for: address, part, and place in line.
    waits: Vec<(String, String, u32)>,
    /// How many DMA buffers it has.
    buffers: u32,
    /// Their bytes.
    buffer_bytes: u64,
}

#[pymethods]
impl Usage {
    fn __repr__(&self) -> String {
        let pid = self.pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string());
        format!("<jitney.Usage of pid {pid} ({}): {} leases>", self.program, self.leases.len())
    }
}

/// The cards that a program can use, whoever owns them.
#[pyclass(module = "jitney", frozen)]
pub(crate) struct Bus {
    shared: Arc<SharedBus>,
}

fn opened(py: Python<'_>, options: BusOptions, isolated: bool) -> PyResult<Arc<SharedBus>> {
    let bus = aside(py, move || options.open())?;
    Ok(Arc::new(SharedBus { slot: Slot::new("the bus", Arc::new(bus)), isolated }))
}

/// Whether a thread opens the default bus.
static OPENING: AtomicBool = AtomicBool::new(false);

/// The turn of a thread to do so, until it is dropped.
struct Turn;

impl Turn {
    /// Waits for it; no lock, as that could be one of a thread that a forked child does not have.
    fn take(py: Python<'_>) -> PyResult<Self> {
        while OPENING.swap(true, Ordering::Acquire) {
            py.detach(|| std::thread::sleep(Duration::from_millis(1)));
            py.check_signals()?;
        }
        Ok(Self)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        OPENING.store(false, Ordering::Release);
    }
}

/// In a child, whose threads are not there.
pub(crate) fn forked() {
    OPENING.store(false, Ordering::Release);
}

/// The bus of `jitney.open` and `jitney.cards`.
pub(crate) fn default(py: Python<'_>) -> PyResult<Arc<SharedBus>> {
    let _turn = Turn::take(py)?;
    // Held only with the interpreter's lock, so by no other thread when the process is forked.
    let known = DEFAULT.lock().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(Weak::upgrade);
    if let Some(bus) = known.filter(|bus| bus.slot.with(|_| ()).is_ok()) {
        return Ok(bus);
    }
    let bus = opened(py, BusOptions::default(), false)?;
    *DEFAULT.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::downgrade(&bus));
    Ok(bus)
}

/// The cards of a bus.
pub(crate) fn infos(bus: &SharedBus) -> PyResult<Vec<CardInfo>> {
    let cards = bus.slot.get().or_raise()?.cards();
    let catalogue = Catalogue::load().map_err(boards::Error::from).or_raise()?;
    Ok(cards.into_iter().map(|identity| CardInfo::new(identity, &catalogue)).collect())
}

/// Which card a program wants: all that is said has to be true.
pub(crate) struct Wish {
    pub(crate) selector: Option<String>,
    pub(crate) board: Option<String>,
    pub(crate) serial: Option<Serial>,
    pub(crate) dna: Option<String>,
    /// Is given each card that may be it.
    pub(crate) condition: Option<Py<PyAny>>,
}

/// A serial number.
#[derive(FromPyObject)]
pub(crate) enum Serial {
    Number(u64),
    Text(String),
}

/// Opens the card that a program wants; without a wish the only one.
pub(crate) fn card(py: Python<'_>, bus: &Arc<SharedBus>, wish: Wish) -> PyResult<Card> {
    let Wish { selector, board, serial, dna, condition } = wish;
    let invalid = |error: &dyn std::fmt::Display| PyErr::from(Failure::invalid(error.to_string()));
    let serial = match serial {
        Some(Serial::Text(text)) => Some(text.parse().map_err(|error| invalid(&error))?),
        Some(Serial::Number(number)) => Some(SerialNumber(number)),
        None => None,
    };
    let dna: Option<DnaNumber> = dna.map(|text| text.parse()).transpose().map_err(|error| invalid(&error))?;
    let raised: Arc<Mutex<Option<PyErr>>> = Arc::default();
    let condition = condition.map(|condition| is_true(condition, bus, &raised));
    let shared = Arc::clone(bus);
    let found = aside(py, move || {
        choose(&shared, |mut find| {
            find = selector.into_iter().fold(find, Find::named);
            find = board.into_iter().fold(find, Find::board);
            find = serial.into_iter().fold(find, Find::serial);
            find = dna.into_iter().fold(find, Find::dna);
            condition.into_iter().fold(find, Find::matching)
        })
    });
    // What the program's own code has raised is the reason of whatever came of it.
    if let Some(error) = raised.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(error);
    }
    Ok(Card::new(SharedCard::new(found?, Some(Arc::clone(bus)), None)))
}

/// A function of Python's that is asked of each card. After one that has raised an error no other is asked.
fn is_true(
    condition: Py<PyAny>,
    bus: &Arc<SharedBus>,
    raised: &Arc<Mutex<Option<PyErr>>>,
) -> impl Fn(&Arc<dyn jitney::vfio::Card>) -> bool + Send + 'static {
    let (bus, raised) = (Arc::clone(bus), Arc::clone(raised));
    move |card| {
        let has_raised = || raised.lock().unwrap_or_else(PoisonError::into_inner);
        if has_raised().is_some() {
            return false;
        }
        let asked = Python::attach(|py| {
            let card = Card::new(SharedCard::new(Arc::clone(card), Some(Arc::clone(&bus)), None));
            condition.call1(py, (card,))?.is_truthy(py)
        });
        asked.unwrap_or_else(|error| {
            *has_raised() = Some(error);
            false
        })
    }
}

#[pymethods]
impl Bus {
    #[new]
    #[pyo3(signature = (broker = None, *, cards = None, wait = None, isolate = false))]
    fn new(
        py: Python<'_>,
        broker: Option<PathBuf>,
        cards: Option<Vec<String>>,
        wait: Option<f64>,
        isolate: bool,
    ) -> PyResult<Self> {
        let mut options = BusOptions::default().isolate(isolate);
        if let Some(path) = broker {
            options = options.broker(path);
        }
        for card in cards.into_iter().flatten() {
            options = options.card(card.parse().or_raise()?);
        }
        if let Some(wait) = seconds(wait)? {
            options = options.wait(wait);
        }
        Ok(Self { shared: opened(py, options, isolate)? })
    }

    /// The cards that can be used.
    fn cards(&self) -> PyResult<Vec<CardInfo>> {
        infos(&self.shared)
    }

    /// Opens the card for which all is true that is said; the only one if nothing is.
    #[pyo3(signature = (selector = None, *, board = None, serial = None, dna = None, r#where = None))]
    fn open(
        &self,
        py: Python<'_>,
        selector: Option<String>,
        board: Option<String>,
        serial: Option<Serial>,
        dna: Option<String>,
        r#where: Option<Py<PyAny>>,
    ) -> PyResult<Card> {
        card(py, &self.shared, Wish { selector, board, serial, dna, condition: r#where })
    }

    /// Memory that every card of the bus sees.
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
        let bus = self.shared.slot.get().or_raise()?;
        let buffer = buffer::make(py, || bus.dma_buffer(request))?;
        Ok(Buffer::of_bus(buffer, &self.shared))
    }

    /// Offers a buffer to other processes, and says by which token.
    #[pyo3(signature = (buffer, *, name = None, writable = false))]
    fn share(&self, buffer: &Buffer, name: Option<String>, writable: bool) -> PyResult<String> {
        let offer = if writable { Offer::to_writers() } else { Offer::to_readers() };
        let offer = match name {
            Some(name) => offer.named(name),
            None => offer,
        };
        let (bus, memory) = (self.shared.slot.get().or_raise()?, buffer.memory());
        let token = bus.share(&*memory.slot.get().or_raise()?, offer).or_raise()?;
        memory.set_shared();
        Ok(token.to_string())
    }

    /// Ends an offer.
    fn unshare(&self, buffer: &Buffer) -> PyResult<()> {
        self.shared.slot.get().or_raise()?.unshare(&*buffer.memory().slot.get().or_raise()?).or_raise()
    }

    /// A buffer that another process offers to writers.
    #[pyo3(signature = (name = None, *, token = None))]
    fn attach(&self, py: Python<'_>, name: Option<&str>, token: Option<&str>) -> PyResult<Buffer> {
        let offered = offered(name, token).or_raise()?;
        let bus = self.shared.slot.get().or_raise()?;
        let buffer = buffer::make(py, || bus.attach(offered))?;
        let buffer = Buffer::of_bus(buffer, &self.shared);
        buffer.memory().set_shared();
        Ok(buffer)
    }

    /// A stream that another process captures into a ring that it offers.
    #[pyo3(signature = (name = None, *, token = None))]
    fn ring(&self, py: Python<'_>, name: Option<&str>, token: Option<&str>) -> PyResult<Ring> {
        let offered = offered(name, token).or_raise()?;
        let bus = self.shared.slot.get().or_raise()?;
        let view = py.detach(|| bus.view(offered)).or_raise()?;
        Ring::new(view)
    }

    /// Hears of cards that arrive and leave.
    fn watch(&self, py: Python<'_>) -> PyResult<Watch> {
        let bus = self.shared.slot.get().or_raise()?;
        Ok(Watch::new(aside(py, move || bus.watch())?))
    }

    /// Process id of the broker that owns the cards; None if this process owns them.
    #[getter]
    fn broker(&self) -> PyResult<Option<u32>> {
        Ok(self.shared.slot.get().or_raise()?.broker())
    }

    /// Who uses what, as the broker knows.
    fn usage(&self, py: Python<'_>) -> PyResult<Vec<Usage>> {
        let bus = self.shared.slot.get().or_raise()?;
        let usage = py.detach(|| bus.usage()).or_raise()?;
        let usage = usage.into_iter().map(|usage| Usage {
            pid: usage.pid,
            program: usage.program,
            cards: usage.cards,
            leases: usage.leases,
            waits: usage.waits,
            buffers: usage.buffers,
            buffer_bytes: usage.buffer_bytes,
        });
        Ok(usage.collect())
    }

    /// Lets go of the bus. Cards and buffers of it stay open.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.shared.slot.check().or_raise()?;
        let bus = self.shared.slot.take();
        py.detach(|| drop(bus));
        Ok(())
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, PyAny>) -> PyResult<()> {
        // A child leaves what is its parent's alone.
        if self.shared.slot.check().is_ok() { self.close(py) } else { Ok(()) }
    }

    fn __repr__(&self) -> String {
        let words = self.shared.slot.with(|bus| match bus.broker() {
            Some(pid) => format!("by the broker of pid {pid}"),
            None => "of this process's own".to_owned(),
        });
        format!("<jitney.Bus {}>", words.unwrap_or_else(|_| "closed".to_owned()))
    }
}
