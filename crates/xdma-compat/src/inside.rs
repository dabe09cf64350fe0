//! Whether this thread is at work in this library.
//!
//! A signal can come at any time, and its handler may use a device while the thread that it interrupted is in the
//! middle of such a call, with what that has locked. The handler's call is refused then: it would wait for itself.

use crate::failure::{Failure, Outcome};
use rustix::io::Errno;
use std::cell::Cell;

std::thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Lasts as long as this thread is at work here.
pub(crate) struct Inside(());

impl Inside {
    /// # Errors
    /// EDEADLK if this thread is at work here already.
    pub(crate) fn enter() -> Outcome<Self> {
        if INSIDE.replace(true) {
            let why = "a signal handler uses a device while the call that it interrupted does";
            return Err(Failure::new(Errno::DEADLK, why));
        }
        Ok(Self(()))
    }

    /// Whether this thread is at work here, and what it calls is for the real function.
    pub(crate) fn is_entered() -> bool {
        INSIDE.get()
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(false);
    }
}
