//! The card that the XDMA driver meets when it is fuzzed.

use jitney_vfio::{
    BarInfo, Card, DmaBuffer, DmaRequest, Error, ErrorKind, FakeBar, FakeCard, FakeHost, Identity, Interrupt,
    Lease, LeaseRequest, Notices, Region, Result, SharedInterrupt, StillUsed, Trap,
};
use std::sync::{Arc, Mutex, MutexGuard};

/// More than any operation needs: the longest wait is some hundred looks.
pub const BOUND: u32 = 20_000;

const RUN: u32 = 1;
const BUSY: u32 = 1;
const STOPPED: u32 = 1 << 1;
const COMPLETED: u32 = 1 << 2;

/// A card of fakes, whose registers and configuration space are the model's.
#[derive(Debug)]
pub struct Fuzzed {
    /// What stands behind it.
    pub fake: Arc<FakeCard>,
    /// What answers.
    pub model: Arc<Model>,
}

impl Card for Fuzzed {
    fn identity(&self) -> &Identity {
        self.fake.identity()
    }

    fn bars(&self) -> &[BarInfo; 6] {
        self.fake.bars()
    }

    fn bar(&self, _index: usize) -> Result<Region> {
        Ok(Region::new("BAR 2", 0x1_0000, Arc::new(Registers(Arc::clone(&self.model))), None))
    }

    fn config(&self) -> Result<Region> {
        Ok(Region::new("configuration space", 0x100, Arc::new(Config(Arc::clone(&self.model))), None))
    }

    fn dma_buffer(&self, request: DmaRequest) -> Result<DmaBuffer> {
        self.fake.dma_buffer(request)
    }

    fn lease(&self, request: LeaseRequest) -> Result<Lease> {
        self.fake.lease(request)
    }

    fn vectors(&self) -> Result<u32> {
        self.fake.vectors()
    }

    fn interrupt(&self, vector: u16) -> Result<Interrupt> {
        self.fake.interrupt(vector)
    }

    fn shared_interrupt(&self, vector: u16, source: u8) -> Result<SharedInterrupt> {
        self.fake.shared_interrupt(vector, source)
    }

    fn notices(&self) -> Result<Notices> {
        self.fake.notices()
    }

    fn still_used(&self) -> &StillUsed {
        self.fake.still_used()
    }

    fn reset(&self) -> Result<()> {
        self.fake.reset()
    }
}

/// Registers of the card behind it, which nobody reaches.
pub struct Nothing;

impl FakeBar for Nothing {
    fn read32(&self, _offset: u64) -> u32 {
        0
    }

    fn write32(&self, _offset: u64, _value: u32) {}
}

/// An XDMA that answers as the fuzzer likes, and knows what its engine was given.
#[derive(Debug)]
pub struct Model {
    host: FakeHost,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    answers: std::vec::IntoIter<u8>,
    /// Accesses since the operation began.
    looks: u32,
    /// What is written and read back without a meaning here.
    plain: std::collections::HashMap<u64, u32>,
    control: u32,
    /// From when it is given descriptors until the card has said that all of them are done.
    busy: bool,
    logged: u32,
    count: u32,
    /// Where the next descriptor is.
    at: u64,
    /// Descriptors given since RUN rose, and those that the card has said are done.
    given: u32,
    done: u32,
    /// The ring, as start and end.
    ring: (u64, u64),
    /// What the descriptors are for that are not done, in order.
    uses: std::collections::VecDeque<(u64, u64)>,
    /// What was written back and could not be, as long as it is there.
    lie: Option<u32>,
    /// Accesses that nobody answers yet.
    dark: u32,
    /// The engine does not end, whatever it is told, until it is reset.
    stubborn: bool,
    gone: bool,
    cut_off: bool,
}

impl State {
    /// 0, which is to behave, when there is nothing more.
    fn next(&mut self) -> u8 {
        self.answers.next().unwrap_or(0)
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes([self.next(), self.next(), self.next(), self.next()])
    }

    fn look(&mut self) {
        self.looks += 1;
        assert!(self.looks < BOUND, "an operation that does not end");
    }

    /// Takes a word that is written back for the truth if it can be: what it says is done the engine does not touch any more.
    fn believe(&mut self, word: u32) {
        let more = word.wrapping_sub(self.done) & 0xff_ffff;
        let can_be = word & 0x7f00_0000 == 0 && more <= self.given - self.done;
        self.lie = (!can_be).then_some(word);
        if can_be {
            self.done += more;
            self.uses.drain(..more as usize);
            self.busy = self.done < self.given;
            self.count = self.count.max(self.done);
        }
    }

    fn register(&self, offset: u64) -> u32 {
        self.plain.get(&offset).copied().unwrap_or(0)
    }

    fn uses_no_credits(&mut self) {
        self.plain.insert(0x6024, 0);
    }

    fn pair(&self, low: u64) -> u64 {
        u64::from(self.register(low)) | u64::from(self.register(low + 4)) << 32
    }
}

impl Model {
    /// A model that does DMA through `host`.
    pub fn new(host: &FakeHost) -> Self {
        Self { host: host.clone(), state: Mutex::default() }
    }

    /// From now on it is a card that was just reset and has `answers` to give.
    pub fn begin(&self, answers: Vec<u8>) {
        *self.state() = State { answers: answers.into_iter(), ..State::default() };
    }

    /// From now on another operation has to end.
    pub fn begin_operation(&self) {
        self.state().looks = 0;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Checks that what a running engine was given is there.
    pub fn check(&self) {
        self.check_in(&self.state());
    }

    fn check_in(&self, state: &State) {
        if !state.busy || state.gone || state.cut_off {
            return;
        }
        let mapped = self.host.mapped();
        for &(start, end) in state.uses.iter().chain([&state.ring]) {
            let there = mapped.iter().any(|place| place.iova <= start && end <= place.iova + place.size);
            assert!(there, "{start:#x}..{end:#x} went back under a running engine; mapped: {mapped:x?}");
        }
    }

    /// RUN rises: the engine is at the first descriptor.
    fn start(&self, state: &mut State, channel: u64) {
        let first = state.pair(0x4080 | channel);
        (state.busy, state.count, state.given, state.done, state.logged) = (false, 0, 0, 0, 0);
        state.lie = None;
        (state.at, state.ring) = (first, (first, state.pair(0x0088 | channel) + 4));
        state.uses.clear();
    }

    /// The engine reads as many descriptors as it is given credits.
    fn give(&self, state: &mut State, channel: u64, credits: u32) {
        if state.control & RUN == 0 || state.register(0x6024) == 0 {
            return;
        }
        state.busy = true;
        for _ in 0..credits {
            let mut bytes = [0; 32];
            self.host.read(state.at, &mut bytes).expect("the engine is at a ring that is not mapped");
            let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            let pair = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
            assert_eq!(word(0) >> 16, 0xad4b, "a descriptor without magic");
            let host = pair(if channel == 0 { 8 } else { 16 });
            state.uses.push_back((host, host + u64::from(word(4))));
            state.given += 1;
            state.at = pair(24);
        }
        assert!(state.uses.len() < 126, "more descriptors than the ring has");
        // A lie that nobody has looked at until it can be true is not to be told from the truth.
        if let Some(lie) = state.lie {
            state.believe(lie);
        }
        self.check_in(state);
        self.write_back(state, channel);
    }

    /// Writes a word back or not: the right one, which is the end, or any other. A count that can be is honest.
    fn write_back(&self, state: &mut State, channel: u64) {
        let choice = state.next() % 8;
        if choice < 5
            || choice == 5 && state.stubborn
            || !state.busy
            || state.gone
            || state.cut_off
            || state.control & 1 << 26 == 0
        {
            return;
        }
        let word = match choice {
            5 => state.given,
            6 => state.word() | 1 << 31,
            _ => state.word(),
        };
        state.believe(word);
        let place = state.pair(0x0088 | channel);
        self.host.write(place, &word.to_le_bytes()).expect("the word's place is mapped");
    }

    fn status(&self, state: &mut State, clear: bool) -> u32 {
        let choice = state.next();
        // A card that has nothing more to say finishes what it is at when it is told to stop, and never otherwise.
        if !state.stubborn && (choice & 1 != 0 || state.control & RUN == 0 && choice & 2 == 0) {
            state.busy = false;
        }
        if choice & 4 != 0 {
            state.logged |= STOPPED;
        }
        if choice & 8 != 0 {
            state.logged |= COMPLETED;
        }
        if choice & 0xc0 == 0xc0 {
            state.logged |= state.word() & 0x00f8_fe78;
        }
        let busy = state.busy || choice & 0x30 == 0x30;
        let status = state.logged | if busy { BUSY } else { 0 };
        if clear {
            state.logged = 0;
        }
        status
    }

    fn set_control(&self, state: &mut State, channel: u64, control: u32) {
        let rises = control & !state.control & RUN != 0;
        state.control = control;
        if rises {
            self.start(state, channel);
        }
    }
}

struct Registers(Arc<Model>);

impl Registers {
    /// What becomes of an access before it reaches the card; nothing if it does.
    fn interfere(&self, state: &mut State) -> Option<Result<()>> {
        state.look();
        self.0.check_in(state);
        if state.dark > 0 {
            state.dark -= 1;
            return Some(Ok(()));
        }
        let failed = |kind| Some(Err(Error::new(kind, "the fuzzer says no")));
        match state.next() {
            0xff => state.dark = 1,
            0xfe => state.dark = u32::from(state.next()),
            0xfd => state.dark = u32::MAX,
            0xfc => state.gone = true,
            0xfb => return failed(ErrorKind::TimedOut),
            0xfa => return failed(ErrorKind::System),
            0xf9 => return failed(ErrorKind::LinkDown),
            0xf8 => {
                // The function is reset: an engine that it had is idle.
                (state.control, state.busy, state.logged, state.count) = (0, false, 0, 0);
                state.stubborn = false;
                return None;
            }
            0xf7 => {
                state.stubborn = true;
                return None;
            }
            _ => return None,
        }
        Some(Ok(()))
    }
}

impl Trap for Registers {
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<()> {
        let mut state = self.0.state();
        if state.gone {
            state.look();
            data.fill(0xff);
            return Ok(());
        }
        if let Some(outcome) = self.interfere(&mut state) {
            data.fill(0xff);
            return outcome;
        }
        let channel = offset & 0x1000;
        let block = if offset & 0xf000 == 0x6000 { offset } else { offset & 0xefff };
        let value = match block {
            _ if offset & 0x0fff == 0 => 0x1fc0_0006 | u32::try_from(offset >> 12).unwrap() << 16,
            0x0040 => self.0.status(&mut state, false),
            0x0044 => self.0.status(&mut state, true),
            0x0048 => {
                let choice = state.next();
                match choice {
                    0..0xf0 => state.count = state.count.saturating_add((choice % 4).into()).min(state.given),
                    _ => state.count = state.word(),
                }
                state.count
            }
            0x004c => 0x0001_0140,
            // A card without credits cannot be used at all.
            0x6020 if state.next() == 0xff => 0,
            0x6020 => state.register(0x6024),
            _ => state.register(offset),
        };
        if matches!(offset & 0xefff, 0x0040..0x0050) {
            self.0.write_back(&mut state, channel);
            if state.next() & 1 != 0 {
                self.0.host.fire(u16::from(channel != 0));
            }
        }
        data.copy_from_slice(&value.to_le_bytes()[..data.len()]);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let mut state = self.0.state();
        if state.gone {
            state.look();
            return Ok(());
        }
        if let Some(outcome) = self.interfere(&mut state) {
            return outcome;
        }
        let value = u32::from_le_bytes(data.try_into().unwrap());
        let (channel, control) = (offset & 0x1000, state.control);
        match if offset & 0xf000 == 0x6000 { offset } else { offset & 0xefff } {
            0x0004 => self.0.set_control(&mut state, channel, value),
            0x000c => self.0.set_control(&mut state, channel, control & !value),
            0x0040 => state.logged &= !value,
            0x408c => self.0.give(&mut state, channel, value),
            0x6028 => state.uses_no_credits(),
            _ => drop(state.plain.insert(offset, value)),
        }
        Ok(())
    }
}

struct Config(Arc<Model>);

impl Config {
    fn refuses(state: &mut State) -> Option<Error> {
        let kind = match state.next() {
            0xff => ErrorKind::TimedOut,
            0xfe => ErrorKind::System,
            0xfd => {
                state.gone = true;
                ErrorKind::LinkDown
            }
            _ => return None,
        };
        Some(Error::new(kind, "configuration space does not answer"))
    }
}

impl Trap for Config {
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<()> {
        let mut state = self.0.state();
        state.look();
        if let Some(error) = Self::refuses(&mut state) {
            return Err(error);
        }
        if state.next() == 0xff {
            state.gone = true;
        }
        let value = match offset {
            _ if state.gone => u32::MAX,
            0 => 0x7011_10ee,
            4 if state.cut_off => 0,
            4 => 4,
            8 => 0x0580_0000,
            _ => 0,
        };
        data.copy_from_slice(&value.to_le_bytes()[..data.len()]);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let mut state = self.0.state();
        state.look();
        if let Some(error) = Self::refuses(&mut state) {
            return Err(error);
        }
        // It may be that nobody hears it.
        if offset == 4 && state.next() < 0xf0 && !state.gone {
            state.cut_off = data[0] & 4 == 0;
        }
        Ok(())
    }
}
