//! Several processes drive the same cards.
//!
//! A *broker* opens the cards and owns their address space; *clients* reach registers and memory directly and ask the
//! broker only to open, to map, to lease and to wire interrupts. When a client is gone the broker stops its DMA, unmaps
//! its memory and frees what it held.
//!
//! Programs use [`Bus`], which works the same alone and under a broker:
//!
//! ```no_run
//! # fn main() -> Result<(), jitney_vfio::Error> {
//! let bus = jitney_broker::Bus::open()?;
//! let card = bus.card("10ee:7011")?;
//! let buffer = bus.dma_buffer(4096)?;
//! println!("{:#x}: {:#x}", buffer.iova(), card.bar(0)?.read32(0)?);
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod bus;
mod client;
mod environment;
mod ledger;
mod line;
mod link;
pub mod machine;
mod manager;
mod offer;
mod owner_options;
pub mod policy;
pub mod protocol;
mod runtime;
mod seldom;
mod server;
mod socket;
mod usage;
mod watch;

pub use bus::{Bus, BusOptions};
pub use client::ClientCard;
pub use environment::{
    BROKER_VARIABLE, CARDS_VARIABLE, IOMMU_VARIABLE, RUN_VARIABLE, WAIT_VARIABLE, parse_wait,
};
pub use link::{Link, WAITING};
pub use machine::Limits;
pub use manager::{
    Forward, Inherited, Kept, LEFT_TO_ANOTHER, ListeningSocket, MANAGER_VARIABLES, ServiceManager,
    SmallManager,
};
pub use offer::{Offer, Token};
pub use owner_options::{OwnerOptions, is_out_of_reach};
pub use protocol::{CardId, Offered};
pub use runtime::RuntimeFolder;
pub use server::{Broker, Door, End, StopHandle};
pub use usage::{Traffic, Usage};
pub use watch::{Change, Watch};
