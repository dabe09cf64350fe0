//! Cards that several programs use, and cards that are emulated.

pub(crate) mod broker;
mod config;
pub(crate) mod demo;
mod descriptors;
pub(crate) mod emulate;
mod keep;
pub(crate) mod lease;
pub(crate) mod policy;
mod programs;
mod replace;
pub(crate) mod run;
mod runner;
pub(crate) mod xdma_compat;
