//! A card made of a register model, in this process: for tests of drivers that have no card at hand.
//!
//! A test writes a [`FakeBar`] for each BAR that its driver uses, with as much behaviour as the test needs, and gets a
//! [`Card`](crate::Card) that is complete otherwise: identity, configuration space, DMA buffers, interrupts, leases
//! and reset. The model reaches DMA memory by IOVA and fires interrupts through its [`FakeHost`]; the test does the
//! same, unplugs the card, and asks afterwards what the driver leased or left mapped.
//!
//! A complete test of a small driver, which has a card invert the bytes of a buffer:
//!
//! ```
//! use jitney_vfio::{Card, DmaRequest, FakeBar, FakeCard, FakeHost, LeaseRequest, Result};
//! use std::sync::Mutex;
//! use std::time::Duration;
//!
//! // The driver under test. Registers: 0x00 address low, 0x04 address high, 0x08 length, which starts.
//! fn invert(card: &dyn Card, bytes: &mut [u8]) -> Result<()> {
//!     let _lease = card.lease(LeaseRequest::exclusive("engine".parse()?))?;
//!     let done = card.interrupt(0)?;
//!     let buffer = card.dma_buffer(DmaRequest::new(bytes.len() as u64))?;
//!     buffer.write(0, bytes)?;
//!     let registers = card.bar(0)?;
//!     registers.write32(0x00, buffer.iova() as u32)?;
//!     registers.write32(0x04, (buffer.iova() >> 32) as u32)?;
//!     registers.write32(0x08, bytes.len() as u32)?;
//!     assert!(done.wait(Some(Duration::from_secs(1)))?);
//!     buffer.read(0, bytes)
//! }
//!
//! // The card, as far as that driver can tell.
//! struct Inverter {
//!     host: FakeHost,
//!     address: Mutex<[u32; 2]>,
//! }
//!
//! impl FakeBar for Inverter {
//!     fn read32(&self, _offset: u64) -> u32 {
//!         0
//!     }
//!
//!     fn write32(&self, offset: u64, value: u32) {
//!         let mut address = self.address.lock().unwrap();
//!         match offset {
//!             0x00 | 0x04 => address[offset as usize / 4] = value,
//!             _ => {
//!                 let iova = u64::from(address[0]) | u64::from(address[1]) << 32;
//!                 let mut bytes = vec![0; value as usize];
//!                 self.host.read(iova, &mut bytes).unwrap();
//!                 bytes.iter_mut().for_each(|byte| *byte = !*byte);
//!                 self.host.write(iova, &bytes).unwrap();
//!                 self.host.fire(0);
//!             }
//!         }
//!     }
//! }
//!
//! let host = FakeHost::new();
//! let engine = Inverter { host: host.clone(), address: Mutex::default() };
//! let card = FakeCard::builder(&host, 0x10ee, 0x7011).bar(0, 0x1000, engine).vectors(1).build()?;
//!
//! let mut bytes = [0x00, 0xf0, 0xff];
//! invert(&*card, &mut bytes)?;
//! assert_eq!(bytes, [0xff, 0x0f, 0x00]);
//! assert!(card.leases().is_empty(), "the driver gave its leases back");
//! assert!(host.mapped().is_empty(), "and its memory");
//! # Ok::<(), jitney_vfio::Error>(())
//! ```

mod card;
mod host;
mod transport;

pub use card::{FakeBuilder, FakeCard};
pub use host::FakeHost;
pub use transport::FakeBar;
