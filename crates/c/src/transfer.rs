//! `jitney_transfer`: a transfer under way.

use crate::boundary::{DONE, run};
use crate::handle::{self, object};
use crate::pointer::give;
use crate::time::until;
use jitney::xdma;
use jitney_faces::{Failure, Flight, Kind, SharedCard, Waking, is_forked};
use jitney_memory::EventFd;
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A transfer under way, or over.
#[derive(Debug)]
pub struct Transfer {
    flight: Arc<Flight>,
    /// How a poll loop hears of its end; made when it is first asked for.
    heard: OnceLock<Heard>,
    _card: Arc<SharedCard>,
}
object!(Transfer, 0x96, "the transfer");

#[derive(Debug)]
enum Heard {
    Waking(Waking),
    /// It was over by then.
    Over(EventFd),
}

/// What a transfer did.
#[repr(C)]
#[derive(Debug)]
pub struct Completed {
    /// Bytes moved.
    pub bytes: u64,
    /// Descriptors that they took.
    pub descriptors: u64,
    /// From when it was submitted until its end was seen, in nanoseconds.
    pub nanoseconds: u64,
    /// Of what was received from a stream: 1 if the bytes end a packet. Otherwise 1.
    pub ends_packet: u32,
}

impl Completed {
    pub(crate) fn new(done: xdma::Completed) -> Self {
        Self {
            bytes: done.bytes,
            descriptors: done.descriptors,
            nanoseconds: u64::try_from(done.duration.as_nanos()).unwrap_or(u64::MAX),
            ends_packet: done.ends_packet.into(),
        }
    }
}

impl Transfer {
    pub(crate) const fn new(flight: Arc<Flight>, card: Arc<SharedCard>) -> Self {
        Self { flight, heard: OnceLock::new(), _card: card }
    }

    /// Looks whether it has ended, for `timeout`. If it has not, its descriptor is unreadable until there is reason to look again.
    fn look(&self, timeout: Duration) -> Result<Option<xdma::Completed>, Failure> {
        if timeout.is_zero() {
            // Before the descriptor is looked at, which it is only in the parent.
            self.flight.pending()?;
            if let Some(Heard::Waking(waking)) = self.heard.get() {
                waking.poll()?;
            }
        }
        self.flight.look(timeout)
    }

    fn descriptor(&self) -> Result<c_int, Failure> {
        let pending = self.flight.pending()?;
        if is_forked() {
            let what = "in a process that was forked no descriptor tells of a transfer: what would signal it is its parent's";
            return Err(Failure::new(Kind::Forked, what).with_remedy("use jitney_transfer_wait"));
        }
        let heard = match self.heard.get() {
            Some(heard) => heard,
            None => {
                let heard = match pending {
                    Some(pending) => {
                        let waking = Waking::new(pending)?;
                        waking.poll()?;
                        Heard::Waking(waking)
                    }
                    None => {
                        let event = EventFd::new()?;
                        event.signal()?;
                        Heard::Over(event)
                    }
                };
                // Another thread may have been faster.
                self.heard.get_or_init(|| heard)
            }
        };
        Ok(match heard {
            Heard::Waking(waking) => waking.event().as_raw_fd(),
            Heard::Over(event) => event.as_fd().as_raw_fd(),
        })
    }
}

/// Waits for the end of a transfer for `timeout_ms` milliseconds at most: 0 only looks, below 0 is as long as it takes. Returns 1 if
/// it has ended well, and `completed`, which may be NULL, says what it did; 0 if it goes on; else with what it has failed,
/// the same each time.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_transfer_wait(
    transfer: *mut Transfer,
    timeout_ms: c_int,
    completed: Option<&mut MaybeUninit<Completed>>,
) -> c_int {
    run(|| match until(timeout_ms, |slice| handle::get(transfer)?.look(slice))? {
        Some(done) => {
            give(completed, Completed::new(done));
            Ok(1)
        }
        None => Ok(0),
    })
}

/// Ends a transfer. Returns 1 if it was not over by then: what it has written stays written, and waiting says `-ECANCELED`. 0 if it
/// was over.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_transfer_cancel(transfer: *mut Transfer) -> c_int {
    run(|| Ok(handle::get(transfer)?.flight.cancel()?.into()))
}

/// A descriptor for `poll`: readable when there is reason to look, by `jitney_transfer_wait` with 0, which says whether the transfer has
/// ended and makes it unreadable again if not. It is the library's, until the transfer is freed.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_transfer_fd(transfer: *mut Transfer) -> c_int {
    run(|| handle::get(transfer)?.descriptor())
}

/// Frees a transfer; NULL is none. It goes on, and nobody hears how it ends. The engine is stopped when its channel is freed, too.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_transfer_free(transfer: *mut Transfer) -> c_int {
    run(|| handle::free(transfer).and(DONE))
}
