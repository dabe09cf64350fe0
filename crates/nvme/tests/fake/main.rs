//! The driver on a model of a controller that follows the specification: alone, and as several processes that share it.

#![expect(clippy::unwrap_used, reason = "in tests, where a panic is the failure")]

mod alone;
mod model;
mod processes;
mod sharing;
