//! A function small enough to see through: some registers, one DMA engine, a mappable BAR.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use jitney_emulator::{
    BarDescription, CardRange, Description, Function, Host, InterruptKinds, Live, Mappable, Msix, Options,
    Server, ServerError,
};
use jitney_memory::{Mapping, Memfd, PageSize};

/// Registers of BAR 0.
pub(crate) const ID: u64 = 0x00;
pub(crate) const SCRATCH: u64 = 0x04;
/// Raises the vector whose number is written.
pub(crate) const RAISE: u64 = 0x08;
/// Lowers it.
pub(crate) const LOWER: u64 = 0x0C;
pub(crate) const IOVA: u64 = 0x10;
pub(crate) const LENGTH: u64 = 0x18;
/// Starts the engine: one of the commands below.
pub(crate) const START: u64 = 0x1C;
/// 0 while the engine runs, then one of the outcomes below.
pub(crate) const OUTCOME: u64 = 0x20;
pub(crate) const BUS_MASTER: u64 = 0x24;
pub(crate) const RESETS: u64 = 0x28;
/// Brings the link down for good.
pub(crate) const UNPLUG: u64 = 0x2C;

pub(crate) const ID_VALUE: u32 = 0x7011_CAFE;
pub(crate) const FROM_HOST: u32 = 1;
pub(crate) const TO_HOST: u32 = 2;
/// Copies to the host again and again until a fault or a reset.
pub(crate) const TO_HOST_FOREVER: u32 = 3;
/// Writes the length as one word to the host.
pub(crate) const WORD: u32 = 4;
pub(crate) const DONE: u32 = 1;
pub(crate) const FAULT: u32 = 2;

pub(crate) const CARD_SIZE: usize = 8 << 20;
pub(crate) const VECTORS: u16 = 18;
pub(crate) const MSIX: InterruptKinds = InterruptKinds {
    line: false,
    msi: 0,
    msix: Some(Msix { vectors: VECTORS, bar: 0, table: 0x8000, pending: 0x8FE0 }),
};

pub(crate) struct Toy(Arc<Inner>);

struct Inner {
    description: Description,
    host: Arc<dyn Host>,
    card: Mapping,
    window: Memfd,
    window_view: Mapping,
    scratch: AtomicU32,
    iova: AtomicU64,
    length: AtomicU32,
    outcome: AtomicU32,
    resets: AtomicU32,
    running: AtomicBool,
    link_down: AtomicBool,
    engine: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Toy {
    /// A server with a toy in it.
    pub(crate) fn serve(
        path: &Path,
        options: Options,
        interrupts: InterruptKinds,
    ) -> Result<Server, ServerError> {
        Server::bind(path, options, |host| Ok(Arc::new(Self::new(host, interrupts))))
    }

    fn new(host: Arc<dyn Host>, interrupts: InterruptKinds) -> Self {
        let bar = |size| Some(BarDescription { size, is_64bit: false, prefetchable: false });
        let large = Some(BarDescription { size: 0x4000, is_64bit: true, prefetchable: true });
        let description = Description {
            ids: [0x10EE, 0x7011, 2, 0x15],
            revision: 1,
            class: [5, 0, 0],
            bars: [bar(0x1_0000), None, large, None, bar(0x1000), None],
            interrupts,
            link: (2, 4),
            slot_lanes: None,
            serial: None,
        };
        // Half of BAR 2 can be mapped.
        let window = Memfd::create("toy-window", 0x2000, PageSize::Normal).unwrap();
        let window_view = Mapping::shared(&window, 0, 0x2000, jitney_memory::Access::ReadWrite).unwrap();
        Self(Arc::new(Inner {
            description,
            host,
            card: Mapping::anonymous(CARD_SIZE).unwrap(),
            window,
            window_view,
            scratch: AtomicU32::new(0),
            iova: AtomicU64::new(0),
            length: AtomicU32::new(0),
            outcome: AtomicU32::new(0),
            resets: AtomicU32::new(0),
            running: AtomicBool::new(false),
            link_down: AtomicBool::new(false),
            engine: Mutex::new(None),
        }))
    }

    fn start(&self, command: u32) {
        let inner = Arc::clone(&self.0);
        inner.outcome.store(0, SeqCst);
        inner.running.store(true, SeqCst);
        let thread = std::thread::spawn(move || {
            let (iova, length) = (inner.iova.load(SeqCst), u64::from(inner.length.load(SeqCst)));
            let live: Live<'_> = &|| true;
            let outcome = match command {
                FROM_HOST => inner.host.read_to(iova, CardRange::new(&inner.card, 0, length), live),
                TO_HOST => inner.host.write_from(iova, CardRange::new(&inner.card, 0, length), live),
                WORD => inner.host.write_word(iova, length as u32, live),
                _ => loop {
                    if !inner.running.load(SeqCst) {
                        break Ok(());
                    }
                    if let Err(fault) =
                        inner.host.write_from(iova, CardRange::new(&inner.card, 0, length), live)
                    {
                        break Err(fault);
                    }
                },
            };
            inner.outcome.store(if outcome.is_ok() { DONE } else { FAULT }, SeqCst);
        });
        *self.0.engine.lock().unwrap() = Some(thread);
    }
}

impl Drop for Toy {
    fn drop(&mut self) {
        self.0.running.store(false, SeqCst);
        if let Some(engine) = self.0.engine.lock().unwrap().take() {
            engine.join().unwrap();
        }
    }
}

impl Function for Toy {
    fn description(&self) -> &Description {
        &self.0.description
    }

    fn read(&self, bar: usize, offset: u64, data: &mut [u8]) {
        let inner = &self.0;
        if bar == 2 {
            if inner.window_view.read(offset, data).is_err() {
                data.fill(0);
            }
            return;
        }
        let value = match (bar, offset) {
            (0, ID) => ID_VALUE,
            (0, SCRATCH) => inner.scratch.load(SeqCst),
            (0, OUTCOME) => inner.outcome.load(SeqCst),
            (0, BUS_MASTER) => u32::from(inner.host.bus_master()),
            (0, RESETS) => inner.resets.load(SeqCst),
            _ => 0,
        };
        data.fill(0);
        let length = data.len().min(4);
        data[..length].copy_from_slice(&value.to_le_bytes()[..length]);
    }

    fn write(&self, bar: usize, offset: u64, data: &[u8]) {
        let inner = &self.0;
        if bar == 2 {
            let _beyond_the_memory = inner.window_view.write(offset, data);
            return;
        }
        if let (0, IOVA, Ok(data)) = (bar, offset, <[u8; 8]>::try_from(data)) {
            inner.iova.store(u64::from_le_bytes(data), SeqCst);
            return;
        }
        let Ok(data) = <[u8; 4]>::try_from(data) else { return };
        let value = u32::from_le_bytes(data);
        match (bar, offset) {
            (0, SCRATCH) => inner.scratch.store(value, SeqCst),
            (0, RAISE) => inner.host.set_interrupt(value as u16, true),
            (0, LOWER) => inner.host.set_interrupt(value as u16, false),
            (0, LENGTH) => inner.length.store(value, SeqCst),
            (0, START) => self.start(value),
            (0, UNPLUG) => inner.link_down.store(true, SeqCst),
            _ => {}
        }
    }

    fn mappable(&self, bar: usize) -> Option<Mappable<'_>> {
        let file = &self.0.window;
        (bar == 2).then(|| Mappable { file, offset: 0, length: file.size() })
    }

    fn reset(&self) {
        self.0.running.store(false, SeqCst);
        self.0.scratch.store(0, SeqCst);
        self.0.resets.fetch_add(1, SeqCst);
        for vector in 0..VECTORS {
            self.0.host.set_interrupt(vector, false);
        }
    }

    fn link_down(&self) -> bool {
        self.0.link_down.load(SeqCst)
    }
}
