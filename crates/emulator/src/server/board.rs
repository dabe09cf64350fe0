//! One board as all its connections see it: regions, resets, and who has it open.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::mapper::{MapperRole, Ticket};
use super::msix::MsixTable;
use crate::config_space::{self, ConfigSpace};
use crate::function::{Function, InterruptKind};
use crate::host::{BoardHost, ConnectionId, Link, Range};

/// Regions of a PCI device: `VFIO_PCI_*_REGION_INDEX` of linux/vfio.h.
pub(crate) const CONFIG_REGION: u32 = 7;
/// How many there are.
pub(crate) const REGIONS: u32 = 9;

/// How long a client that opens the board waits until those that have hung up are cleared away.
const FAREWELL: Duration = Duration::from_secs(1);

/// A connection that has the board open.
struct Opening {
    id: ConnectionId,
    link: Arc<Link>,
}

/// A connection as it comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// Its number.
    pub(crate) id: ConnectionId,
    ticket: Ticket,
}

/// The board.
pub(crate) struct Board {
    function: Arc<dyn Function>,
    host: Arc<BoardHost>,
    config: Mutex<ConfigSpace>,
    /// Whether the function answers at its BARs, as configuration space has it.
    answers: AtomicBool,
    msix: Option<MsixTable>,
    open: Mutex<Vec<Opening>>,
    closed: Condvar,
    mapper: MapperRole,
    next: AtomicU64,
}

impl Board {
    /// A function and the host it is plugged into; says what is wrong with what the function describes.
    pub(crate) fn new(function: Arc<dyn Function>, host: Arc<BoardHost>) -> Result<Self, &'static str> {
        let config = ConfigSpace::new(function.description())?;
        let msix = MsixTable::new(function.description());
        Ok(Self {
            function,
            host,
            answers: AtomicBool::new(config.memory_space()),
            config: Mutex::new(config),
            msix,
            open: Mutex::new(Vec::new()),
            closed: Condvar::new(),
            mapper: MapperRole::default(),
            next: AtomicU64::new(0),
        })
    }

    /// The function.
    pub(crate) fn function(&self) -> &dyn Function {
        &*self.function
    }

    /// Its host.
    pub(crate) fn host(&self) -> &BoardHost {
        &self.host
    }

    /// A connection has come: its number, and whether it may become the one that maps.
    pub(crate) fn arrival(&self, link: &Link) -> Arrival {
        let id = ConnectionId(self.next.fetch_add(1, Ordering::Relaxed));
        self.host.introduce(id, link.client());
        Arrival { id, ticket: self.mapper.ticket() }
    }

    fn openings(&self) -> MutexGuard<'_, Vec<Opening>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn config(&self) -> MutexGuard<'_, ConfigSpace> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client opens the board; answers whether it is the one that maps memory.
    ///
    /// Whoever closed it before, and be it only an instant ago, is cleared away first: a program that opens what
    /// another has just closed finds the function reset, as with a kernel's device.
    pub(crate) fn open(&self, arrival: Arrival, link: &Arc<Link>) -> bool {
        let deadline = Instant::now() + FAREWELL;
        let mut open = self.openings();
        while open.iter().any(|opening| opening.link.hung_up()) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            (open, _) = self.closed.wait_timeout(open, left).unwrap_or_else(PoisonError::into_inner);
        }
        open.push(Opening { id: arrival.id, link: Arc::clone(link) });
        self.mapper.claim(arrival.id, link, arrival.ticket)
    }

    /// A connection has ended: what it brought goes with it, and the last one that had the board open resets it.
    pub(crate) fn close(&self, id: ConnectionId) {
        let mut open = self.openings();
        let before = open.len();
        // The function stops before its memory goes, or the engines would only see that as a fault.
        if before == 1 && open[0].id == id {
            self.reset();
        }
        self.host.release(id);
        self.mapper.leave(id);
        open.retain(|opening| opening.id != id);
        self.closed.notify_all();
    }

    /// Resets the function, and returns when nothing that it had begun touches memory any more.
    pub(crate) fn reset(&self) {
        self.function.reset();
        let mut config = self.config();
        config.reset();
        self.apply(&config);
        drop(config);
        self.host.settle(Range::ALL);
        if let Some(table) = &self.msix {
            table.reset();
        }
    }

    /// Whether the function answers at its BARs. What a client has mapped of them answers in any case.
    fn answers(&self) -> bool {
        self.answers.load(Ordering::SeqCst)
    }

    /// Lets what software has set in configuration space take effect.
    fn apply(&self, config: &ConfigSpace) {
        self.answers.store(config.memory_space(), Ordering::SeqCst);
        self.host.set_bus_master(config.bus_master());
        self.host.set_packet_sizes(config.packet_sizes());
        self.host.interrupts().disable_line(config.line_disabled());
    }

    /// Length of a region in bytes; 0 if the function does not have it.
    pub(crate) fn region_size(&self, region: u32) -> u64 {
        match usize::try_from(region) {
            Ok(bar @ 0..=5) => self.function.description().bars[bar].map_or(0, |bar| bar.size),
            Ok(_) if region == CONFIG_REGION => config_space::SIZE as u64,
            _ => 0,
        }
    }

    /// How many interrupts of a VFIO index there are, and of which kind.
    pub(crate) fn interrupts(&self, index: u32) -> (InterruptKind, u32) {
        let kind = match index {
            0 => InterruptKind::Intx,
            1 => InterruptKind::Msi,
            2 => InterruptKind::MsiX,
            _ => InterruptKind::None,
        };
        (kind, self.function.description().interrupts.vectors(kind).into())
    }

    /// Reads from a region.
    pub(crate) fn read(&self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        let bar = self.check(region, offset, data.len())?;
        if self.function.link_down() || (bar.is_some() && !self.answers()) {
            data.fill(0xFF);
        } else if let Some(bar) = bar {
            for (at, length) in accesses(offset, data.len()) {
                let part = &mut data[at..at + length];
                let offset = offset + at as u64;
                let in_table = self
                    .msix
                    .as_ref()
                    .is_some_and(|msix| msix.read(bar, offset, part, self.host.interrupts()));
                if !in_table {
                    self.function.read(bar, offset, part);
                }
            }
        } else {
            let line_up = self.function.description().interrupts.line && self.host.interrupts().line_up();
            self.config().read(offset, data, line_up).ok_or(Errno::INVAL)?;
        }
        Ok(())
    }

    /// Writes to a region.
    pub(crate) fn write(&self, region: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let bar = self.check(region, offset, data.len())?;
        if self.function.link_down() {
            return Ok(());
        }
        if let Some(bar) = bar {
            if !self.answers() {
                return Ok(());
            }
            for (at, length) in accesses(offset, data.len()) {
                let part = &data[at..at + length];
                let offset = offset + at as u64;
                if !self.msix.as_ref().is_some_and(|msix| msix.write(bar, offset, part)) {
                    self.function.write(bar, offset, part);
                }
            }
            return Ok(());
        }
        let mut config = self.config();
        let reset = config.write(offset, data).ok_or(Errno::INVAL)?;
        self.apply(&config);
        drop(config);
        if reset {
            self.reset();
        }
        Ok(())
    }

    /// The BAR that a region is, `None` for configuration space, if the range lies in it.
    fn check(&self, region: u32, offset: u64, length: usize) -> Result<Option<usize>, Errno> {
        let end = offset.checked_add(length as u64).ok_or(Errno::INVAL)?;
        if end > self.region_size(region) {
            return Err(Errno::INVAL);
        }
        match usize::try_from(region) {
            Ok(bar @ 0..=5) => Ok(Some(bar)),
            Ok(_) if region == CONFIG_REGION => Ok(None),
            _ => Err(Errno::INVAL),
        }
    }
}

/// Cuts an access into those that a bus can do: of 1, 2, 4 or 8 bytes as they come, others as aligned words and what
/// is left at their ends.
fn accesses(offset: u64, length: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let left = length - at;
        if left == 0 {
            return None;
        }
        let size = if at == 0 && matches!(length, 1 | 2 | 4 | 8) {
            length
        } else {
            let place = offset + at as u64;
            [4, 2, 1]
                .into_iter()
                .find(|size| *size <= left && place.is_multiple_of(*size as u64))
                .unwrap_or(1)
        };
        at += size;
        Some((at - size, size))
    })
}

#[cfg(test)]
mod tests {
    use super::accesses;

    #[test]
    fn accesses_are_those_of_a_bus() {
        let of = |offset, length| accesses(offset, length).collect::<Vec<_>>();
        assert_eq!(of(0x40, 4), [(0, 4)]);
        assert_eq!(of(0x41, 8), [(0, 8)]);
        assert_eq!(of(0x40, 0), []);
        assert_eq!(of(0x41, 7), [(0, 1), (1, 2), (3, 4)]);
        assert_eq!(of(0x40, 11), [(0, 4), (4, 4), (8, 2), (10, 1)]);
    }
}
