//! The server against a client that knows nothing but the wire: one module per part of the protocol.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a failure here is a failed test, and sizes are small"
)]

mod client;
mod dma;
mod interrupts;
mod lifetime;
mod owner;
mod regions;
mod shrinking;
mod slot;
mod stream;
mod toy;
