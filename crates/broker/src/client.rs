//! A card as a client of a broker has it.

use crate::link::{Link, Slot, foreign, lock, unexpected};
use crate::offer::Offer;
use crate::protocol::{CardId, Reply, Request};
use jitney_memory::EventFd;
use jitney_vfio::{
    BarInfo, Card, Device, DmaBuffer, DmaRequest, ErrorKind, Handed, Identity, Interrupt, InterruptKind,
    Keeper, Lease, LeaseRequest, Notices, Part, Region, Result, SharedInterrupt, SharedVectors, StillUsed,
    Tally,
};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A card as a client of a broker has it: registers directly, the rest by asking the broker.
#[derive(Debug)]
pub struct ClientCard(pub(crate) Arc<OpenCard>);

/// What a client has of a card as long as anything of it is in use: the card itself, leases, interrupts. The last of them closes
/// it at the broker.
pub(crate) struct OpenCard {
    pub(crate) link: Arc<Link>,
    pub(crate) card: CardId,
    pub(crate) device: Device,
    pub(crate) notices: Notices,
    pub(crate) shared: SharedVectors,
    pub(crate) slot: Arc<Mutex<Slot>>,
    pub(crate) opened: u64,
    pub(crate) still_used: StillUsed,
}

impl Card for ClientCard {
    fn identity(&self) -> &Identity {
        self.0.device.identity()
    }

    fn bars(&self) -> &[BarInfo; 6] {
        self.0.device.bars()
    }

    fn bar(&self, index: usize) -> Result<Region> {
        self.0.device.bar(index)
    }

    fn config(&self) -> Result<Region> {
        self.0.device.config()
    }

    fn dma_buffer(&self, request: DmaRequest) -> Result<DmaBuffer> {
        self.0.link.dma_buffer(Some(self.0.card), request)
    }

    fn offer(&self, buffer: &DmaBuffer, name: &str) -> Result<()> {
        self.0.link.share(buffer, Offer::to_writers().named(name)).map(drop)
    }

    fn attach(&self, name: &str) -> Result<DmaBuffer> {
        self.0.link.attach(name.into())
    }

    fn lease(&self, request: LeaseRequest) -> Result<Lease> {
        self.0.still_used.look_again();
        let LeaseRequest { part, mode, will, wait } = request;
        let wait = milliseconds(wait.or(self.0.link.patience()).unwrap_or_default());
        let request = Request::Lease { card: self.0.card, part: part.to_string(), mode, will, wait };
        match self.0.link.ask(&request)? {
            Reply::Leased(id) => Ok(Lease::new(part, id, Arc::clone(&self.0) as _)),
            other => Err(unexpected(&other)),
        }
    }

    fn vectors(&self) -> Result<u32> {
        Ok(self.0.device.vectors()?.map_or(0, |(_, count)| count))
    }

    fn interrupt(&self, vector: u16) -> Result<Interrupt> {
        let OpenCard { link, card, device, .. } = &*self.0;
        let lease = self.lease(LeaseRequest::exclusive(Part::interrupt(vector)))?;
        // The broker says what is wrong with a card that has none.
        let kind = device.vectors()?.map_or(InterruptKind::MsiX, |(kind, _)| kind);
        let event = EventFd::new()?;
        link.done(&Request::Wire { card: *card, vector }, Some(event.as_fd()))?;
        Ok(Interrupt::new(vector, event, lease, Arc::clone(&self.0) as _, (kind, device)))
    }

    fn shared_interrupt(&self, vector: u16, source: u8) -> Result<SharedInterrupt> {
        self.0.shared.join(vector, source, || self.interrupt(vector))
    }

    fn tally(&self, part: &Part) -> Tally {
        self.0.link.tally(self.0.card, part)
    }

    fn notices(&self) -> Result<Notices> {
        Ok(self.0.notices.clone())
    }

    fn still_used(&self) -> &StillUsed {
        &self.0.still_used
    }

    fn reset(&self) -> Result<()> {
        // What an engine is given from here on is not known to be unused after the reset.
        let still_used = self.0.still_used.take();
        let outcome = self.0.link.done(&Request::Reset { card: self.0.card }, None);
        if outcome.is_err() {
            self.0.still_used.put_back(still_used);
        }
        outcome
    }
}

/// As the protocol has it: what is longer than it can say has no end.
fn milliseconds(wait: Duration) -> u32 {
    // What is waited for at all is waited for a millisecond.
    let rounded = wait.as_nanos().div_ceil(1_000_000);
    u32::try_from(rounded).unwrap_or(u32::MAX)
}

impl Keeper for OpenCard {
    fn take_back(&self, what: Handed) -> Result<()> {
        let card = self.card;
        let request = match what {
            Handed::Buffer { .. } => return Err(foreign(what)),
            // Who unwinds has not ended what it was at: a panic is no goodbye.
            Handed::Lease { id } => Request::Release { card, lease: id, will: std::thread::panicking() },
            Handed::Interrupt { vector } => Request::Silence { card, vector },
        };
        self.link.done(&request, None)
    }
}

impl Drop for OpenCard {
    fn drop(&mut self) {
        let mut slot = lock(&self.slot);
        if slot.opened != self.opened || !slot.at_broker {
            return;
        }
        slot.at_broker = false;
        if let Err(error) = self.link.done(&Request::Close { card: self.card }, None)
            && error.kind() != ErrorKind::Disconnected
        {
            tracing::debug!(card = self.card.0, %error, "a card stays open until this process says goodbye");
        }
    }
}

impl std::fmt::Debug for OpenCard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenCard")
            .field("device", &self.device)
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}
