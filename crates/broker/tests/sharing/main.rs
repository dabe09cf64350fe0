//! A broker with real clients: on an emulated board, and on a fake one that maps memory slowly.
//!
//! The clients are connections of this one process: to the broker each is a client of its own. What takes processes,
//! as being killed, is tested with the command.

#![expect(clippy::unwrap_used, reason = "in tests, where a panic is the failure")]

mod buffers;
mod busy;
mod departures;
mod hostile;
mod interrupts;
mod leases;
mod lines;
mod link;
mod offers;
mod on_demand;
mod raw;
mod rig;
mod same_program;
mod stopping;
mod unplug;
