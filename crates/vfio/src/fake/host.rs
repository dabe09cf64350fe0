//! What surrounds a fake card: the memory that it may reach, its interrupts, its link.

use crate::dma::DmaPlace;
use crate::error::{Error, ErrorKind, Result};
use crate::notices::Notice;
use crate::transport::{InterruptKind, MapError, Mapper};
use jitney_memory::{Access, EventFd, Mapping, Memfd};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The machine that a fake card is plugged into, as the card's model and the test see it. Clones are the same machine.
#[derive(Clone, Default)]
pub struct FakeHost {
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    maps: Mutex<BTreeMap<u64, Mapping>>,
    wires: Mutex<HashMap<(InterruptKind, u32), EventFd>>,
    link_down: AtomicBool,
    bus_master: AtomicBool,
    decode_off: AtomicBool,
    resets: AtomicU32,
}

impl FakeHost {
    /// A machine with nothing mapped and the link up.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The card reads memory at `iova`.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`] where nothing is mapped, or while bus mastering is off or the link down.
    pub fn read(&self, iova: u64, bytes: &mut [u8]) -> Result<()> {
        let mut done = 0;
        self.each_piece(iova, bytes.len(), |view, offset, length| {
            view.read(offset, &mut bytes[done..done + length])?;
            done += length;
            Ok(())
        })
    }

    /// The card writes memory at `iova`.
    ///
    /// # Errors
    /// As [`read`](Self::read); what lies before the first unmapped byte is written.
    pub fn write(&self, iova: u64, bytes: &[u8]) -> Result<()> {
        let mut done = 0;
        self.each_piece(iova, bytes.len(), |view, offset, length| {
            view.write(offset, &bytes[done..done + length])?;
            done += length;
            Ok(())
        })
    }

    /// The card fires interrupt `vector`. Returns whether anybody gets it: the vector is wired, bus mastering is on and
    /// the link up.
    pub fn fire(&self, vector: u16) -> bool {
        self.is_master() && self.signal(InterruptKind::MsiX, vector.into())
    }

    /// The machine says that somebody wants the card back, or that it has failed. Returns whether anybody gets it.
    pub fn notify(&self, notice: Notice) -> bool {
        let kind = match notice {
            Notice::Leaving => InterruptKind::Request,
            Notice::Failed => InterruptKind::Error,
        };
        self.signal(kind, 0)
    }

    /// Takes the link down or up. While it is down registers read as all-ones, writes are lost, and neither DMA nor
    /// interrupts come through.
    pub fn set_link(&self, up: bool) {
        self.state.link_down.store(!up, Ordering::Relaxed);
    }

    /// Whether the link is up.
    #[must_use]
    pub fn link(&self) -> bool {
        !self.state.link_down.load(Ordering::Relaxed)
    }

    /// What is mapped for the card, ascending.
    #[must_use]
    pub fn mapped(&self) -> Vec<DmaPlace> {
        self.maps().iter().map(|(&iova, view)| DmaPlace { iova, size: view.len() as u64 }).collect()
    }

    /// How often the card was reset.
    #[must_use]
    pub fn resets(&self) -> u32 {
        self.state.resets.load(Ordering::Relaxed)
    }

    /// Whether the card may start DMA and interrupts.
    #[must_use]
    pub fn bus_master(&self) -> bool {
        self.state.bus_master.load(Ordering::Relaxed)
    }

    pub(super) fn set_bus_master(&self, on: bool) {
        self.state.bus_master.store(on, Ordering::Relaxed);
    }

    /// Whether the card answers to the addresses of its BARs, which whoever reaches configuration space can switch off.
    #[must_use]
    pub fn memory_decode(&self) -> bool {
        !self.state.decode_off.load(Ordering::Relaxed)
    }

    pub(super) fn set_memory_decode(&self, on: bool) {
        self.state.decode_off.store(!on, Ordering::Relaxed);
    }

    pub(super) fn count_reset(&self) {
        self.state.resets.fetch_add(1, Ordering::Relaxed);
    }

    /// Wires a vector, or cuts its wire.
    pub(super) fn wire(&self, kind: InterruptKind, vector: u32, event: Option<EventFd>) {
        match event {
            Some(event) => self.wires().insert((kind, vector), event),
            None => self.wires().remove(&(kind, vector)),
        };
    }

    pub(super) fn cut_all(&self, kind: InterruptKind) {
        self.wires().retain(|(other, _), _| *other != kind);
    }

    fn signal(&self, kind: InterruptKind, vector: u32) -> bool {
        self.wires().get(&(kind, vector)).is_some_and(|wire| wire.signal().is_ok())
    }

    fn is_master(&self) -> bool {
        self.bus_master() && self.link()
    }

    /// Calls `access` with the view, the offset in it and the length of each mapped piece of a range, in order.
    fn each_piece(
        &self,
        iova: u64,
        length: usize,
        mut access: impl FnMut(&Mapping, u64, usize) -> Result<()>,
    ) -> Result<()> {
        if !self.is_master() {
            let why = if self.link() { "bus mastering is off" } else { "its link is down" };
            return Err(Error::new(ErrorKind::Denied, format!("the fake card cannot do DMA: {why}")));
        }
        let maps = self.maps();
        let (mut at, mut left) = (iova, length);
        while left > 0 {
            let found =
                maps.range(..=at).next_back().filter(|(start, view)| at - **start < view.len() as u64);
            let Some((&start, view)) = found else {
                let what = format!("the fake card accessed IOVA {at:#x}, where nothing is mapped");
                return Err(Error::new(ErrorKind::Denied, what));
            };
            let offset = at - start;
            let room = usize::try_from(view.len() as u64 - offset).unwrap_or(usize::MAX);
            let piece = left.min(room);
            access(view, offset, piece)?;
            left -= piece;
            at = at.saturating_add(piece as u64);
        }
        Ok(())
    }

    fn maps(&self) -> MutexGuard<'_, BTreeMap<u64, Mapping>> {
        self.state.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wires(&self) -> MutexGuard<'_, HashMap<(InterruptKind, u32), EventFd>> {
        self.state.wires.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As strict as a kernel's: no overlap, and an unmap is for exactly one map.
impl Mapper for FakeHost {
    fn ranges(&self) -> Vec<RangeInclusive<u64>> {
        vec![0..=0xfedf_ffff, 0xfef0_0000..=(1 << 39) - 1]
    }

    fn granule(&self) -> u64 {
        4096
    }

    fn map(&self, memory: &Memfd, offset: u64, iova: u64, size: u64) -> std::result::Result<(), MapError> {
        let wrong = |kind, why| Error::new(kind, format!("mapping {size:#x} bytes at IOVA {iova:#x}: {why}"));
        let length = usize::try_from(size).map_err(|_| wrong(ErrorKind::Invalid, "too large"))?;
        let view = Mapping::shared(memory, offset, length, Access::ReadWrite)?;
        let end = iova.checked_add(size).ok_or_else(|| wrong(ErrorKind::Invalid, "it ends beyond 2^64"))?;
        let mut maps = self.maps();
        let before = maps.range(..end).next_back();
        if before.is_some_and(|(&start, other)| start + other.len() as u64 > iova) {
            return Err(wrong(ErrorKind::Held, "something is mapped there already").into());
        }
        maps.insert(iova, view);
        Ok(())
    }

    fn unmap(&self, iova: u64, size: u64) -> std::result::Result<(), MapError> {
        let mut maps = self.maps();
        if maps.get(&iova).is_some_and(|view| view.len() as u64 == size) {
            maps.remove(&iova);
            return Ok(());
        }
        let what = format!("unmapping {size:#x} bytes at IOVA {iova:#x}: they were not mapped as such");
        Err(Error::new(ErrorKind::NotFound, what).into())
    }
}

impl fmt::Debug for FakeHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeHost")
            .field("link", &self.link())
            .field("bus_master", &self.bus_master())
            .field("mapped", &self.mapped())
            .finish_non_exhaustive()
    }
}
