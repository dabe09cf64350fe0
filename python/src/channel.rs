//! `jitney.H2c` and `jitney.C2h`: DMA channels.

use crate::capture::Capture;
use crate::failure::{Failure, OrRaise};
use crate::memory::{Array, Bytes};
use crate::pieces::{Data, single, start, too_far};
use crate::transfer::{Completed, Transfer, finish};
use crate::wait::seconds;
use jitney::vfio::{DmaBuffer, DmaRequest};
use jitney::xdma::{self, Channel, Direction, Overrun, Pending, Piece};
use jitney_faces::{Child, Flight, Kind, SharedCard, Slot};
use pyo3::prelude::*;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// The most bytes of a channel's own buffer, through which bytes go that are not in DMA memory.
const STAGING: u64 = 1 << 20;

/// What there is to know about a channel.
#[pyclass(module = "jitney", frozen, get_all)]
pub(crate) struct ChannelInfo {
    /// `h2c0`, `c2h1`.
    name: String,
    /// `h2c` or `c2h`.
    direction: &'static str,
    /// Its number, from 0 in each direction.
    index: u8,
    /// Whether it has a stream on the card's side, not memory.
    stream: bool,
}

impl ChannelInfo {
    pub(crate) fn new(info: &xdma::ChannelInfo) -> Self {
        let direction = match info.direction {
            Direction::HostToCard => "h2c",
            Direction::CardToHost => "c2h",
        };
        Self { name: info.to_string(), direction, index: info.index, stream: info.stream }
    }
}

#[pymethods]
impl ChannelInfo {
    fn __repr__(&self) -> String {
        format!("<jitney.ChannelInfo {}{}>", self.name, if self.stream { ", a stream" } else { "" })
    }
}

/// How a channel is to be.
pub(crate) struct Options {
    wait: Wait,
    timeout: Option<Duration>,
    depth: Option<u32>,
    align: Option<u64>,
    longest: Option<u32>,
}

enum Wait {
    Poll,
    Interrupt,
    Adaptive,
}

impl Options {
    pub(crate) fn new(
        wait: &str,
        timeout: Option<f64>,
        depth: Option<u32>,
        align: Option<u64>,
        longest: Option<u32>,
    ) -> PyResult<Self> {
        let wait = match wait {
            "poll" => Wait::Poll,
            "interrupt" => Wait::Interrupt,
            "adaptive" => Wait::Adaptive,
            other => {
                let what = format!("nobody waits by {other:?}; use \"poll\", \"interrupt\" or \"adaptive\"");
                return Err(Failure::invalid(what).into());
            }
        };
        Ok(Self { wait, timeout: seconds(timeout)?, depth, align, longest })
    }

    /// The channel with these options.
    pub(crate) fn apply<D>(self, mut channel: Channel<D>) -> Result<Channel<D>, xdma::Error> {
        if let Some(align) = self.align {
            channel = channel.aligned(align);
        }
        if let Some(longest) = self.longest {
            channel = channel.descriptors_of_at_most(longest);
        }
        if let Some(depth) = self.depth {
            channel = channel.with_depth(depth)?;
        }
        if let Some(timeout) = self.timeout {
            channel = channel.with_timeout(timeout);
        }
        match self.wait {
            Wait::Poll => Ok(channel),
            Wait::Interrupt => channel.by_interrupt(),
            Wait::Adaptive => channel.adaptive(),
        }
    }
}

/// A channel, and memory for what is in no DMA buffer.
struct Open<D> {
    channel: Channel<D>,
    staging: Mutex<Option<DmaBuffer>>,
}

/// A channel as its card has it, too.
struct Kept<D> {
    slot: Slot<Open<D>>,
    /// Transfers whose handles are a program's; each keeps the lease until it has ended.
    flights: Mutex<Vec<Weak<Flight>>>,
}

impl<D> Kept<D> {
    /// The handle of a transfer. It ends with the card also where nobody has the channel any more.
    fn flight(&self, pending: Pending, name: &str, card: &SharedCard) -> Transfer {
        let flight = Flight::new(pending, name);
        card.adopt(&(Arc::clone(&flight) as Arc<dyn Child>));
        let mut flights = lock(&self.flights);
        if flights.len() == flights.capacity() {
            flights.retain(|flight| flight.strong_count() > 0);
        }
        flights.push(Arc::downgrade(&flight));
        Transfer::new(flight)
    }
}

impl<D> Child for Kept<D> {
    fn shut(&self) {
        let Some(open) = self.slot.take() else { return };
        // Those that other threads wait for, too.
        let _ = open.channel.cancel_all();
        let flights = std::mem::take(&mut *lock(&self.flights));
        flights.iter().filter_map(Weak::upgrade).for_each(|flight| flight.shut());
    }
}

/// A channel as both classes have it.
struct Shared<D> {
    kept: Arc<Kept<D>>,
    card: Arc<SharedCard>,
    name: String,
    stream: bool,
}

impl<D: 'static> Shared<D> {
    fn new(channel: Channel<D>, card: &Arc<SharedCard>) -> Self {
        let (name, stream) = (channel.info().to_string(), channel.info().stream);
        let open = Open { channel, staging: Mutex::new(None) };
        let slot = Slot::new("the channel", Arc::new(open));
        let kept = Arc::new(Kept { slot, flights: Mutex::new(Vec::new()) });
        card.adopt(&(Arc::clone(&kept) as Arc<dyn Child>));
        Self { kept, card: Arc::clone(card), name, stream }
    }

    /// The channel's own buffer of at least `size` bytes. It is taken from the channel, so that two threads do not have the same;
    /// [`give_back`](Self::give_back) is for when no transfer has it.
    fn staging(&self, open: &Open<D>, size: u64) -> Result<DmaBuffer, Failure> {
        match lock(&open.staging).take() {
            Some(buffer) if buffer.size() >= size => Ok(buffer),
            _ => {
                let request = DmaRequest::new(size).below(open.channel.limits().top());
                Ok(self.card.slot.get()?.dma_buffer(request)?)
            }
        }
    }

    fn give_back(&self, open: &Open<D>, buffer: DmaBuffer) {
        if buffer.size() <= STAGING {
            *lock(&open.staging) = Some(buffer);
        }
    }

    /// What comes of a transfer that was started here, and ends if a signal ends the wait.
    fn run(&self, py: Python<'_>, pending: Result<Pending, xdma::Error>) -> PyResult<xdma::Completed> {
        let done = finish(py, &pending.or_raise()?, None)?;
        done.ok_or_else(|| Failure::timed_out(&self.name).into())
    }

    /// The longest of the [`pieces`](Self::pieces) of `length` bytes, of which there are some.
    fn piece(&self, length: usize) -> Result<u64, Failure> {
        match length as u64 {
            0 => Err(Failure::invalid(format!("{}: there are no bytes to move", self.name))),
            length if self.stream => Ok(length),
            length => Ok(length.min(STAGING)),
        }
    }

    /// The pieces of `length` bytes that go through the channel's own buffer: of a stream one, as each is a packet.
    fn pieces(&self, length: usize) -> impl Iterator<Item = Range<u64>> + use<D> {
        let most = if self.stream { u64::MAX } else { STAGING };
        let (length, mut start) = (length as u64, 0_u64);
        std::iter::from_fn(move || {
            let end = start.saturating_add(most).min(length);
            let piece = (start < end).then_some(start..end);
            start = end;
            piece
        })
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.kept.slot.check().or_raise()?;
        py.detach(|| self.kept.shut());
        Ok(())
    }

    fn repr(&self, class: &str) -> String {
        let closed = if self.kept.slot.is_closed() { ", closed" } else { "" };
        format!("<jitney.{class} {} of {}{closed}>", self.name, self.card.address())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_a_stream(name: &str) -> PyErr {
    let what = format!("{name} is memory-mapped: it has no packets");
    Failure::invalid(what).remedy("use read(), or write() with an address").into()
}

/// A DMA channel to the card.
#[pyclass(module = "jitney", frozen)]
pub(crate) struct H2c(Shared<xdma::ToCard>);

impl H2c {
    pub(crate) fn new(channel: xdma::H2c, card: &Arc<SharedCard>) -> Self {
        Self(Shared::new(channel, card))
    }
}

#[pymethods]
impl H2c {
    /// `h2c0`.
    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether it has a stream on the card's side, not memory.
    #[getter]
    fn stream(&self) -> bool {
        self.0.stream
    }

    /// Writes bytes to the card's memory from address `at` on, and waits until they are there.
    #[pyo3(signature = (data, at = 0))]
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>, at: u64) -> PyResult<Completed> {
        let open = self.0.kept.slot.get().or_raise()?;
        let array = match Data::of(data, &self.0.card, at, false)? {
            Data::Pieces(pieces) => {
                return self.0.run(py, start(&open.channel, pieces)).map(Completed::new);
            }
            Data::Other(array) => array,
        };
        let mut all = Completed::none();
        let staging = self.0.staging(&open, self.0.piece(array.len())?)?;
        for piece in self.0.pieces(array.len()) {
            // Each may be too short to be waited for.
            py.check_signals()?;
            let bytes = bytes_of(py, &array, &piece);
            staging.write(0, &bytes).or_raise()?;
            let address = at.checked_add(piece.start).ok_or_else(|| too_far(&self.0.name))?;
            all.add(self.0.run(py, open.channel.submit(&staging, 0..piece.end - piece.start, address))?);
        }
        self.0.give_back(&open, staging);
        Ok(all)
    }

    /// Sends bytes as one packet of a stream, and waits until the card has taken it.
    fn send(&self, py: Python<'_>, packet: &Bound<'_, PyAny>) -> PyResult<Completed> {
        if !self.0.stream {
            return Err(not_a_stream(&self.0.name));
        }
        self.write(py, packet, 0)
    }

    /// Starts to write DMA memory to the card, and does not wait.
    #[pyo3(signature = (data, at = 0))]
    fn submit(&self, data: &Bound<'_, PyAny>, at: u64) -> PyResult<Transfer> {
        let open = self.0.kept.slot.get().or_raise()?;
        let pieces = Data::of(data, &self.0.card, at, false)?.in_place()?;
        let pending = start(&open.channel, pieces).or_raise()?;
        Ok(self.0.kept.flight(pending, &self.0.name, &self.0.card))
    }

    /// Whether it was given back.
    #[getter]
    fn closed(&self) -> bool {
        self.0.kept.slot.is_closed()
    }

    /// Stops the engine, and gives the channel back.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.0.close(py)
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, PyAny>) -> PyResult<()> {
        // A child leaves what is its parent's alone.
        if self.0.kept.slot.check().is_ok() { self.close(py) } else { Ok(()) }
    }

    fn __repr__(&self) -> String {
        self.0.repr("H2c")
    }
}

/// A DMA channel from the card.
#[pyclass(module = "jitney", frozen)]
pub(crate) struct C2h(Shared<xdma::FromCard>);

impl C2h {
    pub(crate) fn new(channel: xdma::C2h, card: &Arc<SharedCard>) -> Self {
        Self(Shared::new(channel, card))
    }

    /// Starts a transfer into DMA memory, by what the channel has on the card's side.
    fn start(&self, open: &Open<xdma::FromCard>, pieces: Vec<Piece>) -> PyResult<Pending> {
        if self.0.stream {
            let own = single(pieces, &self.0.name)?;
            open.channel.receive(&own.buffer, own.range).or_raise()
        } else {
            start(&open.channel, pieces).or_raise()
        }
    }
}

#[pymethods]
impl C2h {
    /// `c2h0`.
    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether it has a stream on the card's side, not memory.
    #[getter]
    fn stream(&self) -> bool {
        self.0.stream
    }

    /// Fills `into` with the card's memory from address `at` on, and waits until it is.
    #[pyo3(signature = (into, at = 0))]
    fn read(&self, py: Python<'_>, into: &Bound<'_, PyAny>, at: u64) -> PyResult<Completed> {
        let open = self.0.kept.slot.get().or_raise()?;
        let array = match Data::of(into, &self.0.card, at, true)? {
            Data::Pieces(pieces) => {
                return self.0.run(py, start(&open.channel, pieces)).map(Completed::new);
            }
            Data::Other(array) => array,
        };
        let mut all = Completed::none();
        let staging = self.0.staging(&open, self.0.piece(array.len())?)?;
        for piece in self.0.pieces(array.len()) {
            // Each may be too short to be waited for.
            py.check_signals()?;
            let length = piece.end - piece.start;
            let address = at.checked_add(piece.start).ok_or_else(|| too_far(&self.0.name))?;
            all.add(self.0.run(py, open.channel.submit(&staging, 0..length, address))?);
            copy_out(py, &staging, length, &array, piece.start)?;
        }
        self.0.give_back(&open, staging);
        Ok(all)
    }

    /// Receives from a stream into `into`: a packet, or as much of one as there is room for. `timeout` seconds at most, then
    /// nothing was received.
    #[pyo3(signature = (into, timeout = None))]
    fn receive(
        &self,
        py: Python<'_>,
        into: &Bound<'_, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Option<Completed>> {
        if !self.0.stream {
            return Err(not_a_stream(&self.0.name));
        }
        let (open, timeout) = (self.0.kept.slot.get().or_raise()?, seconds(timeout)?);
        let (buffer, range, array) = match Bytes::of(into, &self.0.card, true)? {
            Bytes::Dma(buffer, range) => (buffer, range, None),
            Bytes::Other(array) => {
                let length = self.0.piece(array.len())?;
                (self.0.staging(&open, length)?, 0..length, Some(array))
            }
        };
        let pending = open.channel.receive(&buffer, range).or_raise()?;
        let Some(completed) = finish(py, &pending, timeout)? else { return Ok(None) };
        if let Some(array) = array {
            copy_out(py, &buffer, completed.bytes, &array, 0)?;
            self.0.give_back(&open, buffer);
        }
        Ok(Some(Completed::new(completed)))
    }

    /// Starts to fill DMA memory, and does not wait: from the card's address `at` on, or with what comes from a stream.
    #[pyo3(signature = (into, at = 0))]
    fn submit(&self, into: &Bound<'_, PyAny>, at: u64) -> PyResult<Transfer> {
        let open = self.0.kept.slot.get().or_raise()?;
        let pieces = Data::of(into, &self.0.card, at, true)?.in_place()?;
        let pending = self.start(&open, pieces)?;
        Ok(self.0.kept.flight(pending, &self.0.name, &self.0.card))
    }

    /// Receives without an end, into a ring of blocks. The channel becomes the capture's.
    #[pyo3(signature = (blocks = 64, block_size = 65536, *, overrun = "wait"))]
    fn capture(&self, py: Python<'_>, blocks: u32, block_size: u64, overrun: &str) -> PyResult<Capture> {
        let overrun = match overrun {
            "wait" => Overrun::Wait,
            "overwrite" => Overrun::Overwrite,
            other => {
                let what = format!("there is no overrun {other:?}; use \"wait\" or \"overwrite\"");
                return Err(Failure::invalid(what).into());
            }
        };
        if !self.0.stream {
            return Err(not_a_stream(&self.0.name));
        }
        self.0.kept.slot.with(|_| ()).or_raise()?;
        let open = match self.0.kept.slot.take().map(Arc::try_unwrap) {
            Some(Ok(open)) => open,
            Some(Err(used)) => {
                self.0.kept.slot.put(used);
                let what = format!("{} is used by another thread", self.0.name);
                return Err(Failure::new(Kind::Held, what).into());
            }
            None => return Err(Failure::closed("the channel").into()),
        };
        let capture = py.detach(|| open.channel.capture(blocks, block_size, overrun)).or_raise()?;
        Ok(Capture::new(capture, &self.0.card, &self.0.name))
    }

    /// Whether it was given back.
    #[getter]
    fn closed(&self) -> bool {
        self.0.kept.slot.is_closed()
    }

    /// Stops the engine, and gives the channel back.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.0.close(py)
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, PyAny>) -> PyResult<()> {
        // A child leaves what is its parent's alone.
        if self.0.kept.slot.check().is_ok() { self.close(py) } else { Ok(()) }
    }

    fn __repr__(&self) -> String {
        self.0.repr("C2h")
    }
}

fn bytes_of(py: Python<'_>, array: &Array, piece: &Range<u64>) -> Vec<u8> {
    let number = |number| usize::try_from(number).unwrap_or(usize::MAX);
    array.read(py, number(piece.start), number(piece.end - piece.start))
}

/// Copies what a card has written to an array.
fn copy_out(py: Python<'_>, from: &DmaBuffer, length: u64, array: &Array, offset: u64) -> PyResult<()> {
    let number = |number| usize::try_from(number).unwrap_or(usize::MAX);
    let mut bytes = vec![0; number(length)];
    from.read(0, &mut bytes).or_raise()?;
    array.write(py, number(offset), &bytes);
    Ok(())
}
