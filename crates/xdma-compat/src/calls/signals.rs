//! Signals, as far as faults are concerned: the program's handler is called behind this library's, and faults are not masked.

#![expect(unsafe_code, reason = "functions of the C library's names and types")]

use crate::real;
use crate::trap::{Action, mask_without_faults, replace_action};
use libc::{c_int, sighandler_t, sigset_t};

/// `sigaction`.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn sigaction(
    signal: c_int,
    new: *const libc::sigaction,
    old: *mut libc::sigaction,
) -> c_int {
    // SAFETY: it points at an action, or nowhere.
    let wanted: Option<Action> = unsafe { new.as_ref() }.copied();
    let known = if signal == libc::SIGSEGV { replace_action(wanted) } else { None };
    let Some(before) = known else {
        // SAFETY: with what the caller gave.
        return unsafe { real::sigaction(signal, new, old) };
    };
    // SAFETY: it points at room for an action, or nowhere.
    if let Some(old) = unsafe { old.as_mut() } {
        *old = before;
    }
    0
}

/// `signal`.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn signal(signal: c_int, handler: sighandler_t) -> sighandler_t {
    // SAFETY: an action is plain memory, for which zero is a value.
    let mut action: Action = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_RESTART;
    let known = if signal == libc::SIGSEGV { replace_action(Some(action)) } else { None };
    match known {
        Some(before) => before.sa_sigaction,
        // SAFETY: with what the caller gave.
        None => unsafe { real::signal(signal, handler) },
    }
}

macro_rules! masks {
    ($($name:ident),*) => {$(
        #[doc = concat!("`", stringify!($name), "`.")]
        ///
        /// # Safety
        /// As the C library's.
        #[unsafe(no_mangle)]
        pub(super) unsafe extern "C" fn $name(how: c_int, set: *const sigset_t, before: *mut sigset_t) -> c_int {
            // SAFETY: it points at a set, or nowhere.
            let set = unsafe { set.as_ref() }.copied().map(|set| if how == libc::SIG_UNBLOCK { set } else { mask_without_faults(set) });
            let pointer = set.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
            // SAFETY: with what the caller gave, but for faults.
            unsafe { real::$name(how, pointer, before) }
        }
    )*};
}

masks!(sigprocmask, pthread_sigmask);
