//! A channel: its state behind a lock, and the thread that executes its descriptors.

use super::Card;
use super::bell::Bell;
use super::engine::{Busy, Engine, Workspace};
use super::interface::Port;
use super::irq::IrqBlock;
use super::state::{Job, State, WritebackWord};
use crate::function::Live;
use crate::limited::warn_limited;
use jitney_xdma_spec::{Direction, Submodule};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One channel.
///
/// Locks are taken in the order channel, IRQ block, and what [`Host::set_interrupt`](crate::Host::set_interrupt) takes.
/// Host memory is accessed without any of them: the client may be the one that serves it, and that asks for a register.
pub(super) struct Channel {
    card: Arc<Card>,
    irq: Arc<IrqBlock>,
    port: Port,
    direction: Direction,
    index: u8,
    /// Its bit in the IRQ block.
    irq_bit: u8,
    inner: Mutex<Inner>,
    /// Rung when the engine may have something to do.
    work: Bell,
    /// Signalled when a write-back has ended.
    written_back: Condvar,
    /// Resets so far: what the engine is doing while this changes is abandoned.
    resets: AtomicU64,
    /// Runs that have ended so far, by RUN or by a reset.
    stops: AtomicU64,
    /// What the engine sleeps on in the middle of a descriptor.
    bell: Arc<Bell>,
    /// Held while a stream's port is asked, so that nothing goes into one after its reset.
    polling: Mutex<()>,
    closing: AtomicBool,
}

struct Inner {
    state: State,
    /// The level that the IRQ block was told of.
    line: bool,
    /// Write-backs that were begun: their descriptors are accounted for. One may be on the way.
    begun: u64,
    /// Write-backs that are done.
    ended: u64,
    /// How many threads wait for one: waking nobody costs a system call, too.
    waiting: usize,
}

/// How long a register access waits for a write-back that is on the way.
///
/// Into mapped memory it takes less than a microsecond. A client that serves its memory by messages may be the one that
/// waits here, so that the write cannot end before the wait does.
const WRITE_BACK_PATIENCE: Duration = Duration::from_millis(10);

impl Channel {
    pub(super) fn new(
        card: Arc<Card>,
        irq: Arc<IrqBlock>,
        port: Port,
        (direction, index): (Direction, u8),
        irq_bit: u8,
    ) -> Self {
        let state = State::new(direction, index, port.is_stream(), card.alignments, card.clock_hz);
        Self {
            card,
            irq,
            port,
            direction,
            index,
            irq_bit,
            inner: Mutex::new(Inner { state, line: false, begun: 0, ended: 0, waiting: 0 }),
            work: Bell::default(),
            written_back: Condvar::new(),
            resets: AtomicU64::new(0),
            stops: AtomicU64::new(0),
            bell: Arc::default(),
            polling: Mutex::default(),
            closing: AtomicBool::new(false),
        }
    }

    pub(super) fn read(&self, submodule: Submodule, register: u32) -> u32 {
        let sgdma = submodule == self.direction.sgdma_block();
        self.update(|state| if sgdma { state.read_sgdma(register) } else { state.read_channel(register) })
    }

    pub(super) fn write(&self, submodule: Submodule, register: u32, value: u32, lanes: u32) {
        let sgdma = submodule == self.direction.sgdma_block();
        self.update(|state| {
            if sgdma {
                state.write_sgdma(register, value, lanes);
            } else {
                state.write_channel(register, value, lanes);
            }
        });
    }

    /// Registers to their reset values. The engine abandons what it is doing within a piece of data, and asks its stream's
    /// port for nothing after this has returned.
    pub(super) fn reset(&self) {
        self.update(|state| {
            self.resets.fetch_add(1, Ordering::Release);
            state.reset();
        });
        drop(self.polling.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Looks at or changes the state, and passes on what follows from it: the interrupt request, work for the engine.
    ///
    /// Who sees a write-back finds BUSY clear, because that comes first. Who sees BUSY clear finds the write-back done,
    /// because this waits for it: a driver that only looks at BUSY would else find an old count in its next run.
    pub(super) fn update<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut inner = self.inner();
        if inner.ended < inner.begun {
            // This one only: in a busy ring there is always another.
            let until = inner.begun;
            inner.waiting += 1;
            (inner, _) = self
                .written_back
                .wait_timeout_while(inner, WRITE_BACK_PATIENCE, |inner| inner.ended < until)
                .unwrap_or_else(PoisonError::into_inner);
            inner.waiting -= 1;
        }
        let result = change(&mut inner.state);
        let stops = inner.state.stops();
        if self.stops.swap(stops, Ordering::Release) != stops {
            self.bell.ring();
        }
        self.pass_on_request(&mut inner);
        if inner.state.can_start() {
            self.work.ring();
        }
        result
    }

    /// The body of the channel's thread: executes descriptors, sleeps while there are none, returns after
    /// [`close`](Self::close).
    pub(super) fn run_engine(&self) {
        let mut workspace = Workspace::default();
        let mut was_idle = true;
        let busy = Busy::new();
        let mut inner = self.inner();
        while !self.closing.load(Ordering::Acquire) {
            let Some(job) = inner.state.start() else {
                drop(inner);
                self.work.wait(None);
                // What is rung from here on is not missed: only now it is looked.
                self.work.clear();
                inner = self.inner();
                was_idle = true;
                continue;
            };
            inner = self.run_descriptor(inner, &job, (was_idle, &busy), &mut workspace);
            was_idle = false;
        }
    }

    /// Executes up to `most` descriptors in the caller's thread, as [`run_engine`](Self::run_engine) would; says how many.
    #[cfg(fuzzing)]
    pub(super) fn step(&self, most: u32) -> u32 {
        let mut workspace = Workspace::default();
        let mut inner = self.inner();
        for done in 0..most {
            let Some(job) = inner.state.start() else { return done };
            inner = self.run_descriptor(inner, &job, (false, &Busy::new()), &mut workspace);
        }
        most
    }

    /// Executes one descriptor and does what follows from it.
    fn run_descriptor<'a>(
        &'a self,
        mut inner: MutexGuard<'a, Inner>,
        job: &Job,
        (was_idle, busy): (bool, &Busy),
        workspace: &mut Workspace,
    ) -> MutexGuard<'a, Inner> {
        // Under the lock, so that a reset from here on belongs to this descriptor.
        let resets = self.resets.load(Ordering::Acquire);
        let stops = self.stops.load(Ordering::Acquire);
        drop(inner);

        if job.first && !self.card.host.bus_master() {
            warn_limited!(
                channel = format_args!("{}{}", self.direction, self.index),
                "DMA was started without Bus Master Enable in the PCI command register"
            );
        }
        let is_reset =
            || self.resets.load(Ordering::Acquire) != resets || self.closing.load(Ordering::Acquire);
        let is_stopped = || self.stops.load(Ordering::Acquire) != stops || is_reset();
        let engine = Engine {
            card: &self.card,
            port: &self.port,
            direction: self.direction,
            channel: self.index,
            was_idle,
            busy,
            is_reset: &is_reset,
            is_stopped: &is_stopped,
            bell: &self.bell,
            polling: &self.polling,
        };
        let outcome = engine.execute(job, workspace);

        inner = self.inner();
        if let Some(writeback) = inner.state.finish(job, outcome) {
            inner.begun += 1;
            drop(inner);
            self.write_back(writeback, &|| !is_reset());
            inner = self.inner();
            inner.ended += 1;
            if inner.waiting > 0 {
                self.written_back.notify_all();
            }
        }
        self.pass_on_request(&mut inner);
        inner
    }

    fn write_back(&self, writeback: WritebackWord, live: Live<'_>) {
        if let Err(fault) = self.card.host.write_word(writeback.address, writeback.word.into(), live) {
            // Nothing in the card shows this; the driver runs into its time-out.
            warn_limited!(
                channel = format_args!("{}{}", self.direction, self.index),
                %fault,
                "write-back is lost"
            );
        }
    }

    /// Ends the thread in [`run_engine`](Self::run_engine).
    pub(super) fn close(&self) {
        let inner = self.inner();
        self.closing.store(true, Ordering::Release);
        drop(inner);
        self.work.ring();
        self.bell.ring();
    }

    fn pass_on_request(&self, inner: &mut Inner) {
        let line = inner.state.requests_interrupt();
        if line != inner.line {
            inner.line = line;
            self.irq.set_channel_line(self.irq_bit, line);
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
