//! `jitney_bus`: the cards that a program can use, alone or by a broker.

use crate::boundary::{DONE, run};
use crate::buffer::{Buffer, BufferOptions, request};
use crate::handle::{self, object};
use crate::pointer::{Room, Text, field};
use crate::time::duration;
use jitney::BusOptions as Opening;
use jitney::broker::Offer;
use jitney::vfio::Identity;
use jitney_faces::{Failure, Reach, SharedBus, Slot, offered};
use std::ffi::{c_char, c_int};
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::Duration;

/// The cards that a program can use, whoever owns them.
#[derive(Debug)]
pub struct Bus {
    pub(crate) shared: Arc<SharedBus>,
}
object!(Bus, 0x91, "the bus");

/// How to open a bus. All zero is as usual: by `JITNEY_BROKER`, `JITNEY_CARDS`, a broker that runs, or this process's own.
#[repr(C)]
#[derive(Debug)]
pub struct BusOptions {
    /// The socket of the broker to use, and of no other.
    pub broker: Text,
    /// Addresses of cards that this process is to own, with commas between them.
    pub cards: Text,
    /// How long to stand in line for what another program holds, in milliseconds, where a lease does not say so itself; below 0 for
    /// as long as it takes. 0 is as `JITNEY_WAIT` says, and without that nobody waits.
    pub wait_ms: c_int,
    /// 1 if each card that this process opens is to have an address space of its own.
    pub isolate: u32,
}

/// A card that can be opened.
#[repr(C)]
#[derive(Debug)]
pub struct CardInfo {
    /// Where it was found: a PCI address, or a board's socket.
    pub address: [c_char; 256],
    /// PCI vendor id.
    pub vendor: u16,
    /// PCI device id.
    pub device: u16,
    /// PCI subsystem vendor id.
    pub subsystem_vendor: u16,
    /// PCI subsystem device id.
    pub subsystem_device: u16,
    /// PCI revision id.
    pub revision: u8,
    /// Sizes of its BARs in bytes; 0 of one that is not there, and where the card is not open.
    pub bars: [u64; 6],
    /// How many interrupt vectors it has; 0 where the card is not open.
    pub vectors: u32,
    /// Its device serial number; 0 if it has none, and where the card is not open.
    pub serial: u64,
}

impl CardInfo {
    pub(crate) fn new(identity: &Identity) -> Self {
        Self {
            address: field(&identity.address),
            vendor: identity.vendor,
            device: identity.device,
            subsystem_vendor: identity.subsystem_vendor,
            subsystem_device: identity.subsystem_device,
            revision: identity.revision,
            bars: [0; 6],
            vectors: 0,
            serial: 0,
        }
    }
}

fn open(options: Option<&BusOptions>) -> Result<SharedBus, Failure> {
    let mut opening = Opening::default();
    let mut isolated = false;
    if let Some(options) = options {
        isolated = options.isolate != 0;
        opening = opening.isolate(isolated);
        if let Some(path) = options.broker.get("the broker's path")? {
            opening = opening.broker(path);
        }
        let cards = options.cards.get("the list of cards")?.unwrap_or_default();
        for card in cards.split(',').map(str::trim).filter(|card| !card.is_empty()) {
            opening = opening.card(card.parse()?);
        }
        if options.wait_ms != 0 {
            opening = opening.wait(duration(options.wait_ms).unwrap_or(Duration::MAX));
        }
    }
    Ok(SharedBus { slot: Slot::new("the bus", Arc::new(opening.open()?)), isolated })
}

/// Opens the cards that this program can use; `options` may be NULL. Alone, it owns them; beside a broker or under `jitney run` it
/// shares them. That there is no card at all is no error.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_bus_open(
    options: Option<&BusOptions>,
    bus: Option<&mut MaybeUninit<*mut Bus>>,
) -> c_int {
    run(|| {
        // Before the broker, or the kernel, hears of this process.
        handle::notice_forks();
        handle::hand_out(bus, Bus { shared: Arc::new(open(options)?) })
    })
}

/// Frees a bus; NULL is none. Cards and buffers of it stay.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_bus_free(bus: *mut Bus) -> c_int {
    run(|| handle::free(bus).and(DONE))
}

/// The cards of a bus: fills at most `capacity` of `cards`, which may be NULL then, and returns how many there are.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_bus_cards(bus: *mut Bus, mut cards: Room<CardInfo>, capacity: usize) -> c_int {
    run(|| {
        let found = handle::get(bus)?.shared.slot.get()?.cards();
        let count = c_int::try_from(found.len()).unwrap_or(c_int::MAX);
        cards.fill(found.iter().map(CardInfo::new).collect(), capacity)?;
        Ok(count)
    })
}

/// The process id of the broker that owns the cards; 0 if this process owns them.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_bus_broker(bus: *mut Bus) -> c_int {
    run(|| {
        let broker = handle::get(bus)?.shared.slot.get()?.broker();
        Ok(broker.and_then(|pid| c_int::try_from(pid).ok()).unwrap_or(0))
    })
}

/// Memory of `size` bytes or more that this process and every card of the bus see; `options` may be NULL.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_bus_buffer(
    bus: *mut Bus,
    size: u64,
    options: Option<&BufferOptions>,
    buffer: Option<&mut MaybeUninit<*mut Buffer>>,
) -> c_int {
    run(|| {
        let bus = handle::get(bus)?;
        let memory = bus.shared.slot.get()?.dma_buffer(request(size, options)?)?;
        handle::hand_out(buffer, Buffer::new(memory, Reach::of_bus(&bus.shared), None))
    })
}

/// Offers a buffer to other programs at the broker, which attach to it by this name; `writable` is 1 if they may write to it. The
/// offer ends when the buffer is freed.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_bus_share(bus: *mut Bus, buffer: *mut Buffer, name: Text, writable: u32) -> c_int {
    run(|| {
        let (bus, buffer) = (handle::get(bus)?, handle::get(buffer)?);
        let offer = if writable == 0 { Offer::to_readers() } else { Offer::to_writers() };
        let offer = offer.named(name.needed("the name")?);
        bus.shared.slot.get()?.share(&*buffer.memory()?, offer)?;
        buffer.set_shared();
        DONE
    })
}

/// A buffer that another program offers to writers by this name: the same memory at the same IOVA.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_bus_attach(
    bus: *mut Bus,
    name: Text,
    buffer: Option<&mut MaybeUninit<*mut Buffer>>,
) -> c_int {
    run(|| {
        let bus = handle::get(bus)?;
        let memory = bus.shared.slot.get()?.attach(offered(name.get("the name")?, None)?)?;
        let attached = Buffer::new(memory, Reach::of_bus(&bus.shared), None);
        attached.set_shared();
        handle::hand_out(buffer, attached)
    })
}
