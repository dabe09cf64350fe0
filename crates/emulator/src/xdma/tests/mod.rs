//! The core as a driver finds it: registers by offset, descriptors in host memory.
#![expect(
    clippy::cast_possible_truncation,
    reason = "numbers of the tests' own choice, and halves of addresses"
)]

mod errors;
mod interrupts;
mod registers;
mod rig;
mod runs;
mod streams;
mod targets;
mod transfers;
