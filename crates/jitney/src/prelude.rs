//! The few names that most programs need: `use jitney::prelude::*`.
//!
//! ```no_run
//! use jitney::prelude::*;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bus = Bus::open()?;
//! let card = find(&bus).board("nitefury").one()?;
//! let h2c: H2c = identify(&card)?.xdma()?.h2c(0)?;
//! h2c.write_bytes(b"hello", 0x1000)?;
//! # Ok(())
//! # }
//! ```
//!
//! Errors and results are not among them: every crate of jitney has its own.

pub use crate::find;
pub use jitney_boards::{Board, RegisterSpace, identify};
pub use jitney_broker::{Bus, Change};
pub use jitney_vfio::{Card, DmaBuffer, DmaRequest, ErrorKind, LeaseRequest, Part};
pub use jitney_xdma::{C2h, H2c, Piece, Xdma};
