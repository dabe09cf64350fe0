//! `jitney_interrupt`: an interrupt line of the design's own, or a vector.

use crate::boundary::{DONE, run};
use crate::card::Card;
use crate::handle::{self, object};
use crate::time::until;
use jitney::{vfio, xdma};
use jitney_faces::{Failure, SharedCard};
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// An interrupt, which is this program's until it is freed.
#[derive(Debug)]
pub struct Interrupt {
    source: Mutex<Source>,
    _card: Arc<SharedCard>,
}
object!(Interrupt, 0x98, "the interrupt");

#[derive(Debug)]
enum Source {
    Line(xdma::UserInterrupt),
    Vector(vfio::Interrupt),
}

impl Interrupt {
    fn new(source: Source, card: Arc<SharedCard>) -> Self {
        Self { source: Mutex::new(source), _card: card }
    }

    fn with<R>(&self, look: impl FnOnce(&mut Source) -> Result<R, Failure>) -> Result<R, Failure> {
        look(&mut self.source.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Source {
    /// Whether it has fired, which it can after this.
    fn wait(&mut self, timeout: Duration) -> Result<bool, Failure> {
        Ok(match self {
            Self::Line(line) => line.wait(Some(timeout))?,
            Self::Vector(vector) => vector.wait(Some(timeout))?,
        })
    }
}

/// Takes interrupt line `line` of the design's own logic, behind an XDMA.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_interrupt_line(
    card: *mut Card,
    line: u8,
    interrupt: Option<&mut MaybeUninit<*mut Interrupt>>,
) -> c_int {
    run(|| {
        let card = Arc::clone(&handle::get(card)?.shared);
        let taken = card.xdma()?.user_interrupt(line)?;
        handle::hand_out(interrupt, Interrupt::new(Source::Line(taken), card))
    })
}

/// Takes interrupt vector `vector` of the card, for a driver of one's own.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_interrupt_vector(
    card: *mut Card,
    vector: u16,
    interrupt: Option<&mut MaybeUninit<*mut Interrupt>>,
) -> c_int {
    run(|| {
        let card = Arc::clone(&handle::get(card)?.shared);
        let taken = card.slot.get()?.interrupt(vector)?;
        handle::hand_out(interrupt, Interrupt::new(Source::Vector(taken), card))
    })
}

/// Waits until the interrupt has fired since the last call, for `timeout_ms` milliseconds at most: 0 only looks, below 0 is as long as it
/// takes. Returns 1 if it has, 0 if not. Of a line, the logic is to be told that it was heard before the next call: one that is
/// still up counts as raised again.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_interrupt_wait(interrupt: *mut Interrupt, timeout_ms: c_int) -> c_int {
    run(|| {
        let look = |slice| {
            let fired = handle::get(interrupt)?.with(|source| source.wait(slice))?;
            Ok(fired.then_some(()))
        };
        Ok(until(timeout_ms, look)?.is_some().into())
    })
}

/// A descriptor for `poll`: readable when there is reason to look, by `jitney_interrupt_wait` with 0. That is called until it returns
/// 0, which lets the interrupt fire again. The descriptor is the library's, until the interrupt is freed.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_interrupt_fd(interrupt: *mut Interrupt) -> c_int {
    run(|| {
        handle::get(interrupt)?.with(|source| match source {
            Source::Line(line) => {
                line.arm()?;
                Ok(line.as_fd().as_raw_fd())
            }
            Source::Vector(vector) => Ok(vector.as_fd().as_raw_fd()),
        })
    })
}

/// Frees an interrupt; NULL is none.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_interrupt_free(interrupt: *mut Interrupt) -> c_int {
    run(|| handle::free(interrupt).and(DONE))
}
