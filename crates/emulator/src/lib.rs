//! Emulated FPGA boards, served over vfio-user.

#![forbid(unsafe_code)]

mod axi;
pub mod boards;
mod card_memory;
mod config_space;
pub mod fault;
mod function;
mod host;
mod server;
mod xdma;

pub use function::{BarDescription, Description, DmaFault, Function, Host, InterruptKind};
pub use server::{Options, Server, ServerError, StopHandle};
