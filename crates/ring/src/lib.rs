//! A stream in shared memory: one process captures, any number of others look at it, and nobody copies.
//!
//! The writer's card puts blocks straight into a DMA buffer that the readers have mapped to read. Who reads too slowly loses blocks,
//! and is told exactly how much that was; it slows down neither the writer nor other readers.
//!
//! ```no_run
//! # use jitney_ring::{Next, Reader, Receiving, Shape};
//! # fn writer(card: &dyn jitney_vfio::Card, channel: jitney_xdma::C2h) -> Result<(), Box<dyn std::error::Error>> {
//! let shape = Shape::new(64, 64 << 10)?;
//! let buffer = card.dma_buffer(shape.request())?; // then offer it to readers: Bus::share
//! let mut stream = Receiving::start(channel, &buffer, shape)?;
//! loop {
//!     stream.publish(std::time::Duration::from_secs(1))?;
//! }
//! # }
//! # fn reader(view: jitney_vfio::DmaView) -> Result<(), jitney_ring::Error> {
//! let mut reader = Reader::new(view)?; // in another process, of Bus::view
//! let mut bytes = vec![0; reader.shape().block_size()];
//! while let Next::Block(mut block) = reader.next(std::time::Duration::from_secs(1))? {
//!     println!("{} blocks were lost in front of block {}", block.lost().blocks, block.number());
//!     let length = block.len();
//!     match block.read(0, &mut bytes[..length]) {
//!         Ok(()) => println!("{} bytes", length),
//!         Err(error) if error.is_overrun() => continue, // it is among those that are lost
//!         Err(error) => return Err(error),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # How it works
//! In front of the blocks there is a record for each, with two numbers: the block that is being put there, which is written before the
//! card may, and the block that is there as a whole. Where both are the number that a reader wants the block is good, and it was
//! good all the while if the first is that number still when the reader is done. So a card never writes to a block that
//! claims to be whole, however long the writer's process sleeps: it gets one block after the other from the writer, a quarter of the ring
//! at a time, and the rest is what readers may fall behind.
//!
//! A reader takes nothing that it finds there for granted: what lies where follows from the shape, which is looked at once and checked,
//! and numbers that cannot be are an error.

#![forbid(unsafe_code)]

mod error;
mod layout;
mod reader;
mod receiving;
mod writer;

pub use error::Error;
pub use layout::Shape;
pub use reader::{Block, End, Lost, Next, Reader};
pub use receiving::Receiving;
pub use writer::{Published, Writer};
