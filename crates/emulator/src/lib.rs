//! Emulated FPGA boards, served over vfio-user.
//!
//! [`boards`] puts boards together from models of what is on them: XDMA cores that follow PG195 closely enough for any
//! driver of that IP, and what sits behind them ([`axi`]): memory, peripherals. A [`Server`] presents one to clients, which need not be ours.
//! [`fault`] has what can go wrong on request. A board of one's own is an implementation of [`Function`].
//!
//! ```
//! use jitney_emulator::boards::{Board, BoardOptions};
//! use jitney_emulator::designs::Catalogue;
//! use jitney_emulator::{Function, Options, Server};
//! use std::sync::Arc;
//!
//! let options = BoardOptions { faults: vec!["hang:h2c0@100".parse()?], ..Default::default() };
//! let board = Board::named(&Catalogue::built_in(), "nitefury")?.with(options);
//! let socket = std::env::temp_dir().join(format!("nitefury-{}.sock", std::process::id()));
//! let server = Server::bind(&socket, Options::default(), |host| -> Result<Arc<dyn Function>, Box<dyn std::error::Error>> {
//!     Ok(Arc::new(board.plug_into(host)?))
//! })?;
//! let stop = server.stop_handle();
//! # stop.stop()?;
//! server.serve()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod axi;
pub mod boards;
mod config_space;
pub mod fault;
mod function;
mod host;
pub mod i2c;
mod limited;
mod nearest;
mod no_host;
mod server;
pub mod spi;
pub mod stream;
pub mod xdma;

pub use jitney_designs as designs;
pub use jitney_memory::{Error as MemoryError, Mapping, Memfd};
pub use jitney_xdma_spec::{Alignments, Direction};

pub use function::{
    BarDescription, CardRange, Description, DmaFault, Function, Host, InterruptKind, InterruptKinds, Live,
    Mappable, Msix, PacketSizes,
};
pub use no_host::NoHost;
#[cfg(fuzzing)]
pub use server::fuzzed::FuzzedBoard;
pub use server::{Options, Server, ServerError, StopHandle, serve_in_process};
