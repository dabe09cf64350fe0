//! Channels that are leased for transfers.
//!
//! The driver lets any number of programs open a channel and carries out their transfers one after the other. Here a lease
//! takes the place of that line: it is taken for a transfer, and kept for a moment because the next one may follow at once, but
//! never so long that another program would have to wait for more than a few transfers.

use crate::card::Card;
use crate::failure::{Failure, Outcome};
use crate::machine::{Machine, lock};
use jitney_vfio::{DmaBuffer, DmaRequest};
use jitney_xdma::{Channel, Error};
use rustix::io::Errno;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

/// How long a channel is kept that nobody uses.
const IDLE: Duration = Duration::from_millis(20);
/// How long one is kept that is in use again and again: then others have their turn.
const TURN: Duration = Duration::from_millis(100);
/// How often it is looked whether channels are in use.
const LOOK: Duration = Duration::from_millis(10);
/// How long to wait before asking again when the broker did not wait.
const PAUSE: Duration = Duration::from_millis(5);
/// As good as no limit, and no number that a clock could not be advanced by.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(365 * 86_400);
/// Buffers of more than this are not kept.
const KEPT: u64 = 16 << 20;

/// A channel of this process, which it may have at the moment.
#[derive(Debug)]
pub(crate) struct Slot<C> {
    held: Mutex<Held<C>>,
    one_address: AtomicBool,
}

#[derive(Debug)]
struct Held<C> {
    channel: Option<C>,
    buffers: [Option<DmaBuffer>; 2],
    since: Instant,
    used: Instant,
}

impl<C> Default for Slot<C> {
    fn default() -> Self {
        let now = Instant::now();
        let held = Held { channel: None, buffers: [None, None], since: now, used: now };
        Self { held: Mutex::new(held), one_address: AtomicBool::new(false) }
    }
}

/// A channel, for a transfer.
#[derive(Debug)]
pub(crate) struct Lease<'a, C> {
    held: MutexGuard<'a, Held<C>>,
}

impl<D> Slot<Channel<D>> {
    /// The channel, for a transfer; opened if this process does not have it.
    pub(crate) fn lease(
        &self,
        open: impl Fn() -> Result<Channel<D>, Error>,
    ) -> Outcome<Lease<'_, Channel<D>>> {
        let mut held = lock(&self.held);
        if held.channel.is_some() && held.since.elapsed() > TURN {
            held.channel = None;
        }
        if held.channel.is_none() {
            let settings = &Machine::get().settings;
            let timeout = settings.timeout.unwrap_or(FOR_EVER);
            let mut channel = in_line(settings.wait, open)?.with_timeout(timeout);
            if self.one_address.load(Ordering::Relaxed) {
                channel = channel.at_one_address()?;
            }
            held.channel = Some(channel);
            held.since = Instant::now();
            look_after_channels()?;
        }
        Ok(Lease { held })
    }
}

impl<C> Slot<C> {
    /// Whether all data goes to one address; set if `one` says so, which holds from the next transfer on.
    pub(crate) fn one_address(&self, one: Option<bool>) -> bool {
        let Some(one) = one else { return self.one_address.load(Ordering::Relaxed) };
        let mut held = lock(&self.held);
        if self.one_address.swap(one, Ordering::Relaxed) != one {
            held.channel = None;
        }
        one
    }

    /// Gives the channel back if no transfer uses it, and none did a moment ago, unless that is not to matter. Returns whether it is
    /// kept.
    pub(crate) fn let_go(&self, at_once: bool) -> bool {
        let mut held = match self.held.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return true,
        };
        if at_once || held.used.elapsed() > IDLE {
            held.channel = None;
        }
        held.channel.is_some()
    }
}

impl<C> Lease<'_, C> {
    /// The channel.
    ///
    /// # Errors
    /// None: it is there as long as this is.
    pub(crate) fn channel(&self) -> Outcome<&C> {
        self.held.channel.as_ref().ok_or_else(|| Failure::silent(Errno::IO))
    }

    /// One of two buffers of at least `size` bytes, taken until it is [given back](Self::keep).
    ///
    /// # Errors
    /// ENOMEM and what else the owner of the card says.
    pub(crate) fn buffer(&mut self, card: &Card, which: usize, size: u64, top: u64) -> Outcome<DmaBuffer> {
        let kept = self.held.buffers.get_mut(which % 2).and_then(Option::take);
        match kept {
            Some(buffer) if buffer.size() >= size => Ok(buffer),
            _ => Ok(card.xdma.card().dma_buffer(DmaRequest::new(size.max(1)).below(top))?),
        }
    }

    /// Keeps a buffer that no transfer uses for the next one.
    pub(crate) fn keep(&mut self, which: usize, buffer: DmaBuffer) {
        if let Some(place) = self.held.buffers.get_mut(which % 2).filter(|_| buffer.size() <= KEPT) {
            *place = Some(buffer);
        }
    }
}

impl<C> Drop for Lease<'_, C> {
    fn drop(&mut self) {
        self.held.used = Instant::now();
    }
}

/// Opens what others may have, as soon as they do not.
///
/// # Errors
/// EBUSY if they have it for too long.
pub(crate) fn in_line<C>(wait: Duration, open: impl Fn() -> Result<C, Error>) -> Outcome<C> {
    let until = Instant::now().checked_add(wait.min(FOR_EVER));
    loop {
        let asked = Instant::now();
        let failure = match open() {
            Ok(channel) => return Ok(channel),
            Err(error) => Failure::from(error),
        };
        // Whoever waited at the broker in vain is told so.
        let is_busy = matches!(failure.errno, Errno::BUSY | Errno::TIMEDOUT);
        if !is_busy || until.is_some_and(|until| Instant::now() >= until) {
            let errno = if is_busy { Errno::BUSY } else { failure.errno };
            return Err(Failure { errno, ..failure });
        }
        // Whoever has it may be waiting for what this process has.
        Machine::get().opened().iter().for_each(|card| card.let_go_of_idle());
        if asked.elapsed() < PAUSE {
            std::thread::sleep(PAUSE);
        }
    }
}

/// The process in which somebody looks after channels; 0 if nobody does. No lock, which a fork could copy while it is held.
static LOOKED_AFTER: AtomicI32 = AtomicI32::new(0);

/// Has channels that nobody uses given back, as long as there are some.
fn look_after_channels() -> Outcome<()> {
    let own = rustix::process::getpid().as_raw_pid();
    if LOOKED_AFTER.swap(own, Ordering::SeqCst) == own {
        return Ok(());
    }
    let started = crate::process::start_thread("jitney-xdma", move || {
        let kept = || Machine::get().opened().iter().fold(false, |kept, card| kept | card.let_go());
        loop {
            std::thread::sleep(LOOK);
            if kept() {
                continue;
            }
            LOOKED_AFTER.store(0, Ordering::SeqCst);
            // Whoever opened a channel just before has relied on this thread.
            if !kept() || LOOKED_AFTER.swap(own, Ordering::SeqCst) == own {
                return;
            }
        }
    });
    if started.is_err() {
        LOOKED_AFTER.store(0, Ordering::SeqCst);
    }
    started
}
