//! The IRQ block (PG195, "IRQ Block Registers (0x2)"): which requests become which interrupt vectors.

use crate::axi::merge;
use crate::fault::Faults;
use crate::function::{Host, InterruptKind};
use jitney_xdma_spec::irq::{CHANNEL_INTERRUPTS, USER_INTERRUPTS};
use jitney_xdma_spec::{Identifier, Submodule, VectorNumbers};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Offsets of the registers in the block, as patterns.
mod at {
    use jitney_xdma_spec::irq;

    pub(super) const IDENTIFIER: u32 = irq::IDENTIFIER.offset();
    pub(super) const USER_ENABLE: u32 = irq::USER_ENABLE.offset();
    pub(super) const USER_ENABLE_SET: u32 = irq::USER_ENABLE_SET.offset();
    pub(super) const USER_ENABLE_CLEAR: u32 = irq::USER_ENABLE_CLEAR.offset();
    pub(super) const CHANNEL_ENABLE: u32 = irq::CHANNEL_ENABLE.offset();
    pub(super) const CHANNEL_ENABLE_SET: u32 = irq::CHANNEL_ENABLE_SET.offset();
    pub(super) const CHANNEL_ENABLE_CLEAR: u32 = irq::CHANNEL_ENABLE_CLEAR.offset();
    pub(super) const USER_REQUEST: u32 = irq::USER_REQUEST.offset();
    pub(super) const CHANNEL_REQUEST: u32 = irq::CHANNEL_REQUEST.offset();
    pub(super) const USER_PENDING: u32 = irq::USER_PENDING.offset();
    pub(super) const CHANNEL_PENDING: u32 = irq::CHANNEL_PENDING.offset();
    pub(super) const USER_VECTORS: u32 = irq::USER_VECTORS.offset();
    pub(super) const USER_VECTORS_END: u32 = USER_VECTORS + irq::USER_INTERRUPTS as u32;
    pub(super) const CHANNEL_VECTORS: u32 = irq::CHANNEL_VECTORS.offset();
    pub(super) const CHANNEL_VECTORS_END: u32 = CHANNEL_VECTORS + irq::CHANNEL_INTERRUPTS as u32;
}

/// The block. Requests are levels; a vector is raised towards the host for every request that rises behind its mask.
pub(super) struct IrqBlock {
    host: Arc<dyn Host>,
    faults: Arc<Faults>,
    /// Channels that the design has, as packed bits.
    channels: u32,
    /// User interrupts that it has.
    users: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    user: Group<4>,
    channel: Group<2>,
    /// User lines that fall by themselves.
    pulses: [Option<Pulse>; USER_INTERRUPTS as usize],
    /// The requests behind their masks that the host was told of, and the vectors raised for them.
    signalled: Requests,
    raised: u32,
}

/// A user line that was raised for a while.
#[derive(Debug, Clone, Copy)]
struct Pulse {
    /// How long it stays up from when software was told of it.
    hold: Duration,
    /// When that was: its message was sent or, with INTx, the request was read.
    told: Option<Instant>,
}

/// One kind of interrupt source: its mask, its lines and the vectors of each.
#[derive(Debug)]
struct Group<const N: usize> {
    enable: u32,
    lines: u32,
    vectors: [VectorNumbers; N],
}

/// Requests behind their masks, one bit for each source.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Requests {
    user: u32,
    channel: u32,
}

// Not derived: the standard library has no default for arrays of any length.
impl<const N: usize> Default for Group<N> {
    fn default() -> Self {
        Self { enable: 0, lines: 0, vectors: [VectorNumbers::default(); N] }
    }
}

impl<const N: usize> Group<N> {
    fn requests(&self) -> u32 {
        self.lines & self.enable
    }

    fn set_line(&mut self, bit: u8, level: bool) {
        self.lines = self.lines & !(1 << bit) | u32::from(level) << bit;
    }

    /// The vector that a source is directed to.
    fn vector(&self, bit: u8) -> u8 {
        self.vectors.get(usize::from(bit / 4)).map_or(0, |vectors| vectors.get(bit % 4))
    }

    /// The vectors that these sources are directed to, as bits.
    fn vectors_of(&self, sources: u32) -> u32 {
        (0..u8::try_from(4 * N).unwrap_or(0))
            .filter(|bit| sources >> bit & 1 == 1)
            .fold(0, |vectors, bit| vectors | 1 << self.vector(bit))
    }
}

impl State {
    fn vectors_of(&self, requests: Requests) -> u32 {
        self.user.vectors_of(requests.user) | self.channel.vectors_of(requests.channel)
    }
}

impl IrqBlock {
    /// The block of a design with so many channels, in both directions together, and so many user interrupts.
    pub(super) fn new(host: Arc<dyn Host>, faults: Arc<Faults>, channels: u8, users: u8) -> Self {
        let channels = low_bits(u32::from(channels.min(CHANNEL_INTERRUPTS)));
        let users = low_bits(u32::from(users.min(USER_INTERRUPTS)));
        Self { host, faults, channels, users, state: Mutex::default() }
    }

    /// Sets the level of a channel's request, by its packed bit.
    pub(super) fn set_channel_line(&self, bit: u8, level: bool) {
        let mut state = self.state();
        state.channel.set_line(bit, level);
        self.signal(&mut state);
    }

    /// Sets the level of a user interrupt's request line.
    pub(super) fn set_user_line(&self, interrupt: u8, level: bool) {
        let mut state = self.state();
        state.user.set_line(interrupt % USER_INTERRUPTS, level);
        state.pulses[usize::from(interrupt % USER_INTERRUPTS)] = None;
        self.signal(&mut state);
    }

    /// Raises a user interrupt's request line until software was told of it, and for `hold` from then on; not longer than until
    /// software masks it.
    pub(super) fn pulse_user_line(&self, interrupt: u8, hold: Duration) {
        let mut state = self.state();
        // What should have fallen by now rises anew.
        self.lower_pulses(&mut state, 0, 0);
        let number = interrupt % USER_INTERRUPTS;
        state.user.set_line(number, true);
        state.pulses[usize::from(number)].get_or_insert(Pulse { hold, told: None });
        self.signal(&mut state);
        self.lower_pulses(&mut state, 0, 0);
    }

    /// Lowers the lines whose time is over. Of the requests in `seen` software takes notice just now, and the lines in `masked` it is
    /// about to mask.
    fn lower_pulses(&self, state: &mut State, seen: u32, masked: u32) {
        let requests = state.user.requests();
        if requests == 0 || state.pulses.iter().all(Option::is_none) {
            return;
        }
        let (now, kind) = (Instant::now(), self.host.interrupt_kind());
        let State { user, pulses, .. } = state;
        let mut fallen = false;
        for (number, place) in (0..USER_INTERRUPTS).zip(pulses) {
            let is_in = |set: u32| set >> number & 1 == 1;
            let Some(pulse) = place.as_mut().filter(|_| is_in(requests)) else { continue };
            let told = match kind {
                InterruptKind::None => false,
                InterruptKind::Intx => is_in(seen | masked),
                InterruptKind::Msi | InterruptKind::MsiX => {
                    !self.host.interrupt_pending(user.vector(number).into())
                }
            };
            if told {
                pulse.told.get_or_insert(now);
            }
            if pulse.told.is_some_and(|told| is_in(masked) || now.duration_since(told) >= pulse.hold) {
                *place = None;
                user.set_line(number, false);
                fallen = true;
            }
        }
        if fallen {
            self.signal(state);
        }
    }

    /// Masks and vectors to their reset values. Lines follow their sources; the logic that makes pulses is reset, too.
    pub(super) fn reset(&self) {
        let mut state = self.state();
        for (number, pulse) in (0..).zip(std::mem::take(&mut state.pulses)) {
            if pulse.is_some() {
                state.user.set_line(number, false);
            }
        }
        state.user = Group { lines: state.user.lines, ..Group::default() };
        state.channel = Group { lines: state.channel.lines, ..Group::default() };
        self.signal(&mut state);
    }

    pub(super) fn read(&self, register: u32) -> u32 {
        let mut state = self.state();
        self.lower_pulses(&mut state, 0, 0);
        let value = Self::value(&state, register);
        if matches!(register, at::USER_REQUEST | at::USER_PENDING) {
            self.lower_pulses(&mut state, value, 0);
        }
        value
    }

    fn value(state: &State, register: u32) -> u32 {
        match register {
            at::IDENTIFIER => Identifier::of(Submodule::Irq, 0, false).into(),
            at::USER_ENABLE => state.user.enable,
            at::CHANNEL_ENABLE => state.channel.enable,
            at::USER_REQUEST => state.user.requests(),
            at::CHANNEL_REQUEST => state.channel.requests(),
            at::USER_PENDING => state.user.lines,
            at::CHANNEL_PENDING => state.channel.lines,
            at::USER_VECTORS..at::USER_VECTORS_END => {
                state.user.vectors[place(register, at::USER_VECTORS)].into()
            }
            at::CHANNEL_VECTORS..at::CHANNEL_VECTORS_END => {
                state.channel.vectors[place(register, at::CHANNEL_VECTORS)].into()
            }
            _ => 0,
        }
    }

    pub(super) fn write(&self, register: u32, value: u32, lanes: u32) {
        let mut state = self.state();
        let masked = match register {
            at::USER_ENABLE => lanes & !value,
            at::USER_ENABLE_CLEAR => value,
            _ => 0,
        };
        self.lower_pulses(&mut state, 0, masked);
        let State { user, channel, .. } = &mut *state;
        match register {
            at::USER_ENABLE => user.enable = merge(user.enable, value, lanes),
            at::USER_ENABLE_SET => user.enable |= value,
            at::USER_ENABLE_CLEAR => user.enable &= !value,
            at::CHANNEL_ENABLE => channel.enable = merge(channel.enable, value, lanes),
            at::CHANNEL_ENABLE_SET => channel.enable |= value,
            at::CHANNEL_ENABLE_CLEAR => channel.enable &= !value,
            at::USER_VECTORS..at::USER_VECTORS_END => {
                let vectors = &mut user.vectors[place(register, at::USER_VECTORS)];
                *vectors = merge((*vectors).into(), value, lanes).into();
            }
            at::CHANNEL_VECTORS..at::CHANNEL_VECTORS_END => {
                let vectors = &mut channel.vectors[place(register, at::CHANNEL_VECTORS)];
                *vectors = merge((*vectors).into(), value, lanes).into();
            }
            _ => {}
        }
        user.enable &= self.users;
        channel.enable &= self.channels;
        self.signal(&mut state);
        self.lower_pulses(&mut state, 0, 0);
    }

    /// Tells the host what changed.
    fn signal(&self, state: &mut State) {
        let requests = Requests { user: state.user.requests(), channel: state.channel.requests() };
        let before = state.raised;
        let after = state.vectors_of(requests);
        let rising = Requests {
            user: requests.user & !state.signalled.user,
            channel: requests.channel & !state.signalled.channel,
        };
        let fires = state.vectors_of(rising);
        for vector in bits((before & !after) | (before & fires)) {
            self.host.set_interrupt(vector, false);
        }
        // Every source sends a message of its own, also when another one holds the same vector already: a driver that
        // has just looked at the one may have looked at the other before.
        for vector in bits(fires | (after & !before)) {
            if !self.faults.loses_interrupt() {
                self.host.set_interrupt(vector, true);
            }
        }
        state.signalled = requests;
        state.raised = after;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which of several registers in a row an offset names.
const fn place(register: u32, first: u32) -> usize {
    (register - first) as usize / 4
}

/// The `count` lowest bits; all for 32 and more.
const fn low_bits(count: u32) -> u32 {
    match 1u32.checked_shl(count) {
        Some(next) => next - 1,
        None => u32::MAX,
    }
}

/// The numbers of the bits that are set, lowest first.
fn bits(set: u32) -> impl Iterator<Item = u16> {
    (0..32).filter(move |bit| set >> bit & 1 == 1)
}
