//! `jitney_lease`: a right on a named part of a card.

use crate::ahead::Ahead;
use crate::boundary::{DONE, run};
use crate::card::Card;
use crate::handle::{self, object};
use crate::pointer::Text;
use crate::time::{duration, until};
use jitney::vfio::{self, LeaseRequest, Mode, Part, Will};
use jitney_faces::{Failure, SharedCard};
use jitney_memory::EventFd;
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Others who also share may have a right on the same part, for `jitney_lease_take`.
pub const JITNEY_LEASE_SHARED: u32 = 1;
/// `jitney_lease_take` does not wait: `jitney_lease_wait` and `jitney_lease_fd` do.
pub const JITNEY_LEASE_LATER: u32 = 2;

/// A right on a named part of a card, or the wait for one.
#[derive(Debug)]
pub struct Lease {
    state: Mutex<State>,
    _card: Arc<SharedCard>,
}
object!(Lease, 0x99, "the lease");

#[derive(Debug)]
enum State {
    Had {
        _lease: vfio::Lease,
        /// What tells a poll loop so.
        event: Option<EventFd>,
    },
    Waiting(Ahead<vfio::Lease>),
}

impl Lease {
    fn with<R>(&self, look: impl FnOnce(&mut State) -> Result<R, Failure>) -> Result<R, Failure> {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn look(&mut self, timeout: Duration) -> Result<Option<()>, Failure> {
        let Self::Waiting(ahead) = self else { return Ok(Some(())) };
        let Some(lease) = ahead.take(timeout)? else { return Ok(None) };
        *self = Self::Had { _lease: lease, event: None };
        Ok(Some(()))
    }

    fn descriptor(&mut self) -> Result<c_int, Failure> {
        match self {
            Self::Waiting(ahead) => Ok(ahead.descriptor()),
            Self::Had { event: Some(event), .. } => Ok(event.as_fd().as_raw_fd()),
            Self::Had { event, .. } => {
                let made = event.insert(EventFd::new()?);
                made.signal()?;
                Ok(made.as_fd().as_raw_fd())
            }
        }
    }
}

/// Takes a right on a part of the card, as `h2c0`, `whole` or a name of one's own, that nobody else has until it is freed; `flags` are
/// `JITNEY_LEASE_SHARED` and `JITNEY_LEASE_LATER`, or 0. Stands in line at the broker for `timeout_ms` milliseconds at most: 0 is not
/// at all, below 0 is as long as it takes. `-EBUSY` if another program has it, and `holder` says who; what this program itself
/// has is never waited for.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_lease_take(
    card: *mut Card,
    part: Text,
    flags: u32,
    timeout_ms: c_int,
    lease: Option<&mut MaybeUninit<*mut Lease>>,
) -> c_int {
    run(|| {
        let card = Arc::clone(&handle::get(card)?.shared);
        let part: Part = part.needed("the part's name")?.parse()?;
        if flags & !(JITNEY_LEASE_SHARED | JITNEY_LEASE_LATER) != 0 {
            return Err(Failure::invalid(format!("there are no flags {flags:#x}: see JITNEY_LEASE_SHARED")));
        }
        let mode = if flags & JITNEY_LEASE_SHARED == 0 { Mode::Exclusive } else { Mode::Shared };
        let wait = Some(duration(timeout_ms).unwrap_or(Duration::MAX));
        let request = LeaseRequest { part, mode, will: Will::none(), wait };
        let opened = card.slot.get()?;
        let state = if flags & JITNEY_LEASE_LATER == 0 {
            State::Had { _lease: opened.lease(request)?, event: None }
        } else {
            let mut request = Some(request);
            State::Waiting(Ahead::start(move |_| match request.take() {
                Some(request) => Ok(Some(opened.lease(request)?)),
                None => Err(Failure::closed("the wait for the lease")),
            })?)
        };
        handle::hand_out(lease, Lease { state: Mutex::new(state), _card: card })
    })
}

/// Waits for a lease that was asked for with `JITNEY_LEASE_LATER`, for `timeout_ms` milliseconds at most: 0 only looks, below 0 is as
/// long as it takes. Returns 1 if it is had, 0 if not yet; else why it cannot be.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_lease_wait(lease: *mut Lease, timeout_ms: c_int) -> c_int {
    run(|| {
        let look = |slice| handle::get(lease)?.with(|state| state.look(slice));
        Ok(until(timeout_ms, look)?.is_some().into())
    })
}

/// A descriptor for `poll`: readable when the lease is had or cannot be. It is the library's, until the next call of
/// `jitney_lease_wait` that returns 1, or until the lease is freed.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_lease_fd(lease: *mut Lease) -> c_int {
    run(|| handle::get(lease)?.with(State::descriptor))
}

/// Frees a lease, and the part is others'; NULL is none. One that is still waited for is given back as soon as it comes.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_lease_free(lease: *mut Lease) -> c_int {
    run(|| handle::free(lease).and(DONE))
}
