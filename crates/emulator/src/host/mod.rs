//! The host that a function is plugged into: the memory of all its clients by IOVA, and their interrupts.
//!
//! A copy goes in bursts of a few MiB. Each burst is looked up and entered as a *flight* under one short lock, copied
//! without it, and signed off. An unmap first takes its maps out of the table, so that no later burst finds them, and then
//! waits for the flights that touch its range: one burst at most, and nothing if the engines are elsewhere.
//!
//! Like a root complex with an IOMMU, it answers a read of memory that is not there with an error, and drops a write.

mod client_memory;
mod dma_table;
mod files;
mod interrupts;
mod link;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use jitney_memory::AccessError;
use rustix::io::Errno;

use client_memory::{ClientMemory, CopyError};
pub(crate) use dma_table::{Allowed, ConnectionId, Range};
use dma_table::{Direction, DmaTable, Piece, TableError};
use files::Files;
pub(crate) use interrupts::Interrupts;
pub(crate) use link::Link;

use crate::function::{CardRange, DmaFault, Host, InterruptKind, Live, PacketSizes};
use crate::limited::warn_limited;

/// Most bytes in one burst: what an unmap may have to wait for.
const BURST: u64 = 2 << 20;
/// Most maps that one burst crosses: as many as there are pages of 4 KiB in it.
const BURST_PIECES: u64 = BURST >> 12;

/// Where a map leads.
#[derive(Debug, Clone)]
enum Backing {
    /// To `offset` bytes and more of a file.
    File { memory: Arc<ClientMemory>, offset: u64 },
    /// To memory that only the client can reach, by messages.
    Client(Arc<Link>),
}

/// A burst that is being copied.
#[derive(Debug)]
struct Flight {
    id: u64,
    range: Range,
}

#[derive(Debug)]
struct Dma {
    table: DmaTable<Backing>,
    files: Files,
    flights: Vec<Flight>,
    /// Id of the next flight; ids only grow.
    next: u64,
    /// How many threads wait for flights to end.
    waiting: usize,
}

/// In what a host is kinder than hardware.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Kindness {
    /// Writes that are refused are errors, and not dropped.
    pub(crate) strict_writes: bool,
    /// DMA and messages need no Bus Master Enable.
    pub(crate) ignore_bus_master: bool,
}

/// The host side of one board.
#[derive(Debug)]
pub(crate) struct BoardHost {
    kindness: Kindness,
    /// Bytes of posted writes that were dropped.
    dropped: AtomicU64,
    dma: Mutex<Dma>,
    landed: Condvar,
    interrupts: Interrupts,
    /// Who the connections are, for messages.
    clients: Mutex<HashMap<ConnectionId, String>>,
    bus_master: AtomicBool,
    /// Bytes of payload, and of a read request.
    packet_sizes: [AtomicU32; 2],
}

impl BoardHost {
    /// No memory, no interrupts, Bus Master Enable off.
    pub(crate) fn new(kindness: Kindness) -> Self {
        let dma =
            Dma { table: DmaTable::new(), files: Files::default(), flights: Vec::new(), next: 0, waiting: 0 };
        let interrupts = Interrupts::new();
        let sizes = PacketSizes::default();
        interrupts.hold_messages(!kindness.ignore_bus_master);
        Self {
            kindness,
            dropped: AtomicU64::new(0),
            dma: Mutex::new(dma),
            landed: Condvar::new(),
            interrupts,
            clients: Mutex::default(),
            bus_master: AtomicBool::new(false),
            packet_sizes: [sizes.payload, sizes.read_request].map(AtomicU32::new),
        }
    }

    fn dma(&self) -> MutexGuard<'_, Dma> {
        // Nothing that holds the lock leaves the table half changed, so a panic elsewhere does not spoil it.
        self.dma.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection has come; `client` says in messages whose it is.
    pub(crate) fn introduce(&self, connection: ConnectionId, client: &str) {
        self.clients().insert(connection, client.to_owned());
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<ConnectionId, String>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose a map is.
    fn client(&self, owner: ConnectionId) -> String {
        self.clients().get(&owner).cloned().unwrap_or_else(|| format!("connection {}", owner.0))
    }

    /// The wires to the clients.
    pub(crate) fn interrupts(&self) -> &Interrupts {
        &self.interrupts
    }

    /// Follows Bus Master Enable of the command register. Once it is off and this has returned, no access is under way.
    pub(crate) fn set_bus_master(&self, enabled: bool) {
        let before = self.bus_master.swap(enabled, Ordering::AcqRel);
        if before != enabled && !self.kindness.ignore_bus_master {
            self.interrupts.hold_messages(!enabled);
            if !enabled {
                self.settle(Range::ALL);
            }
        }
    }

    /// Follows the packet sizes of the device control register.
    pub(crate) fn set_packet_sizes(&self, sizes: PacketSizes) {
        self.packet_sizes[0].store(sizes.payload, Ordering::Relaxed);
        self.packet_sizes[1].store(sizes.read_request, Ordering::Relaxed);
    }

    /// Bytes of posted writes that were dropped so far.
    #[cfg(test)]
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Maps `range` to `offset` of a client's file.
    pub(crate) fn map_file(
        &self,
        range: Range,
        allowed: Allowed,
        owner: ConnectionId,
        file: &OwnedFd,
        offset: u64,
    ) -> Result<(), Errno> {
        let mut dma = self.dma();
        // The size of a range that is not all of 2^64 fits; a file that large does not exist.
        let size = (range.last - range.first).checked_add(1).ok_or(Errno::INVAL)?;
        let memory = dma.files.map(file, offset, size, allowed)?;
        dma.table.insert(range, allowed, owner, Backing::File { memory, offset }).map_err(errno)
    }

    /// Maps `range` to memory that the client reads and writes for us.
    pub(crate) fn map_client(
        &self,
        range: Range,
        allowed: Allowed,
        owner: ConnectionId,
        link: &Arc<Link>,
    ) -> Result<(), Errno> {
        self.dma().table.insert(range, allowed, owner, Backing::Client(Arc::clone(link))).map_err(errno)
    }

    /// Removes the maps of `owner` inside `range`, and returns when nothing touches them any more.
    pub(crate) fn unmap(&self, range: Range, owner: ConnectionId) -> Result<(), Errno> {
        let gone = self.dma().table.remove(range, owner).map_err(errno)?;
        if !gone.is_empty() {
            self.settle(range);
        }
        Ok(())
    }

    /// Takes everything away that a connection brought, and returns when nothing touches it any more.
    pub(crate) fn release(&self, owner: ConnectionId) {
        let gone = self.dma().table.remove_owner(owner);
        if !gone.is_empty() {
            self.settle(Range::ALL);
        }
        self.interrupts.release(owner);
        self.clients().remove(&owner);
    }

    /// Waits until the bursts that are under way now and touch `range` have ended. Later ones are not waited for.
    pub(crate) fn settle(&self, range: Range) {
        let mut dma = self.dma();
        let until = dma.next;
        dma.waiting += 1;
        while dma.flights.iter().any(|flight| flight.id < until && flight.range.overlaps(range)) {
            dma = self.landed.wait(dma).unwrap_or_else(PoisonError::into_inner);
        }
        dma.waiting -= 1;
    }

    /// Finds the next burst and enters it; the pieces hold until the guard is dropped.
    ///
    /// Memory that only the client can reach is a burst of its own and not entered: the client's own thread would wait
    /// for it at an unmap, and be the one that has to bring the answer. The client knows what it still answers for.
    fn take_off(
        &self,
        iova: u64,
        length: u64,
        direction: Direction,
        pieces: &mut Vec<Piece<Backing>>,
    ) -> Option<Landing<'_>> {
        let mut dma = self.dma();
        dma.table.find(iova, length, direction, pieces);
        let is_client = |piece: &Piece<Backing>| matches!(piece.backing, Backing::Client(_));
        if pieces.first().is_some_and(is_client) {
            pieces.truncate(1);
            return None;
        }
        let files = pieces.iter().position(is_client).unwrap_or(pieces.len());
        pieces.truncate(files);
        let last = pieces.last()?;
        let range = Range { first: iova, last: last.iova + (last.length - 1) };
        let id = dma.next;
        dma.next += 1;
        dma.flights.push(Flight { id, range });
        Some(Landing { host: self, id })
    }

    /// Does `step` for each piece of host memory at `iova`, with its distance from there.
    ///
    /// Of a posted write, what is refused is dropped, and the rest of it arrives.
    fn transfer(
        &self,
        (iova, length): (u64, u64),
        direction: Direction,
        live: Live<'_>,
        mut step: impl FnMut(&Piece<Backing>, u64) -> Result<(), PieceError>,
    ) -> Result<(), DmaFault> {
        if length > 0 && Range::new(iova, length).is_none() {
            return Err(DmaFault::Unmapped { iova });
        }
        let posted = direction == Direction::Write && !self.kindness.strict_writes;
        let room = (length / 4096 + 2).min(BURST_PIECES);
        let mut pieces = Vec::with_capacity(usize::try_from(room).unwrap_or(1));
        let mut done = 0;
        while done < length {
            let at = iova + done;
            let burst = (length - done).min(BURST);
            pieces.clear();
            let landing = self.take_off(at, burst, direction, &mut pieces);
            // Now nothing that is waited for can be over before this ends: so it is the time to look.
            if !live() {
                return Err(DmaFault::Stopped);
            }
            if !self.is_bus_master() {
                let fault = DmaFault::BusMasterOff;
                return if posted { self.drop_write(at, length - done, &fault) } else { Err(fault) };
            }
            if pieces.is_empty() {
                let fault = DmaFault::Unmapped { iova: at };
                if !posted {
                    return Err(fault);
                }
                let gap = self.dma().table.gap(at, length - done, direction);
                // A map that was made only now is found by the next look.
                self.drop_write(at, gap, &fault)?;
                done += gap;
                continue;
            }
            for piece in &pieces {
                match step(piece, done) {
                    Err(error) if posted => {
                        let client = self.client(piece.owner);
                        let why = format!("memory of {client} cannot be written: {error}");
                        self.drop_write(piece.iova, piece.length, &why)?;
                    }
                    Err(error) => {
                        let client = self.client(piece.owner);
                        warn_limited!(
                            "memory of {client} cannot be used, at IOVA {:#x}: {error}",
                            piece.iova
                        );
                        return Err(DmaFault::Unmapped { iova: piece.iova });
                    }
                    Ok(()) => {}
                }
                done += piece.length;
            }
            drop(landing);
        }
        Ok(())
    }

    /// Writes to host memory, and to that of files by `write`.
    fn write_by(
        &self,
        write: impl Fn(&ClientMemory, u64, &[u8]) -> Result<(), CopyError>,
        iova: u64,
        bytes: &[u8],
        live: Live<'_>,
    ) -> Result<(), DmaFault> {
        self.transfer((iova, bytes.len() as u64), Direction::Write, live, |piece, done| {
            let part = &bytes[size(done)..][..size(piece.length)];
            match &piece.backing {
                Backing::File { memory, offset } => Ok(write(memory, offset + piece.offset, part)?),
                Backing::Client(link) => Ok(link.write(piece.iova, part)?),
            }
        })
    }

    fn is_bus_master(&self) -> bool {
        self.kindness.ignore_bus_master || self.bus_master.load(Ordering::Acquire)
    }

    /// A posted write is refused: the function does not hear of it.
    #[expect(clippy::unnecessary_wraps, reason = "for a function, this is success")]
    fn drop_write(&self, iova: u64, length: u64, why: &dyn std::fmt::Display) -> Result<(), DmaFault> {
        if length > 0 {
            let dropped = self.dropped.fetch_add(length, Ordering::Relaxed).saturating_add(length);
            warn_limited!(dropped, "a posted write of {length} bytes to IOVA {iova:#x} is dropped: {why}");
        }
        Ok(())
    }
}

/// Signs a flight off.
struct Landing<'a> {
    host: &'a BoardHost,
    id: u64,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        let mut dma = self.host.dma();
        dma.flights.retain(|flight| flight.id != self.id);
        if dma.waiting > 0 {
            self.host.landed.notify_all();
        }
    }
}

/// Why a piece could not be copied although a map was there.
#[derive(Debug, thiserror::Error)]
enum PieceError {
    #[error(transparent)]
    Memory(#[from] CopyError),
    #[error(transparent)]
    Card(#[from] AccessError),
    #[error("the client did not do it: {0}")]
    Client(#[from] link::LinkError),
}

impl Host for BoardHost {
    fn read_to(&self, iova: u64, card: CardRange<'_>, live: Live<'_>) -> Result<(), DmaFault> {
        self.transfer((iova, card.length), Direction::Read, live, |piece, done| {
            let part = card.part(done, piece.length);
            match &piece.backing {
                Backing::File { memory, offset } => Ok(memory.copy_to(offset + piece.offset, part)?),
                Backing::Client(link) => {
                    let mut bytes = vec![0; size(piece.length)];
                    link.read(piece.iova, &mut bytes)?;
                    Ok(card.memory.write(part.offset, &bytes)?)
                }
            }
        })
    }

    fn write_from(&self, iova: u64, card: CardRange<'_>, live: Live<'_>) -> Result<(), DmaFault> {
        self.transfer((iova, card.length), Direction::Write, live, |piece, done| {
            let part = card.part(done, piece.length);
            match &piece.backing {
                Backing::File { memory, offset } => Ok(memory.copy_from(offset + piece.offset, part)?),
                Backing::Client(link) => {
                    let mut bytes = vec![0; size(piece.length)];
                    card.memory.read(part.offset, &mut bytes)?;
                    Ok(link.write(piece.iova, &bytes)?)
                }
            }
        })
    }

    fn read(&self, iova: u64, bytes: &mut [u8], live: Live<'_>) -> Result<(), DmaFault> {
        self.transfer((iova, bytes.len() as u64), Direction::Read, live, |piece, done| {
            let part = &mut bytes[size(done)..][..size(piece.length)];
            match &piece.backing {
                Backing::File { memory, offset } => Ok(memory.read(offset + piece.offset, part)?),
                Backing::Client(link) => Ok(link.read(piece.iova, part)?),
            }
        })
    }

    fn write(&self, iova: u64, bytes: &[u8], live: Live<'_>) -> Result<(), DmaFault> {
        self.write_by(ClientMemory::write, iova, bytes, live)
    }

    fn write_past_caches(&self, iova: u64, bytes: &[u8], live: Live<'_>) -> Result<(), DmaFault> {
        self.write_by(ClientMemory::write_past_caches, iova, bytes, live)
    }

    fn write_word(&self, iova: u64, value: u32, live: Live<'_>) -> Result<(), DmaFault> {
        let bytes = value.to_le_bytes();
        self.transfer((iova, 4), Direction::Write, live, |piece, done| {
            let part = &bytes[size(done)..][..size(piece.length)];
            match &piece.backing {
                Backing::File { memory, offset } => Ok(memory.write_word(offset + piece.offset, part)?),
                Backing::Client(link) => Ok(link.write(piece.iova, part)?),
            }
        })
    }

    fn set_interrupt(&self, vector: u16, requested: bool) {
        self.interrupts.set(vector, requested);
    }

    fn interrupt_pending(&self, vector: u16) -> bool {
        self.interrupts.pending(vector)
    }

    fn packet_sizes(&self) -> PacketSizes {
        let [payload, read_request] = &self.packet_sizes;
        PacketSizes {
            payload: payload.load(Ordering::Relaxed),
            read_request: read_request.load(Ordering::Relaxed),
        }
    }

    fn interrupt_kind(&self) -> InterruptKind {
        self.interrupts.kind()
    }

    fn bus_master(&self) -> bool {
        self.bus_master.load(Ordering::Acquire)
    }
}

/// Lengths within a burst or a slice, which always fit.
fn size(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

fn errno(error: TableError) -> Errno {
    match error {
        TableError::Exists => Errno::EXIST,
        TableError::Full => Errno::NOSPC,
        TableError::Foreign => Errno::PERM,
        TableError::Cut => Errno::INVAL,
    }
}

#[cfg(test)]
mod tests;
