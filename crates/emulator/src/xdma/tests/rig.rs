//! A core with a host that is nothing but a piece of memory.

use super::super::{Interface, Xdma, XdmaConfig};
use crate::axi::{AxiTarget, CardMemory, Peripheral};
use crate::fault::Faults;
use crate::function::{DmaFault, Host, InterruptKind, Live, PacketSizes};
use crate::stream::{StreamSink, StreamSource};
use jitney_memory::Mapping;
use jitney_registers::Register;
use jitney_xdma_spec::{
    Alignments, ChannelControl, ChannelStatus, Descriptor, DescriptorControl, Direction, block, channel,
    sgdma,
};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Where host memory begins, and how much there is.
pub(super) const BASE: u64 = 0x3_8000_0000;
pub(super) const SIZE: u64 = 16 << 20;
/// Card memory: no power of two.
pub(super) const CARD: u64 = 0x12_8000;

/// Host memory at [`BASE`], and a record of interrupts.
pub(super) struct FakeHost {
    memory: Mapping,
    /// Levels that vectors were set to.
    interrupts: Mutex<Vec<(u16, bool)>>,
    gate: Gate,
    /// That of write-backs.
    word_gate: Gate,
    /// Data copies, and reads of descriptors.
    copies: AtomicU64,
    fetches: AtomicU64,
    pub(super) log: Mutex<Vec<&'static str>>,
    /// Where words were written.
    pub(super) words: Mutex<Vec<u64>>,
    /// What of interrupts is set up, and whether messages get through.
    pub(super) kind: Mutex<InterruptKind>,
    pub(super) holds_messages: AtomicBool,
    pub(super) read_request: AtomicU32,
}

/// What waits behind it while it is closed.
#[derive(Default)]
struct Gate(Mutex<GateState>, Condvar);

#[derive(Default)]
struct GateState {
    closed: bool,
    waiting: bool,
}

impl Gate {
    fn close(&self) {
        self.0.lock().unwrap().closed = true;
    }

    fn open(&self) {
        *self.0.lock().unwrap() = GateState::default();
        self.1.notify_all();
    }

    fn wait_for_one(&self) {
        let gate = self.0.lock().unwrap();
        drop(self.1.wait_while(gate, |gate| !gate.waiting).unwrap());
    }

    fn pass(&self) {
        let mut gate = self.0.lock().unwrap();
        if gate.closed {
            gate.waiting = true;
            self.1.notify_all();
            drop(self.1.wait_while(gate, |gate| gate.closed).unwrap());
        }
    }
}

impl FakeHost {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            memory: Mapping::anonymous(SIZE as usize).unwrap(),
            interrupts: Mutex::default(),
            gate: Gate::default(),
            word_gate: Gate::default(),
            copies: AtomicU64::new(0),
            fetches: AtomicU64::new(0),
            log: Mutex::default(),
            words: Mutex::default(),
            kind: Mutex::new(InterruptKind::MsiX),
            holds_messages: AtomicBool::new(false),
            read_request: AtomicU32::new(512),
        })
    }

    fn offset(iova: u64, length: u64) -> Result<u64, DmaFault> {
        let offset = iova.checked_sub(BASE).filter(|offset| offset + length <= SIZE);
        offset.ok_or(DmaFault::Unmapped { iova })
    }

    /// Data copies wait from here on.
    pub(super) fn close_gate(&self) {
        self.gate.close();
    }

    /// Waits until a data copy waits.
    pub(super) fn wait_for_copy(&self) {
        self.gate.wait_for_one();
    }

    pub(super) fn open_gate(&self) {
        self.gate.open();
    }

    /// Write-backs wait from here on.
    pub(super) fn hold_words(&self) {
        self.word_gate.close();
    }

    /// Waits until a write-back waits.
    pub(super) fn wait_for_word(&self) {
        self.word_gate.wait_for_one();
    }

    pub(super) fn let_words_go(&self) {
        self.word_gate.open();
    }

    /// How many pieces of data were copied so far.
    pub(super) fn copies(&self) -> u64 {
        self.copies.load(Ordering::SeqCst)
    }

    /// How many times descriptors were read so far.
    pub(super) fn fetches(&self) -> u64 {
        self.fetches.load(Ordering::SeqCst)
    }

    pub(super) fn take_interrupts(&self) -> Vec<(u16, bool)> {
        std::mem::take(&mut self.interrupts.lock().unwrap())
    }

    pub(super) fn bytes(&self, iova: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory.read(iova - BASE, &mut bytes).unwrap();
        bytes
    }

    pub(super) fn set_bytes(&self, iova: u64, bytes: &[u8]) {
        self.memory.write(iova - BASE, bytes).unwrap();
    }

    pub(super) fn word(&self, iova: u64) -> u32 {
        self.memory.load_acquire32(iova - BASE).unwrap()
    }
}

impl Host for FakeHost {
    fn read_to(
        &self,
        iova: u64,
        card: &Mapping,
        card_offset: u64,
        length: u64,
        _: Live<'_>,
    ) -> Result<(), DmaFault> {
        self.gate.pass();
        self.copies.fetch_add(1, Ordering::SeqCst);
        let offset = Self::offset(iova, length)?;
        self.memory.copy_to(offset, card, card_offset, length as usize).unwrap();
        Ok(())
    }

    fn write_from(
        &self,
        iova: u64,
        card: &Mapping,
        card_offset: u64,
        length: u64,
        _: Live<'_>,
    ) -> Result<(), DmaFault> {
        self.gate.pass();
        self.copies.fetch_add(1, Ordering::SeqCst);
        let offset = Self::offset(iova, length)?;
        card.copy_to(card_offset, &self.memory, offset, length as usize).unwrap();
        Ok(())
    }

    fn read(&self, iova: u64, bytes: &mut [u8], _: Live<'_>) -> Result<(), DmaFault> {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        self.memory.read(Self::offset(iova, bytes.len() as u64)?, bytes).unwrap();
        Ok(())
    }

    fn write(&self, iova: u64, bytes: &[u8], _: Live<'_>) -> Result<(), DmaFault> {
        self.memory.write(Self::offset(iova, bytes.len() as u64)?, bytes).unwrap();
        Ok(())
    }

    fn write_word(&self, iova: u64, value: u32, _: Live<'_>) -> Result<(), DmaFault> {
        self.word_gate.pass();
        self.log.lock().unwrap().push("write-back");
        self.words.lock().unwrap().push(iova);
        self.memory.store_release32(Self::offset(iova, 4)?, value).unwrap();
        Ok(())
    }

    fn set_interrupt(&self, vector: u16, requested: bool) {
        self.log.lock().unwrap().push("interrupt");
        self.interrupts.lock().unwrap().push((vector, requested));
    }

    fn interrupt_pending(&self, _: u16) -> bool {
        self.holds_messages.load(Ordering::SeqCst)
    }

    fn packet_sizes(&self) -> PacketSizes {
        PacketSizes { payload: 256, read_request: self.read_request.load(Ordering::SeqCst) }
    }

    fn interrupt_kind(&self) -> InterruptKind {
        *self.kind.lock().unwrap()
    }

    fn bus_master(&self) -> bool {
        true
    }
}

/// A core and its host.
pub(super) struct Rig {
    pub(super) core: Xdma,
    pub(super) host: Arc<FakeHost>,
    pub(super) faults: Arc<Faults>,
}

fn memory() -> Arc<dyn AxiTarget> {
    Arc::new(CardMemory::new("card", CARD).unwrap())
}

pub(super) const H2C0: Channel = Channel(Direction::HostToCard, 0);
pub(super) const C2H0: Channel = Channel(Direction::CardToHost, 0);

/// A channel by direction and number.
#[derive(Clone, Copy)]
pub(super) struct Channel(pub(super) Direction, pub(super) u8);

impl Rig {
    /// One channel each way, MSI-X.
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(super) fn with(change: impl FnOnce(&mut XdmaConfig)) -> Self {
        Self::build(Interface::MemoryMapped { h2c: 1, c2h: 1, target: memory() }, change)
    }

    /// A core with something else than memory behind its DMA.
    pub(super) fn over(target: Arc<dyn AxiTarget>) -> Self {
        Self::build(Interface::MemoryMapped { h2c: 1, c2h: 1, target }, |_| {})
    }

    /// A core with so many channels over memory.
    pub(super) fn channels(h2c: u8, c2h: u8) -> Self {
        Self::build(Interface::MemoryMapped { h2c, c2h, target: memory() }, |_| {})
    }

    pub(super) fn build(interface: Interface, change: impl FnOnce(&mut XdmaConfig)) -> Self {
        let mut config = XdmaConfig {
            interface,
            data_width: 16,
            alignments: Alignments::ANY,
            link: None,
            strict_adjacency: false,
            user_interrupts: Vec::new(),
        };
        change(&mut config);
        let (host, faults) = (FakeHost::new(), Arc::new(Faults::default()));
        let core = Xdma::new(config, host.clone(), faults.clone()).unwrap();
        Self { core, host, faults }
    }

    /// A core with streams.
    pub(super) fn streams(h2c: Vec<Arc<dyn StreamSink>>, c2h: Vec<Arc<dyn StreamSource>>) -> Self {
        Self::build(Interface::Stream { h2c, c2h }, |_| {})
    }

    pub(super) fn read(&self, offset: u64) -> u32 {
        self.core.read(u32::try_from(offset).unwrap())
    }

    pub(super) fn write(&self, offset: u64, value: u32) {
        self.core.write(u32::try_from(offset).unwrap(), value, u32::MAX);
    }

    pub(super) fn get<V: From<u32>, A>(&self, of: Channel, register: Register<V, A>) -> V {
        self.read(of.register(register)).into()
    }

    pub(super) fn set<V: Into<u32>, A>(&self, of: Channel, register: Register<V, A>, value: V) {
        self.write(of.register(register), value.into());
    }

    pub(super) fn status(&self, of: Channel) -> u32 {
        self.get(of, channel::STATUS).into()
    }

    /// Puts descriptors from `at` on, each with `next` to the one behind it, the last with STOP and COMPLETED.
    pub(super) fn list(&self, at: u64, transfers: &[(u64, u64, u32)]) {
        for (index, &(source, destination, length)) in transfers.iter().enumerate() {
            let here = at + 32 * index as u64;
            let last = index + 1 == transfers.len();
            let control = DescriptorControl::new().with_stop(last).with_completed(last);
            let next = if last { 0 } else { here + 32 };
            self.host.set_bytes(here, &Descriptor { control, length, source, destination, next }.to_bytes());
        }
    }

    /// As [`list`](Self::list), with `Nxt_adj` as PG195 has it: blocks of `block`, the first one's length in the register.
    pub(super) fn adjacent_list(&self, of: Channel, at: u64, transfers: &[(u64, u64, u32)], block: usize) {
        self.list(at, transfers);
        let in_block = |index: usize| block.min(transfers.len() - index / block * block);
        for index in 0..transfers.len() {
            let here = at + 32 * index as u64;
            let mut descriptor = Descriptor::from_bytes(self.host.bytes(here, 32)[..].try_into().unwrap());
            let behind = in_block(index) - index % block - 1;
            let adjacent = match behind {
                0 if index + 1 < transfers.len() => in_block(index + 1) - 1,
                0 => 0,
                behind => behind - 1,
            };
            descriptor.control.set_next_adjacent(adjacent as u8);
            self.host.set_bytes(here, &descriptor.to_bytes());
        }
        self.write(of.sgdma(sgdma::FIRST_DESCRIPTOR_ADJACENT), in_block(0) as u32 - 1);
    }

    /// Points a channel at its first descriptor and sets RUN, polled, with the write-back word at `writeback`.
    pub(super) fn start(&self, of: Channel, first: u64, writeback: u64) {
        self.set_addresses(of, first, writeback);
        self.set(of, channel::CONTROL, ChannelControl::polled(of.0));
        self.set(of, channel::CONTROL_SET, ChannelControl::new().with_run(true));
    }

    pub(super) fn set_addresses(&self, of: Channel, first: u64, writeback: u64) {
        self.write(of.sgdma(sgdma::FIRST_DESCRIPTOR_LOW), first as u32);
        self.write(of.sgdma(sgdma::FIRST_DESCRIPTOR_HIGH), (first >> 32) as u32);
        self.set(of, channel::WRITEBACK_ADDRESS_LOW, writeback as u32);
        self.set(of, channel::WRITEBACK_ADDRESS_HIGH, (writeback >> 32) as u32);
    }

    pub(super) fn clear_run(&self, of: Channel) {
        self.set(of, channel::CONTROL_CLEAR, ChannelControl::new().with_run(true));
    }

    /// Waits until BUSY is clear, as long as a driver does; the status then.
    pub(super) fn wait_idle(&self, of: Channel) -> ChannelStatus {
        self.wait_until("idle", || {
            let status: ChannelStatus = self.get(of, channel::STATUS);
            (!status.busy()).then_some(status)
        })
    }

    /// Runs a list to its end and clears RUN; the status at the end.
    pub(super) fn run(&self, of: Channel, transfers: &[(u64, u64, u32)]) -> u32 {
        self.list(BASE, transfers);
        self.start(of, BASE, BASE + 0x8000);
        let status = self.wait_idle(of);
        self.clear_run(of);
        status.into()
    }

    pub(super) fn wait_until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            assert!(Instant::now() < deadline, "not {what} after five seconds");
            std::thread::yield_now();
        }
    }
}

impl Channel {
    pub(super) fn register<V, A>(self, register: Register<V, A>) -> u64 {
        block::offset(self.0.channel_block(), self.1) + u64::from(register.offset())
    }

    pub(super) fn sgdma<V, A>(self, register: Register<V, A>) -> u64 {
        block::offset(self.0.sgdma_block(), self.1) + u64::from(register.offset())
    }
}

/// Bytes that differ from place to place.
pub(super) fn pattern(seed: u32, length: usize) -> Vec<u8> {
    let mut word = seed;
    let mut next = || {
        word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (word >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}
