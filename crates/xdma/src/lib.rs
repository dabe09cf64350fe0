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
//!     let h2c = xdma.h2c(0)?; // leases the channel, and leaves a will that stops it
//!     let written = h2c.write(&buffer, 0)?; // to card address 0
//!     println!("{} bytes in {:?}", written.bytes, written.duration);
//!
//!     let c2h = xdma.c2h(0)?.aligned(4096);
//!     // Neither waits: the engine goes from one to the next by itself.
//!     let first = c2h.submit(&buffer, 0..1 << 20, 0)?;
//!     let second = c2h.submit(&buffer, 1 << 20..2 << 20, 0x8000_0000)?;
//!     first.wait()?;
//!     second.wait()?;
//!     Ok(())
//! }
//! ```
//!
//! # How a transfer runs
//! [`plan`] divides it into pieces that one descriptor can describe. Descriptors lie in a ring in DMA memory, a page of it by
//! default, around which the engine goes without ever being stopped: for each it needs a credit, which one register write
//! gives for a transfer, or for as many as are given to the engine together. It writes the number of descriptors
//! that it has done to a word behind the ring, at the end of each transfer and a few times in each round. Who waits looks at that
//! word, and now and then at the status register, so that an error, a hung engine or a dead card ends the wait too. What
//! does not fit the ring waits in this process, and is given to the engine by whoever waits or polls.
//!
//! A transfer that fails takes those behind it along ([`Error::Behind`]): the engine stops at the first, and what was to
//! follow may depend on it.
//!
//! # Waiting
//! | Channel | Who waits | Costs |
//! |---|---|---|
//! | as it comes | looks at memory, without a pause at first, then less and less often | a processor, for short waits |
//! | [`by_interrupt`](Channel::by_interrupt) | sleeps until the interrupt (MSI-X, MSI or INTx) | some microseconds, and a register access |
//! | [`adaptive`](Channel::adaptive) | looks at memory for 30 µs, and then sleeps until the interrupt | the first for short waits, the second for long ones, and two accesses more |
//!
//! A lost interrupt delays a transfer by 50 ms at most, is logged, and fails nothing: the registers are looked at as often anyhow.
//! A channel takes the vector of the number that its bit in the IRQ block has, or [another one](Channel::by_vector).
//!
//! ## Several channels on one vector
//! A card with one MSI vector, with the interrupt line only (INTx), or with fewer MSI-X vectors than channels, has several channels
//! of one process share a vector, by themselves: [`by_interrupt`](Channel::by_interrupt) and [`adaptive`](Channel::adaptive) take
//! the vector of the channel's bit modulo how many there are. Each channel is woken by its own end only, as on a vector of its
//! own; blocking, in an event loop and as a task. An interrupt costs four register accesses more, two of them reads.
//!
//! A vector is leased (`irq0`), and belongs to one process. So channels of two processes cannot share one: the second is told so, and
//! who has it. Then one process drives both, each is given a vector of its own ([`by_vector`](Channel::by_vector)), or
//! the second waits without an interrupt.
//!
//! [`Pending::wait`] blocks. A loop of the caller's own calls [`Pending::poll`] when [`Pending::event`] is readable, and
//! at [`Pending::next_look`] at the latest. With the feature `async` a [`Pending`] transfer can be awaited, by a task of any executor.
//!
//! # Streams
//! On an H2C channel with an AXI4-Stream each transfer is a packet. A C2H one [receives](Channel::receive) into buffers that wait
//! for packets, or [captures](Channel::capture) without an end into a ring of blocks, which either makes the card wait for a slow
//! reader or tells it exactly how many blocks it has lost.
//!
//! # Interrupts of the design's own
//! [`Xdma::user_interrupt`] is a line that the logic behind the XDMA raises: [`UserInterrupt::wait`], then tell the logic that it was
//! heard, in whatever way it wants. Each line is leased, so several programs can have some each. Lines share vectors as channels do,
//! with them too, where there are too few.
//!
//! # Memory that an engine may still use
//! A channel keeps the buffers of its transfers until the engine is done with them, whatever becomes of their handles; dropping
//! the channel and all handles stops the engine first. Memory goes back only when the engine was seen
//! idle, when the card was reset or is gone, or when its bus mastering is off: otherwise the address might be given to somebody else
//! while the card still writes to it.
//!
//! - An engine that is **still busy** after the time for its longest descriptor keeps the buffer, as does a stream into which
//!   nobody takes what is sent. If the channel is dropped its lease is kept, too, and with it the will by which the owner of the card
//!   stops the engine and waits for it. Both go back when the engine is seen idle, which is looked at when this process asks for a
//!   lease of the card, opens the channel or frees a buffer, and when **this process resets the card**: what is so kept does not stand
//!   in the way of that ([`Card::still_used`](jitney_vfio::Card::still_used)). A card that this process owns is reset when its last handle goes.
//! - **Registers that do not answer** (all-ones, an errno, a time-out) are asked again for 60 ms, which is more than a link takes to
//!   be trained anew; if they answer then, the engine is stopped as ever. Else configuration space is asked. If nobody
//!   answers there either the card is gone. Otherwise, **as the last resort, the card's bus mastering is switched off**, which stops all
//!   of the card's channels, other programs' too: [`Error::CutOff`]. The driver never switches it on again, because it cannot
//!   know what others' engines would go on with; the owner does, after a reset. If that cannot be done either the memory is kept as
//!   that of a busy engine: [`Error::Unknown`].
//!
//! # Limits
//! Tested on fake and emulated cards, never on hardware so far.
//!
//! [PG195]: https://docs.amd.com/r/en-US/pg195-pcie-dma

#![forbid(unsafe_code)]

#[cfg(feature = "async")]
mod awaited;
mod capture;
mod channel;
mod channel_info;
mod engine;
mod error;
mod identify;
mod interrupt;
mod lent;
mod pending;
mod plan;
mod queue;
pub mod register_names;
mod ring;
mod user_interrupt;
mod wait;
mod work;

#[cfg(feature = "async")]
pub use awaited::Awaited;
pub use capture::{Capture, Captured, Overrun};
pub use channel::{C2h, Channel, FromCard, H2c, ToCard};
pub use channel_info::ChannelInfo;
pub use error::{Error, Failure};
pub use identify::Xdma;
pub use jitney_xdma_spec::descriptor::MAX_LENGTH as LONGEST_DESCRIPTOR;
pub use jitney_xdma_spec::{Alignments, ChannelStatus, Direction};
pub use lent::Lent;
pub use pending::{Completed, Pending};
pub use plan::{Chunk, Limits, Plan, PlanError, Side, Transfer, plan};
pub use user_interrupt::UserInterrupt;
pub use work::Piece;
