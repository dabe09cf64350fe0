//! An XDMA with one channel in each direction, as far as this driver can tell. Written from PG195 with plain numbers, so
//! that it checks the layouts too. Transfers run inside the register write that sets RUN, so tests do not depend on time.

use crate::irq::IrqBlock;
use jitney_vfio::{Card, FakeBar, FakeCard, FakeHost};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

pub(crate) const MEMORY: usize = 1 << 20;
const BUSY: u32 = 1;
const COMPLETED: u32 = 1 << 2;

/// What the engine does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Stops after some descriptors with these status bits, without a write-back.
    Error {
        after: u32,
        status: u32,
    },
    /// The same with a write-back that says so.
    ReportedError {
        after: u32,
        status: u32,
    },
    /// Stays busy after some descriptors, until RUN falls.
    Hang {
        after: u32,
    },
    /// The same, and goes on with its descriptor for a while then.
    Slow {
        descriptor: Duration,
    },
    /// Does one descriptor when RUN falls.
    EndsWhenStopped,
    /// Stays busy even then.
    Stuck,
    /// Does nothing but write this word back, and stays busy until RUN falls.
    Writeback(u32),
    /// The same at the second look at the completed count, with everything done and idle.
    LateWriteback(u32),
    /// Stays busy until RUN falls, while its completed count goes up and down, or beyond what it was given.
    Restless {
        counts: [u32; 2],
    },
    /// The same, while its completed count rises for ever.
    Climb,
    /// Does everything but the write-back.
    NoWriteback,
    /// Does one more descriptor at each look at its completed count.
    Creep,
    /// Takes the link down when it is given descriptors.
    LinkDown,
    /// When it is given descriptors, its registers stop answering for so many accesses, and it stays busy until RUN falls.
    /// Configuration space goes on to answer.
    Dark {
        accesses: u32,
    },
    /// Stays busy whatever it is told, and its registers answer every other time.
    Flicker,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Channel {
    pub(crate) control: u32,
    pub(crate) status: u32,
    pub(crate) interrupt_enable: u32,
    pub(crate) count: u32,
    pub(crate) writeback: u64,
    pub(crate) first: u64,
    pub(crate) at: u64,
    pub(crate) runs: u32,
    /// How often it was given credits.
    pub(crate) batches: u32,
    pub(crate) credits: u32,
    /// How often its completed count was looked at.
    looks: u32,
    busy_until: Option<Instant>,
}

pub(crate) struct State {
    pub(crate) channels: [Channel; 2],
    pub(crate) irq: IrqBlock,
    /// As the common block has it: H2C from bit 0, C2H from bit 16.
    pub(crate) credit_mode: u32,
    pub(crate) memory: Vec<u8>,
    pub(crate) fault: Fault,
    /// The channel whose hung engine goes on when the requests have been read.
    pub(crate) go_on_then: Option<usize>,
    /// Registers that read as something else.
    pub(crate) overrides: Vec<(u64, u32)>,
    /// Every register write, in order.
    pub(crate) writes: Vec<(u64, u32)>,
    /// Every register read, in order.
    pub(crate) reads: Vec<u64>,
    /// How many accesses are still answered by nobody.
    pub(crate) dark: u32,
    /// First words and lengths of the descriptors that ran.
    pub(crate) ran: Vec<(u32, u32)>,
}

pub(crate) struct Model {
    host: FakeHost,
    state: Mutex<State>,
}

impl Model {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn set(&self, fault: Fault) {
        self.state().fault = fault;
    }

    /// Ends what keeps a stuck engine busy.
    pub(crate) fn unstick(&self) {
        let mut state = self.state();
        state.fault = Fault::None;
        state.dark = 0;
        state.channels.iter_mut().for_each(|channel| channel.status &= !BUSY);
    }

    /// Lets the engine of `channel` go on that hangs.
    pub(crate) fn go_on(&self, channel: usize) {
        let mut state = self.state();
        self.run(&mut state, channel, u32::MAX);
        self.request(&mut state);
    }

    /// Has the engine of `channel` do `after` more descriptors and fail with `status`, which it writes back if `reported`.
    pub(crate) fn fail(&self, channel: usize, after: u32, status: u32, reported: bool) {
        let mut state = self.state();
        self.run(&mut state, channel, after);
        self.end_with(&mut state, channel, status, reported);
    }

    fn end_with(&self, state: &mut State, channel: usize, status: u32, reported: bool) {
        let own = &mut state.channels[channel];
        (own.status, own.credits) = (status, 0);
        if reported {
            let word = 1_u32 << 31 | own.count;
            self.host.write(own.writeback, &word.to_le_bytes()).unwrap();
        }
    }

    /// What a reset of the card leaves: registers that are zero.
    pub(crate) fn reset(&self) {
        let mut state = self.state();
        state.channels = Default::default();
        state.irq = IrqBlock::default();
        state.credit_mode = 0;
    }

    /// The design's logic raises or lowers an interrupt line of its own.
    pub(crate) fn set_user_line(&self, line: u8, up: bool) {
        let mut state = self.state();
        let others = state.irq.user & !(1 << line);
        state.irq.set_user(others | u32::from(up) << line, &self.host);
    }

    /// Tells the IRQ block what the channels request.
    fn request(&self, state: &mut State) {
        let requests = |channel: &Channel| channel.status & channel.interrupt_enable & !BUSY != 0;
        let lines = u32::from(requests(&state.channels[0])) | u32::from(requests(&state.channels[1])) << 1;
        state.irq.set_lines(lines, &self.host);
        let user = state.irq.user;
        state.irq.set_user(user, &self.host);
    }

    /// Runs descriptors of `channel` for its credits, at most `most`.
    fn run(&self, state: &mut State, channel: usize, most: u32) {
        let mut own = state.channels[channel];
        for _ in 0..most.min(own.credits) {
            let mut bytes = [0; 32];
            if self.host.read(own.at, &mut bytes).is_err() {
                own.status = 0x0008_0010;
                break;
            }
            let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            let pair = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
            assert_eq!(word(0) >> 16, 0xad4b, "magic");
            let (flags, length) = (word(0), word(4) as usize);
            assert!((1..=0x0fff_ffff).contains(&length) && flags & 1 == 0, "an engine that is never idle");
            state.ran.push((flags, word(4)));
            if channel == 0 {
                let card = usize::try_from(pair(16)).unwrap();
                self.host.read(pair(8), &mut state.memory[card..card + length]).unwrap();
            } else {
                let card = usize::try_from(pair(8)).unwrap();
                self.host.write(pair(16), &state.memory[card..card + length]).unwrap();
            }
            own.credits -= 1;
            own.count += 1;
            own.at = pair(24);
            if own.credits == 0 {
                own.status &= !BUSY;
            }
            let silent = matches!(state.fault, Fault::NoWriteback | Fault::LateWriteback(_));
            if flags & 2 != 0 {
                own.status |= own.control & COMPLETED;
            }
            if flags & 2 != 0 && own.control & 1 << 26 != 0 && !silent {
                self.host.write(own.writeback, &(own.count & 0xff_ffff).to_le_bytes()).unwrap();
            }
        }
        state.channels[channel] = own;
    }

    /// The engine of `channel` is given descriptors.
    fn give(&self, state: &mut State, channel: usize, credits: u32) {
        let own = &mut state.channels[channel];
        let mode = 1 << (16 * channel);
        let failed = own.status & !(BUSY | COMPLETED) != 0;
        if state.credit_mode & mode == 0 || own.control & 1 == 0 || failed {
            return;
        }
        own.credits = (own.credits + credits).min(1023);
        own.batches += 1;
        own.status |= BUSY;
        (own.looks, own.busy_until) = (0, None);
        let count = own.count;
        match state.fault {
            Fault::None | Fault::NoWriteback | Fault::LateWriteback(_) => self.run(state, channel, u32::MAX),
            Fault::Hang { after } => self.run(state, channel, after.saturating_sub(count)),
            Fault::Stuck
            | Fault::Flicker
            | Fault::EndsWhenStopped
            | Fault::Creep
            | Fault::Slow { .. }
            | Fault::Restless { .. }
            | Fault::Climb => {}
            Fault::Writeback(word) => self.host.write(own.writeback, &word.to_le_bytes()).unwrap(),
            Fault::Dark { accesses } => state.dark = accesses,
            Fault::LinkDown => self.host.set_link(false),
            Fault::Error { after, status } | Fault::ReportedError { after, status } => {
                self.run(state, channel, after);
                let reported = matches!(state.fault, Fault::ReportedError { .. });
                self.end_with(state, channel, status, reported);
            }
        }
    }

    fn set_control(&self, state: &mut State, channel: usize, control: u32) {
        let falls = state.channels[channel].control & !control & 1 != 0;
        if falls && state.fault == Fault::EndsWhenStopped {
            self.run(state, channel, 1);
        }
        let own = &mut state.channels[channel];
        let (rises, falls) = (control & !own.control & 1 != 0, own.control & !control & 1 != 0);
        own.control = control;
        match state.fault {
            Fault::Slow { descriptor } if falls => own.busy_until = Some(Instant::now() + descriptor),
            Fault::Stuck | Fault::Flicker => {}
            _ if falls => own.status &= !BUSY,
            _ => {}
        }
        if falls {
            own.credits = 0;
        }
        if rises {
            let (runs, batches) = (own.runs + 1, own.batches);
            let status = if state.fault == Fault::Stuck { own.status & BUSY } else { 0 };
            *own = Channel {
                status,
                count: 0,
                at: own.first,
                runs,
                batches,
                looks: 0,
                busy_until: None,
                ..*own
            };
        }
    }
}

impl FakeBar for Model {
    fn read32(&self, offset: u64) -> u32 {
        let mut state = self.state();
        state.reads.push(offset);
        if state.dark > 0 {
            state.dark = state.dark.saturating_sub(1);
            return u32::MAX;
        }
        if state.fault == Fault::Flicker && matches!(offset, 0x0040 | 0x1040) {
            // This one is answered, the next one is not.
            state.dark = 1;
        }
        if let Some((_, value)) = state.overrides.iter().find(|(at, _)| *at == offset) {
            return *value;
        }
        let channel = (offset >> 12 & 1) as usize;
        match offset {
            0x0000 | 0x1000 | 0x2000 | 0x3000 | 0x4000 | 0x5000 | 0x6000 => {
                0x1fc0_0006 | u32::try_from(offset >> 12).unwrap() << 16
            }
            0x0004 | 0x1004 => state.channels[channel].control,
            0x0040 | 0x1040 => {
                let own = &mut state.channels[channel];
                if own.busy_until.take_if(|until| Instant::now() >= *until).is_some() {
                    own.status &= !BUSY;
                }
                own.status
            }
            0x0044 | 0x1044 => {
                let own = &mut state.channels[channel];
                let status = own.status;
                own.status &= BUSY;
                self.request(&mut state);
                state.irq.arrive(&self.host);
                status
            }
            0x0048 | 0x1048 => {
                let fault = state.fault;
                let own = &mut state.channels[channel];
                own.looks += 1;
                match fault {
                    Fault::Creep => self.run(&mut state, channel, 1),
                    Fault::Restless { counts } => own.count = counts[own.looks as usize % 2],
                    Fault::Climb => own.count = own.looks,
                    Fault::LateWriteback(word) if own.looks == 2 => {
                        self.host.write(own.writeback, &word.to_le_bytes()).unwrap();
                    }
                    _ => {}
                }
                state.channels[channel].count
            }
            0x004c | 0x104c => 0x0001_0140,
            0x0088 | 0x1088 => halves(state.channels[channel].writeback)[0],
            0x008c | 0x108c => halves(state.channels[channel].writeback)[1],
            0x408c | 0x508c => state.channels[channel].credits,
            0x6020 => state.credit_mode,
            0x4080 | 0x5080 => halves(state.channels[channel].first)[0],
            0x4084 | 0x5084 => halves(state.channels[channel].first)[1],
            0x2044 => {
                let requests = state.irq.read(offset);
                if let Some(channel) = state.go_on_then.take() {
                    self.run(&mut state, channel, u32::MAX);
                    self.request(&mut state);
                }
                requests
            }
            0x2004..0x2100 => state.irq.read(offset),
            _ => 0,
        }
    }

    fn reset(&self) {
        self.unstick();
        Self::reset(self);
    }

    fn write32(&self, offset: u64, value: u32) {
        let mut state = self.state();
        state.writes.push((offset, value));
        if state.dark > 0 && state.fault != Fault::Flicker {
            state.dark -= 1;
            return;
        }
        let channel = (offset >> 12 & 1) as usize;
        let own = &mut state.channels[channel];
        let low = |old: u64| old & !0xffff_ffff | u64::from(value);
        let high = |old: u64| old & 0xffff_ffff | u64::from(value) << 32;
        match offset {
            0x0004 | 0x1004 => self.set_control(&mut state, channel, value),
            0x0008 | 0x1008 => {
                let control = own.control | value;
                self.set_control(&mut state, channel, control);
            }
            0x000c | 0x100c => {
                let control = own.control & !value;
                self.set_control(&mut state, channel, control);
            }
            0x0040 | 0x1040 => own.status &= !(value & !BUSY),
            0x0088 | 0x1088 => own.writeback = low(own.writeback),
            0x008c | 0x108c => own.writeback = high(own.writeback),
            0x4080 | 0x5080 => own.first = low(own.first),
            0x4084 | 0x5084 => own.first = high(own.first),
            0x0090 | 0x1090 => own.interrupt_enable = value,
            0x0098 | 0x1098 => own.interrupt_enable &= !value,
            0x2004..0x2100 => state.irq.write(offset, value),
            0x408c | 0x508c => self.give(&mut state, channel, value),
            0x6024 => state.credit_mode |= value,
            0x6028 => {
                state.credit_mode &= !value;
                for (channel, own) in state.channels.iter_mut().enumerate() {
                    own.credits = if value & 1 << (16 * channel) != 0 { 0 } else { own.credits };
                }
            }
            0x4088 | 0x5088 | 0x6018 => {}
            _ => panic!("the driver wrote {value:#x} to {offset:#x}"),
        }
        self.request(&mut state);
    }
}

/// A card with the model in BAR 2 and nothing useful in BAR 0, and what is around it.
pub(crate) struct Bench {
    pub(crate) host: FakeHost,
    pub(crate) model: Arc<Model>,
    pub(crate) fake: Arc<FakeCard>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with_vectors(2)
    }

    pub(crate) fn with_vectors(vectors: u16) -> Self {
        let host = FakeHost::new();
        let state = State {
            channels: [Channel::default(); 2],
            irq: IrqBlock::default(),
            credit_mode: 0,
            memory: vec![0; MEMORY],
            fault: Fault::None,
            go_on_then: None,
            overrides: Vec::new(),
            writes: Vec::new(),
            reads: Vec::new(),
            dark: 0,
            ran: Vec::new(),
        };
        let model = Arc::new(Model { host: host.clone(), state: Mutex::new(state) });
        let fake = FakeCard::builder(&host, 0x10ee, 0x7011)
            .bar(0, 0x2_0000, Nothing)
            .bar(2, 0x1_0000, Arc::clone(&model))
            .vectors(vectors)
            .build()
            .unwrap();
        Self { host, model, fake }
    }

    pub(crate) fn card(&self) -> Arc<dyn Card> {
        Arc::clone(&self.fake) as _
    }
}

/// The low and the high word.
fn halves(pair: u64) -> [u32; 2] {
    let bytes = pair.to_le_bytes();
    let (words, _) = bytes.as_chunks::<4>();
    [u32::from_le_bytes(words[0]), u32::from_le_bytes(words[1])]
}

/// A BAR with other registers.
struct Nothing;

impl FakeBar for Nothing {
    fn read32(&self, _offset: u64) -> u32 {
        0
    }

    fn write32(&self, offset: u64, _value: u32) {
        panic!("the driver wrote to {offset:#x} of a BAR that is not its");
    }
}
