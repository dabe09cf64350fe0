//! Cards that several programs use, and cards that are emulated.

pub(crate) mod broker;
mod config;
pub(crate) mod demo;
mod descriptors;
pub(crate) mod emulate;
mod in_place;
mod keep;
pub(crate) mod lease;
pub(crate) mod policy;
mod programs;
mod replace;
pub(crate) mod run;
mod runner;
pub(crate) mod witness;
pub(crate) mod xdma_compat;
