//! What the process is asked for: threads that no signal of the program's reaches, and a word at its end.

#![expect(unsafe_code, reason = "signal masks and atexit")]

use crate::failure::{Failure, Outcome};
use rustix::io::Errno;

/// Every signal is kept from this thread for as long as it lasts.
pub(crate) struct WithoutSignals(libc::sigset_t);

impl WithoutSignals {
    pub(crate) fn begin() -> Self {
        // SAFETY: a set of signals is plain memory, for which zero is a value.
        let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let mut before: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: the set lives and is written to.
        unsafe { libc::sigfillset(&raw mut all) };
        crate::real::set_mask(libc::SIG_BLOCK, &raw const all, &raw mut before);
        Self(before)
    }
}

impl Drop for WithoutSignals {
    fn drop(&mut self) {
        crate::real::set_mask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut());
    }
}

/// Starts a thread that the program does not notice: its signals are not delivered to it, nor are calls in it looked at.
///
/// # Errors
/// What the system says.
pub(crate) fn start_thread(name: &str, body: impl FnOnce() + Send + 'static) -> Outcome<()> {
    let _silence = WithoutSignals::begin();
    let started = std::thread::Builder::new().name(name.into()).spawn(move || {
        // Nothing else is ever at work in it.
        let _inside = crate::inside::Inside::enter();
        body();
    });
    match started {
        Ok(_) => Ok(()),
        Err(error) => {
            let errno = error.raw_os_error().map_or(Errno::AGAIN, Errno::from_raw_os_error);
            Err(Failure::new(errno, format!("a thread could not be started: {error}")))
        }
    }
}

/// Has `function` called when the program ends by itself. Whether that could be arranged does not matter: a broker clears up
/// after who is killed, too.
pub(crate) fn at_exit(function: extern "C" fn()) {
    // SAFETY: the function lives as long as the process: this library is never unloaded, being a preloaded one.
    let _ = unsafe { libc::atexit(function) };
}
