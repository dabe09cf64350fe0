//! The core as a driver finds it: registers by offset, descriptors in host memory.
#![expect(
    clippy::cast_possible_truncation,
    reason = "numbers of the tests' own choice, and halves of addresses"
)]

mod errors;
mod fake_host;
mod interrupts;
mod registers;
mod rig;
mod runs;
mod stream_ends;
mod stream_packets;
mod streams;
mod targets;
mod transfers;
