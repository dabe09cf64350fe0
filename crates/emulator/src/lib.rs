//! Emulated FPGA boards, served over vfio-user.

#![forbid(unsafe_code)]

mod config_space;
mod function;
mod host;
mod server;

pub use function::{BarDescription, Description, DmaFault, Function, Host, InterruptKind};
pub use server::{Options, Server, ServerError, StopHandle};
