//! The seam under the drivers: a card as a driver needs it.

use crate::dma::{DmaBuffer, DmaRequest};
use crate::error::{Error, ErrorKind, Result};
use crate::identity::{BarInfo, Identity};
use crate::interrupt::Interrupt;
use crate::lease::{LeaseRequest, Part};
use crate::leased::Lease;
use crate::notices::Notices;
use crate::region::Region;
use crate::serial;
use crate::shared_interrupt::SharedInterrupt;
use crate::still_used::StillUsed;
use crate::tally::Tally;
use jitney_pci::SerialNumber;
use std::fmt;

/// A card as a driver needs it: who it is, its BARs, memory to share with it, interrupts, leases and reset.
///
/// Three things implement it: the owner's card ([`OwnedCard`](crate::OwnedCard)), a broker client's card, and the
/// in-process [`FakeCard`](crate::FakeCard). A driver that takes `Arc<dyn Card>` therefore runs alone, under a broker,
/// and in a unit test.
pub trait Card: fmt::Debug + Send + Sync {
    /// Who the card is.
    fn identity(&self) -> &Identity;

    /// Its six BARs in order; one that is not there has size 0, as has the upper half of a 64-bit BAR.
    fn bars(&self) -> &[BarInfo; 6];

    /// Access to BAR `index`. It outlives this handle, but the card need not: when the last user has dropped its handle
    /// the card is reset and may not start DMA. So keep the handle as long as the card has to work.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no such BAR, with a list of those that are there.
    fn bar(&self, index: usize) -> Result<Region>;

    /// Access to PCI configuration space.
    fn config(&self) -> Result<Region>;

    /// Its device serial number, as its configuration space has it; `None` if it has none. Cards of the same FPGA design mostly
    /// have the same.
    ///
    /// # Errors
    /// [`ErrorKind::LinkDown`](crate::ErrorKind::LinkDown) if configuration space reads as all-ones,
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if its capabilities lead nowhere; what reading it says.
    fn serial_number(&self) -> Result<Option<SerialNumber>> {
        serial::read(self.identity(), &self.config()?)
    }

    /// Memory that this process and every card of the address space see.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a size of zero,
    /// [`ErrorKind::Exhausted`](crate::ErrorKind::Exhausted) when memory, huge pages or IOVA space are not there.
    fn dma_buffer(&self, request: DmaRequest) -> Result<DmaBuffer>;

    /// Offers `buffer` by `name` to the other processes of this user that drive the card: what their drivers keep in common, as queues that a card
    /// has once. The offer goes on as long as one of them has the buffer. Nothing has to be done where no other process can have the card.
    ///
    /// # Errors
    /// [`ErrorKind::Held`](crate::ErrorKind::Held) if the name is taken or the buffer offered already.
    fn offer(&self, buffer: &DmaBuffer, name: &str) -> Result<()> {
        let _ = (buffer, name);
        Ok(())
    }

    /// The buffer that another process [offers](Self::offer) by `name`: the same memory at the same IOVA.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is none, as always where no other process can have the card,
    /// [`ErrorKind::Denied`](crate::ErrorKind::Denied) if it is another user's, [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if this process
    /// has it already.
    fn attach(&self, name: &str) -> Result<DmaBuffer> {
        let what = format!(
            "no buffer is offered by the name {name}: card {} is this process's alone",
            self.identity()
        );
        Err(Error::new(ErrorKind::NotFound, what))
    }

    /// A right on a named part of the card, until the lease is dropped or its holder is gone.
    ///
    /// # Errors
    /// [`ErrorKind::Held`](crate::ErrorKind::Held) if somebody has a right that excludes this one; the message names
    /// who.
    fn lease(&self, request: LeaseRequest) -> Result<Lease>;

    /// How many interrupt vectors the card has: one if it has only the interrupt line, and maybe none. The machine may have
    /// fewer to give.
    ///
    /// # Errors
    /// What the transport says.
    fn vectors(&self) -> Result<u32>;

    /// Interrupt `vector`, delivered to this process. Takes an exclusive lease on it.
    fn interrupt(&self, vector: u16) -> Result<Interrupt>;

    /// Interrupt `vector` for one of the card's interrupt sources, of a number below 32 that the driver chooses. Other sources
    /// of this process can have it too: the first takes the lease, which nobody else has then, the last gives it back.
    ///
    /// # Errors
    /// As [`interrupt`](Self::interrupt): [`ErrorKind::Held`](crate::ErrorKind::Held) if another process has it, or this one for
    /// itself alone.
    fn shared_interrupt(&self, vector: u16, source: u8) -> Result<SharedInterrupt>;

    /// Where to count what a channel moves, for people who watch. A driver that does not count is shown without figures.
    fn tally(&self, part: &Part) -> Tally {
        let _ = part;
        Tally::default()
    }

    /// What tells this process that the card is wanted back, or has failed. A driver looks now and then while it waits for the
    /// card, and ends with [`Notice::explain`](crate::Notice::explain): an unplug waits until the last user has let go.
    ///
    /// # Errors
    /// What the system says.
    fn notices(&self) -> Result<Notices>;

    /// Where drivers keep what an engine that was not seen to stop may still use, until it is seen idle or the card was reset.
    fn still_used(&self) -> &StillUsed;

    /// Resets the card. Takes an exclusive lease on the whole card for as long as it lasts, so it is refused while
    /// anybody else uses a part of it. What is [still used](Self::still_used) by engines of this process does not stand in the
    /// way: a reset ends them, and all of it goes back then.
    fn reset(&self) -> Result<()>;
}
