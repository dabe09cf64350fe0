//! A driver for AMD/Xilinx XDMA, the DMA/Bridge Subsystem for PCI Express ([PG195]): an engine on an FPGA card that
//! moves data between host memory and the card by itself.
//!
//! It takes a [`Card`](jitney_vfio::Card) and the number of the BAR that holds the engine's registers, and knows nothing
//! of who owns the card: it runs alone, as the client of a broker, and in a unit test over a
//! [`FakeCard`](jitney_vfio::FakeCard).
//!
//! ```no_run
//! use jitney_vfio::{Card, DmaRequest};
//! use jitney_xdma::{Error, Xdma};
//! use std::sync::Arc;
//!
//! fn there_and_back(card: Arc<dyn Card>) -> Result<(), Error> {
//!     let bar = Xdma::find(&*card)?.unwrap_or(2);
//!     let xdma = Xdma::identify(Arc::clone(&card), bar)?;
//!     let buffer = card.dma_buffer(DmaRequest::new(1 << 30))?;
//!
//!     let mut h2c = xdma.h2c(0)?; // leases the channel, and leaves a will that stops it
//!     let written = h2c.write(&buffer, 0)?; // to card address 0
//!     println!("{} bytes in {:?}", written.bytes, written.duration);
//!
//!     let mut c2h = xdma.c2h(0)?.aligned(4096);
//!     let reading = c2h.start(&buffer, 0..1 << 20, 0)?; // does not wait
//!     // ... and meanwhile something else ...
//!     reading.wait()?;
//!     Ok(())
//! }
//! ```
//!
//! # How a transfer runs
//! [`plan`] divides it into pieces that one descriptor can describe. Up to 126 descriptors lie in a page of DMA memory,
//! with a write-back word behind them; the last one stops the engine, which then writes the number of descriptors that
//! it has done to that word. A longer transfer runs in several such rounds. Who waits looks at the word, and now and
//! then at the status register, so that an error, a hung engine or a dead card ends the wait too.
//!
//! # By interrupt
//! `xdma.h2c(0)?.by_interrupt()?` is the same channel with an interrupt (MSI-X, MSI or INTx) in the place of that word: waiting
//! takes no processor time, and some microseconds longer to notice. A channel takes the vector of the number that its bit
//! in the IRQ block has, or [another one](Channel::by_vector), for itself alone. All else is the same: the registers are
//! looked at every 50 ms all the same, so a lost interrupt delays a transfer by as much, is logged, and fails nothing.
//!
//! # Waiting for several things
//! [`Pending::wait`] blocks. A loop of the caller's own calls [`Pending::poll`] when [`Pending::event`] is readable, and
//! at [`Pending::next_look`] at the latest. With the feature `tokio` a task awaits `Pending::finished()`, on a
//! channel of either kind.
//!
//! # Memory that an engine may still use
//! A [`Pending`] transfer keeps its buffer; dropping it stops the engine first. Memory goes back only when the engine was seen
//! idle, when the card is gone, or when its bus mastering is off: otherwise the address might be given to somebody else
//! while the card still writes to it.
//!
//! - An engine that is **still busy** after the time for its longest descriptor keeps the buffer in the channel, until it is
//!   idle or the channel is dropped; then memory and lease stay taken for the life of the process. The lease's will, with which
//!   the owner of the card stops the engine and waits for it, therefore stays in force.
//! - **Registers that do not answer** (all-ones, an errno, a time-out) are asked again for 60 ms, which is more than a link takes to
//!   be trained anew; if they answer then, the engine is stopped as ever. Else configuration space is asked. If nobody
//!   answers there either the card is gone. Otherwise, **as the last resort, the card's bus mastering is switched off**, which stops all
//!   of the card's channels, other programs' too: [`Error::CutOff`]. The driver never switches it on again, because it cannot
//!   know what others' engines would go on with; the owner does, after a reset. If that cannot be done either the memory is kept as
//!   that of a busy engine: [`Error::Unknown`].
//!
//! # Limits
//! Channels with an AXI4-Stream can be written, as one packet per transfer, and not read. Tested on fake and emulated
//! cards, never on hardware so far.
//!
//! [PG195]: https://docs.amd.com/r/en-US/pg195-pcie-dma

#![forbid(unsafe_code)]

mod channel;
mod channel_info;
mod engine;
mod error;
#[cfg(feature = "tokio")]
mod finished;
mod identify;
mod interrupt;
mod pending;
mod plan;
mod ring;
mod wait;

pub use channel::{C2h, Channel, FromCard, H2c, ToCard};
pub use channel_info::ChannelInfo;
#[cfg(fuzzing)]
pub use engine::let_go_of_what_is_kept;
pub use error::{Error, Failure};
pub use identify::Xdma;
pub use jitney_xdma_spec::descriptor::MAX_LENGTH as LONGEST_DESCRIPTOR;
pub use jitney_xdma_spec::{Alignments, ChannelStatus, Direction};
pub use pending::{Completed, Pending};
pub use plan::{Chunk, Limits, Plan, PlanError, Side, Transfer, plan};
