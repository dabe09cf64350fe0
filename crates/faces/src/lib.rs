//! What the faces of jitney for other languages have in common: Python's (`python/`) and C's (`crates/c`) are thin over this and
//! the facade, so that what holds for the one holds for the other.
//!
//! What a program of another language has, it can give back at any time, use after that, or take with it into a process that it
//! forks. So all of it is in a [`Slot`], which says what is wrong; and every error of the library becomes a [`Failure`], which
//! has a kind for programs, and for people what, where, who has it and what to do.

#![forbid(unsafe_code)]

mod choice;
mod emulated;
mod failure;
mod flight;
mod memory;
mod shared;
mod slot;
mod waking;
mod window;

pub use choice::{choose, offered};
pub use emulated::{Wanted, fault};
pub use failure::{Failure, Kind};
pub use flight::Flight;
pub use memory::{Reach, free};
pub use shared::{SharedBus, SharedCard};
pub use slot::{Child, Slot, forked, is_forked};
pub use waking::Waking;
pub use window::Window;
