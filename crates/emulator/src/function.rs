//! The seam inside an emulated board: a PCI function and the host it is plugged into.
//!
//! The server side (`server`, `host`) knows vfio-user, connections, DMA maps and interrupt descriptors; the device
//! side (`boards`, `xdma`, `xadc`, …) knows data sheets. They meet in the two traits of this file and nowhere else.

use jitney_memory::{Mapping, Memfd};
use std::fmt;

/// A PCI function as the server presents it to clients.
///
/// Methods take `&self` and are called from several connections at once.
pub trait Function: Send + Sync {
    /// What config space says about the function. Does not change while it is served.
    fn description(&self) -> &Description;

    /// Reads `data.len()` bytes (1, 2, 4 or 8, naturally aligned or not, always inside the BAR) at `offset` of BAR `bar`.
    fn read(&self, bar: usize, offset: u64, data: &mut [u8]);

    /// Writes to BAR `bar`, with the same rules as [`read`](Self::read).
    fn write(&self, bar: usize, offset: u64, data: &[u8]);

    /// The memory behind a BAR that clients may map directly, if there is any.
    fn mappable(&self, bar: usize) -> Option<Mappable<'_>>;

    /// A function-level or conventional reset: registers to their reset values, engines stopped. Card memory stays.
    ///
    /// Returns at once; an engine in the middle of data gives up within a piece of it. Called, as all methods are, without
    /// a lock that [`Host::set_interrupt`] takes: requests fall here.
    fn reset(&self);

    /// Whether the link to the card is down: then every read, of configuration space too, gives all ones, and writes
    /// are lost.
    fn link_down(&self) -> bool {
        false
    }
}

/// Memory at the beginning of a BAR.
#[derive(Debug, Clone, Copy)]
pub struct Mappable<'a> {
    /// The file that it is a part of.
    pub file: &'a Memfd,
    /// Where in the file the BAR begins, a multiple of 4096.
    pub offset: u64,
    /// How many bytes are memory, if not the whole BAR.
    pub length: u64,
}

/// What config space says about a function; the server builds the bytes from it.
#[derive(Debug, Clone)]
pub struct Description {
    /// Vendor, device, subsystem vendor and subsystem device.
    pub ids: [u16; 4],
    /// Revision id.
    pub revision: u8,
    /// Class code: base class, sub-class, programming interface.
    pub class: [u8; 3],
    /// The six BARs; a 64-bit BAR uses its slot and the next.
    pub bars: [Option<BarDescription>; 6],
    /// How the function can interrupt.
    pub interrupts: InterruptKinds,
    /// Link speed in units of the PCIe link capability (1 = 2.5 GT/s, 2 = 5 GT/s, 3 = 8 GT/s, 4 = 16 GT/s) and width in lanes.
    pub link: (u8, u8),
    /// How many lanes the slot has, where those are fewer than the link could use: 1, 2, 4, 8, 12 or 16.
    pub slot_lanes: Option<u8>,
    /// The device serial number, if the function has that capability.
    pub serial: Option<u64>,
}

/// One BAR.
#[derive(Debug, Clone, Copy)]
pub struct BarDescription {
    /// Size in bytes, a power of two.
    pub size: u64,
    /// Uses this slot and the next one.
    pub is_64bit: bool,
    /// Marked prefetchable.
    pub prefetchable: bool,
}

/// All the ways in which a function can interrupt its host. Software enables one of them at a time; by default there is
/// none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InterruptKinds {
    /// A level-triggered line, INTA.
    pub line: bool,
    /// Messages of MSI, at most 32, offered as the next power of two; 0 if there is no MSI.
    pub msi: u16,
    /// MSI-X.
    pub msix: Option<Msix>,
}

/// The MSI-X of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Msix {
    /// How many vectors, 1 to 2048.
    pub vectors: u16,
    /// The BAR that the table and the pending bits are in.
    pub bar: u8,
    /// Where the table begins, a multiple of 8.
    pub table: u32,
    /// Where the pending bits begin, a multiple of 8.
    pub pending: u32,
}

impl InterruptKinds {
    /// How many vectors there are of a kind.
    #[must_use]
    pub fn vectors(&self, kind: InterruptKind) -> u16 {
        match kind {
            InterruptKind::None => 0,
            InterruptKind::Intx => self.line.into(),
            InterruptKind::Msi if self.msi == 0 => 0,
            InterruptKind::Msi => self.msi.min(32).next_power_of_two(),
            InterruptKind::MsiX => self.msix.map_or(0, |msix| msix.vectors),
        }
    }
}

/// A way to interrupt a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InterruptKind {
    /// None.
    None,
    /// One level-triggered line.
    Intx,
    /// Message signalled.
    Msi,
    /// Message signalled with a table.
    #[default]
    MsiX,
}

/// Whether what asks for an access still lives: `false` once the function was reset. A host looks at it when the memory
/// can no longer be taken away under the access, so that a reset which waits for accesses waits for all of them.
pub type Live<'a> = &'a dyn Fn() -> bool;

/// A range of card memory that data is moved into or out of.
#[derive(Debug, Clone, Copy)]
pub struct CardRange<'a> {
    /// The memory.
    pub memory: &'a Mapping,
    /// Where in it the range begins, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Part of so much data in a row that caches are of no use for it; it is copied faster past them.
    pub past_caches: bool,
}

impl<'a> CardRange<'a> {
    /// `length` bytes from `offset` on, copied as usual.
    #[must_use]
    pub fn new(memory: &'a Mapping, offset: u64, length: u64) -> Self {
        Self { memory, offset, length, past_caches: false }
    }

    /// Its bytes from `done` on, `length` of them.
    pub(crate) fn part(self, done: u64, length: u64) -> Self {
        Self { offset: self.offset.saturating_add(done), length, ..self }
    }
}

/// The host as a function sees it: memory by IOVA, and interrupts. Cheap to share between engine threads.
///
/// Reads are answered, and so fail where there is no memory. Writes are posted, as on PCIe: what an IOMMU refuses is
/// dropped, and nobody tells the function. A host may be asked to refuse aloud, for tests of drivers.
pub trait Host: Send + Sync {
    /// Copies from host memory at `iova` into card memory.
    ///
    /// Crosses as many maps as it needs, in bounded pieces, so that an unmap waits for one piece at most.
    fn read_to(&self, iova: u64, card: CardRange<'_>, live: Live<'_>) -> Result<(), DmaFault>;

    /// Copies card memory into host memory at `iova`; visible to the host before it returns.
    fn write_from(&self, iova: u64, card: CardRange<'_>, live: Live<'_>) -> Result<(), DmaFault>;

    /// Reads host memory into a small buffer (a descriptor).
    fn read(&self, iova: u64, bytes: &mut [u8], live: Live<'_>) -> Result<(), DmaFault>;

    /// Writes a small buffer to host memory (a length slot).
    fn write(&self, iova: u64, bytes: &[u8], live: Live<'_>) -> Result<(), DmaFault>;

    /// Writes to host memory what is part of so much data in a row that caches are of no use for it; faster there.
    fn write_past_caches(&self, iova: u64, bytes: &[u8], live: Live<'_>) -> Result<(), DmaFault> {
        self.write(iova, bytes, live)
    }

    /// Writes one aligned 32-bit word with release ordering: everything written before is visible to whoever sees it.
    fn write_word(&self, iova: u64, value: u32, live: Live<'_>) -> Result<(), DmaFault>;

    /// Sets the level of an interrupt vector's request. A request that rises fires the vector's eventfd, or is kept until
    /// one is armed and unmasked; level semantics as PG195's IRQ block needs them.
    ///
    /// Vectors are numbered as with MSI-X. With fewer messages of MSI than that, a vector has the one that the low bits of
    /// its number name, because those bits are what such a message carries; the line is up while any vector is.
    fn set_interrupt(&self, vector: u16, requested: bool);

    /// Whether a vector's request is up and has not reached the host yet.
    fn interrupt_pending(&self, vector: u16) -> bool {
        let _ = vector;
        false
    }

    /// The largest packets that software allows the function to send.
    fn packet_sizes(&self) -> PacketSizes {
        PacketSizes::default()
    }

    /// The kind of interrupt that software has enabled.
    fn interrupt_kind(&self) -> InterruptKind {
        InterruptKind::MsiX
    }

    /// Whether the driver has set Bus Master Enable. Without it, reads fail, writes are dropped and messages are held back.
    fn bus_master(&self) -> bool;
}

/// The largest packets of a function (PCIe, "Device Control"), in bytes: powers of two from 128 to 4096.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketSizes {
    /// Of data in one packet (Max_Payload_Size).
    pub payload: u32,
    /// Of data that one read asks for (Max_Read_Request_Size).
    pub read_request: u32,
}

impl Default for PacketSizes {
    /// What PCs set for these boards: 256 bytes of payload, 512 of a read request.
    fn default() -> Self {
        Self { payload: 256, read_request: 512 }
    }
}

/// Why a DMA failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DmaFault {
    /// No map covers this IOVA, or not with this direction.
    Unmapped {
        /// The first address that could not be reached.
        iova: u64,
    },
    /// Bus Master Enable is off.
    BusMasterOff,
    /// What asked for it does not live any more.
    Stopped,
}

impl fmt::Display for DmaFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unmapped { iova } => write!(f, "IOVA {iova:#x} is not mapped for this access"),
            Self::BusMasterOff => f.write_str("Bus Master Enable is off in the PCI command register"),
            Self::Stopped => f.write_str("the function was reset"),
        }
    }
}
impl std::error::Error for DmaFault {}
