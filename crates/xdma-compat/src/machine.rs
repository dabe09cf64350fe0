//! The bus and the cards of this process.
//!
//! They are opened when a device is first used: most programs that a script starts use none. A forked child has its parent's
//! memory and nothing of its rights, and so begins anew; what it inherited is left alone, as it is the parent's.

use crate::card::Card;
use crate::failure::{Failure, Outcome};
use crate::settings::Settings;
use jitney_broker::Bus;
use jitney_xdma::Xdma;
use rustix::io::Errno;
use rustix::process::{Pid, getpid};
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long the broker is waited for at once for a lease that somebody has; then it is asked again.
pub(crate) const PATIENCE: Duration = Duration::from_millis(200);

/// What this process has opened.
#[derive(Debug)]
pub(crate) struct Machine {
    pid: Pid,
    pub(crate) settings: Settings,
    bus: Mutex<Option<Arc<Bus>>>,
    cards: Mutex<Vec<Option<Arc<Card>>>>,
}

/// That of this process, or of the parent that it was forked from.
static MACHINE: AtomicPtr<Machine> = AtomicPtr::new(std::ptr::null_mut());

impl Machine {
    /// That of this process.
    pub(crate) fn get() -> &'static Self {
        let known = MACHINE.load(Ordering::Acquire);
        if let Some(machine) = Self::current() {
            return machine;
        }
        let new: &'static Self = Box::leak(Box::new(Self {
            pid: getpid(),
            settings: Settings::of_environment(),
            bus: Mutex::default(),
            cards: Mutex::default(),
        }));
        let pointer = std::ptr::from_ref(new).cast_mut();
        match MACHINE.compare_exchange(known, pointer, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                crate::process::at_exit(say_goodbye);
                new
            }
            // Another thread was first; nothing of the new one was opened, and its few bytes stay.
            Err(_) => Self::get(),
        }
    }

    /// That of this process, if it has one: nothing is made in a child that shares its parent's memory until it starts another
    /// program (`vfork`).
    pub(crate) fn current() -> Option<&'static Self> {
        shared(MACHINE.load(Ordering::Acquire)).filter(|machine| machine.pid == getpid())
    }

    fn bus(&self) -> Outcome<Arc<Bus>> {
        let mut bus = lock(&self.bus);
        match &*bus {
            Some(bus) => Ok(Arc::clone(bus)),
            None => {
                let opened = Bus::options().wait(PATIENCE).open()?;
                Ok(Arc::clone(bus.insert(Arc::new(opened))))
            }
        }
    }

    /// How many cards have numbers.
    ///
    /// # Errors
    /// Why the bus cannot be opened.
    pub(crate) fn count(&self) -> Outcome<usize> {
        match &self.settings.cards {
            Some(names) => Ok(names.len()),
            None => {
                let mut cards = lock(&self.cards);
                self.number(&mut cards)?;
                Ok(cards.len())
            }
        }
    }

    /// Card `number`.
    ///
    /// # Errors
    /// ENOENT if there is none, and why it cannot be opened.
    pub(crate) fn card(&self, number: u8) -> Outcome<Arc<Card>> {
        let mut cards = lock(&self.cards);
        let index = usize::from(number);
        if let Some(Some(card)) = cards.get(index) {
            return Ok(Arc::clone(card));
        }
        match &self.settings.cards {
            None => self.number(&mut cards)?,
            Some(names) => {
                if cards.len() < names.len() {
                    cards.resize(names.len(), None);
                }
                if let (Some(name), Some(place)) = (names.get(index), cards.get_mut(index)) {
                    *place = Some(Arc::new(Card::open(self.bus()?.card(name)?)?));
                }
            }
        }
        let there = cards.len();
        cards.get(index).cloned().flatten().ok_or_else(|| {
            let why = match there {
                0 => "there is no card with an XDMA".to_owned(),
                1 => format!("there is no xdma{number}: there is one card, xdma0"),
                _ => format!("there is no xdma{number}: there are {there} cards, from xdma0 on"),
            };
            Failure::new(Errno::NOENT, why)
        })
    }

    /// Opens all cards of the bus, if that was not done, and numbers those with an XDMA.
    fn number(&self, cards: &mut Vec<Option<Arc<Card>>>) -> Outcome<()> {
        if cards.is_empty() {
            for card in self.bus()?.open_cards()? {
                if Xdma::find(&*card)?.is_some() {
                    cards.push(Some(Arc::new(Card::open(card)?)));
                }
            }
        }
        Ok(())
    }

    /// The cards that were opened so far.
    pub(crate) fn opened(&self) -> Vec<Arc<Card>> {
        lock(&self.cards).iter().flatten().cloned().collect()
    }
}

/// Lets go of what is not in use, so that the broker need not clear up after this process.
extern "C" fn say_goodbye() {
    let Some(machine) = Machine::current() else { return };
    // Another thread may be in the middle of something, and is ended there as by any other exit.
    let Ok(_inside) = crate::inside::Inside::enter() else { return };
    for card in machine.opened() {
        card.let_go_at_once();
    }
    if let Ok(mut cards) = machine.cards.try_lock() {
        cards.clear();
    }
    if let Ok(mut bus) = machine.bus.try_lock() {
        bus.take();
    }
}

/// A thread that panicked with it has left it whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(unsafe_code, reason = "what a static pointer points at")]
fn shared(machine: *mut Machine) -> Option<&'static Machine> {
    // SAFETY: it is null, or was leaked by `get` before it was stored, and nobody has it to write to.
    unsafe { machine.as_ref() }
}
