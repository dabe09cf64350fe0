//! `jitney_watch`: cards that arrive and leave.

use crate::boundary::{DONE, run};
use crate::bus::{Bus, CardInfo};
use crate::handle::{self, object};
use crate::pointer::give;
use crate::time::until;
use jitney::Change;
use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};

/// Hears of cards that arrive and leave.
#[derive(Debug)]
pub struct Watch(jitney::Watch);
object!(Watch, 0x9b, "the watch");

/// Hears of cards that arrive and leave from now on, and first of what has changed since the bus was opened. A bus of a broker has what
/// has arrived; alone, a bus keeps the cards that it was opened with, and `jitney_bus_options.cards` names the other for a bus of its own.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_watch_open(bus: *mut Bus, watch: Option<&mut MaybeUninit<*mut Watch>>) -> c_int {
    run(|| {
        let made = handle::get(bus)?.shared.slot.get()?.watch()?;
        handle::hand_out(watch, Watch(made))
    })
}

/// Waits for the next change, for `timeout_ms` milliseconds at most: 0 only looks, below 0 is as long as it takes. Returns 1 if the card
/// has arrived, 2 if it has left, and 0 if there was no change.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_watch_next(
    watch: *mut Watch,
    card: Option<&mut MaybeUninit<CardInfo>>,
    timeout_ms: c_int,
) -> c_int {
    run(|| {
        let look = |slice| Ok(handle::get(watch)?.0.wait(Some(slice))?);
        let Some(change) = until(timeout_ms, look)? else { return DONE };
        give(card, CardInfo::new(change.card()));
        Ok(if matches!(change, Change::Arrived(_)) { 1 } else { 2 })
    })
}

/// A descriptor for `poll`: readable when there may be a change, by `jitney_watch_next` with 0. It is the library's, until the watch is
/// freed.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_watch_fd(watch: *mut Watch) -> c_int {
    run(|| Ok(handle::get(watch)?.0.as_fd().as_raw_fd()))
}

/// Frees a watch; NULL is none.
#[unsafe(no_mangle)]
pub extern "C" fn jitney_watch_free(watch: *mut Watch) -> c_int {
    run(|| handle::free(watch).and(DONE))
}
