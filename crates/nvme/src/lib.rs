//! A driver for NVMe drives whose controller several processes share, a queue pair each.
//!
//! It takes a [`Card`](jitney_vfio::Card) and knows nothing of who owns it: it runs alone, as one of several clients of a broker, and in a
//! unit test over a [`FakeCard`](jitney_vfio::FakeCard).
//!
//! ```no_run
//! use jitney_nvme::{Controller, Error};
//! use jitney_vfio::{Card, DmaRequest};
//! use std::sync::Arc;
//!
//! fn there_and_back(card: Arc<dyn Card>) -> Result<(), Error> {
//!     let controller = Controller::open(Arc::clone(&card))?; // enables it, or joins those who use it
//!     let namespace = controller.namespace(1)?;
//!     let mut queue = controller.queue()?; // one that nobody has, with its interrupt vector if there is one
//!     let buffer = card.dma_buffer(DmaRequest::new(1 << 20))?;
//!     queue.write(&namespace, 0, &buffer, 0..1 << 20)?;
//!     queue.flush(&namespace)?;
//!     let first = queue.submit_read(&namespace, 0, &buffer, 0..4096)?; // several may be in flight
//!     let second = queue.submit_read(&namespace, 64, &buffer, 4096..8192)?;
//!     queue.wait(second)?;
//!     queue.wait(first)
//! }
//! ```
//!
//! # How processes share a controller
//! A controller has one pair of admin queues, and as many pairs of I/O queues as it gives. The queues of all processes are in one DMA
//! buffer that they have in common ([`Card::offer`](jitney_vfio::Card::offer)), so that they are still there when one of them is killed. Who sends an
//! admin command has the lease `admin` as long as it lasts; who has a pair of I/O queues has the lease `queueN`. Whoever uses the
//! controller shares the lease `controller`, whose will disables it when the last of them is gone. docs/nvme.md has all of it, and what
//! becomes of a process that is killed.
//!
//! # Limits
//! Pages of 4 KiB, namespaces without metadata, at most 16 pairs of queues of 64 entries, transfers of at most 2 MiB. All processes
//! that share a controller are of one user. Tested on a model of a controller, and on no real drive so far.

#![forbid(unsafe_code)]

mod admin;
mod bar;
mod common;
mod controller;
mod error;
mod flight;
mod pause;
mod queue;
pub mod spec;

pub use controller::{Controller, Namespace};
pub use error::{Error, Result};
pub use flight::Token;
pub use queue::QueuePair;
