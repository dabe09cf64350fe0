//! A host that is nothing but a piece of memory, and notes what it is asked.

use crate::function::{CardRange, DmaFault, Host, InterruptKind, Live, PacketSizes};
use jitney_memory::Mapping;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

/// Where host memory begins, and how much there is.
pub(super) const BASE: u64 = 0x3_8000_0000;
pub(super) const SIZE: u64 = 16 << 20;

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
    pub(super) fn new() -> Arc<Self> {
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
    fn read_to(&self, iova: u64, card: CardRange<'_>, _: Live<'_>) -> Result<(), DmaFault> {
        self.gate.pass();
        self.copies.fetch_add(1, Ordering::SeqCst);
        let offset = Self::offset(iova, card.length)?;
        self.memory.copy_to(offset, card.memory, card.offset, card.length as usize).unwrap();
        Ok(())
    }

    fn write_from(&self, iova: u64, card: CardRange<'_>, _: Live<'_>) -> Result<(), DmaFault> {
        self.gate.pass();
        self.copies.fetch_add(1, Ordering::SeqCst);
        let offset = Self::offset(iova, card.length)?;
        card.memory.copy_to(card.offset, &self.memory, offset, card.length as usize).unwrap();
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
