//! The driver on a fake card whose BAR 2 is a small model of an XDMA.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod identify;
mod model;
mod transfers;
