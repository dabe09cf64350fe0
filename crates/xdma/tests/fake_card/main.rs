//! The driver on a fake card whose BAR 2 is a small model of an XDMA.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[cfg(feature = "async")]
mod awaiting;
mod buffers;
mod identify;
mod interrupts;
mod irq;
mod model;
mod queue;
mod sharing;
mod stopping;
mod transfers;
mod user_interrupts;
mod wrapped;
