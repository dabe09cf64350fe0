//! Emulated FPGA boards, served over vfio-user.

mod function;
pub use function::{BarDescription, Description, DmaFault, Function, Host, InterruptKind};
